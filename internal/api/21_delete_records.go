package api

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/wire"

	"github.com/twmb/franz-go/pkg/kerr"
)

// DeleteRecords: v0-2.
//
// Moves the log start offset up; -1 means up to the high watermark. The low watermark answered is the new log start.

func deleteRecords(c *Call, q *kmsg.DeleteRecordsRequest) {
	resp := kmsg.NewPtrDeleteRecordsResponse()
	for _, t := range q.Topics {
		rt := kmsg.NewDeleteRecordsResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewDeleteRecordsResponseTopicPartition()
			low, err := c.deleteUpTo(log.TopicPartition{Topic: t.Topic, Partition: p.Partition}, p.Offset)
			rp.Partition, rp.LowWatermark, rp.ErrorCode = p.Partition, low, wire.CodeOf(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	c.Reply(resp)
}

func (c *Call) deleteUpTo(tp log.TopicPartition, upTo int64) (int64, error) {
	if topic := c.Image().Topic(tp.Topic); topic == nil || topic.Partition(tp.Partition) == nil {
		return -1, kerr.UnknownTopicOrPartition
	}
	if controller.IsInternal(tp.Topic) {
		return -1, wire.Errorf(kerr.InvalidTopicException, "%s is kept by the broker; its records cannot be deleted", tp.Topic)
	}
	l, err := c.openLog(tp)
	if err != nil {
		return -1, err
	}
	if upTo == -1 {
		upTo = l.HighWatermark().Offset
	}
	if !deletes(c.TopicValues(tp.Topic)) {
		return -1, wire.Errorf(kerr.PolicyViolation, "%s is compacted and not deleted from; add delete to its cleanup.policy", tp.Topic)
	}
	low, err := l.DeleteRecords(upTo)
	if err != nil {
		return -1, err
	}
	return low, nil
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
