package coordinator

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/metadata"
)

// turnEvents is how much of a mailbox a worker runs before another partition has its turn.
const turnEvents = 64

// partition is one partition of the topic: a mailbox, and what the worker that empties it owns.
type partition struct {
	c      *core
	number int32

	state     atomic.Int32 // State; written by the worker, read by anyone
	epochSeen atomic.Int32
	hw        atomic.Int64 // the highest high watermark told
	waiting   atomic.Int64 // len(pending), so that a high watermark nobody waits for wakes nobody
	hwQueued  atomic.Bool
	closed    chan struct{}

	mu        sync.Mutex // guards the mailbox
	mailbox   []event
	head      int // of the mailbox: what stands before it has run
	ops       int // operations in it; everything else the frame puts there itself
	scheduled bool

	// From here on: the worker's.
	shard     Shard // nil unless loading or active
	epoch     int32
	end       int64 // of the log, as far as we have appended or loaded
	committed int64
	pending   []pending
	parked    map[Token]waiter
	timers    map[string]*timer
	expiry    clock.Timer // fires when the first of pending is late; nil while there is none
	reload    clock.Timer
	failures  int // in a row, of appends and loads
	imageSeq  uint64
	loading   *loading
	current   waiter // the operation that runs
}

// pending waits until the log is committed up to an offset.
type pending struct {
	upTo       int64
	deadline   time.Time
	w          waiter // may be nil
	deliveries []Delivery
}

// control is an event of the frame itself.
type control func()

func (f control) run(*partition) { f() }

type commitEvent struct{}

func (commitEvent) run(p *partition) {
	p.hwQueued.Store(false)
	p.commit()
}

func newPartition(c *core, number int32) *partition {
	p := &partition{c: c, number: number, epoch: -1, parked: map[Token]waiter{}, timers: map[string]*timer{}, closed: make(chan struct{})}
	p.epochSeen.Store(-1)
	return p
}

// State is where the partition stands.
func (p *partition) State() State { return State(p.state.Load()) }

func (p *partition) set(to State) {
	checkTransition(p.State(), to)
	p.state.Store(int32(to))
}

// put adds an operation to the mailbox.
func (p *partition) put(op operation) error {
	p.mu.Lock()
	if p.ops >= p.c.mailboxOps {
		p.mu.Unlock()
		return errBusy(p)
	}
	p.ops++
	p.enqueue(op)
	return nil
}

// control adds an event of the frame, of which there is no limit: they are few, and none may get lost.
func (p *partition) control(f func()) {
	p.mu.Lock()
	p.enqueue(control(f))
}

// enqueue: REQUIRES mu, gives it back.
func (p *partition) enqueue(e event) {
	if p.head > turnEvents && p.head > len(p.mailbox)/2 {
		p.mailbox = slices.Delete(p.mailbox, 0, p.head)
		p.head = 0
	}
	p.mailbox = append(p.mailbox, e)
	start := !p.scheduled
	p.scheduled = true
	p.mu.Unlock()
	if start {
		p.c.schedule(p)
	}
}

// turn runs a part of the mailbox.
func (p *partition) turn() {
	for range turnEvents {
		p.mu.Lock()
		if p.head == len(p.mailbox) {
			p.mailbox, p.head = p.mailbox[:0], 0
			if cap(p.mailbox) > turnEvents {
				p.mailbox = nil
			}
			p.scheduled = false
			p.mu.Unlock()
			return
		}
		e := p.mailbox[p.head]
		p.mailbox[p.head] = nil
		p.head++
		if _, ok := e.(operation); ok {
			p.ops--
		}
		p.mu.Unlock()
		p.runGuarded(e)
	}
	p.c.schedule(p)
}

func (p *partition) runGuarded(e event) {
	defer func() {
		current := p.current
		p.current = nil
		if r := recover(); r != nil {
			p.quarantine(r, current)
		}
	}()
	e.run(p)
}

// refusal says why no operation can run now, nil where it can.
func (p *partition) refusal() error {
	switch p.State() {
	case Active:
		return nil
	case Initial, Loading, Failed:
		return errLoading(p)
	case Quarantined:
		return errQuarantined(p)
	}
	return errNotCoordinator(p.c, p.number)
}

// answer settles a waiter; a done that panics is logged.
func (p *partition) answer(w waiter, err error) {
	defer p.c.survive("answering an operation")
	w.settle(p.c, err)
}

// deliver answers a parked operation, if it is still there.
func (p *partition) deliver(d Delivery, err error) {
	w := p.parked[d.Token]
	if w == nil {
		return
	}
	delete(p.parked, d.Token)
	if err == nil {
		err = d.Err
	}
	w.deliver(p.c, d.Reply, err)
}

func (p *partition) park(tok Token, w waiter, ctx context.Context, watch func(stop func() bool)) {
	p.parked[tok] = w
	if ctx == nil {
		return
	}
	watch(context.AfterFunc(ctx, func() {
		p.control(func() { p.deliver(Delivery{Token: tok}, ctx.Err()) })
	}))
}

// await queues an answer behind all that has been appended so far.
func (p *partition) await(pd pending) {
	if pd.w == nil && len(pd.deliveries) == 0 {
		return
	}
	if p.committed < p.end {
		p.committed = max(p.committed, p.hw.Load())
	}
	if len(p.pending) == 0 && p.committed >= p.end {
		p.fire(pd, nil)
		return
	}
	pd.upTo = p.end
	pd.deadline = p.c.clock.Now().Add(p.c.writeTimeout)
	p.pending = append(p.pending, pd)
	p.waiting.Store(int64(len(p.pending)))
	p.c.metrics.pending.Add(1)
	if p.expiry == nil {
		p.armExpiry(p.c.writeTimeout)
	}
	p.commit() // the high watermark may have come between Append and here
}

func (p *partition) onHighWatermark(offset int64) {
	for {
		old := p.hw.Load()
		if offset <= old {
			return
		}
		if p.hw.CompareAndSwap(old, offset) {
			break
		}
	}
	if p.waiting.Load() == 0 || p.hwQueued.Swap(true) {
		return
	}
	p.mu.Lock()
	p.enqueue(commitEvent{})
}

// commit answers what the high watermark has passed.
func (p *partition) commit() {
	p.committed = max(p.committed, p.hw.Load())
	for len(p.pending) > 0 && p.pending[0].upTo <= p.committed {
		p.fire(p.pop(), nil)
	}
	if len(p.pending) == 0 {
		p.stopExpiry()
	}
}

// pop takes the first of pending off, before it is fired: a panic of its delivery must not meet it twice.
func (p *partition) pop() pending {
	pd := p.pending[0]
	p.pending[0] = pending{}
	p.pending = p.pending[1:]
	if len(p.pending) == 0 {
		p.pending = nil
	}
	p.waiting.Store(int64(len(p.pending)))
	p.c.metrics.pending.Add(-1)
	return pd
}

func (p *partition) fire(pd pending, err error) {
	if pd.w != nil {
		p.answer(pd.w, err)
	}
	for _, d := range pd.deliveries {
		p.deliver(d, err)
	}
}

func (p *partition) armExpiry(after time.Duration) {
	p.expiry = p.c.clock.AfterFunc(after, func() { p.control(p.expire) })
}

func (p *partition) stopExpiry() {
	if p.expiry != nil {
		p.expiry.Stop()
		p.expiry = nil
	}
}

// expire answers what has waited too long for its commit. Its records may still be committed later.
func (p *partition) expire() {
	now := p.c.clock.Now()
	for len(p.pending) > 0 && !p.pending[0].deadline.After(now) {
		p.fire(p.pop(), errCommitTimeout(p))
	}
	p.stopExpiry()
	if len(p.pending) > 0 {
		p.armExpiry(p.pending[0].deadline.Sub(now))
	}
}

func (p *partition) onImage(seq uint64, img *metadata.Image, delta *metadata.Delta) {
	if p.State() != Active || seq <= p.imageSeq {
		return
	}
	p.imageSeq = seq
	p.setTimers(p.shard.OnImage(p.c.clock.Now(), img, delta))
}

// drop ends the shard and answers all that waits for it.
func (p *partition) drop(err error) {
	p.loading = nil
	p.stopExpiry()
	if p.reload != nil {
		p.reload.Stop()
		p.reload = nil
	}
	p.cancelTimers()
	for len(p.pending) > 0 {
		pd := p.pop()
		if pd.w != nil {
			p.answer(pd.w, err)
		}
	}
	for tok, w := range p.parked {
		delete(p.parked, tok)
		p.answer(w, err)
	}
	if s := p.shard; s != nil {
		p.shard = nil
		defer p.c.survive("unloading a shard")
		s.OnUnloaded()
	}
}

// fail drops the shard and loads it again after a pause.
func (p *partition) fail(doing string, err error) {
	pause := min(p.c.reloadBackoff<<min(p.failures, 16), 100*p.c.reloadBackoff)
	p.failures++
	p.c.metrics.failures.Inc()
	p.c.logger.Warn("the coordinator of a partition failed; it will load its state from the log again",
		"topic", p.c.topic, "partition", p.number, "epoch", p.epoch, "doing", doing, "err", err, "pause", pause)
	p.set(Failed)
	p.drop(errGone(p))
	epoch := p.epoch
	p.reload = p.c.clock.AfterFunc(pause, func() {
		p.control(func() {
			if p.State() == Failed && p.epoch == epoch {
				p.startLoad()
			}
		})
	})
}

// quarantine drops the shard for good: it has panicked.
func (p *partition) quarantine(r any, current waiter) {
	p.c.metrics.panics.Inc()
	p.c.logger.Error("BUG: the coordinator of a partition panicked; its requests fail until the partition has a new leader epoch, all other partitions go on",
		"topic", p.c.topic, "partition", p.number, "epoch", p.epoch, "state", p.State(), "panic", fmt.Sprint(r), "stack", stack())
	if s := p.State(); s == Loading || s == Active {
		p.set(Quarantined)
	}
	p.drop(errQuarantined(p))
	if current != nil {
		p.answer(current, errQuarantined(p))
	}
}

func (p *partition) unload(epoch int32) {
	if p.State() == Closed || epoch >= 0 && epoch < p.epoch {
		return
	}
	p.c.forget(p)
	p.set(Closed)
	p.drop(errGone(p))
	p.c.logger.Debug("unloaded", "topic", p.c.topic, "partition", p.number, "epoch", p.epoch)
	close(p.closed)
}

func stack() string { return string(debug.Stack()) }
