// Package coordinator is the frame for every shard of a coordinator topic: consumer offsets and groups, transactions,
// share state. It knows logs, records, timers and commits; it must never know what a group, a transaction or a share
// partition is, nor how a log is replicated.
//
// # How an operation travels
//
// A coordinator topic is cut into partitions, and the broker that leads one owns all the state whose ids hash to it.
// That state is a Shard. It lives in memory; the log of the partition is the truth, and the shard is what replaying
// the log gives. Every change goes the same way:
//
//	Write ── mailbox ── worker: op(shard, now) -> Result{Records, Reply, Deliveries, Timers}
//	                            encode the records into one batch, hold it to the size limit
//	                            Log.Append -> offsets               (no waiting: the batch is in the log, not durable)
//	                            Shard.Replay of each record         (from here on later operations see them)
//	                            set the timers
//	                            queue the reply behind the batch's last offset
//	OnHighWatermark ── mailbox ── worker: replies up to it, deliveries with them
//
// The operation itself must not change what replay changes: it looks and returns records. What it may change at once
// is state that no record carries (a member that waits, a deadline), and such state dies with the shard.
//
// # What holds
//
// 1. One call at a time. A partition has one mailbox, and a worker runs one partition at a time. The few workers
// are goroutines while there is something to run and none otherwise: ten thousand idle partitions cost no goroutine.
//
// 2. Nothing is answered before it is committed. That goes for what an operation wrote and for all it can have seen:
// a reply without records (a read, an operation that found nothing to do, an error) waits for the last batch
// appended before it. So an answer never rests on state that a change of leader can take back.
//
// 3. Sizes are checked before anything is appended or replayed, so that refusing an operation reverts nothing.
//
// 4. The shard never runs ahead of its log. Records are replayed after Append took them. Where Append fails and does
// not say that it wrote nothing, nobody knows where the log ends: the shard is thrown away and loaded again from what
// is in the log, after a pause that grows while this goes on. All that waited is told to ask again (NOT_COORDINATOR).
//
// 5. A panic in a shard quarantines its partition: the shard is gone, requests get UNKNOWN_SERVER_ERROR, the stack is
// in the log, all other partitions go on. It takes a new leader epoch to load it again, because the same log would
// most likely meet the same bug.
//
// # Parking
//
// JoinGroup and SyncGroup wait for other members. Such an operation returns Parked: its done is kept under its Token,
// and some later result of the same partition (an operation's or a timer's) lists a Delivery for it, which goes out
// when that later result is committed. A parked operation whose context ends is answered with the context's error, one
// whose shard goes with NOT_COORDINATOR. Exactly once is the frame's promise for every done there is.
//
// # Loading
//
// Load reads the log from its start to its end, the uncommitted tail included: as leader we are about to commit it,
// and by 2. nothing that rests on it is answered before. Loading goes in chunks, each a turn of its own, so that a long
// log does not keep a worker from other partitions. Records of a type this release does not know are passed over.
//
// # Legal states
//
//	Initial -> Loading -> Active -> Closed        Failed: tries again by itself
//	              |  ^      |                     Quarantined: waits for a new leader epoch
//	              v  |      v                     Closed: unloaded, for good; a new Load makes a new partition
//	     Failed, Quarantined -> Closed
//
// The table is in state.go; a transition that is not in it panics with its name.
package coordinator

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/invariant"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Options are what a runtime is made of. Name, Topic, Log, Decode and NewShard must be given.
type Options[S Shard] struct {
	Name     string // of the coordinator, in logs and metrics: group, txn, share
	Topic    string // in messages
	Log      Log
	NewShard func(partition int32) S
	// Decode reads a record of the topic: schema.ReadGroupRecord and its like.
	Decode func(key, value []byte) (k, v schema.Message, err error)

	Clock      clock.Clock           // clock.Real by default
	Logger     *slog.Logger          // silent by default
	Registerer prometheus.Registerer // none by default
	// Leads says whether this broker may still believe that it leads what it led last; while it may not, Read is refused with NOT_COORDINATOR,
	// so that nobody hears from a broker that stood still what others have changed meanwhile. Always by default.
	Leads func() bool
	// Spawn runs a worker, each call in a goroutine of its own; `go` by default. A simulator has its own.
	Spawn func(func())

	Workers       int           // partitions that run at once; 2 by default
	MailboxOps    int           // operations that may wait for one partition; 10000 by default
	MaxBatchBytes int           // the topic's max.message.bytes; 1048588 by default
	LoadBytes     int           // read at once while loading; 1 MiB by default
	WriteTimeout  time.Duration // answers COORDINATOR_NOT_AVAILABLE where a commit takes longer; 5 s by default
	ReloadBackoff time.Duration // the first pause before loading again, doubled up to 100 times of it; 50 ms by default
	Codec         record.Codec  // of batches
}

// PartitionState is where a partition stands.
type PartitionState struct {
	Partition   int32
	LeaderEpoch int32
	State       State
}

// Runtime runs the shards of one coordinator topic on this broker.
type Runtime[S Shard] struct{ c *core }

// New makes a runtime without partitions. It starts nothing.
func New[S Shard](o Options[S]) *Runtime[S] {
	invariant.Assert(o.Log != nil && o.NewShard != nil && o.Decode != nil && o.Name != "", "coordinator options without Log, NewShard, Decode or Name")
	newShard := o.NewShard
	c := &core{
		name: o.Name, topic: o.Topic, log: o.Log, decode: o.Decode,
		newShard: func(p int32) Shard { return newShard(p) },
		clock:    o.Clock, logger: o.Logger, spawn: o.Spawn, leads: o.Leads,
		workers: def(o.Workers, 2), mailboxOps: def(o.MailboxOps, 10000), maxBatchBytes: def(o.MaxBatchBytes, 1048588),
		loadBytes: def(o.LoadBytes, 1<<20), writeTimeout: def(o.WriteTimeout, 5*time.Second),
		reloadBackoff: def(o.ReloadBackoff, 50*time.Millisecond), codec: o.Codec,
		partitions: map[int32]*partition{}, drained: make(chan struct{}),
	}
	if c.clock == nil {
		c.clock = clock.Real{}
	}
	if c.logger == nil {
		c.logger = slog.New(slog.DiscardHandler)
	}
	c.logger = c.logger.With("coordinator", o.Name)
	if c.spawn == nil {
		c.spawn = func(f func()) { go f() }
	}
	c.metrics = newMetrics(o.Name, o.Registerer, c)
	return &Runtime[S]{c}
}

func def[T int | time.Duration](v, d T) T {
	if v <= 0 {
		return d
	}
	return v
}

// Load makes this broker the coordinator of a partition, as its leader in leaderEpoch. An epoch that is not newer than
// the one loaded changes nothing; a newer one loads anew.
func (rt *Runtime[S]) Load(partition, leaderEpoch int32) { rt.c.load(partition, leaderEpoch) }

// Unload ends that, unless the partition has been loaded in a newer epoch meanwhile. A negative epoch always does.
func (rt *Runtime[S]) Unload(partition, leaderEpoch int32) {
	if p := rt.c.lookup(partition); p != nil {
		p.control(func() { p.unload(leaderEpoch) })
	}
}

// OnHighWatermark says that a partition's log is committed up to (not including) an offset. It never blocks and may be
// called from anywhere, in any order.
func (rt *Runtime[S]) OnHighWatermark(partition int32, offset int64) {
	if p := rt.c.lookup(partition); p != nil {
		p.onHighWatermark(offset)
	}
}

// OnMetadata brings the cluster's metadata to every shard. Calls must come in order.
func (rt *Runtime[S]) OnMetadata(delta *metadata.Delta, img *metadata.Image) {
	seq, all := rt.c.setImage(img)
	for _, p := range all {
		p.control(func() { p.onImage(seq, img, delta) })
	}
}

// Partitions lists the partitions that this broker coordinates or is about to, in order.
func (rt *Runtime[S]) Partitions() []PartitionState {
	all := rt.c.all()
	out := make([]PartitionState, len(all))
	for i, p := range all {
		out[i] = PartitionState{p.number, p.epochSeen.Load(), p.State()}
	}
	slices.SortFunc(out, func(a, b PartitionState) int { return int(a.Partition) - int(b.Partition) })
	return out
}

// Epoch is the leader epoch in which a partition was loaded last, or is being loaded; -1 where this broker does not coordinate it.
func (rt *Runtime[S]) Epoch(partition int32) int32 {
	if p := rt.c.lookup(partition); p != nil {
		return p.epochSeen.Load()
	}
	return -1
}

// Close unloads all partitions and waits until the workers are done. What waits for a commit is answered with
// NOT_COORDINATOR. The error is ctx's, where the workers took too long.
func (rt *Runtime[S]) Close(ctx context.Context) error { return rt.c.close(ctx) }

// Write runs an operation that may change the shard of a partition. done is called exactly once, from a worker or
// before Write returns, when all that the operation wrote and saw is committed, or with the error; it must not block.
// Errors of the frame: NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE (not committed in time,
// no replicas), MESSAGE_TOO_LARGE, UNKNOWN_SERVER_ERROR.
func Write[T any, S Shard](rt *Runtime[S], partition int32, name string, op func(s S, now time.Time, tok Token) (Result[T], error), done func(T, error)) {
	WriteContext(context.Background(), rt, partition, name, op, done)
}

// WriteContext is Write for operations that park: when ctx ends first (the connection is gone), a parked operation is
// answered with ctx's error. It does not cut short one that runs or waits for its commit.
func WriteContext[T any, S Shard](ctx context.Context, rt *Runtime[S], partition int32, name string, op func(s S, now time.Time, tok Token) (Result[T], error), done func(T, error)) {
	o := &writeOp[T, S]{reply: reply[T]{name: name, done: done, started: rt.c.clock.Now()}, op: op}
	if ctx.Done() != nil {
		o.ctx = ctx
	}
	rt.c.submit(partition, o)
}

// Read runs an operation that only looks. It sees everything before it, and is answered when that is committed.
func Read[T any, S Shard](rt *Runtime[S], partition int32, name string, op func(s S, now time.Time) (T, error), done func(T, error)) {
	rt.c.submit(partition, &readOp[T, S]{reply: reply[T]{name: name, done: done, started: rt.c.clock.Now()}, op: op})
}

// Marker ends the transaction of a producer in a partition of the topic.
type Marker struct {
	ProducerID       int64
	ProducerEpoch    int16
	CoordinatorEpoch int32 // of the transaction coordinator that decided
	Commit           bool
	// TransactionVersion of the producer; see log.AppendOptions.
	TransactionVersion int16
}

// CompleteTransaction writes a marker and tells the shard; done is as for Write.
func (rt *Runtime[S]) CompleteTransaction(partition int32, m Marker, done func(error)) {
	rt.c.submit(partition, &markerOp{
		reply:  reply[struct{}]{name: "complete-transaction", done: func(_ struct{}, err error) { done(err) }, started: rt.c.clock.Now()},
		marker: m,
	})
}
