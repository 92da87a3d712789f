package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/txn"
	"github.com/ottla/ottla/internal/wire"
)

// AddOffsetsToTxn: v0-4. The partition of the offsets topic that owns a group becomes part of the transaction.

func addOffsetsToTxn(c *Call, q *kmsg.AddOffsetsToTxnRequest) {
	if c.Image().Topic(offsetsTopic) == nil {
		c.autoCreate([]string{offsetsTopic}, func() { c.addOffsets(q) })
		return
	}
	c.addOffsets(q)
}

func (c *Call) addOffsets(q *kmsg.AddOffsetsToTxnRequest) {
	resp := kmsg.NewPtrAddOffsetsToTxnResponse()
	done := func(_ struct{}, err error) {
		resp.ErrorCode = wire.CodeOf(fencedCode(err, c.Version < 2))
		c.Reply(resp)
	}
	p, ok := groupPartition(c.Image(), q.Group)
	switch {
	case q.TransactionalID == "":
		done(struct{}{}, kerr.InvalidRequest)
	case !ok:
		done(struct{}{}, kerr.CoordinatorNotAvailable)
	default:
		txnWrite(c, "add-offsets", q.TransactionalID, func(s *txn.Shard, now time.Time) (coordinator.Result[struct{}], error) {
			return s.AddPartitions(now, q.TransactionalID, txn.Producer{ID: q.ProducerID, Epoch: q.ProducerEpoch}, []txn.Partition{{Topic: offsetsTopic, Partition: p}}, 0)
		}, done)
	}
}
