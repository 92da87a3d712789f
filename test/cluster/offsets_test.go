package cluster

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// commitOffset commits an offset of a group in the client's transaction, as a consumer without membership does.
func commitOffset(ctx context.Context, cl *kgo.Client, id string, partition int32, offset int64) error {
	pid, epoch, err := cl.ProducerID(ctx)
	if err != nil {
		return err
	}
	topics, err := kadm.NewClient(cl).ListTopics(ctx, "in")
	if err != nil {
		return err
	}
	group := "group-" + id
	q := kmsg.NewPtrTxnOffsetCommitRequest()
	q.TransactionalID, q.ProducerID, q.ProducerEpoch, q.Group, q.Generation = id, pid, epoch, group, -1
	t, p := kmsg.NewTxnOffsetCommitRequestTopic(), kmsg.NewTxnOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset = partition, offset
	t.Topic, t.TopicID, t.Partitions = "in", topics["in"].ID, append(t.Partitions, p)
	q.Topics = append(q.Topics, t)
	for try := 0; ; try++ {
		r, err := q.RequestWith(ctx, cl)
		if err != nil {
			return err
		}
		if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
			return fmt.Errorf("%w: %+v", errNoOffset, r)
		}
		err = kerr.ErrorForCode(r.Topics[0].Partitions[0].ErrorCode)
		if err == nil || !kerr.IsRetriable(err) || try > 200 {
			return err
		}
	}
}
