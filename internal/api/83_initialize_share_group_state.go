package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/sharecoord"
	"github.com/ottla/ottla/internal/wire"
)

// InitializeShareGroupState: v0.
//
// Begins the state of share-partitions anew, with a start offset or (-1) without (KIP-932).

func initializeShareGroupState(c *Call, q *kmsg.InitializeShareGroupStateRequest) {
	resp := kmsg.NewPtrInitializeShareGroupStateResponse()
	var fan shareFan
	for i := range q.Topics {
		t := &q.Topics[i]
		rt := kmsg.NewInitializeShareGroupStateResponseTopic()
		rt.TopicID, rt.Partitions = t.TopicID, make([]kmsg.InitializeShareGroupStateResponseTopicPartition, len(t.Partitions))
		for j := range t.Partitions {
			k := sharecoord.Key{Group: q.GroupID, TopicID: t.TopicID, Partition: t.Partitions[j].Partition}
			fan.add(func(done func()) { c.initializeShareGroupStatePartition(k, &t.Partitions[j], &rt.Partitions[j], done) })
		}
		resp.Topics = append(resp.Topics, rt)
	}
	fan.run(func() { c.Reply(resp) })
}

func (c *Call) initializeShareGroupStatePartition(k sharecoord.Key, q *kmsg.InitializeShareGroupStateRequestTopicPartition, r *kmsg.InitializeShareGroupStateResponseTopicPartition, done func()) {
	*r = kmsg.NewInitializeShareGroupStateResponseTopicPartition()
	r.Partition = k.Partition
	shareState(c, "initializeShareGroupState", k, func(s *sharecoord.Shard, now time.Time) (coordinator.Result[struct{}], error) {
		if q.StartOffset == sharecoord.None {
			return s.Ensure(now, k, q.StateEpoch) // a group that asks again, for it heard no answer, loses nothing
		}
		return s.Initialize(now, k, q.StateEpoch, q.StartOffset)
	}, func(_ struct{}, err error) {
		r.ErrorCode, r.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
		done()
	})
}
