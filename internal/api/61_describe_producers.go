package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/wire"
)

// DescribeProducers: v0. The state of idempotent and transactional producers of partitions (KIP-664).

func describeProducers(c *Call, q *kmsg.DescribeProducersRequest) {
	resp := kmsg.NewPtrDescribeProducersResponse()
	asked := map[log.TopicPartition]bool{}
	for _, t := range q.Topics {
		rt := kmsg.NewDescribeProducersResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			tp := log.TopicPartition{Topic: t.Topic, Partition: p}
			if asked[tp] {
				continue
			}
			asked[tp] = true
			rp := kmsg.NewDescribeProducersResponseTopicPartition()
			rp.Partition = p
			if topic := c.Image().Topic(t.Topic); topic == nil || topic.Partition(p) == nil {
				rp.ErrorCode = kerr.UnknownTopicOrPartition.Code
			} else if l, err := c.openLog(tp); err != nil {
				rp.ErrorCode, rp.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
			} else {
				for _, i := range l.ActiveProducers() {
					a := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
					a.ProducerID, a.ProducerEpoch, a.LastSequence, a.LastTimestamp = i.ID, int32(i.Epoch), i.LastSequence, i.LastTimestamp
					a.CoordinatorEpoch, a.CurrentTxnStartOffset = i.CoordinatorEpoch, i.CurrentTxnFirstOffset
					rp.ActiveProducers = append(rp.ActiveProducers, a)
				}
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	c.Reply(resp)
}
