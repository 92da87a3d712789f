package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/metadata/feed"
	"github.com/ottla/ottla/internal/metadata/store"
	"github.com/ottla/ottla/internal/network"
	"github.com/ottla/ottla/internal/wire"
)

// The metadata log is read by Fetch like a partition, but only by nodes, on the listener of the cluster; elsewhere there is no such topic.
// What differs from a partition: there is no session, the leader and its address are in every answer, and who is behind the log is told
// of a snapshot (KIP-595, KIP-630).

// ofCluster says whether a connection is one between the nodes of the cluster.
func (s *Server) ofCluster(conn *network.Conn) bool { return conn.ListenerName() == s.ClusterListener }

// clusterOnly says that an API is served to nodes only.
func (w *row) clusterOnly() bool {
	switch w.Key {
	case fetchSnapshotKey, 56, 62, 63, 67, 73: // what brokers ask their controller
		return true
	}
	return false
}

// wantsMetadata says that a fetch is of the metadata log.
func (c *fetchCall) wantsMetadata() bool {
	if c.Feed == nil || len(c.req.Topics) == 0 || !c.ofCluster(c.Req.Conn) {
		return false
	}
	t := &c.req.Topics[0]
	return c.Version >= 13 && t.TopicID == store.TopicID || c.Version < 13 && t.Name == store.TopicName
}

// fetchMetadata answers a fetch of the metadata log, at once or when something is committed.
func (c *fetchCall) fetchMetadata() {
	call, version := c.Call, c.Version
	refuse := func(err error) {
		resp := kmsg.NewPtrFetchResponse()
		resp.ErrorCode = wire.CodeOf(err)
		call.Reply(resp)
	}
	if id := c.req.ClusterID; id != nil && *id != c.Image().ClusterID() {
		refuse(kerr.InconsistentClusterID)
		return
	}
	if len(c.req.Topics) != 1 || len(c.req.Topics[0].Partitions) != 1 || c.req.Topics[0].Partitions[0].Index != 0 {
		refuse(kerr.InvalidRequest)
		return
	}
	p := &c.req.Topics[0].Partitions[0]
	if c.req.MaxWaitMs < 0 || p.FetchOffset < 0 || p.LastFetchedEpoch < 0 || p.CurrentLeaderEpoch < 0 {
		refuse(kerr.InvalidRequest)
		return
	}
	q := feed.Fetch{
		Replica: feed.Replica{ID: c.req.ReplicaID, Dir: p.ReplicaDirectoryID}, Epoch: p.CurrentLeaderEpoch, Offset: p.FetchOffset, LastEpoch: p.LastFetchedEpoch,
		HighWatermark: p.HighWatermark, MaxBytes: int(min(p.MaxBytes, c.req.MaxBytes)), MaxWait: time.Duration(c.req.MaxWaitMs) * time.Millisecond,
	}
	c.Feed.Fetch(q, func(a feed.Answer) { call.answerMetadata(version, a) })
}

func (c *Call) answerMetadata(version int16, a feed.Answer) {
	resp := kmsg.NewPtrFetchResponse()
	p := kmsg.NewFetchResponseTopicPartition()
	p.ErrorCode = wire.CodeOf(a.Err)
	p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = a.Leader, a.Epoch
	if a.Err == nil {
		p.HighWatermark, p.LastStableOffset, p.LogStartOffset, p.RecordBatches = a.HighWatermark, a.HighWatermark, a.LogStart, a.Batches
	} else {
		p.HighWatermark, p.LogStartOffset = -1, -1
	}
	if a.Diverging != nil {
		p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset = a.Diverging.Epoch, a.Diverging.End
	}
	if a.Snapshot != nil {
		p.SnapshotID.EndOffset, p.SnapshotID.Epoch = a.Snapshot.End, a.Snapshot.Epoch
	}
	if p.RecordBatches == nil {
		p.RecordBatches = []byte{}
	}
	resp.Topics = []kmsg.FetchResponseTopic{{Topic: store.TopicName, TopicID: store.TopicID, Partitions: []kmsg.FetchResponseTopicPartition{p}}}
	if host, port, ok := c.leaderAddress(a.Leader); ok && version >= 16 {
		b := kmsg.NewFetchResponseBroker()
		b.NodeID, b.Host, b.Port = a.Leader, host, port
		resp.Brokers = append(resp.Brokers, b)
	}
	c.Reply(resp)
}

// leaderAddress is where a node that asks on this connection finds the leader of the metadata log.
func (c *Call) leaderAddress(id int32) (host string, port int32, ok bool) {
	if id == c.NodeID {
		host, port = c.address(c.Req.Conn)
		return host, port, true
	}
	if b := c.Image().Broker(id); b != nil {
		return c.brokerAddress(c.Req.Conn, b)
	}
	return "", 0, false
}
