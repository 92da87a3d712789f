package replica

import (
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/timewheel"
	"github.com/ottla/ottla/internal/wire"
)

// DelayedProduce waits until every partition of one produce request has committed what was appended, or the request's
// timeout has passed. Its zero value is not usable; make one with Manager.DelayProduce.
type DelayedProduce struct {
	wheel   *timewheel.Wheel
	timer   timewheel.Timer // its task is the DelayedProduce itself
	errs    []atomic.Pointer[error]
	settled []atomic.Bool
	left    atomic.Int32
	fired   atomic.Bool
	done    func(errs []error)
}

// DelayProduce makes a wait over n partitions. done is called once, from any goroutine, with an error (or nil) per
// partition, after Arm and once all are settled or the timeout has passed.
func (m *Manager) DelayProduce(n int, done func(errs []error)) *DelayedProduce {
	d := &DelayedProduce{wheel: m.wheel, errs: make([]atomic.Pointer[error], n), settled: make([]atomic.Bool, n), done: done}
	d.timer.Task = d
	d.left.Store(int32(n) + 1) // one more until Arm, so that done cannot run while partitions are still being added
	return d
}

// Committed settles one partition.
func (d *DelayedProduce) Committed(index int, err error) {
	if !d.settled[index].CompareAndSwap(false, true) {
		return
	}
	if err != nil {
		d.errs[index].Store(&err)
	}
	if d.left.Add(-1) == 0 {
		d.finish()
	}
}

// Arm starts the wait: if all are settled done runs here, else at the last one's or after timeout.
func (d *DelayedProduce) Arm(timeout time.Duration) {
	if d.left.Load() == 1 {
		d.left.Store(0)
		d.finish()
		return
	}
	d.wheel.Schedule(&d.timer, timeout)
	if d.left.Add(-1) == 0 {
		d.finish()
	}
}

// Fire is the wheel's word that the request's timeout has passed.
func (d *DelayedProduce) Fire() {
	timeout := wire.Errorf(kerr.RequestTimedOut, "the records were appended but not committed within the request's timeout; they may still become visible")
	for i := range d.settled {
		d.Committed(i, timeout)
	}
}

func (d *DelayedProduce) finish() {
	if !d.fired.CompareAndSwap(false, true) {
		return
	}
	d.wheel.Cancel(&d.timer)
	errs := make([]error, len(d.errs))
	for i := range d.errs {
		if e := d.errs[i].Load(); e != nil {
			errs[i] = *e
		}
	}
	d.done(errs)
}
