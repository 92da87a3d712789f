package api

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/controller"
)

// DescribeTopicPartitions: v0. Topics in pages: at most so many partitions, and a cursor to go on from (KIP-966).

func describeTopicPartitions(c *Call, q *kmsg.DescribeTopicPartitionsRequest) {
	resp := kmsg.NewPtrDescribeTopicPartitionsResponse()
	img := c.Image()
	if q.Cursor != nil && q.Cursor.Partition < 0 {
		for _, t := range q.Topics {
			rt := kmsg.NewDescribeTopicPartitionsResponseTopic()
			rt.ErrorCode, rt.Topic, rt.AuthorizedOperations = kerr.InvalidRequest.Code, &t.Topic, operationsUnknown
			resp.Topics = append(resp.Topics, rt)
		}
		c.Reply(resp)
		return
	}
	var names []string
	for _, t := range q.Topics {
		names = append(names, t.Topic)
	}
	if len(q.Topics) == 0 {
		for _, t := range img.SortedTopics() {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	left := min(q.ResponsePartitionLimit, int32(config.MaxRequestPartitionSizeLimit.Get(c.Values())))
	left = max(left, 1)
	for _, name := range names {
		first := int32(0)
		if q.Cursor != nil {
			if name < q.Cursor.Topic {
				continue
			}
			if name == q.Cursor.Topic {
				first = q.Cursor.Partition
			}
		}
		if left == 0 {
			c.next(resp, name, 0)
			break
		}
		rt, more := c.describePage(name, first, &left)
		resp.Topics = append(resp.Topics, rt)
		if more >= 0 {
			c.next(resp, name, more)
			break
		}
	}
	c.Reply(resp)
}

func (c *Call) next(resp *kmsg.DescribeTopicPartitionsResponse, topic string, partition int32) {
	cursor := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
	cursor.Topic, cursor.Partition = topic, partition
	resp.NextCursor = &cursor
}

// describePage describes partitions from first on; more is where to go on, -1 at the end.
func (c *Call) describePage(name string, first int32, left *int32) (_ kmsg.DescribeTopicPartitionsResponseTopic, more int32) {
	rt := kmsg.NewDescribeTopicPartitionsResponseTopic()
	rt.Topic, rt.AuthorizedOperations = &name, topicOperations
	t := c.Image().Topic(name)
	if t == nil {
		rt.ErrorCode = kerr.UnknownTopicOrPartition.Code
		if controller.CheckTopicName(name) != nil {
			rt.ErrorCode = kerr.InvalidTopicException.Code
		}
		return rt, -1
	}
	rt.TopicID, rt.IsInternal = t.ID, controller.IsInternal(name)
	for n := first; int(n) < len(t.Partitions); n++ {
		if *left == 0 {
			return rt, n
		}
		*left--
		p := t.Partitions[n]
		rp := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		rp.Partition, rp.LeaderID, rp.LeaderEpoch, rp.Replicas, rp.ISR = n, p.Leader, p.LeaderEpoch, p.Replicas, p.ISR
		rp.EligibleLeaderReplicas, rp.LastKnownELR, rp.OfflineReplicas = orEmpty(p.ELR), orEmpty(p.LastKnownELR), c.offline(p.Replicas)
		if p.Leader < 0 {
			rp.ErrorCode = kerr.LeaderNotAvailable.Code
		}
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt, -1
}

func orEmpty(s []int32) []int32 {
	if s == nil {
		return []int32{}
	}
	return s
}
