package purgatory

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/timewheel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// op completes once ready is set, and counts its answers; a second answer would be a second response to one request.
type op struct {
	ready     func() bool
	inside    atomic.Int32
	tries     atomic.Int32
	completed atomic.Int32
	expired   atomic.Int32
}

func (o *op) TryComplete() bool {
	if o.inside.Add(1) != 1 {
		panic("two goroutines in one operation")
	}
	defer o.inside.Add(-1)
	o.tries.Add(1)
	if o.answers() > 0 {
		panic("tried after its answer")
	}
	if o.ready() {
		o.completed.Add(1)
		return true
	}
	return false
}

func (o *op) Expire() {
	if o.inside.Add(1) != 1 {
		panic("two goroutines in one operation")
	}
	defer o.inside.Add(-1)
	o.expired.Add(1)
}

func (o *op) answers() int32 { return o.completed.Load() + o.expired.Load() }

func never() bool { return false }

func newTest(t testing.TB) (*Purgatory[string], *timewheel.Wheel) {
	w := timewheel.New(clock.Real{}, 0)
	w.Start()
	t.Cleanup(w.Close)
	return New[string]("test", w, prometheus.NewRegistry()), w
}

func checkEmpty(t *testing.T, p *Purgatory[string], w *timewheel.Wheel) {
	t.Helper()
	if p.Waiting() != 0 || w.Len() != 0 {
		t.Fatalf("%d operations and %d timers are left", p.Waiting(), w.Len())
	}
	for i := range p.shards {
		if n := len(p.shards[i].lists); n != 0 || p.shards[i].keys.Load() != 0 {
			t.Fatalf("%d keys are left", n)
		}
	}
}

func TestCompletesAtOnce(t *testing.T) {
	p, w := newTest(t)
	o := &op{ready: func() bool { return true }}
	if !p.TryCompleteElseWatch(o, time.Hour, "a") || o.answers() != 1 {
		t.Fatal("a ready operation was parked")
	}
	z := &op{ready: never}
	if !p.TryCompleteElseWatch(z, 0, "a") || z.expired.Load() != 1 {
		t.Fatal("no time to wait means expiry at once")
	}
	checkEmpty(t, p, w)
}

func TestTouchCompletes(t *testing.T) {
	p, w := newTest(t)
	var ready atomic.Bool
	o := &op{ready: ready.Load}
	if p.TryCompleteElseWatch(o, time.Hour, "a", "b", "a") {
		t.Fatal("completed too early")
	}
	if p.Touch("c") != 0 || p.Touch("a") != 0 || p.Watched("a") != 2 || p.Waiting() != 1 {
		t.Fatal("nothing was ready")
	}
	ready.Store(true)
	if p.Touch("b") != 1 || o.completed.Load() != 1 {
		t.Fatal("touch must complete it")
	}
	if p.Touch("a") != 0 {
		t.Fatal("completed twice")
	}
	checkEmpty(t, p, w)
}

func TestExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := timewheel.New(clock.Real{}, 0)
		w.Start()
		defer w.Close()
		p := New[string]("test", w, nil)
		o := &op{ready: never}
		p.TryCompleteElseWatch(o, time.Second, "a", "b")
		<-time.After(999 * time.Millisecond)
		synctest.Wait()
		if o.answers() != 0 {
			t.Fatal("expired early")
		}
		<-time.After(2 * time.Millisecond)
		synctest.Wait()
		if o.expired.Load() != 1 || p.Touch("a") != 0 {
			t.Fatal("must expire once and be gone")
		}
		checkEmpty(t, p, w)
	})
}

// The change happens between the first try and the watch: without the second try it would wait for its timeout.
func TestChangeBetweenTryAndWatch(t *testing.T) {
	p, w := newTest(t)
	o := &op{}
	o.ready = func() bool { return o.tries.Load() == 2 }
	if !p.TryCompleteElseWatch(o, time.Hour, "a") {
		t.Fatal("the change was missed")
	}
	checkEmpty(t, p, w)
}

// An operation that touches its own key, as an append inside a completion does, must neither deadlock nor answer twice.
func TestTouchFromWithin(t *testing.T) {
	p, w := newTest(t)
	o := &op{}
	o.ready = func() bool {
		if o.tries.Load() < 5 {
			p.Touch("a")
			return false
		}
		return true
	}
	p.TryCompleteElseWatch(o, time.Hour, "a")
	if o.completed.Load() != 1 {
		t.Fatal("the touch from within was lost")
	}
	checkEmpty(t, p, w)
}

func TestTouchLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := timewheel.New(clock.Real{}, 0)
		w.Start()
		defer w.Close()
		p := New[string]("test", w, nil)
		var ready atomic.Bool
		ops := map[string]*op{"a": {ready: ready.Load}, "b": {ready: ready.Load}}
		for k, o := range ops {
			p.TryCompleteElseWatch(o, time.Hour, k)
		}
		ready.Store(true)
		for range 100 {
			p.TouchLater("a")
			p.TouchLater("b")
			p.TouchLater("nobody")
		}
		synctest.Wait()
		for k, o := range ops {
			if o.completed.Load() != 1 {
				t.Fatalf("%s completed %d times", k, o.completed.Load())
			}
		}
		checkEmpty(t, p, w)
	})
}

// Many goroutines touch, add and let expire at once: each operation is answered exactly once and nothing is left.
func TestConcurrent(t *testing.T) {
	p, w := newTest(t)
	keys := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	var values [8]atomic.Int64
	const perWorker, workers = 1000, 4
	var wg sync.WaitGroup
	ops := make([][]*op, workers)
	for g := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(uint64(g), 7))
			for range perWorker {
				i := rng.IntN(8)
				want := values[i].Load() + int64(rng.IntN(3))
				o := &op{ready: func() bool { return values[i].Load() >= want }}
				ops[g] = append(ops[g], o)
				p.TryCompleteElseWatch(o, time.Duration(rng.IntN(20))*time.Millisecond, keys[i], keys[(i+rng.IntN(3))%8])
				j := rng.IntN(8)
				values[j].Add(1)
				p.Touch(keys[j])
			}
		}()
	}
	wg.Wait()
	for p.Waiting() > 0 { // what was left waits for its timeout
		done := make(chan struct{})
		w.AfterFunc(5*time.Millisecond, func() { close(done) })
		<-done
	}
	for _, os := range ops {
		for _, o := range os {
			if o.answers() != 1 {
				t.Fatalf("%d answers", o.answers())
			}
		}
	}
	checkEmpty(t, p, w)
}

// The purgatory against a map: an operation is in it exactly as long as its condition does not hold.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := timewheel.New(clock.Real{}, 0) // never started: nothing expires
		p := New[int]("model", w, nil)
		type entry struct {
			o    *op
			keys []int
			need int
		}
		values := [5]int{}
		var waiting []entry
		t.Repeat(map[string]func(*rapid.T){
			"watch": func(t *rapid.T) {
				keys := rapid.SliceOfN(rapid.IntRange(0, 4), 1, 4).Draw(t, "keys")
				sum := func() (s int) {
					for _, k := range keys {
						s += values[k]
					}
					return s
				}
				need := sum() + rapid.IntRange(0, 3).Draw(t, "more")
				o := &op{ready: func() bool { return sum() >= need }}
				got := p.TryCompleteElseWatch(o, time.Hour, keys...)
				if got != (sum() >= need) {
					t.Fatalf("completed %v", got)
				}
				if !got {
					waiting = append(waiting, entry{o, keys, need})
				}
			},
			"touch": func(t *rapid.T) {
				k := rapid.IntRange(0, 4).Draw(t, "key")
				values[k]++
				want, left := 0, waiting[:0]
				for _, e := range waiting {
					s := 0
					for _, k := range e.keys {
						s += values[k]
					}
					if s >= e.need {
						want++
						continue
					}
					left = append(left, e)
				}
				waiting = left
				if got := p.Touch(k); got != want {
					t.Fatalf("touch completed %d, want %d", got, want)
				}
			},
			"": func(t *rapid.T) {
				if p.Waiting() != len(waiting) || w.Len() != len(waiting) {
					t.Fatalf("%d wait, %d timers, want %d", p.Waiting(), w.Len(), len(waiting))
				}
				var under [5]int
				for _, e := range waiting {
					for _, k := range e.keys {
						under[k]++
					}
				}
				for k, n := range under {
					if p.Watched(k) != n {
						t.Fatalf("%d under key %d, want %d", p.Watched(k), k, n)
					}
				}
			},
		})
	})
}

type quickOp struct{ ready bool }

func (o *quickOp) TryComplete() bool { return o.ready }
func (o *quickOp) Expire()           {}

// Parking and completing an operation of one key costs one allocation, the watcher.
func TestAllocations(t *testing.T) {
	p, _ := newTest(t)
	o := &quickOp{}
	keys := []string{"topic"}
	n := testing.AllocsPerRun(1000, func() {
		o.ready = false
		p.TryCompleteElseWatch(o, time.Hour, keys...)
		o.ready = true
		p.Touch("topic")
	})
	if n > 1 {
		t.Fatalf("%.1f allocations per parked operation, want 1", n)
	}
}

func BenchmarkParkAndTouch(b *testing.B) {
	p, _ := newTest(b)
	o := &quickOp{}
	keys := []string{"topic"}
	b.ReportAllocs()
	for b.Loop() {
		o.ready = false
		p.TryCompleteElseWatch(o, time.Hour, keys...)
		o.ready = true
		p.Touch("topic")
	}
}

func BenchmarkTouchNobody(b *testing.B) {
	p, _ := newTest(b)
	for b.Loop() {
		p.Touch("topic")
	}
}
