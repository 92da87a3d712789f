package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/wire"
)

// OffsetDelete: v0. Committed offsets of partitions that the group does not consume any more (KIP-496).

func offsetDelete(c *Call, q *kmsg.OffsetDeleteRequest) {
	img := c.Image()
	known := *q
	known.Topics = nil
	var unknown []kmsg.OffsetDeleteResponseTopic
	for _, t := range q.Topics {
		topic := img.Topic(t.Topic)
		kept := t
		kept.Partitions = nil
		rt := kmsg.NewOffsetDeleteResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			if topic != nil && topic.Partition(p.Partition) != nil {
				kept.Partitions = append(kept.Partitions, p)
				continue
			}
			rp := kmsg.NewOffsetDeleteResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, kerr.UnknownTopicOrPartition.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		if len(kept.Partitions) > 0 {
			known.Topics = append(known.Topics, kept)
		}
		if len(rt.Partitions) > 0 {
			unknown = append(unknown, rt)
		}
	}
	rc := c.client()
	groupWrite(c, "offset-delete", q.Group, func(s *group.Shard, now time.Time, _ coordinator.Token) (coordinator.Result[*kmsg.OffsetDeleteResponse], error) {
		return s.OffsetDelete(now, rc, &known)
	}, func(resp *kmsg.OffsetDeleteResponse, err error) {
		if err != nil {
			resp = kmsg.NewPtrOffsetDeleteResponse()
			resp.ErrorCode = wire.CodeOf(err)
		}
		if resp.ErrorCode == 0 {
			resp.Topics = append(resp.Topics, unknown...)
		}
		c.Reply(resp)
	})
}
