package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeQuorum: v0-2. Who keeps the metadata, and how far (KIP-595). v1: when voters fetched last (KIP-836). v2: directory ids, the
// voters' addresses and messages (KIP-853). Only the leader of
// the metadata log knows, so it is asked.

const metadataTopic = "__cluster_metadata"

// Quorum is the metadata log's view of itself.
type Quorum interface {
	Epoch() int32          // leader epoch
	Committed() int64      // offset after the last durable record
	Voter() (dir [16]byte) // the directory that holds the log
}

func describeQuorum(c *Call, q *kmsg.DescribeQuorumRequest) {
	if !c.Cluster.Active() { // it was a moment ago, or nobody is
		resp := kmsg.NewPtrDescribeQuorumResponse()
		resp.ErrorCode, resp.ErrorMessage = kerr.NotLeaderForPartition.Code, new(string)
		c.Reply(resp)
		return
	}
	c.Cluster.Members(func(members []Member) { c.describeMembers(q, members) })
}

func (c *Call) describeMembers(q *kmsg.DescribeQuorumRequest, members []Member) {
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
				c.quorumOf(&rp, members)
			} else {
				text := "This server does not host this topic-partition."
				rp.ErrorCode, rp.ErrorMessage, known = kerr.UnknownTopicOrPartition.Code, &text, false
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	if known {
		for _, m := range members {
			n := kmsg.NewDescribeQuorumResponseNode()
			n.NodeID = m.ID
			l := kmsg.NewDescribeQuorumResponseNodeListener()
			l.Name, l.Host, l.Port = m.Listener, m.Host, m.Port
			if m.ID == c.NodeID && len(members) == 1 { // where the client has found it
				host, port := c.address(c.Req.Conn)
				l.Name, l.Host, l.Port = c.Req.Conn.ListenerName(), host, uint16(port)
			}
			if n.Listeners = append(n.Listeners, l); m.Voter {
				resp.Nodes = append(resp.Nodes, n)
			}
		}
	}
	c.Reply(resp)
}

func (c *Call) quorumOf(p *kmsg.DescribeQuorumResponseTopicPartition, members []Member) {
	now := c.Clock.Now().UnixMilli()
	p.LeaderID, p.LeaderEpoch, p.HighWatermark = c.NodeID, c.Quorum.Epoch(), c.Quorum.Committed()
	p.Observers = []kmsg.DescribeQuorumResponseTopicPartitionReplicaState{}
	listed := map[int32]bool{}
	for _, m := range members {
		v := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
		v.ReplicaID, v.ReplicaDirectoryID, v.LogEndOffset = m.ID, m.Dir, -1
		if m.Behind >= 0 {
			v.LogEndOffset = max(0, p.HighWatermark-m.Behind) // an entry of the quorum's log is a record or more
		}
		if m.Heard {
			if v.LastFetchTimestamp = now; m.Behind == 0 {
				v.LastCaughtUpTimestamp = now
			}
		}
		if listed[m.ID] = true; m.Voter {
			p.CurrentVoters = append(p.CurrentVoters, v)
		} else {
			p.Observers = append(p.Observers, v)
		}
	}
	for _, o := range c.Feed.Observers() {
		if listed[o.ID] {
			continue // a member fetches too while it is new to the quorum
		}
		s := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
		s.ReplicaID, s.ReplicaDirectoryID, s.LogEndOffset, s.LastFetchTimestamp = o.ID, o.Dir, o.End, o.Fetched.UnixMilli()
		if !o.CaughtUp.IsZero() {
			s.LastCaughtUpTimestamp = o.CaughtUp.UnixMilli()
		}
		p.Observers = append(p.Observers, s)
	}
}
