package coordinator

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/invariant"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire"
)

// operation is what a mailbox holds for somebody who waits for an answer.
type operation interface {
	event
	settle(c *core, err error)
}

// event is what a mailbox holds.
type event interface{ run(p *partition) }

// waiter waits for a commit or is parked.
type waiter interface {
	// settle answers with the value at hand, or with err. Only the first call of settle or deliver counts.
	settle(c *core, err error)
	deliver(c *core, v any, err error)
}

// reply is the answering half of an operation.
type reply[T any] struct {
	name    string
	started time.Time
	done    func(T, error)
	value   T
	err     error // of the operation itself
	settled bool
	stop    func() bool // ends the watch on the context of a parked operation
}

func (r *reply[T]) settle(c *core, err error) {
	if r.settled {
		return
	}
	r.settled = true
	if r.stop != nil {
		r.stop()
	}
	if err == nil {
		err = r.err
	}
	v := r.value
	if err != nil {
		var zero T
		v = zero
	}
	c.metrics.observe(r.name, c.clock.Since(r.started), err)
	r.done(v, err)
}

func (r *reply[T]) deliver(c *core, v any, err error) {
	if err == nil && v != nil {
		value, ok := v.(T)
		if !ok {
			r.settle(c, wire.Errorf(kerr.UnknownServerError, "the answer to %s is a %T", r.name, v))
		}
		invariant.Assert(ok, "%s is delivered a %T", r.name, v)
		r.value = value
	}
	r.settle(c, err)
}

// writeOp is an operation of Write.
type writeOp[T any, S Shard] struct {
	reply[T]
	op  func(s S, now time.Time, tok Token) (Result[T], error)
	ctx context.Context
}

func (o *writeOp[T, S]) run(p *partition) {
	if err := p.refusal(); err != nil {
		p.answer(o, err)
		return
	}
	p.current = o
	tok := Token(p.c.tokens.Add(1))
	res, err := o.op(p.shard.(S), p.c.clock.Now(), tok)
	if err != nil {
		o.err = err
		p.await(pending{w: o})
		return
	}
	if res.Parked {
		p.park(tok, o, o.ctx, func(stop func() bool) { o.stop = stop })
		p.apply(effectsOf(&res, tok), nil)
		return
	}
	o.value = res.Reply
	p.apply(effectsOf(&res, tok), o)
}

// readOp is an operation of Read.
type readOp[T any, S Shard] struct {
	reply[T]
	op func(s S, now time.Time) (T, error)
}

func (o *readOp[T, S]) run(p *partition) {
	if err := p.refusal(); err != nil {
		p.answer(o, err)
		return
	}
	if p.c.leads != nil && !p.c.leads() {
		p.answer(o, errNotCoordinator(p.c, p.number))
		return
	}
	p.current = o
	o.value, o.err = o.op(p.shard.(S), p.c.clock.Now())
	p.await(pending{w: o})
}

// markerOp is CompleteTransaction.
type markerOp struct {
	reply[struct{}]
	marker Marker
}

func (o *markerOp) run(p *partition) {
	if err := p.refusal(); err != nil {
		p.answer(o, err)
		return
	}
	p.current = o
	m := o.marker
	batch := record.EndTxnMarker(m.Commit, m.CoordinatorEpoch, m.ProducerID, m.ProducerEpoch, 0, p.c.clock.Now().UnixMilli())
	opts := AppendOptions{Records: 1, Transactional: true, Marker: true, CoordinatorEpoch: m.CoordinatorEpoch, TransactionVersion: m.TransactionVersion}
	if _, err := p.append(batch, opts); err != nil {
		if refused(err) {
			if o.err = knownAppendError(p, err); o.err == nil {
				o.err = err
			}
			p.await(pending{w: o})
			return
		}
		p.fail("append a transaction marker", err)
		p.answer(o, appendError(p, err))
		return
	}
	if err := p.shard.ReplayEndTxn(m.ProducerID, m.ProducerEpoch, m.Commit); err != nil {
		panic(fmt.Sprintf("BUG: replay of the marker of producer %d: %v", m.ProducerID, err))
	}
	p.await(pending{w: o})
}

// effects is a Result without its reply.
type effects struct {
	records    []Record
	deliveries []Delivery
	timers     []Timer
	parked     bool
	token      Token // of the operation; 0 of a timer
	nonAtomic  bool
	producer   *Producer
	onRefused  func(error)
}

func effectsOf[T any](r *Result[T], tok Token) effects {
	return effects{r.Records, r.Deliveries, r.Timers, r.Parked, tok, r.NonAtomic, r.Producer, r.OnRefused}
}
