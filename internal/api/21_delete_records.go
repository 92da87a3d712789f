package api

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/replica"
	"github.com/ottla/ottla/internal/wire"

	"github.com/twmb/franz-go/pkg/kerr"
)

// DeleteRecords: v0-2.
//
// Ordered half: the leader's log start moves up; -1 means up to the high watermark. Parked half: answer once the logs of all live
// replicas begin there, or the timeout has passed. The low watermark answered is the lowest log start of the replicas.

func deleteRecords(c *Call, q *kmsg.DeleteRecordsRequest) {
	resp := kmsg.NewPtrDeleteRecordsResponse()
	type deleted struct {
		part             *replica.Partition
		upTo             int64
		topic, partition int
	}
	var waiting []deleted
	for _, t := range q.Topics {
		rt := kmsg.NewDeleteRecordsResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewDeleteRecordsResponseTopicPartition()
			part, low, err := c.deleteUpTo(log.TopicPartition{Topic: t.Topic, Partition: p.Partition}, p.Offset)
			rp.Partition, rp.LowWatermark, rp.ErrorCode = p.Partition, low, wire.CodeOf(err)
			if err == nil {
				waiting = append(waiting, deleted{part, low, len(resp.Topics), len(rt.Partitions)})
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	if len(waiting) == 0 {
		c.Reply(resp)
		return
	}
	delayed := c.Replicas.DelayProduce(len(waiting), func(errs []error) {
		for i, w := range waiting {
			rp := &resp.Topics[w.topic].Partitions[w.partition]
			low, err := w.part.LowWatermark()
			if errs[i] != nil {
				err = errs[i]
			}
			if rp.LowWatermark, rp.ErrorCode = low, wire.CodeOf(err); err != nil {
				rp.LowWatermark = -1
			}
		}
		c.Reply(resp)
	})
	for i, w := range waiting {
		w.part.WaitLow(w.upTo, delayed, i)
	}
	delayed.Arm(time.Duration(q.TimeoutMillis) * time.Millisecond)
}

// deleteUpTo moves the leader's log start.
func (c *Call) deleteUpTo(tp log.TopicPartition, upTo int64) (*replica.Partition, int64, error) {
	if topic := c.Image().Topic(tp.Topic); topic == nil || topic.Partition(tp.Partition) == nil {
		return nil, -1, kerr.UnknownTopicOrPartition
	}
	if controller.IsInternal(tp.Topic) {
		return nil, -1, wire.Errorf(kerr.InvalidTopicException, "%s is kept by the broker; its records cannot be deleted", tp.Topic)
	}
	part, err := c.Replicas.Get(tp)
	if err != nil {
		return nil, -1, err
	}
	l, err := part.Log()
	if err != nil {
		return nil, -1, err
	}
	if upTo == -1 {
		upTo = l.HighWatermark().Offset
	}
	if !deletes(c.TopicValues(tp.Topic)) {
		return nil, -1, wire.Errorf(kerr.PolicyViolation, "%s is compacted and not deleted from; add delete to its cleanup.policy", tp.Topic)
	}
	low, err := l.DeleteRecords(upTo)
	if err != nil {
		return nil, -1, err
	}
	return part, low, nil
}

// openLog is the log of a partition that this broker leads.
func (s *Server) openLog(tp log.TopicPartition) (*log.Log, error) {
	part, err := s.Replicas.Get(tp)
	if err != nil {
		return nil, err
	}
	return part.Log()
}

// deletes says whether a topic's records may be deleted by age, size or request.
func deletes(v *config.Values) bool {
	return slices.Contains(config.TopicCleanupPolicy.Get(v), "delete")
}
