package shardtest

import (
	"sync"
	"time"

	"github.com/ottla/ottla/internal/clock"
)

// Clock is a clock that stands still until it is told. Functions of AfterFunc run inside Advance.
type Clock struct {
	mu     sync.Mutex
	now    time.Time
	seq    int
	timers []*manualTimer
}

// NewClock is a clock that shows some fixed time.
func NewClock() *Clock { return &Clock{now: time.UnixMilli(1_700_000_000_000)} }

// Now is the time the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Since is the time since t.
func (c *Clock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// AfterFunc runs f in the Advance that passes d.
func (c *Clock) AfterFunc(d time.Duration, f func()) clock.Timer { return c.add(d, f, nil) }

// NewTimer makes a timer that fires in the Advance that passes d.
func (c *Clock) NewTimer(d time.Duration) clock.Timer {
	return c.add(d, nil, make(chan time.Time, 1))
}

func (c *Clock) add(d time.Duration, f func(), ch chan time.Time) clock.Timer {
	t := &manualTimer{c: c, f: f, ch: ch}
	t.Reset(d)
	return t
}

// Advance moves the clock and fires what is due, in order of time.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	to := c.now.Add(d)
	for {
		var first *manualTimer
		for _, t := range c.timers {
			if !t.at.After(to) && (first == nil || t.at.Before(first.at) || t.at.Equal(first.at) && t.seq < first.seq) {
				first = t
			}
		}
		if first == nil {
			break
		}
		first.remove()
		c.now = first.at
		c.mu.Unlock()
		first.fire()
		c.mu.Lock()
	}
	c.now = to
	c.mu.Unlock()
}

// Timers is the number of timers that have not fired.
func (c *Clock) Timers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.timers)
}

type manualTimer struct {
	c   *Clock
	at  time.Time
	seq int
	f   func()
	ch  chan time.Time
}

func (t *manualTimer) C() <-chan time.Time { return t.ch }

// remove: REQUIRES c.mu.
func (t *manualTimer) remove() bool {
	for i, o := range t.c.timers {
		if o == t {
			t.c.timers = append(t.c.timers[:i], t.c.timers[i+1:]...)
			return true
		}
	}
	return false
}

func (t *manualTimer) Stop() bool {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	return t.remove()
}

func (t *manualTimer) Reset(d time.Duration) bool {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	had := t.remove()
	t.c.seq++
	t.at, t.seq = t.c.now.Add(max(d, 0)), t.c.seq
	t.c.timers = append(t.c.timers, t)
	return had
}

func (t *manualTimer) fire() {
	if t.f != nil {
		t.f()
		return
	}
	select {
	case t.ch <- t.at:
	default:
	}
}
