package api

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/txn"
)

// txnPartition is the partition of the log of transactions that owns a transactional id.
func txnPartition(img *metadata.Image, id string) (int32, bool) {
	topic := img.Topic(transactionTopic)
	if topic == nil {
		return 0, false
	}
	return partitionFor(id, len(topic.Partitions)), true
}

// txnWrite runs an operation of the shard that owns a transactional id; done gets the reply once it is committed.
func txnWrite[T any](c *Call, name, id string, op func(s *txn.Shard, now time.Time) (coordinator.Result[T], error), done func(T, error)) {
	p, ok := txnPartition(c.Image(), id)
	if !ok {
		var zero T
		done(zero, kerr.NotCoordinator)
		return
	}
	coordinator.Write(c.Txns, p, name, func(s *txn.Shard, now time.Time, _ coordinator.Token) (coordinator.Result[T], error) {
		return op(s, now)
	}, done)
}

// txnRead is txnWrite for operations that only look.
func txnRead[T any](c *Call, name, id string, op func(s *txn.Shard) (T, error), done func(T, error)) {
	p, ok := txnPartition(c.Image(), id)
	if !ok {
		var zero T
		done(zero, kerr.NotCoordinator)
		return
	}
	coordinator.Read(c.Txns, p, name, func(s *txn.Shard, _ time.Time) (T, error) { return op(s) }, done)
}

// withID runs an operation, and where it asks for a fresh producer id once more with one.
func (c *Call) withID(id, name string, op func(s *txn.Shard, now time.Time, fresh int64) (coordinator.Result[txn.Granted], error), done func(txn.Granted, error)) {
	run := func(fresh int64, done func(txn.Granted, error)) {
		txnWrite(c, name, id, func(s *txn.Shard, now time.Time) (coordinator.Result[txn.Granted], error) { return op(s, now, fresh) }, done)
	}
	run(txn.NoProducer, func(g txn.Granted, err error) {
		if err != nil || !g.NeedID {
			done(g, err)
			return
		}
		c.ProducerIDs.Next(func(fresh int64, err error) {
			if err != nil {
				done(g, err)
				return
			}
			run(fresh, done)
		})
	})
}

// fencedCode is what a version of an API calls a producer whose epoch is over: old clients know INVALID_PRODUCER_EPOCH only.
func fencedCode(err error, old bool) error {
	if old && errors.Is(err, kerr.ProducerFenced) {
		return kerr.InvalidProducerEpoch
	}
	return err
}

// isGone says that a partition does not exist.
func isGone(img *metadata.Image, topic string, partition int32) bool {
	t := img.Topic(topic)
	return t == nil || t.Partition(partition) == nil
}
