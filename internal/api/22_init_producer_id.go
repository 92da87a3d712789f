package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/txn"
	"github.com/ottla/ottla/internal/wire"
)

// InitProducerId: v0-5.
//
// A new id for an idempotent producer, with epoch 0. The owner of a transactional id keeps its id and gets the next epoch, which fences
// whoever had the one before; a transaction that is open is aborted first, and the client asks again. v2 and older know no
// PRODUCER_FENCED.

func initProducerID(c *Call, q *kmsg.InitProducerIDRequest) {
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	done := func(p txn.Producer, err error) {
		if err != nil {
			resp.ErrorCode = wire.CodeOf(fencedCode(err, c.Version < 4))
		} else {
			resp.ProducerID, resp.ProducerEpoch = p.ID, p.Epoch
		}
		c.Reply(resp)
	}
	if c.Version >= 3 && q.ProducerID >= 0 != (q.ProducerEpoch >= 0) {
		done(txn.Producer{}, kerr.InvalidRequest) // an id and an epoch come together
		return
	}
	if q.TransactionalID == nil {
		c.ProducerIDs.Next(func(id int64, err error) { done(txn.Producer{ID: id}, err) })
		return
	}
	if *q.TransactionalID == "" {
		done(txn.Producer{}, kerr.InvalidRequest)
		return
	}
	have := txn.Producer{ID: txn.NoProducer, Epoch: txn.NoEpoch}
	if c.Version >= 3 && q.ProducerID >= 0 {
		have = txn.Producer{ID: q.ProducerID, Epoch: q.ProducerEpoch}
	}
	c.withID(*q.TransactionalID, "init-producer-id", func(s *txn.Shard, now time.Time, fresh int64) (coordinator.Result[txn.Granted], error) {
		return s.InitProducerID(now, *q.TransactionalID, q.TransactionTimeoutMillis, have, fresh)
	}, func(g txn.Granted, err error) {
		if err == nil && g.Aborting {
			err = kerr.ConcurrentTransactions
		}
		done(g.Producer, err)
	})
}
