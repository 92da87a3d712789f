package broker

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/peer"
)

// This file is how the replica manager reaches other brokers.

// brokerEpoch is the epoch of this broker's registration, -1 before it has one.
func (b *Broker) brokerEpoch() int64 {
	if l := b.life.Load(); l != nil {
		return l.epoch.Load()
	}
	return -1
}

// leads says whether this broker may believe that it leads what it led last.
func (b *Broker) leads() bool {
	l := b.life.Load()
	return l == nil || l.leads()
}

// askReplica asks another broker on a lane of its own: an answer to a fetch may take long.
func (b *Broker) askReplica(ctx context.Context, node int32, lane string, req kmsg.Request) (kmsg.Response, error) {
	return b.cluster.peers.Request(ctx, peer.Target{Node: node, Lane: lane}, req)
}

// alterPartition asks the active controller about in-sync replicas.
func (b *Broker) alterPartition(ctx context.Context, req *kmsg.AlterPartitionRequest) (*kmsg.AlterPartitionResponse, error) {
	r, err := b.cluster.Controller(ctx, req)
	if err != nil {
		return nil, err
	}
	resp, ok := r.(*kmsg.AlterPartitionResponse)
	if !ok {
		return nil, fmt.Errorf("BUG: AlterPartition is answered with %T", r)
	}
	return resp, nil
}
