package api

import (
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/txn"
	"github.com/ottla/ottla/internal/wire"
)

// Before the first batch of a transaction in a partition its coordinator is asked whether there is such a transaction (KIP-890), or from
// Produce v12 on told that the partition is part of it. What was asked is remembered in the log until the end of the transaction, so that
// a batch that comes after the end begins nothing. A request that asks waits with all its partitions in the coordinator's queue, and so do
// later ones of the same producer for any of them: their batches stay in order. The appends run in the producer's lane, not on the
// coordinator's worker.

// implicitVersion is the first version of Produce whose partitions become part of the transaction by being written to.
const implicitVersion = 12

// produceTxn is what the coordinator says of the partitions of a request.
type produceTxn struct {
	who    txn.Producer
	guards map[log.TopicPartition]guarded // empty where nobody had to be asked
	errs   map[log.TopicPartition]error
}

type guarded struct {
	log   *log.Log
	guard log.VerificationGuard
}

// allow puts a partition's guard into its append, or says why it is refused.
func (t *produceTxn) allow(tp log.TopicPartition, o *log.AppendOptions) error {
	o.CheckVerification, o.VerificationGuard = true, t.guards[tp].guard
	return t.errs[tp]
}

// end says that everything has been appended that will be.
func (t *produceTxn) end() {
	for _, g := range t.guards {
		g.log.EndVerification(t.who.ID, g.guard)
	}
}

// verify asks the coordinator about the partitions where that is due, and says whether it does: then the request proceeds when the answer
// is there.
func (c *produceCall) verify() bool {
	if !config.TransactionPartitionVerificationEnable.Get(c.Values()) && c.Version < implicitVersion {
		return false
	}
	version := int16(0)
	if c.Version >= implicitVersion {
		version = txn.Version2
	}
	t := &produceTxn{guards: map[log.TopicPartition]guarded{}, errs: map[log.TopicPartition]error{}}
	c.txn = t
	logs, ask := c.transactional(t)
	if !slices.ContainsFunc(logs, func(l *log.Log) bool { return !l.InTransaction(t.who.ID, t.who.Epoch) }) {
		return false
	}
	for i, l := range logs {
		tp := log.TopicPartition{Topic: ask[i].Topic, Partition: ask[i].Partition}
		t.guards[tp] = guarded{l, l.StartVerification(t.who.ID, t.who.Epoch, version)}
	}
	c.ask(ask)
	return true
}

// transactional finds the logs of the request's transactional batches, all of which one producer has sent.
func (c *produceCall) transactional(t *produceTxn) (logs []*log.Log, partitions []txn.Partition) {
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
			l, err := c.openLog(log.TopicPartition{Topic: topic.Name, Partition: p.Index})
			if err != nil {
				continue // told when it is appended
			}
			t.who = txn.Producer{ID: h.ProducerID, Epoch: h.ProducerEpoch}
			logs, partitions = append(logs, l), append(partitions, txn.Partition{Topic: topic.Name, Partition: p.Index})
		}
	}
	return logs, partitions
}

func (c *produceCall) ask(ask []txn.Partition) {
	done := func(verdict func(txn.Partition) error) { c.verified(ask, verdict) }
	if c.Version >= implicitVersion {
		c.Joins.Join(*c.req.TransactionalID, c.txn.who, ask, done)
	} else {
		c.Joins.Verify(*c.req.TransactionalID, c.txn.who, ask, done)
	}
}

func (c *produceCall) verified(asked []txn.Partition, verdict func(txn.Partition) error) {
	for _, p := range asked {
		if err := verdict(p); err != nil {
			c.txn.errs[log.TopicPartition{Topic: p.Topic, Partition: p.Partition}] = c.told(err)
		}
	}
	c.Appends.Run(c.txn.who.ID, c.proceed)
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
