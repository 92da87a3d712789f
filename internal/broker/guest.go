package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/metadata/store"
	"github.com/ottla/ottla/internal/peer"
)

// identifyGuest is identify for a broker in a cluster whose controllers are processes of their own, such as Apache Kafka's: they give no
// ids, so node.id has to be set; the cluster's id they tell.
func (b *Broker) identifyGuest(ctx context.Context, o Options, id identity, meta store.Meta) (identity, error) {
	b.follows, b.guest = true, true
	if id.node < 0 {
		id.node = meta.NodeID
	}
	if id.node < 0 {
		return id, errors.New("controller.quorum.bootstrap.servers is set and node.id is not: set a number that no other node of the cluster has")
	}
	if id.cluster == "" {
		id.cluster = meta.ClusterID
	}
	if id.cluster != "" {
		return id, nil
	}
	c := peer.New(peer.Options{ClientID: "ottla-node-" + itoa(id.node), Clock: o.Clock, Logger: o.Logger, Dial: func(ctx context.Context, t peer.Target) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", t.Addr)
	}})
	defer c.Close()
	servers := config.ControllerQuorumBootstrapServers.Get(o.Values)
	for i := 0; ; i++ {
		cluster, err := askClusterID(ctx, c, servers[i%len(servers)])
		if err == nil {
			id.cluster = cluster
			return id, nil
		}
		if i == 0 {
			o.Logger.Warn("no controller says yet which cluster it is of; it is asked again", "controllers", servers, "error", err)
		}
		t := o.Clock.NewTimer(guestPause)
		select {
		case <-t.C():
		case <-ctx.Done():
			t.Stop()
			return id, fmt.Errorf("no controller of %v says which cluster it is of: %w", servers, err)
		}
	}
}

const (
	guestPause          = 200 * time.Millisecond
	controllerEndpoints = 2 // what DescribeCluster is to tell of
)

func askClusterID(ctx context.Context, c *peer.Client, addr string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	q := kmsg.NewPtrDescribeClusterRequest()
	q.EndpointType = controllerEndpoints
	r, err := c.Request(ctx, peer.Target{Addr: addr}, q)
	if err != nil {
		return "", err
	}
	resp := r.(*kmsg.DescribeClusterResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return "", fmt.Errorf("%s: %w", addr, err)
	}
	if resp.ClusterID == "" {
		return "", fmt.Errorf("%s names no cluster", addr)
	}
	return resp.ClusterID, nil
}
