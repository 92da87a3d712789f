package api

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/txn"
	"github.com/ottla/ottla/internal/wire"
)

// Before the first batch of a transaction in a partition its coordinator is asked whether there is such a transaction (KIP-890), or from
// Produce v12 on told that the partition is part of it. What was asked is remembered in the log until the end of the transaction, so that
// a batch that comes after the end begins nothing. Requests of one connection stay in order: those that ask wait in the coordinator's
// queue, and whose partitions are all part of the transaction already come after those that made them so.

// implicitVersion is the first version of Produce whose partitions become part of the transaction by being written to.
const implicitVersion = 12

// produceTxn is what the coordinator says of the partitions of a request that were not part of the transaction here.
type produceTxn struct {
	guards map[log.TopicPartition]log.VerificationGuard
	errs   map[log.TopicPartition]error
}

// allow puts a partition's guard into its append, or says why it is refused.
func (t *produceTxn) allow(tp log.TopicPartition, o *log.AppendOptions) error {
	o.CheckVerification, o.VerificationGuard = true, t.guards[tp]
	return t.errs[tp]
}

// verify asks the coordinator about the partitions that no transaction of the producer is open in, and says whether it does: then the
// request proceeds when the answer is there.
func (c *produceCall) verify() bool {
	if !config.TransactionPartitionVerificationEnable.Get(c.Values()) && c.Version < implicitVersion {
		return false
	}
	version := int16(0)
	if c.Version >= implicitVersion {
		version = txn.Version2
	}
	t := &produceTxn{guards: map[log.TopicPartition]log.VerificationGuard{}, errs: map[log.TopicPartition]error{}}
	var who txn.Producer
	var ask []txn.Partition
	img := c.Image()
	for i := range c.req.Topics {
		topic := c.topic(img, &c.req.Topics[i])
		if topic == nil {
			continue
		}
		for j := range c.req.Topics[i].Partitions {
			p := &c.req.Topics[i].Partitions[j]
			h, err := record.ParseHeader(p.Records)
			if err != nil || !h.IsTransactional() {
				continue
			}
			tp := log.TopicPartition{Topic: topic.Name, Partition: p.Index}
			l, err := c.openLog(tp)
			if err != nil {
				continue // told when it is appended
			}
			who = txn.Producer{ID: h.ProducerID, Epoch: h.ProducerEpoch}
			if guard, open := l.StartVerification(h.ProducerID, h.ProducerEpoch, version); !open {
				t.guards[tp] = guard
				ask = append(ask, txn.Partition{Topic: topic.Name, Partition: p.Index})
			}
		}
	}
	c.txn = t
	if len(ask) == 0 {
		return false
	}
	id := *c.req.TransactionalID
	if c.Version >= implicitVersion {
		txnWrite(&c.Call, "add-partitions", id, func(s *txn.Shard, now time.Time) (coordinator.Result[struct{}], error) {
			return s.AddPartitions(now, id, who, ask, txn.Version2)
		}, func(_ struct{}, err error) {
			c.verified(ask, func(txn.Partition) error { return err })
		})
		return true
	}
	txnRead(&c.Call, "verify", id, func(s *txn.Shard) (map[txn.Partition]error, error) { return s.Verify(id, who, ask), nil }, func(all map[txn.Partition]error, err error) {
		c.verified(ask, func(p txn.Partition) error {
			if err != nil {
				return err
			}
			return all[p]
		})
	})
	return true
}

func (c *produceCall) verified(asked []txn.Partition, verdict func(txn.Partition) error) {
	for _, p := range asked {
		if err := verdict(p); err != nil {
			c.txn.errs[log.TopicPartition{Topic: p.Topic, Partition: p.Partition}] = c.told(err)
		}
	}
	c.proceed()
}

// told is what a producer hears for what the coordinator says.
func (c *produceCall) told(err error) error {
	switch {
	case errors.Is(err, kerr.ProducerFenced):
		return wire.Errorf(kerr.InvalidProducerEpoch, "%v", err)
	case errors.Is(err, kerr.InvalidProducerIDMapping), errors.Is(err, kerr.TransactionAbortable) && c.Version < 11:
		return wire.Errorf(kerr.InvalidTxnState, "%v", err)
	case errors.Is(err, kerr.NotCoordinator), errors.Is(err, kerr.CoordinatorLoadInProgress), errors.Is(err, kerr.CoordinatorNotAvailable), errors.Is(err, kerr.ConcurrentTransactions) && c.Version < implicitVersion:
		return wire.Errorf(kerr.NotEnoughReplicas, "the transaction coordinator cannot be asked now: %v", err)
	}
	return err
}
