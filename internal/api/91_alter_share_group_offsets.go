package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
	groupshare "github.com/ottla/ottla/internal/group/share"
	"github.com/ottla/ottla/internal/wire"
)

// AlterShareGroupOffsets: v0.
//
// Sets from where on a share group without members has records to decide; what was decided above that offset is forgotten.

func alterShareGroupOffsets(c *Call, q *kmsg.AlterShareGroupOffsetsRequest) {
	resp := kmsg.NewPtrAlterShareGroupOffsetsResponse()
	resp.Topics = []kmsg.AlterShareGroupOffsetsResponseTopic{}
	refuse := func(err error) {
		resp.ErrorCode, resp.ErrorMessage, resp.Topics = wire.CodeOf(err), wire.MessageOf(err), []kmsg.AlterShareGroupOffsetsResponseTopic{}
		c.Reply(resp)
	}
	if err := c.mayKeepShares(q.GroupID); err != nil {
		refuse(err)
		return
	}
	starts := map[groupshare.Partition]int64{}
	img := c.Image()
	for i := range q.Topics {
		rt := kmsg.NewAlterShareGroupOffsetsResponseTopic()
		rt.Topic = q.Topics[i].Topic
		t := img.Topic(rt.Topic)
		if t != nil {
			rt.TopicID = t.ID
		}
		for _, p := range q.Topics[i].Partitions {
			rp := kmsg.NewAlterShareGroupOffsetsResponseTopicPartition()
			rp.Partition = p.Partition
			switch {
			case t == nil || t.Partition(p.Partition) == nil:
				rp.ErrorCode, rp.ErrorMessage = kerr.UnknownTopicOrPartition.Code, wire.MessageOf(kerr.UnknownTopicOrPartition)
			case p.StartOffset < 0:
				rp.ErrorCode, rp.ErrorMessage = kerr.InvalidRequest.Code, kmsg.StringPtr("The start offset cannot be negative.")
			default:
				starts[groupshare.Partition{Topic: t.ID, Index: p.Partition}] = p.StartOffset
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	groupWrite(c, "share-group-alter", q.GroupID, func(s *group.Shard, now time.Time, _ coordinator.Token) (coordinator.Result[*groupshare.Begin], error) {
		return s.ShareAlter(now, q.GroupID, starts)
	}, func(b *groupshare.Begin, err error) {
		if err != nil {
			refuse(err)
			return
		}
		c.beginShares(q.GroupID, b, func(failed map[groupshare.Partition]error) {
			for i := range resp.Topics {
				for j := range resp.Topics[i].Partitions {
					p := &resp.Topics[i].Partitions[j]
					if err := failed[groupshare.Partition{Topic: resp.Topics[i].TopicID, Index: p.Partition}]; err != nil {
						p.ErrorCode, p.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
					}
				}
			}
			c.Reply(resp)
		})
	})
}
