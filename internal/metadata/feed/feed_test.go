package feed

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"log/slog"

	"github.com/twmb/franz-go/pkg/kerr"
	"go.uber.org/goleak"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/metadata/store"
	"github.com/ottla/ottla/internal/vfs"
	"github.com/ottla/ottla/internal/wire/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a feed of a real store.
type rig struct {
	*Feed
	s     *store.Store
	epoch atomic.Int32
	lead  atomic.Int32
	n     byte
	img   *metadata.Image
}

func newRig(t *testing.T, disk vfs.FS) *rig {
	t.Helper()
	var id byte
	s, err := store.Open(store.Options{FS: disk, Clock: clock.Real{}, Logger: slog.New(slog.DiscardHandler), LogDirs: []string{"/d"}, NodeID: 1,
		NewID: func() metadata.UUID { id++; return metadata.UUID{7, id} }, SegmentBytes: 2000, SnapshotBytes: 4000, RetentionBytes: 0})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{s: s, img: s.Image()}
	r.epoch.Store(s.Epoch())
	r.lead.Store(1)
	r.Feed = New(Options{Log: s, Node: 1, Clock: clock.Real{}, Leader: func() (int32, int32) { return r.lead.Load(), r.epoch.Load() }})
	t.Cleanup(func() {
		r.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// topics commits a batch.
func (r *rig) topics(t *testing.T, count int) {
	t.Helper()
	var all []metadata.Versioned
	d := metadata.NewDelta(r.img)
	for range count {
		r.n++
		v := metadata.Newest(&schema.TopicRecord{Name: fmt.Sprint("topic-", r.n), TopicID: metadata.UUID{1, r.n}})
		all = append(all, v)
		if err := d.Replay(d.View().Offset()+1, r.epoch.Load(), v.Message); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	r.s.Propose(all, func(_ int64, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.img = d.Image()
	r.s.MaybeSnapshot(r.img)
	r.Changed()
}

func (r *rig) at(offset int64) Fetch {
	return Fetch{Replica: Replica{ID: 2}, Epoch: r.epoch.Load(), Offset: offset, LastEpoch: r.epoch.Load(), HighWatermark: math.MaxInt64, MaxBytes: 1 << 20, MaxWait: time.Minute}
}

func get(t *testing.T, ch chan Answer) Answer {
	t.Helper()
	select {
	case a := <-ch:
		return a
	case <-time.After(10 * time.Second):
		t.Fatal("no answer")
		return Answer{}
	}
}

// Who follows gets what is committed at once, waits while there is nothing, and learns of it when there is.
func TestParksUntilCommitted(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	ch := make(chan Answer, 1)
	done := func(a Answer) { ch <- a }
	r.topics(t, 1)
	r.Fetch(r.at(0), done)
	a := get(t, ch)
	end := r.s.Committed()
	if a.Err != nil || len(a.Batches) == 0 || a.HighWatermark != end || a.Leader != 1 || a.Epoch != r.epoch.Load() {
		t.Fatalf("%+v", a)
	}
	r.Fetch(r.at(end), done)
	select {
	case a := <-ch:
		t.Fatalf("answered with nothing new: %+v", a)
	default:
	}
	r.Changed() // of nothing
	r.topics(t, 2)
	if a := get(t, ch); a.Err != nil || len(a.Batches) == 0 || a.HighWatermark != end+2 {
		t.Fatalf("%+v", a)
	}
	q := r.at(end + 2)
	q.MaxWait = time.Millisecond
	r.Fetch(q, done)
	if a := get(t, ch); a.Err != nil || len(a.Batches) != 0 || a.HighWatermark != end+2 {
		t.Fatalf("after the wait: %+v", a)
	}
	q = r.at(end + 2)
	q.HighWatermark = end
	r.Fetch(q, done) // does not know how far it is committed
	if a := get(t, ch); a.HighWatermark != end+2 {
		t.Fatalf("%+v", a)
	}
	if o := r.Observers(); len(o) != 1 || o[0].ID != 2 || o[0].End != end+2 || o[0].CaughtUp.IsZero() {
		t.Fatalf("%+v", o)
	}
	r.Fetch(r.at(end+2), done)
	r.lead.Store(3)
	r.epoch.Add(1)
	r.Changed()
	if a := get(t, ch); !errors.Is(a.Err, kerr.FencedLeaderEpoch) || a.Leader != 3 || a.Epoch != r.epoch.Load() {
		t.Fatalf("after the lead changed: %+v", a)
	}
	if o := r.Observers(); len(o) != 0 {
		t.Fatalf("observers of a lead that is over: %+v", o)
	}
}

// Every refusal that Kafka's quorum knows, and who gets which.
func TestRefusals(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	r.topics(t, 3)
	ask := func(change func(q *Fetch)) Answer {
		q := r.at(0)
		q.MaxWait = 0
		change(&q)
		ch := make(chan Answer, 1)
		r.Fetch(q, func(a Answer) { ch <- a })
		return get(t, ch)
	}
	end := r.s.Committed()
	if a := ask(func(q *Fetch) { q.Epoch-- }); !errors.Is(a.Err, kerr.FencedLeaderEpoch) {
		t.Error(a)
	}
	if a := ask(func(q *Fetch) { q.Epoch++ }); !errors.Is(a.Err, kerr.UnknownLeaderEpoch) {
		t.Error(a)
	}
	if a := ask(func(q *Fetch) { q.Offset = end + 5 }); a.Diverging == nil || *a.Diverging != (store.SnapshotID{End: end, Epoch: r.epoch.Load()}) {
		t.Errorf("beyond the log: %+v", a)
	}
	if a := ask(func(q *Fetch) { q.Offset, q.LastEpoch = 1, r.epoch.Load()+4 }); a.Diverging == nil {
		t.Errorf("of an epoch that is not: %+v", a)
	}
	r.lead.Store(2)
	if a := ask(func(*Fetch) {}); !errors.Is(a.Err, kerr.NotLeaderForPartition) || a.Leader != 2 {
		t.Error(a)
	}
}

// A follower from before the log is sent to the snapshot, and can read all of it in pieces.
func TestSnapshot(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	for i := 0; r.s.Start() == 0; i++ {
		r.topics(t, 10)
		if i > 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond) // the snapshot is written in the background
			<-ctx.Done()
			cancel()
		}
		if i > 200 {
			t.Fatal("the log was never cut")
		}
		if r.n > 200 {
			r.n = 0
			r.img = metadata.Empty("x")
			d := metadata.NewDelta(r.img)
			d.SetPosition(r.s.Committed()-1, r.epoch.Load())
			r.img = d.Image()
		}
	}
	ch := make(chan Answer, 1)
	r.Fetch(r.at(0), func(a Answer) { ch <- a })
	a := get(t, ch)
	if a.Snapshot == nil || a.Snapshot.End <= 0 {
		t.Fatalf("%+v", a)
	}
	var whole []byte
	for {
		b, size, err := r.ReadSnapshot(*a.Snapshot, int64(len(whole)), 100)
		if err != nil {
			t.Fatal(err)
		}
		if whole = append(whole, b...); int64(len(whole)) == size {
			break
		}
	}
	if _, _, err := r.ReadSnapshot(*a.Snapshot, int64(len(whole)), 100); !errors.Is(err, kerr.PositionOutOfRange) {
		t.Error(err)
	}
	if _, _, err := r.ReadSnapshot(store.SnapshotID{End: 1, Epoch: 77}, 0, 100); !errors.Is(err, kerr.SnapshotNotFound) {
		t.Error(err)
	}
}
