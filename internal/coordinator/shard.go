package coordinator

import (
	"time"

	"github.com/ottla/ottla/internal/wire/schema"
)

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
	// that has Deliveries or Timers or is Parked costs the shard its state, which is loaded again.
	OnRefused func(err error)
}
