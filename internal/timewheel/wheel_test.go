package timewheel

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ottla/ottla/internal/clock"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A timer that fires early would answer a fetch before fetch.max.wait.ms; a late one by more than a tick would hold it.
func TestFiresOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(clock.Real{}, 0)
		w.Start()
		defer w.Close()
		rng := rand.New(rand.NewPCG(1, 2))
		var fired atomic.Int32
		const n = 2000
		for range n {
			d := time.Duration(rng.Int64N(int64(2 * time.Hour)))
			if rng.IntN(2) == 0 {
				d = time.Duration(rng.Int64N(int64(100 * time.Millisecond)))
			}
			due := time.Now().Add(d)
			w.AfterFunc(d, func() {
				late := time.Since(due)
				if late < 0 || late > time.Millisecond {
					t.Errorf("timer of %v fired %v after its time", d, late)
				}
				fired.Add(1)
			})
		}
		<-time.After(3 * time.Hour)
		synctest.Wait()
		if fired.Load() != n || w.Len() != 0 {
			t.Fatalf("%d of %d fired, %d left", fired.Load(), n, w.Len())
		}
	})
}

func TestCancelAndReschedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(clock.Real{}, 0)
		w.Start()
		defer w.Close()
		var fired atomic.Int32
		tm := &Timer{Task: Func(func() { fired.Add(1) })}
		if w.Cancel(tm) {
			t.Fatal("cancelled a timer that was never scheduled")
		}
		w.Schedule(tm, time.Second)
		if !tm.Stop() || tm.Stop() {
			t.Fatal("cancel must succeed exactly once")
		}
		<-time.After(2 * time.Second)
		synctest.Wait()
		if fired.Load() != 0 {
			t.Fatal("a cancelled timer fired")
		}
		w.Schedule(tm, time.Second)
		<-time.After(2 * time.Second)
		synctest.Wait()
		if fired.Load() != 1 || w.Cancel(tm) {
			t.Fatal("a rescheduled timer fires once")
		}
	})
}

// countingClock counts how often the wheel asks to be woken: an idle broker must not wake up.
type countingClock struct {
	clock.Real
	timers atomic.Int32
}

type countingTimer struct {
	clock.Timer
	c *countingClock
}

func (c *countingClock) NewTimer(d time.Duration) clock.Timer {
	c.timers.Add(1)
	return countingTimer{c.Real.NewTimer(d), c}
}

func (t countingTimer) Reset(d time.Duration) bool {
	t.c.timers.Add(1)
	return t.Timer.Reset(d)
}

func TestIdleSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clk := &countingClock{}
		w := New(clk, 0)
		w.Start()
		defer w.Close()
		w.AfterFunc(10*time.Minute, func() {})
		<-time.After(24 * time.Hour)
		if n := clk.timers.Load(); n > 5 {
			t.Fatalf("one timer in a day cost %d wakeups", n)
		}
		// Waits that are cancelled before their time, as most fetches are, wake the wheel about once per timeout.
		before := clk.timers.Load()
		for range 10000 {
			tm := w.AfterFunc(500*time.Millisecond, func() {})
			<-time.After(time.Millisecond)
			w.Cancel(tm)
		}
		if n := clk.timers.Load() - before; n > 400 {
			t.Fatalf("10 s of cancelled timers cost %d wakeups", n)
		}
	})
}

func TestTaskMaySchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(clock.Real{}, 0)
		w.Start()
		defer w.Close()
		n := 0
		done := make(chan struct{})
		tm := &Timer{}
		tm.Task = Func(func() {
			if n++; n == 100 {
				close(done)
				return
			}
			w.Schedule(tm, time.Duration(n)*time.Millisecond)
		})
		w.Schedule(tm, -time.Hour)
		<-done
	})
}

func TestFarFuture(t *testing.T) {
	w := New(clock.Real{}, 0)
	for _, d := range []time.Duration{math.MaxInt64, math.MaxInt64 / 2, 300 * 24 * time.Hour} {
		tm := w.AfterFunc(d, func() {})
		w.advance(1 << 30)
		if tm.where < whereSlots {
			t.Fatalf("timer of %v expired after 12 days", d)
		}
		if !w.Cancel(tm) {
			t.Fatal("lost")
		}
	}
}

// The wheel against a plain map of deadlines: after any adds, cancels and jumps the same timers are due.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := New(clock.Real{}, 0)
		model := map[*Timer]int64{}
		delta := rapid.OneOf(rapid.Int64Range(0, 130), rapid.Int64Range(0, 1<<20), rapid.Int64Range(0, 1<<40))
		var all []*Timer
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				tm := &Timer{Task: Func(func() {}), at: w.now + delta.Draw(t, "delta")}
				w.mu.Lock()
				w.size++
				w.place(tm)
				w.mu.Unlock()
				model[tm] = tm.at
				all = append(all, tm)
			},
			"cancel": func(t *rapid.T) {
				if len(all) == 0 {
					t.Skip()
				}
				tm := rapid.SampledFrom(all).Draw(t, "timer")
				_, want := model[tm]
				if got := w.Cancel(tm); got != want {
					t.Fatalf("cancel said %v, want %v", got, want)
				}
				delete(model, tm)
			},
			"advance": func(t *rapid.T) {
				to := w.now + delta.Draw(t, "to")
				w.advance(to)
				last := int64(-1)
				for w.due.head != nil {
					tm := w.due.head
					if at, ok := model[tm]; !ok || at > to {
						t.Fatalf("timer at %d is due at %d (known %v)", tm.at, to, ok)
					}
					if tm.at < last {
						t.Fatalf("timer at %d is due after the one at %d", tm.at, last)
					}
					last = tm.at
					w.Cancel(tm)
					delete(model, tm)
				}
				for _, at := range model {
					if at <= to {
						t.Fatalf("timer at %d is not due at %d", at, to)
					}
				}
			},
			"": func(t *rapid.T) {
				if w.Len() != len(model) {
					t.Fatalf("%d timers, want %d", w.Len(), len(model))
				}
				first := int64(math.MaxInt64)
				for _, at := range model {
					if at > w.now {
						first = min(first, at)
					}
				}
				if at, _, _, ok := w.next(); ok && at > first {
					t.Fatalf("next wakeup %d is after the first expiry %d", at, first)
				}
			},
		})
	})
}

// Cancel racing with expiry: a timer fires or is cancelled, never both, never neither.
func TestCancelRace(t *testing.T) {
	w := New(clock.Real{}, 10*time.Microsecond)
	w.Start()
	defer w.Close()
	var fired, cancelled atomic.Int32
	const n = 5000
	done := make(chan struct{}, n)
	for i := range n {
		tm := w.AfterFunc(time.Duration(i%50)*time.Microsecond, func() { fired.Add(1); done <- struct{}{} })
		if w.Cancel(tm) {
			cancelled.Add(1)
			done <- struct{}{}
		}
	}
	for range n {
		<-done
	}
	if fired.Load()+cancelled.Load() != n {
		t.Fatalf("%d fired + %d cancelled != %d", fired.Load(), cancelled.Load(), n)
	}
}

func BenchmarkScheduleCancel(b *testing.B) {
	w := New(clock.Real{}, 0)
	w.Start()
	defer w.Close()
	tm := &Timer{Task: Func(func() {})}
	b.ReportAllocs()
	for b.Loop() {
		w.Schedule(tm, 500*time.Millisecond)
		w.Cancel(tm)
	}
}
