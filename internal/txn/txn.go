// Package txn is the transaction coordinator: the state of the transactional ids of one partition of __transaction_state, in Kafka's
// record format (KIP-98, KIP-890). It knows the states and what may follow what. It knows no clock, disk, network or goroutine: times and
// producer ids come as arguments, and the markers that a decision calls for are written by whoever reads Prepared.
package txn

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/wire/schema"
)

// State is where a transaction stands; the numbers are those of the log.
type State int8

// The states of a transactional id.
const (
	Empty          State = 0 // no transaction yet
	Ongoing        State = 1
	PrepareCommit  State = 2 // decided; markers are being written
	PrepareAbort   State = 3
	CompleteCommit State = 4 // all markers are written
	CompleteAbort  State = 5
	Dead           State = 6 // about to be forgotten
)

// Names of the states as DescribeTransactions and ListTransactions give them.
var names = [...]string{"Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead", "PrepareEpochFence"}

func (s State) String() string {
	if s < 0 || int(s) >= len(names) {
		return "Unknown"
	}
	return names[s]
}

// KnownState says whether a filter names a state.
func KnownState(name string) bool { return slices.Contains(names[:], name) }

// Partition is a partition that a transaction has written to.
type Partition struct {
	Topic     string
	Partition int32
}

// Version2 is the protocol of KIP-890: the epoch grows with every transaction, so that a late marker or batch of an earlier one is
// refused, and partitions are added by the brokers that are written to.
const Version2 = 2

// No id, no epoch.
const (
	NoProducer = -1
	NoEpoch    = -1
)

// Txn is a transactional id.
type Txn struct {
	ID             string
	ProducerID     int64
	PrevProducerID int64
	NextProducerID int64 // taken when the transaction is complete; NoProducer unless epochs have run out
	Epoch          int16
	TimeoutMs      int32
	State          State
	Partitions     map[Partition]bool
	UpdatedMs      int64
	StartedMs      int64 // -1: none has begun
	ClientVersion  int16
}

func (t *Txn) clone() *Txn {
	c := *t
	c.Partitions = maps.Clone(t.Partitions)
	if c.Partitions == nil {
		c.Partitions = map[Partition]bool{}
	}
	return &c
}

// Sorted gives the partitions in order.
func (t *Txn) Sorted() []Partition {
	return slices.SortedFunc(maps.Keys(t.Partitions), func(a, b Partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}

// lastEpoch is the greatest epoch that a producer may be given: one more is left for fencing it.
const lastEpoch = math.MaxInt16 - 1

func exhausted(epoch int16) bool { return epoch >= lastEpoch }

// record is the transactional id as the log keeps it. Its second form needs transaction.version 1; the first has no room for what only
// version 2 of the protocol knows.
func (t *Txn) record(flexible bool) coordinator.Record {
	v := schema.NewTransactionLogValue()
	v.ProducerID, v.ProducerEpoch, v.TransactionTimeoutMs, v.TransactionStatus = t.ProducerID, t.Epoch, t.TimeoutMs, int8(t.State)
	version := int16(0)
	if flexible {
		version = 1
		v.PreviousProducerID, v.NextProducerID, v.ClientTransactionVersion = t.PrevProducerID, t.NextProducerID, t.ClientVersion
	}
	v.TransactionLastUpdateTimestampMs, v.TransactionStartTimestampMs = t.UpdatedMs, t.StartedMs
	if t.State != Empty {
		v.TransactionPartitions = []schema.TransactionLogValuePartitionsSchema{}
	}
	for _, p := range t.Sorted() {
		n := len(v.TransactionPartitions)
		if n == 0 || v.TransactionPartitions[n-1].Topic != p.Topic {
			v.TransactionPartitions = append(v.TransactionPartitions, schema.TransactionLogValuePartitionsSchema{Topic: p.Topic})
			n++
		}
		v.TransactionPartitions[n-1].PartitionIDs = append(v.TransactionPartitions[n-1].PartitionIDs, p.Partition)
	}
	return coordinator.Record{Key: &schema.TransactionLogKey{TransactionalID: t.ID}, Value: v, ValueVersion: version}
}

func fromRecord(id string, v *schema.TransactionLogValue) *Txn {
	t := &Txn{ID: id, ProducerID: v.ProducerID, PrevProducerID: v.PreviousProducerID, NextProducerID: v.NextProducerID, Epoch: v.ProducerEpoch,
		TimeoutMs: v.TransactionTimeoutMs, State: State(v.TransactionStatus), Partitions: map[Partition]bool{},
		UpdatedMs: v.TransactionLastUpdateTimestampMs, StartedMs: v.TransactionStartTimestampMs, ClientVersion: v.ClientTransactionVersion}
	for _, x := range v.TransactionPartitions {
		for _, p := range x.PartitionIDs {
			t.Partitions[Partition{x.Topic, p}] = true
		}
	}
	return t
}

// due is when an ongoing transaction has had its time.
func (t *Txn) due() time.Time { return time.UnixMilli(t.StartedMs + int64(t.TimeoutMs)) }
