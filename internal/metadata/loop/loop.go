// Package loop keeps the newest image of a node and runs the controller while the node is the active one: one goroutine that takes
// operations, evaluates them against the image and what the operations before them in the same batch want, proposes their records,
// and after the commit publishes the new image and answers. On every other node what others committed comes by Apply and Install.
//
// Operations that wait while a proposal is on its way form the next batch, so the cost of a commit is shared without
// anybody waiting for company. Nothing that is not committed is ever seen outside the batch. It knows images, deltas
// and a Proposer. It must never know what an operation is about.
package loop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/invariant"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// maxQueue bounds the operations that wait; more are refused with a retriable error.
const maxQueue = 10_000

// maxBatchRecords ends a batch: what waits behind it forms the next.
const maxBatchRecords = 20_000

// Op evaluates one operation. It runs on the loop's goroutine, must not keep the image, and has no effect of its
// own. An error is the operation's answer; its records are not written.
type Op func(img *metadata.Image, now time.Time) (records []metadata.Versioned, reply any, err error)

// Options say what the loop works with.
type Options struct {
	Image    *metadata.Image // where the log stands
	Proposer metadata.Proposer
	Clock    clock.Clock
	Logger   *slog.Logger
	// Publishers are told of every change in this order, before the operation that made it is answered.
	Publishers []metadata.Publisher
	// Committed, when set, gets each new image after the publishers: the store makes snapshots of it.
	Committed func(img *metadata.Image)
}

// Loop is the controller's event loop.
type Loop struct {
	o     Options
	image atomic.Pointer[metadata.Image]

	applying sync.Mutex      // held while an image is made and published; never together with mu
	open     *metadata.Delta // of a transaction of the log whose end has not come

	mu      sync.Mutex
	queue   []waiting
	closed  bool
	passive bool  // another node is the active controller
	failed  error // after a failed proposal: nothing may be built on what is not known
	wake    chan struct{}
	done    chan struct{}
}

type waiting struct {
	op   Op
	done func(reply any, err error)
}

// answer is an operation of the batch that is under way.
type answer struct {
	done  func(reply any, err error)
	reply any
	err   error
}

// New makes a loop that does nothing before Start.
func New(o Options) *Loop {
	l := &Loop{o: o, wake: make(chan struct{}, 1), done: make(chan struct{})}
	l.image.Store(o.Image)
	return l
}

// Image is the newest committed image.
func (l *Loop) Image() *metadata.Image { return l.image.Load() }

// Start publishes the first image as a delta from the empty one and begins to take operations.
func (l *Loop) Start() error {
	d, err := whole(l.o.Image)
	if err != nil {
		return err
	}
	img := d.Image()
	l.image.Store(img)
	for _, p := range l.o.Publishers {
		p.OnMetadata(d, img)
	}
	go l.run()
	return nil
}

// whole is the delta that leads from nothing to img.
func whole(img *metadata.Image) (*metadata.Delta, error) {
	d := metadata.NewDelta(metadata.Empty(img.ClusterID()))
	var err error
	img.Records(func(v metadata.Versioned) bool {
		err = d.Replay(-1, 0, v.Message)
		return err == nil
	})
	d.SetPosition(img.Offset(), img.Epoch())
	d.SetController(img.ControllerID())
	return d, err
}

// Submit queues an operation. done is called once, on the loop's goroutine or, when the loop does not take it, on
// the caller's; it must not block.
func (l *Loop) Submit(op Op, done func(reply any, err error)) {
	l.mu.Lock()
	var err error
	switch {
	case l.closed:
		err = errStopped
	case l.passive:
		err = errPassive
	case l.failed != nil:
		err = l.failed
	case len(l.queue) >= maxQueue:
		err = wire.Errorf(kerr.ThrottlingQuotaExceeded, "%d metadata operations wait already.", len(l.queue))
	default:
		l.queue = append(l.queue, waiting{op, done})
	}
	l.mu.Unlock()
	if err != nil {
		done(nil, err)
		return
	}
	l.rouse()
}

// rouse wakes the loop. A token that is there already does as well.
func (l *Loop) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

var errPassive = wire.Errorf(kerr.NotController, "This node is not the active controller.")

// SetActive makes the loop take operations: this node leads the metadata log and has applied everything before its own leadership.
func (l *Loop) SetActive() {
	l.mu.Lock()
	l.passive = false
	l.mu.Unlock()
}

// SetPassive makes the loop refuse operations with NOT_CONTROLLER, those that wait too. One whose proposal is on its way is answered when
// its fate is known.
func (l *Loop) SetPassive() {
	l.mu.Lock()
	l.passive = true
	refused := l.queue
	l.queue = nil
	l.mu.Unlock()
	for _, w := range refused {
		w.done(nil, errPassive)
	}
}

// Commit is a batch of the metadata log that is committed, and durable on this node as far as it must be.
type Commit struct {
	Base   int64 // offset of the first record
	Count  int64 // offsets that it takes
	Epoch  int32 // leader epoch of the batch
	Leader int32 // who leads the log; -1 unknown
	// Records are those of a data batch, one for each offset; a control batch has none.
	Records []metadata.Versioned
}

// Apply makes the image that a commit leads to and tells the publishers. Commits come in the order of the log, from one goroutine at a
// time; one that is in the image already is passed over. An error means that this release does not understand the log: the node must stop.
func (l *Loop) Apply(c Commit) error {
	l.applying.Lock()
	defer l.applying.Unlock()
	base := l.image.Load()
	if c.Base+c.Count-1 <= base.Offset() {
		return nil
	}
	invariant.Assert(c.Base == base.Offset()+1 || l.open != nil, "a commit at offset %d is applied to an image at %d", c.Base, base.Offset())
	d := l.open
	if d == nil {
		d = metadata.NewDelta(base)
	}
	for i, r := range c.Records {
		if err := d.Replay(c.Base+int64(i), c.Epoch, r.Message); err != nil {
			return err
		}
	}
	d.SetPosition(c.Base+c.Count-1, c.Epoch)
	if l.open = nil; d.InTransaction() {
		l.open = d
		return nil
	}
	d.SetController(c.Leader)
	l.publish(d, base.Apply(d))
	return nil
}

// Install replaces the image by one that was read from a snapshot. The publishers get the difference.
func (l *Loop) Install(img *metadata.Image) {
	l.applying.Lock()
	defer l.applying.Unlock()
	l.open = nil
	d := metadata.Diff(l.image.Load(), img)
	l.publish(d, d.Image())
}

func (l *Loop) publish(d *metadata.Delta, img *metadata.Image) {
	l.image.Store(img)
	for _, p := range l.o.Publishers {
		p.OnMetadata(d, img)
	}
	if l.o.Committed != nil {
		l.o.Committed(img)
	}
}

var errStopped = wire.Errorf(kerr.NotController, "This node's controller is stopped.")

// Do submits op and waits for its answer.
func (l *Loop) Do(ctx context.Context, op Op) (any, error) {
	type result struct {
		reply any
		err   error
	}
	ch := make(chan result, 1)
	l.Submit(op, func(reply any, err error) { ch <- result{reply, err} })
	select {
	case r := <-ch:
		return r.reply, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("metadata operation: %w; it may still happen", context.Cause(ctx))
	}
}

// Close refuses new operations, answers those that wait and returns when the loop has stopped. The Proposer must
// still work.
func (l *Loop) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.rouse()
	<-l.done
}

func (l *Loop) run() {
	defer close(l.done)
	for range l.wake {
		for {
			l.mu.Lock()
			batch, closed := l.queue, l.closed
			l.queue = nil
			l.mu.Unlock()
			if len(batch) == 0 {
				if closed {
					return
				}
				break
			}
			if rest := l.batch(batch); len(rest) > 0 {
				l.mu.Lock()
				l.queue = append(rest, l.queue...)
				l.mu.Unlock()
			}
		}
	}
}

// batch evaluates operations, commits and answers them. It gives back those that did not fit.
func (l *Loop) batch(ops []waiting) (rest []waiting) {
	base := l.image.Load()
	d := metadata.NewDelta(base)
	var records []metadata.Versioned
	var answers []answer
	now := l.o.Clock.Now()
	for i, w := range ops {
		if len(records) >= maxBatchRecords {
			rest = ops[i:]
			break
		}
		a := answer{done: w.done}
		recs, reply, err := l.evaluate(w.op, d, now)
		if a.reply, a.err = reply, err; err == nil {
			for _, r := range recs {
				err := d.Replay(base.Offset()+1+int64(len(records)), base.Epoch(), r.Message)
				invariant.Assert(err == nil, "an operation wrote what cannot be replayed: %v", err)
				records = append(records, r)
			}
		}
		answers = append(answers, a)
	}
	if len(records) == 0 {
		for _, a := range answers {
			a.done(a.reply, a.err)
		}
		return rest
	}
	if err := l.propose(records, base); err != nil {
		for _, a := range answers {
			a.done(nil, err)
		}
		return rest
	}
	for _, a := range answers {
		a.done(a.reply, a.err)
	}
	return rest
}

func (l *Loop) evaluate(op Op, d *metadata.Delta, now time.Time) ([]metadata.Versioned, any, error) {
	l.mu.Lock()
	failed := l.failed
	l.mu.Unlock()
	if failed != nil {
		return nil, nil, failed
	}
	return op(d.View(), now)
}

// propose waits for the commit of the records of one batch, and for the image to have it.
func (l *Loop) propose(records []metadata.Versioned, img *metadata.Image) error {
	type result struct {
		base int64
		err  error
	}
	ch := make(chan result, 1)
	l.o.Proposer.Propose(records, func(base int64, err error) { ch <- result{base, err} })
	r := <-ch
	if r.err != nil {
		if errors.Is(r.err, kerr.NotController) {
			return r.err // whether it was written shows when the next leader's log comes
		}
		l.o.Logger.Error("a metadata change was not committed", "records", len(records), "err", r.err)
		if !errors.Is(r.err, metadata.ErrNotWritten) {
			l.mu.Lock()
			l.failed = r.err
			l.mu.Unlock()
		}
		return r.err
	}
	want := img.Offset() + 1
	invariant.Assert(r.base == want, "records were committed at offset %d instead of %d", r.base, want)
	// Where a library of consensus commits, it has applied them; a log with one writer leaves that to its caller.
	err := l.Apply(Commit{Base: r.base, Count: int64(len(records)), Epoch: img.Epoch(), Leader: img.ControllerID(), Records: records})
	invariant.Assert(err == nil, "what was committed cannot be replayed: %v", err)
	return nil
}
