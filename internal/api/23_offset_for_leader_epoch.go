package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/wire"
)

// OffsetForLeaderEpoch: v2-4.
//
// Where an epoch ended, so that a reader finds out whether its log has left ours (KIP-101, KIP-320).

func offsetForLeaderEpoch(c *Call, q *kmsg.OffsetForLeaderEpochRequest) {
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	for _, t := range q.Topics {
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			rp.Partition, rp.LeaderEpoch, rp.EndOffset = p.Partition, -1, -1
			err := c.epochEnd(log.TopicPartition{Topic: t.Topic, Partition: p.Partition}, &p, &rp)
			rp.ErrorCode = wire.CodeOf(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	c.Reply(resp)
}

func (c *Call) epochEnd(tp log.TopicPartition, p *kmsg.OffsetForLeaderEpochRequestTopicPartition, out *kmsg.OffsetForLeaderEpochResponseTopicPartition) error {
	if topic := c.Image().Topic(tp.Topic); topic == nil || topic.Partition(tp.Partition) == nil {
		return kerr.UnknownTopicOrPartition
	}
	part, err := c.Replicas.Get(tp)
	if err != nil {
		return err
	}
	if err := part.CheckEpoch(p.CurrentLeaderEpoch); err != nil {
		return err
	}
	l, err := part.Log()
	if err != nil {
		return err
	}
	out.LeaderEpoch, out.EndOffset = l.EpochEnd(p.LeaderEpoch, l.LogEnd())
	return nil
}
