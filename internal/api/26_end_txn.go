package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/txn"
	"github.com/ottla/ottla/internal/wire"
)

// EndTxn: v0-5.
//
// Answered when the decision is durable; the markers follow. v5: the second version of the protocol (KIP-890), where the answer holds the
// epoch of the next transaction.

func endTxn(c *Call, q *kmsg.EndTxnRequest) {
	resp := kmsg.NewPtrEndTxnResponse()
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	done := func(g txn.Granted, err error) {
		resp.ErrorCode = wire.CodeOf(fencedCode(err, c.Version < 2))
		if err == nil && c.Version >= 5 {
			resp.ProducerID, resp.ProducerEpoch = g.ID, g.Epoch
		}
		c.Reply(resp)
	}
	if q.TransactionalID == "" {
		done(txn.Granted{}, kerr.InvalidRequest)
		return
	}
	version := int16(0)
	if c.Version >= 5 {
		version = txn.Version2
	}
	c.withID(q.TransactionalID, "end-txn", func(s *txn.Shard, now time.Time, fresh int64) (coordinator.Result[txn.Granted], error) {
		return s.EndTxn(now, q.TransactionalID, txn.Producer{ID: q.ProducerID, Epoch: q.ProducerEpoch}, q.Commit, version, fresh)
	}, done)
}
