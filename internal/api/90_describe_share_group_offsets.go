package api

import (
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/sharecoord"
	"github.com/ottla/ottla/internal/wire"
)

// DescribeShareGroupOffsets: v0-1.
//
// From where on share groups have records to decide, by partition; -1 where nobody has begun. All partitions with a state for topics null.
// v1: how many records that are (KIP-1226).

func describeShareGroupOffsets(c *Call, q *kmsg.DescribeShareGroupOffsetsRequest) {
	resp := kmsg.NewPtrDescribeShareGroupOffsetsResponse()
	resp.Groups = make([]kmsg.DescribeShareGroupOffsetsResponseGroup, len(q.Groups))
	var fan shareFan
	for i := range q.Groups {
		fan.add(func(done func()) { c.describeShareOffsets(&q.Groups[i], &resp.Groups[i], done) })
	}
	fan.run(func() { c.Reply(resp) })
}

func (c *Call) describeShareOffsets(q *kmsg.DescribeShareGroupOffsetsRequestGroup, out *kmsg.DescribeShareGroupOffsetsResponseGroup, done func()) {
	*out = kmsg.NewDescribeShareGroupOffsetsResponseGroup()
	out.GroupID, out.Topics = q.GroupID, []kmsg.DescribeShareGroupOffsetsResponseGroupTopic{}
	groupRead(c, "share-group-states", q.GroupID, func(s *group.Shard, _ time.Time) (map[string][]int32, error) {
		return s.ShareStates(q.GroupID)
	}, func(stated map[string][]int32, err error) {
		if err == nil {
			err = c.mayKeepShares(q.GroupID)
		}
		if err != nil {
			out.ErrorCode, out.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
			done()
			return
		}
		topics := q.Topics
		if topics == nil {
			for _, name := range slices.Sorted(maps.Keys(stated)) {
				t := kmsg.NewDescribeShareGroupOffsetsRequestGroupTopic()
				t.Topic, t.Partitions = name, stated[name]
				topics = append(topics, t)
			}
		}
		var fan shareFan
		for i := range topics {
			rt := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopic()
			rt.Topic, rt.Partitions = topics[i].Topic, make([]kmsg.DescribeShareGroupOffsetsResponseGroupTopicPartition, len(topics[i].Partitions))
			if t := c.Image().Topic(rt.Topic); t != nil {
				rt.TopicID = t.ID
			}
			for j, p := range topics[i].Partitions {
				fan.add(func(done func()) {
					c.describeShareOffset(sharecoord.Key{Group: q.GroupID, TopicID: rt.TopicID, Partition: p}, rt.Topic, &rt.Partitions[j], done)
				})
			}
			out.Topics = append(out.Topics, rt)
		}
		fan.run(done)
	})
}

func (c *Call) describeShareOffset(k sharecoord.Key, topic string, out *kmsg.DescribeShareGroupOffsetsResponseGroupTopicPartition, done func()) {
	*out = kmsg.NewDescribeShareGroupOffsetsResponseGroupTopicPartition()
	out.Partition, out.StartOffset, out.Lag = k.Partition, -1, -1
	if _, ok := c.ShareStates.Home(k); !ok || k.TopicID == [16]byte{} { // no group has ever begun, or the topic is not there
		done()
		return
	}
	c.ShareStates.Summary(k, func(s sharecoord.State, err error) {
		defer done()
		if err != nil {
			out.ErrorCode, out.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
			return
		}
		out.StartOffset, out.LeaderEpoch = s.Start, max(s.LeaderEpoch, 0)
		if s.Start < 0 || s.Completed < 0 {
			return
		}
		if l, err := c.openLog(log.TopicPartition{Topic: topic, Partition: k.Partition}); err == nil {
			out.Lag = max(l.HighWatermark().Offset-max(s.Start, l.LogStartOffset())-int64(s.Completed), 0)
		}
	})
}
