package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeQuorum: v0-2. Who keeps the metadata, and how far (KIP-595). v1: when voters fetched last (KIP-836). v2: directory ids, the
// voters' addresses and messages (KIP-853). The one voter here is this broker.

const metadataTopic = "__cluster_metadata"

// Quorum is the metadata log's view of itself.
type Quorum interface {
	Epoch() int32          // leader epoch
	Committed() int64      // offset after the last durable record
	Voter() (dir [16]byte) // the directory that holds the log
}

func describeQuorum(c *Call, q *kmsg.DescribeQuorumRequest) {
	resp := kmsg.NewPtrDescribeQuorumResponse()
	resp.ErrorMessage = new(string)
	known := true
	for _, t := range q.Topics {
		rt := kmsg.NewDescribeQuorumResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewDescribeQuorumResponseTopicPartition()
			rp.Partition, rp.ErrorMessage = p.Partition, new(string)
			if t.Topic == metadataTopic && p.Partition == 0 {
				c.quorumOf(&rp)
			} else {
				text := "This server does not host this topic-partition."
				rp.ErrorCode, rp.ErrorMessage, known = kerr.UnknownTopicOrPartition.Code, &text, false
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	if known {
		n := kmsg.NewDescribeQuorumResponseNode()
		n.NodeID = c.NodeID
		l := kmsg.NewDescribeQuorumResponseNodeListener()
		host, port := c.address(c.Req.Conn)
		l.Name, l.Host, l.Port = c.Req.Conn.ListenerName(), host, uint16(port)
		n.Listeners = append(n.Listeners, l)
		resp.Nodes = append(resp.Nodes, n)
	}
	c.Reply(resp)
}

func (c *Call) quorumOf(p *kmsg.DescribeQuorumResponseTopicPartition) {
	now := c.Clock.Now().UnixMilli()
	p.LeaderID, p.LeaderEpoch, p.HighWatermark = c.NodeID, c.Quorum.Epoch(), c.Quorum.Committed()
	v := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
	v.ReplicaID, v.ReplicaDirectoryID, v.LogEndOffset = c.NodeID, c.Quorum.Voter(), p.HighWatermark
	v.LastFetchTimestamp, v.LastCaughtUpTimestamp = now, now
	p.CurrentVoters = append(p.CurrentVoters, v)
	p.Observers = []kmsg.DescribeQuorumResponseTopicPartitionReplicaState{}
	for _, o := range c.Feed.Observers() {
		s := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
		s.ReplicaID, s.ReplicaDirectoryID, s.LogEndOffset, s.LastFetchTimestamp = o.ID, o.Dir, o.End, o.Fetched.UnixMilli()
		if !o.CaughtUp.IsZero() {
			s.LastCaughtUpTimestamp = o.CaughtUp.UnixMilli()
		}
		p.Observers = append(p.Observers, s)
	}
}
