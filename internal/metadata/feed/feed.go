// Package feed hands the metadata log to those that follow it: fetches bounded by what is committed, parked while there is nothing new,
// and snapshots in pieces, with the errors and hints that Apache Kafka's quorum gives. It notes who follows and how far.
//
// It knows offsets, epochs and who leads. It must never know what a record says, nor how requests are encoded.
package feed

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/metadata/store"
	"github.com/ottla/ottla/internal/wire"
)

// Log is the committed log; the store is.
type Log interface {
	Committed() int64
	Start() int64
	Read(offset int64, maxBytes int) (batches []byte, end int64, err error)
	EpochEnd(epoch int32) (int32, int64)
	Snapshots() ([]store.SnapshotID, error)
	ReadSnapshot(id store.SnapshotID, pos int64, maxBytes int) (b []byte, size int64, err error)
}

// Options say what is handed out, and under whose lead.
type Options struct {
	Log Log
	// Leader is who leads the log, -1 for unknown, and the newest epoch that this node knows.
	Leader func() (node, epoch int32)
	Node   int32
	Clock  clock.Clock
}

// Bounds of what others can make this node keep.
const (
	maxObservers = 10_000
	maxParked    = 10_000
	maxBytes     = 8 << 20
	maxWait      = 30 * time.Second
	// observerExpiry is Kafka's: who has not fetched for so long is no observer any more.
	observerExpiry = 5 * time.Minute
)

// Replica is who fetches; the id is -1 for one that is no node.
type Replica struct {
	ID  int32
	Dir [16]byte
}

// Fetch is a request for the log.
type Fetch struct {
	Replica       Replica
	Epoch         int32 // the leader's, as the replica knows it
	Offset        int64
	LastEpoch     int32 // of the record before Offset
	HighWatermark int64 // that the replica knows; math.MaxInt64 where it does not say
	MaxBytes      int
	MaxWait       time.Duration
}

// Answer is what a fetch brings.
type Answer struct {
	Err           error
	Leader, Epoch int32
	HighWatermark int64
	LogStart      int64
	Batches       []byte
	Diverging     *store.SnapshotID // an epoch and its end: what comes after is not the leader's
	Snapshot      *store.SnapshotID // to be taken instead of the log
}

// Observer is somebody who follows.
type Observer struct {
	Replica
	End         int64     // offset from which it fetched last
	Fetched     time.Time // when
	CaughtUp    time.Time // when it last had everything; zero for never
	leaderEnd   int64     // of the log at that fetch
	leaderEpoch int32
}

// Feed serves the log of this node. It is safe for concurrent use.
type Feed struct {
	o Options

	mu        sync.Mutex
	closed    bool
	parked    map[*waiting]struct{}
	observers map[Replica]*Observer
}

type waiting struct {
	q     Fetch
	timer clock.Timer
	done  func(Answer)
}

// New makes a feed.
func New(o Options) *Feed {
	return &Feed{o: o, parked: map[*waiting]struct{}{}, observers: map[Replica]*Observer{}}
}

// Fetch answers at once or, where there is nothing new, when there is, when the lead changes or when the wait is over. done runs once,
// on any goroutine, and must not block.
func (f *Feed) Fetch(q Fetch, done func(Answer)) {
	q.MaxWait = min(q.MaxWait, maxWait)
	a, idle := f.read(&q, true)
	if !idle || q.MaxWait <= 0 {
		done(a)
		return
	}
	w := &waiting{q: q, done: done}
	f.mu.Lock()
	if f.closed || len(f.parked) >= maxParked {
		f.mu.Unlock()
		done(a)
		return
	}
	f.parked[w] = struct{}{}
	w.timer = f.o.Clock.AfterFunc(q.MaxWait, func() { f.finish(w) })
	f.mu.Unlock()
	if !f.idle(&q) { // something came in between, and nobody saw this one wait
		f.finish(w)
	}
}

// finish answers a fetch that waits, if nobody else does.
func (f *Feed) finish(w *waiting) {
	f.mu.Lock()
	_, mine := f.parked[w]
	delete(f.parked, w)
	f.mu.Unlock()
	if mine {
		w.timer.Stop()
		a, _ := f.read(&w.q, false)
		w.done(a)
	}
}

// Changed tells that something was committed or that the lead has changed: who waits for it is answered. It may be called often; where
// nobody waits it costs nothing.
func (f *Feed) Changed() {
	f.mu.Lock()
	var ready []*waiting
	for w := range f.parked {
		ready = append(ready, w)
	}
	f.mu.Unlock()
	for _, w := range ready {
		if !f.idle(&w.q) {
			f.finish(w)
		}
	}
}

// idle says that there is nothing to answer yet to a fetch that waits.
func (f *Feed) idle(q *Fetch) bool {
	_, _, err := f.Check(q.Epoch)
	end := f.o.Log.Committed()
	return err == nil && q.Offset == end && q.HighWatermark >= end
}

// Close answers everybody who waits; later fetches do not wait.
func (f *Feed) Close() {
	f.mu.Lock()
	f.closed = true
	var all []*waiting
	for w := range f.parked {
		all = append(all, w)
	}
	f.mu.Unlock()
	for _, w := range all {
		f.finish(w)
	}
}

// Check is what every request for the log has to pass: this node leads, under the epoch that the request names.
func (f *Feed) Check(epoch int32) (leader, current int32, err error) {
	leader, current = f.o.Leader()
	switch {
	case epoch < current:
		err = wire.Errorf(kerr.FencedLeaderEpoch, "epoch %d of the metadata log is over; it is %d", epoch, current)
	case epoch > current:
		err = wire.Errorf(kerr.UnknownLeaderEpoch, "epoch %d of the metadata log has not come here; it is %d", epoch, current)
	case leader != f.o.Node:
		err = wire.Errorf(kerr.NotLeaderForPartition, "node %d leads the metadata log", leader)
	}
	return leader, current, err
}

// read answers from what is committed now; idle says that there is nothing new.
func (f *Feed) read(q *Fetch, note bool) (a Answer, idle bool) {
	a.Leader, a.Epoch, a.Err = f.Check(q.Epoch)
	if a.Err != nil {
		return a, false
	}
	a.HighWatermark, a.LogStart = f.o.Log.Committed(), f.o.Log.Start()
	if note {
		f.note(q, a.Epoch, a.HighWatermark)
	}
	if q.Offset < a.LogStart {
		a.Snapshot, a.Err = f.newest()
		return a, false
	}
	if q.Offset > 0 {
		if epoch, end := f.o.Log.EpochEnd(q.LastEpoch); epoch != q.LastEpoch || end < q.Offset {
			a.Diverging = &store.SnapshotID{End: end, Epoch: epoch}
			return a, false
		}
	}
	if a.Batches, a.HighWatermark, a.Err = f.o.Log.Read(q.Offset, min(max(q.MaxBytes, 1), maxBytes)); a.Err != nil {
		return a, false
	}
	return a, len(a.Batches) == 0 && q.HighWatermark >= a.HighWatermark
}

// newest is the snapshot for those whose next record is not in the log any more.
func (f *Feed) newest() (*store.SnapshotID, error) {
	all, err := f.o.Log.Snapshots()
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, wire.Errorf(kerr.UnknownServerError, "the metadata log begins at offset %d and there is no snapshot", f.o.Log.Start())
	}
	return &all[len(all)-1], nil
}

// note remembers that a node follows.
func (f *Feed) note(q *Fetch, epoch int32, end int64) {
	if q.Replica.ID < 0 {
		return
	}
	now := f.o.Clock.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.observers[q.Replica]
	if o == nil || o.leaderEpoch != epoch {
		if len(f.observers) >= maxObservers {
			f.expire(now)
		}
		if len(f.observers) >= maxObservers {
			return
		}
		o = &Observer{Replica: q.Replica, leaderEpoch: epoch, leaderEnd: -1}
		f.observers[q.Replica] = o
	}
	switch {
	case q.Offset >= end:
		o.CaughtUp = now
	case o.leaderEnd >= 0 && q.Offset >= o.leaderEnd:
		o.CaughtUp = o.Fetched
	}
	o.End, o.Fetched, o.leaderEnd = q.Offset, now, end
}

// expire forgets observers that have not fetched for long or of another's lead. REQUIRES: mu.
func (f *Feed) expire(now time.Time) {
	_, epoch := f.o.Leader()
	for id, o := range f.observers {
		if now.Sub(o.Fetched) > observerExpiry || o.leaderEpoch != epoch {
			delete(f.observers, id)
		}
	}
}

// Observers lists who follows, by id.
func (f *Feed) Observers() []Observer {
	now := f.o.Clock.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expire(now)
	out := make([]Observer, 0, len(f.observers))
	for _, o := range f.observers {
		out = append(out, *o)
	}
	slices.SortFunc(out, func(a, b Observer) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), slices.Compare(a.Dir[:], b.Dir[:]))
	})
	return out
}

// ReadSnapshot gives a piece of a snapshot's file and the file's size.
func (f *Feed) ReadSnapshot(id store.SnapshotID, pos int64, bytes int) ([]byte, int64, error) {
	return f.o.Log.ReadSnapshot(id, pos, min(bytes, maxBytes))
}
