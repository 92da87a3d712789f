package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/sharecoord"
	"github.com/ottla/ottla/internal/wire"
)

// ReadShareGroupStateSummary: v0-1.
//
// The state of share-partitions without the states of their records, and without fencing anybody (KIP-932). v1: how many records at or
// above the start are done with (KIP-1226).

func readShareGroupStateSummary(c *Call, q *kmsg.ReadShareGroupStateSummaryRequest) {
	resp := kmsg.NewPtrReadShareGroupStateSummaryResponse()
	var fan shareFan
	for i := range q.Topics {
		t := &q.Topics[i]
		rt := kmsg.NewReadShareGroupStateSummaryResponseTopic()
		rt.TopicID, rt.Partitions = t.TopicID, make([]kmsg.ReadShareGroupStateSummaryResponseTopicPartition, len(t.Partitions))
		for j := range t.Partitions {
			k := sharecoord.Key{Group: q.GroupID, TopicID: t.TopicID, Partition: t.Partitions[j].Partition}
			fan.add(func(done func()) { c.readShareGroupStateSummaryPartition(k, &t.Partitions[j], &rt.Partitions[j], done) })
		}
		resp.Topics = append(resp.Topics, rt)
	}
	fan.run(func() { c.Reply(resp) })
}

func (c *Call) readShareGroupStateSummaryPartition(k sharecoord.Key, _ *kmsg.ReadShareGroupStateSummaryRequestTopicPartition, r *kmsg.ReadShareGroupStateSummaryResponseTopicPartition, done func()) {
	*r = kmsg.NewReadShareGroupStateSummaryResponseTopicPartition()
	r.Partition = k.Partition
	shareState(c, "readShareGroupStateSummary", k, func(s *sharecoord.Shard, _ time.Time) (coordinator.Result[sharecoord.State], error) {
		return summary(s, k)
	}, func(st sharecoord.State, err error) {
		if r.ErrorCode, r.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err); err == nil {
			r.StateEpoch, r.LeaderEpoch, r.StartOffset, r.DeliveryCompleteCount = st.StateEpoch, st.LeaderEpoch, st.Start, st.Completed
		}
		done()
	})
}

func summary(s *sharecoord.Shard, k sharecoord.Key) (r coordinator.Result[sharecoord.State], err error) {
	r.Reply, err = s.Summary(k)
	return r, err
}
