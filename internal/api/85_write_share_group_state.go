package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/sharecoord"
	"github.com/ottla/ottla/internal/wire"
)

// WriteShareGroupState: v0-1.
//
// Changes the state of share-partitions; older leaders and older states are fenced (KIP-932). v1: how many records at or above the
// start are done with (KIP-1226).

func writeShareGroupState(c *Call, q *kmsg.WriteShareGroupStateRequest) {
	resp := kmsg.NewPtrWriteShareGroupStateResponse()
	var fan shareFan
	for i := range q.Topics {
		t := &q.Topics[i]
		rt := kmsg.NewWriteShareGroupStateResponseTopic()
		rt.TopicID, rt.Partitions = t.TopicID, make([]kmsg.WriteShareGroupStateResponseTopicPartition, len(t.Partitions))
		for j := range t.Partitions {
			k := sharecoord.Key{Group: q.GroupID, TopicID: t.TopicID, Partition: t.Partitions[j].Partition}
			fan.add(func(done func()) { c.writeShareGroupStatePartition(k, &t.Partitions[j], &rt.Partitions[j], done) })
		}
		resp.Topics = append(resp.Topics, rt)
	}
	fan.run(func() { c.Reply(resp) })
}

func (c *Call) writeShareGroupStatePartition(k sharecoord.Key, q *kmsg.WriteShareGroupStateRequestTopicPartition, r *kmsg.WriteShareGroupStateResponseTopicPartition, done func()) {
	*r = kmsg.NewWriteShareGroupStateResponseTopicPartition()
	r.Partition = k.Partition
	w := sharecoord.Write{StateEpoch: q.StateEpoch, LeaderEpoch: q.LeaderEpoch, Start: q.StartOffset, Completed: q.DeliveryCompleteCount}
	for _, b := range q.StateBatches {
		w.Batches = append(w.Batches, sharecoord.Batch{First: b.FirstOffset, Last: b.LastOffset, State: b.DeliveryState, Count: b.DeliveryCount})
	}
	shareState(c, "writeShareGroupState", k, func(s *sharecoord.Shard, now time.Time) (coordinator.Result[struct{}], error) {
		return s.Write(now, k, w)
	}, func(_ struct{}, err error) {
		r.ErrorCode, r.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
		done()
	})
}
