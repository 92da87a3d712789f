package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/metadata/store"
	"github.com/ottla/ottla/internal/wire"
)

// FetchSnapshot: v0-1, between nodes. A piece of a snapshot of the metadata log, for those that the log itself does not reach any more
// (KIP-630). v1: directory ids and the leader's address (KIP-853).

const fetchSnapshotKey = 59

func fetchSnapshot(c *Call, q *kmsg.FetchSnapshotRequest) {
	resp := kmsg.NewPtrFetchSnapshotResponse()
	switch {
	case q.ClusterID != nil && *q.ClusterID != c.Image().ClusterID():
		resp.ErrorCode = kerr.InconsistentClusterID.Code
	case len(q.Topics) != 1 || len(q.Topics[0].Partitions) != 1 || q.Topics[0].Topic != store.TopicName || q.Topics[0].Partitions[0].Partition != 0:
		resp.ErrorCode = kerr.UnknownTopicOrPartition.Code
	}
	if resp.ErrorCode != 0 {
		c.Reply(resp)
		return
	}
	want := &q.Topics[0].Partitions[0]
	p := kmsg.NewFetchSnapshotResponseTopicPartition()
	p.SnapshotID.EndOffset, p.SnapshotID.Epoch, p.Position, p.Bytes = want.SnapshotID.EndOffset, want.SnapshotID.Epoch, want.Position, []byte{}
	leader, epoch, err := c.Feed.Check(want.CurrentLeaderEpoch)
	p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = leader, epoch
	if err == nil {
		p.Bytes, p.Size, err = c.Feed.ReadSnapshot(store.SnapshotID{End: want.SnapshotID.EndOffset, Epoch: want.SnapshotID.Epoch}, want.Position, int(q.MaxBytes))
	}
	p.ErrorCode = wire.CodeOf(err)
	resp.Topics = []kmsg.FetchSnapshotResponseTopic{{Topic: store.TopicName, Partitions: []kmsg.FetchSnapshotResponseTopicPartition{p}}}
	if host, port, ok := c.leaderAddress(leader); ok {
		e := kmsg.NewFetchSnapshotResponseNodeEndpoint()
		e.NodeID, e.Host, e.Port = leader, host, uint16(port)
		resp.NodeEndpoints = append(resp.NodeEndpoints, e)
	}
	c.Reply(resp)
}
