package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/txn"
	"github.com/ottla/ottla/internal/wire"
)

// AddPartitionsToTxn: v0-5.
//
// v0-3 come from clients, for one transaction, of which either all partitions are added or none. v4 comes from brokers, for several
// transactions, which may be verified only.

func addPartitionsToTxn(c *Call, q *kmsg.AddPartitionsToTxnRequest) {
	resp := kmsg.NewPtrAddPartitionsToTxnResponse()
	if c.Version < 4 {
		var t kmsg.AddPartitionsToTxnRequestTransaction
		t.TransactionalID, t.ProducerID, t.ProducerEpoch = q.TransactionalID, q.ProducerID, q.ProducerEpoch
		for _, x := range q.Topics {
			t.Topics = append(t.Topics, kmsg.AddPartitionsToTxnRequestTransactionTopic{Topic: x.Topic, Partitions: x.Partitions})
		}
		c.addToTxn(&t, 0, func(r kmsg.AddPartitionsToTxnResponseTransaction) {
			for _, x := range r.Topics {
				rt := kmsg.NewAddPartitionsToTxnResponseTopic()
				rt.Topic = x.Topic
				for _, p := range x.Partitions {
					rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
					rp.Partition, rp.ErrorCode = p.Partition, p.ErrorCode
					rt.Partitions = append(rt.Partitions, rp)
				}
				resp.Topics = append(resp.Topics, rt)
			}
			c.Reply(resp)
		})
		return
	}
	g := newGather(len(q.Transactions), func(all []kmsg.AddPartitionsToTxnResponseTransaction) {
		resp.Transactions = all
		c.Reply(resp)
	})
	for i := range q.Transactions {
		c.addToTxn(&q.Transactions[i], txn.Version2, func(r kmsg.AddPartitionsToTxnResponseTransaction) { g.put(i, r) })
	}
}

func (c *Call) addToTxn(t *kmsg.AddPartitionsToTxnRequestTransaction, version int16, done func(kmsg.AddPartitionsToTxnResponseTransaction)) {
	img := c.Image()
	var partitions []txn.Partition
	missing := map[txn.Partition]bool{}
	for _, x := range t.Topics {
		for _, n := range x.Partitions {
			p := txn.Partition{Topic: x.Topic, Partition: n}
			partitions = append(partitions, p)
			if isGone(img, x.Topic, n) {
				missing[p] = true
			}
		}
	}
	answer := func(code func(p txn.Partition) error) {
		out := kmsg.NewAddPartitionsToTxnResponseTransaction()
		out.TransactionalID = t.TransactionalID
		for _, x := range t.Topics {
			rt := kmsg.NewAddPartitionsToTxnResponseTransactionTopic()
			rt.Topic = x.Topic
			for _, n := range x.Partitions {
				rp := kmsg.NewAddPartitionsToTxnResponseTransactionTopicPartition()
				rp.Partition, rp.ErrorCode = n, wire.CodeOf(fencedCode(code(txn.Partition{Topic: x.Topic, Partition: n}), c.Version < 2))
				rt.Partitions = append(rt.Partitions, rp)
			}
			out.Topics = append(out.Topics, rt)
		}
		done(out)
	}
	who := txn.Producer{ID: t.ProducerID, Epoch: t.ProducerEpoch}
	switch {
	case t.TransactionalID == "":
		answer(func(txn.Partition) error { return kerr.InvalidRequest })
	case len(missing) > 0:
		answer(func(p txn.Partition) error {
			if missing[p] {
				return kerr.UnknownTopicOrPartition
			}
			return kerr.OperationNotAttempted
		})
	case t.VerifyOnly:
		txnRead(c, "verify", t.TransactionalID, func(s *txn.Shard) (map[txn.Partition]error, error) {
			return s.Verify(t.TransactionalID, who, partitions), nil
		}, func(all map[txn.Partition]error, err error) {
			answer(func(p txn.Partition) error {
				if err != nil {
					return err
				}
				return all[p]
			})
		})
	default:
		txnWrite(c, "add-partitions", t.TransactionalID, func(s *txn.Shard, now time.Time) (coordinator.Result[struct{}], error) {
			return s.AddPartitions(now, t.TransactionalID, who, partitions, version)
		}, func(_ struct{}, err error) { answer(func(txn.Partition) error { return err }) })
	}
}
