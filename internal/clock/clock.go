// Package clock tells the time. It knows wall time, monotonic time and timers; it must never know what they are for.
package clock

import "time"

// Clock is where the broker's shells get time from. Pure packages get `now` as an argument instead.
type Clock interface {
	Now() time.Time
	Since(t time.Time) time.Duration
	// AfterFunc runs f in its own goroutine after d.
	AfterFunc(d time.Duration, f func()) Timer
	NewTimer(d time.Duration) Timer
}

// Timer is a stoppable timer. C is nil for those of AfterFunc.
type Timer interface {
	C() <-chan time.Time
	Stop() bool
	Reset(d time.Duration) bool
}

// Real is the machine's clock. Inside a testing/synctest bubble it is the bubble's.
type Real struct{}

// Now is the current time.
func (Real) Now() time.Time { return time.Now() }

// Since is the monotonic time since t.
func (Real) Since(t time.Time) time.Duration { return time.Since(t) }

// AfterFunc runs f after d.
func (Real) AfterFunc(d time.Duration, f func()) Timer { return realTimer{time.AfterFunc(d, f)} }

// NewTimer makes a timer that fires after d.
func (Real) NewTimer(d time.Duration) Timer { return realTimer{time.NewTimer(d)} }

type realTimer struct{ t *time.Timer }

func (r realTimer) C() <-chan time.Time        { return r.t.C }
func (r realTimer) Stop() bool                 { return r.t.Stop() }
func (r realTimer) Reset(d time.Duration) bool { return r.t.Reset(d) }
