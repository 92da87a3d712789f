package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/sharecoord"
	"github.com/ottla/ottla/internal/wire"
)

// DeleteShareGroupState: v0.
//
// Ends the state of share-partitions (KIP-932).

func deleteShareGroupState(c *Call, q *kmsg.DeleteShareGroupStateRequest) {
	resp := kmsg.NewPtrDeleteShareGroupStateResponse()
	var fan shareFan
	for i := range q.Topics {
		t := &q.Topics[i]
		rt := kmsg.NewDeleteShareGroupStateResponseTopic()
		rt.TopicID, rt.Partitions = t.TopicID, make([]kmsg.DeleteShareGroupStateResponseTopicPartition, len(t.Partitions))
		for j := range t.Partitions {
			k := sharecoord.Key{Group: q.GroupID, TopicID: t.TopicID, Partition: t.Partitions[j].Partition}
			fan.add(func(done func()) { c.deleteShareGroupStatePartition(k, &t.Partitions[j], &rt.Partitions[j], done) })
		}
		resp.Topics = append(resp.Topics, rt)
	}
	fan.run(func() { c.Reply(resp) })
}

func (c *Call) deleteShareGroupStatePartition(k sharecoord.Key, _ *kmsg.DeleteShareGroupStateRequestTopicPartition, r *kmsg.DeleteShareGroupStateResponseTopicPartition, done func()) {
	*r = kmsg.NewDeleteShareGroupStateResponseTopicPartition()
	r.Partition = k.Partition
	shareState(c, "deleteShareGroupState", k, func(s *sharecoord.Shard, _ time.Time) (coordinator.Result[struct{}], error) {
		return s.Delete(k)
	}, func(_ struct{}, err error) {
		r.ErrorCode, r.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
		done()
	})
}
