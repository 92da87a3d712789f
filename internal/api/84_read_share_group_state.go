package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/sharecoord"
	"github.com/ottla/ottla/internal/wire"
)

// ReadShareGroupState: v0.
//
// The state of share-partitions; who reads is their leader in the epoch it names, older leaders are fenced (KIP-932).

func readShareGroupState(c *Call, q *kmsg.ReadShareGroupStateRequest) {
	resp := kmsg.NewPtrReadShareGroupStateResponse()
	var fan shareFan
	for i := range q.Topics {
		t := &q.Topics[i]
		rt := kmsg.NewReadShareGroupStateResponseTopic()
		rt.TopicID, rt.Partitions = t.TopicID, make([]kmsg.ReadShareGroupStateResponseTopicPartition, len(t.Partitions))
		for j := range t.Partitions {
			k := sharecoord.Key{Group: q.GroupID, TopicID: t.TopicID, Partition: t.Partitions[j].Partition}
			fan.add(func(done func()) { c.readShareGroupStatePartition(k, &t.Partitions[j], &rt.Partitions[j], done) })
		}
		resp.Topics = append(resp.Topics, rt)
	}
	fan.run(func() { c.Reply(resp) })
}

func (c *Call) readShareGroupStatePartition(k sharecoord.Key, q *kmsg.ReadShareGroupStateRequestTopicPartition, r *kmsg.ReadShareGroupStateResponseTopicPartition, done func()) {
	*r = kmsg.NewReadShareGroupStateResponseTopicPartition()
	r.Partition = k.Partition
	shareState(c, "readShareGroupState", k, func(s *sharecoord.Shard, now time.Time) (coordinator.Result[sharecoord.State], error) {
		return s.Read(now, k, q.LeaderEpoch)
	}, func(st sharecoord.State, err error) {
		r.ErrorCode, r.ErrorMessage, r.StateBatches = wire.CodeOf(err), wire.MessageOf(err), []kmsg.ReadShareGroupStateResponseTopicPartitionStateBatch{}
		if err != nil {
			done()
			return
		}
		r.StateEpoch, r.StartOffset = st.StateEpoch, st.Start
		for _, b := range st.Batches {
			sb := kmsg.NewReadShareGroupStateResponseTopicPartitionStateBatch()
			sb.FirstOffset, sb.LastOffset, sb.DeliveryState, sb.DeliveryCount = b.First, b.Last, b.State, b.Count
			r.StateBatches = append(r.StateBatches, sb)
		}
		done()
	})
}
