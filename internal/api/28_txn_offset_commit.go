package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/txn"
	"github.com/ottla/ottla/internal/wire"
)

// TxnOffsetCommit: v0-6. The offsets of a group as part of a transaction: they count when it is committed. v5: the offsets' partition
// becomes part of the transaction here (KIP-890); before, AddOffsetsToTxn has done that, which is verified. v6: topics by id, member epochs.

func txnOffsetCommit(c *Call, q *kmsg.TxnOffsetCommitRequest) {
	p, ok := groupPartition(c.Image(), q.Group)
	if !ok {
		c.Reply(refusedTxnCommit(q, kerr.CoordinatorNotAvailable))
		return
	}
	who := txn.Producer{ID: q.ProducerID, Epoch: q.ProducerEpoch}
	offsets := txn.Partition{Topic: offsetsTopic, Partition: p}
	then := func(verdict func(txn.Partition) error) {
		err := verdict(offsets)
		if c.Version < 5 {
			err = notAbortable(err)
		}
		if err != nil {
			c.Reply(refusedTxnCommit(q, fencedCode(err, true)))
			return
		}
		c.commitInTxn(q)
	}
	if c.Version >= 5 {
		c.Joins.Join(q.TransactionalID, who, []txn.Partition{offsets}, then)
	} else {
		c.Joins.Verify(q.TransactionalID, who, []txn.Partition{offsets}, then)
	}
}

func (c *Call) commitInTxn(q *kmsg.TxnOffsetCommitRequest) {
	resp := kmsg.NewPtrTxnOffsetCommitResponse()
	known := *q
	known.Topics = nil
	img := c.Image()
	for _, t := range q.Topics {
		rt := kmsg.NewTxnOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		topic, missing := c.named(img, t.Topic, t.TopicID)
		kept := t
		if topic != nil {
			kept.Topic, kept.TopicID = topic.Name, topic.ID
		}
		var refused []refusal
		kept.Partitions, refused = existing(topic, missing, t.Partitions, func(p *kmsg.TxnOffsetCommitRequestTopicPartition) int32 { return p.Partition })
		for _, r := range refused {
			rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = r.partition, r.code
			rt.Partitions = append(rt.Partitions, rp)
		}
		if len(kept.Partitions) > 0 {
			known.Topics = append(known.Topics, kept)
		}
		if len(rt.Partitions) > 0 {
			resp.Topics = append(resp.Topics, rt)
		}
	}
	if len(known.Topics) == 0 {
		c.Reply(resp)
		return
	}
	rc := c.client()
	groupWrite(c, "txn-offset-commit", q.Group, func(s *group.Shard, now time.Time, _ coordinator.Token) (coordinator.Result[*kmsg.TxnOffsetCommitResponse], error) {
		return s.TxnOffsetCommit(now, rc, &known, nil)
	}, func(got *kmsg.TxnOffsetCommitResponse, err error) {
		if err != nil {
			got = refusedTxnCommit(&known, err)
		}
		resp.Topics = append(resp.Topics, got.Topics...)
		c.Reply(resp)
	})
}

func refusedTxnCommit(q *kmsg.TxnOffsetCommitRequest, err error) *kmsg.TxnOffsetCommitResponse {
	resp := kmsg.NewPtrTxnOffsetCommitResponse()
	for _, t := range q.Topics {
		rt := kmsg.NewTxnOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, wire.CodeOf(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// notAbortable is a verdict for clients that do not know TRANSACTION_ABORTABLE.
func notAbortable(err error) error {
	if err == kerr.TransactionAbortable {
		return kerr.InvalidTxnState
	}
	return err
}
