// Package timewheel fires many timers from one goroutine. It knows ticks, slots and tasks; it must never know what a
// task means, nor run one early.
//
// The wheel is hierarchical: level l has 64 slots of 64^l ticks each. A timer stands at the level of the highest bit
// (in groups of six) in which its tick differs from the current one, so every occupied slot of a level lies ahead of
// the current one, a lower level always expires before a higher, and one bitmap per level finds the next expiry
// without a scan. A slot of a higher level is dealt out to lower ones when its first tick is reached. Adding and
// cancelling are O(1); a timer is dealt out at most once a level.
package timewheel

import (
	"math"
	"math/bits"
	"sync"
	"time"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/invariant"
)

const (
	slotBits = 6
	slots    = 1 << slotBits
	levels   = 10 // 60 bits of ticks: more than a time.Duration can say in milliseconds
	maxTick  = 1<<(slotBits*levels) - 1

	whereNowhere = 0 // not scheduled
	whereDue     = 1 // expired, waits for its turn to fire
	whereSlots   = 2 // + level*slots + slot
)

// Task is what a timer runs. Fire is called on the wheel's goroutine, one task at a time: it must not block.
type Task interface{ Fire() }

// Func makes a Task of a function.
type Func func()

// Fire calls f.
func (f Func) Fire() { f() }

// Timer is one scheduled task. It is meant to be embedded in what it times, so that scheduling allocates nothing.
// The zero value with its Task set is ready for Schedule; it must not be copied while it is scheduled.
type Timer struct {
	Task       Task
	wheel      *Wheel // of the last Schedule
	next, prev *Timer
	at         int64 // tick at which it fires
	where      uint16
}

// Stop is Wheel.Cancel on the wheel that t was last scheduled on. It must not race with the first Schedule of t.
func (t *Timer) Stop() bool { return t.wheel != nil && t.wheel.Cancel(t) }

// list is a queue of timers.
type list struct{ head, tail *Timer }

func (l *list) push(t *Timer) {
	t.prev, t.next = l.tail, nil
	if l.tail == nil {
		l.head = t
	} else {
		l.tail.next = t
	}
	l.tail = t
}

func (l *list) remove(t *Timer) {
	if t.prev == nil {
		l.head = t.next
	} else {
		t.prev.next = t.next
	}
	if t.next == nil {
		l.tail = t.prev
	} else {
		t.next.prev = t.prev
	}
	t.next, t.prev = nil, nil
}

// Wheel holds timers. Its goroutine sleeps until the next expiry; without timers nothing wakes it.
type Wheel struct {
	clk   clock.Clock
	tick  time.Duration
	start time.Time

	mu     sync.Mutex
	now    int64 // every timer at or before this tick has left the slots
	sleep  int64 // tick the goroutine sleeps to; math.MinInt64 while it is awake
	size   int   // scheduled timers, due ones included
	due    list
	levels [levels]level
	closed bool

	wake chan struct{}
	done chan struct{}
	wg   sync.WaitGroup
}

type level struct {
	occupied uint64
	slots    [slots]list
}

// New makes a wheel with the given precision (1 ms where tick is 0). Nothing fires before Start.
func New(clk clock.Clock, tick time.Duration) *Wheel {
	if tick <= 0 {
		tick = time.Millisecond
	}
	return &Wheel{clk: clk, tick: tick, start: clk.Now(), sleep: math.MinInt64, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// Start starts the wheel's goroutine; it is called once.
func (w *Wheel) Start() {
	w.wg.Add(1)
	go w.run()
}

// Close stops the goroutine and waits for the task that is running. Timers still scheduled never fire.
// It must not be called from a task.
func (w *Wheel) Close() {
	w.mu.Lock()
	closed := w.closed
	w.closed = true
	w.mu.Unlock()
	if !closed {
		close(w.done)
	}
	w.wg.Wait()
}

// Schedule lets t fire once, d from now or up to one tick later, never earlier. t must not be scheduled already.
func (w *Wheel) Schedule(t *Timer, d time.Duration) {
	invariant.Assert(t.Task != nil, "timewheel: a timer without a task")
	w.mu.Lock()
	invariant.Assert(t.where == whereNowhere, "timewheel: a timer was scheduled twice")
	t.wheel = w
	t.at = w.tickAfter(d)
	w.size++
	w.place(t)
	wake := t.at < w.sleep
	if wake {
		w.sleep = math.MinInt64 // one signal is enough
	}
	w.mu.Unlock()
	if wake {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// AfterFunc schedules f as a new timer.
func (w *Wheel) AfterFunc(d time.Duration, f func()) *Timer {
	t := &Timer{Task: Func(f)}
	w.Schedule(t, d)
	return t
}

// Cancel takes t out. True means that it was scheduled and does not fire; false that it has fired, is firing or was
// never scheduled. Either way t may be scheduled again.
func (w *Wheel) Cancel(t *Timer) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch t.where {
	case whereNowhere:
		return false
	case whereDue:
		w.due.remove(t)
	default:
		i := int(t.where - whereSlots)
		lv := &w.levels[i/slots]
		s := &lv.slots[i%slots]
		s.remove(t)
		if s.head == nil {
			lv.occupied &^= 1 << (i % slots)
		}
	}
	t.where = whereNowhere
	w.size--
	return true
}

// Len is the number of scheduled timers.
func (w *Wheel) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size
}

// tickAfter is the first tick that is not before d from now.
func (w *Wheel) tickAfter(d time.Duration) int64 {
	elapsed := w.clk.Since(w.start)
	if d < 0 {
		d = 0
	}
	if d > math.MaxInt64-elapsed-w.tick {
		return maxTick
	}
	return min(int64((elapsed+d+w.tick-1)/w.tick), maxTick)
}

// place puts t where its tick belongs as seen from w.now.
func (w *Wheel) place(t *Timer) {
	if t.at <= w.now {
		t.where = whereDue
		w.due.push(t)
		return
	}
	l := (bits.Len64(uint64(t.at^w.now)) - 1) / slotBits
	s := int(t.at>>(slotBits*l)) & (slots - 1)
	t.where = uint16(whereSlots + l*slots + s)
	w.levels[l].slots[s].push(t)
	w.levels[l].occupied |= 1 << s
}

// next is the first tick at which something is to be done: a timer expires or a slot is dealt out.
func (w *Wheel) next() (tick int64, level, slot int, ok bool) {
	for l := range w.levels {
		if w.levels[l].occupied == 0 {
			continue
		}
		s := bits.TrailingZeros64(w.levels[l].occupied)
		shift := slotBits * l
		return w.now>>(shift+slotBits)<<(shift+slotBits) | int64(s)<<shift, l, s, true
	}
	return 0, 0, 0, false
}

// advance moves the wheel to tick now; what has expired waits in w.due, in order of its ticks.
func (w *Wheel) advance(now int64) {
	for {
		at, l, s, ok := w.next()
		if !ok || at > now {
			break
		}
		w.now = at
		lv := &w.levels[l]
		q := lv.slots[s]
		lv.slots[s] = list{}
		lv.occupied &^= 1 << s
		for t := q.head; t != nil; {
			next := t.next
			w.place(t)
			t = next
		}
	}
	w.now = max(w.now, now)
}

func (w *Wheel) run() {
	defer w.wg.Done()
	var timer clock.Timer
	for {
		w.mu.Lock()
		w.fireDue()
		if w.closed {
			w.mu.Unlock()
			return
		}
		at, _, _, ok := w.next()
		w.sleep = math.MaxInt64
		if ok {
			w.sleep = at
		}
		w.mu.Unlock()

		var expired <-chan time.Time
		if ok {
			d := w.start.Add(time.Duration(at) * w.tick).Sub(w.clk.Now())
			if timer == nil {
				timer = w.clk.NewTimer(d)
			} else {
				timer.Reset(d)
			}
			expired = timer.C()
		}
		select {
		case <-expired:
		case <-w.wake:
		case <-w.done:
		}
		if timer != nil && !timer.Stop() {
			select {
			case <-timer.C():
			default:
			}
		}
	}
}

// fireDue runs everything that has expired. REQUIRES: w.mu, given up around each task.
func (w *Wheel) fireDue() {
	w.sleep = math.MinInt64
	for !w.closed {
		w.advance(int64(w.clk.Since(w.start) / w.tick))
		t := w.due.head
		if t == nil {
			return
		}
		for t != nil && !w.closed {
			w.due.remove(t)
			t.where = whereNowhere
			w.size--
			w.mu.Unlock()
			t.Task.Fire()
			w.mu.Lock()
			t = w.due.head
		}
	}
}
