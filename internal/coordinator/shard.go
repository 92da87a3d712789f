package coordinator

import (
	"time"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Shard is the state of one partition of a coordinator topic. The frame calls it from one goroutine at a time, never
// two calls at once. It has no clock, goroutine, I/O or randomness of its own: the same calls make the same state.
type Shard interface {
	// Replay applies one record, in the order of the log, while loading and after every operation. producerID is -1
	// outside a transaction; inside one the record counts when ReplayEndTxn commits. An error is a bug or a broken log:
	// the partition fails to load, or is quarantined. The shard may keep rec.
	Replay(offset int64, producerID int64, producerEpoch int16, rec Record) error
	// ReplayEndTxn ends the transaction of a producer.
	ReplayEndTxn(producerID int64, producerEpoch int16, commit bool) error
	// OnLoaded comes once, after the last record of the log and before the first operation. img is nil where the broker
	// has not seen the cluster's metadata yet; OnImage brings it then.
	OnLoaded(now time.Time, img *metadata.Image) []Timer
	// OnImage brings a change of the cluster's metadata.
	OnImage(now time.Time, img *metadata.Image, delta *metadata.Delta) []Timer
	// OnTimer runs when a timer has fired; the timer is gone by then. Reply is ignored, an error is logged.
	OnTimer(now time.Time, key string) (Result[any], error)
	// OnUnloaded is the last call, however the shard ends.
	OnUnloaded()
}

// Record is one record of a coordinator topic. ValueVersion is the version that Value is written at.
type Record struct {
	Key          schema.Message
	Value        schema.Message // nil is a tombstone
	ValueVersion int16
}

// Token names one operation for as long as the process runs. An operation that parks is answered later under it.
type Token uint64

// Delivery answers a parked operation. Reply must be of the type that the parked operation's done takes. A token that
// is no longer parked (its connection is gone) is passed over.
type Delivery struct {
	Token Token
	Reply any
	Err   error
}

// Timer sets the shard's timer Key to fire after After, in place of an earlier one of that key. After 0 cancels it.
type Timer struct {
	Key   string
	After time.Duration
}

// Producer makes the records of a result part of a producer's transaction: they count once ReplayEndTxn says so.
type Producer struct {
	ID    int64
	Epoch int16
	Guard any // handed to Log.Append as it is: proof that the transaction was verified
}

// Result is what an operation wants done. The frame appends Records, replays them, sets Timers, and when they are
// committed answers with Reply and hands out Deliveries.
type Result[T any] struct {
	Records []Record
	Reply   T

	// Parked keeps the operation's done under its token, in place of answering with Reply.
	Parked     bool
	Deliveries []Delivery
	Timers     []Timer

	// NonAtomic lets the records go into several batches, of which some may be lost in a crash.
	NonAtomic bool
	// Producer, where not nil, makes the batch transactional.
	Producer *Producer
	// OnRefused is called in the shard's turn when the records were refused and nothing was written (too large, a
	// fenced producer): it undoes what the operation did to state that is not replayed. Without it, a refused result
	// that has Deliveries or is Parked costs the shard its state, which is loaded again from the log.
	OnRefused func(err error)
}
