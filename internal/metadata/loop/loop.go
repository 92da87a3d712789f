// Package loop runs the controller: one goroutine that takes operations, evaluates them against the image and what
// the operations before them in the same batch want, proposes their records, and after the commit publishes the new
// image and answers.
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

	mu     sync.Mutex
	queue  []waiting
	closed bool
	failed error // after a failed proposal: nothing may be built on what is not known
	wake   chan struct{}
	done   chan struct{}
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
	if err := l.propose(records, base.Offset()+1); err != nil {
		for _, a := range answers {
			a.done(nil, err)
		}
		return rest
	}
	img := base.Apply(d)
	l.image.Store(img)
	for _, p := range l.o.Publishers {
		p.OnMetadata(d, img)
	}
	if l.o.Committed != nil {
		l.o.Committed(img)
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

// propose waits for the commit of the records of one batch.
func (l *Loop) propose(records []metadata.Versioned, want int64) error {
	type result struct {
		base int64
		err  error
	}
	ch := make(chan result, 1)
	l.o.Proposer.Propose(records, func(base int64, err error) { ch <- result{base, err} })
	r := <-ch
	if r.err != nil {
		if !errors.Is(r.err, kerr.NotController) {
			l.o.Logger.Error("a metadata change was not committed", "records", len(records), "err", r.err)
		}
		if !errors.Is(r.err, metadata.ErrNotWritten) {
			l.mu.Lock()
			l.failed = r.err
			l.mu.Unlock()
		}
		return r.err
	}
	invariant.Assert(r.base == want, "records were committed at offset %d instead of %d", r.base, want)
	return nil
}
