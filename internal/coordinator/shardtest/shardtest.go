// Package shardtest tests a coordinator shard against what the frame promises, with random operations. It knows the
// frame and a log in memory; it must never know what a shard is about. It is for tests only.
//
// Between the operations of the shard's own test it commits part of the log, fails and refuses appends, moves the
// clock, ends transactions, and changes the leader, with or without loss of what was not committed. After each step:
//
//   - what the live shard holds is what replaying the log gives (by the test's own Dump);
//   - nothing was answered before all that came before it, and its own records, were committed;
//   - no operation was answered twice, and at the end each was answered once.
package shardtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"pgregory.net/rapid"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Config says what to test.
type Config[S coordinator.Shard] struct {
	New    func() S
	Decode func(key, value []byte) (k, v schema.Message, err error)
	// Dump renders the state that the log carries, and only that: it is compared between the live shard and one that
	// has just replayed the log (and has seen OnLoaded).
	Dump func(S) string
	// Ops are the shard's operations: each draws its arguments from t and calls Do.
	Ops map[string]func(t *rapid.T, e *Env[S])
	// Check, where given, runs after each step on the live shard.
	Check func(t *rapid.T, s S)
	Image *metadata.Image
	// MaxAdvance is the most that the clock moves in a step; 10 s by default.
	MaxAdvance time.Duration
}

// Env is one run.
type Env[S coordinator.Shard] struct {
	Log   *Log
	Clock *Clock

	cfg   Config[S]
	t     *rapid.T
	sched *Sched
	rt    *coordinator.Runtime[S]
	live  S
	epoch int32
	calls []*call
	inRun bool // an operation or a timer runs, and no commit does
}

// call is an operation in flight.
type call struct {
	name  string
	after int64 // the log's end when the operation had run; -1 before
	done  int
}

// Do submits an operation and runs it. done, which may be nil, gets its answer, now or in a later step.
func Do[T any, S coordinator.Shard](e *Env[S], name string, op func(s S, now time.Time, tok coordinator.Token) (coordinator.Result[T], error), done func(T, error)) {
	DoContext(context.Background(), e, name, op, done)
}

// DoContext is Do for an operation that parks until ctx ends.
func DoContext[T any, S coordinator.Shard](ctx context.Context, e *Env[S], name string, op func(s S, now time.Time, tok coordinator.Token) (coordinator.Result[T], error), done func(T, error)) {
	c := &call{name: name, after: -1}
	e.calls = append(e.calls, c)
	ran := false
	coordinator.WriteContext(ctx, e.rt, 0, name, func(s S, now time.Time, tok coordinator.Token) (coordinator.Result[T], error) {
		ran = true
		return op(s, now, tok)
	}, func(v T, err error) {
		c.done++
		if c.done > 1 {
			e.t.Fatalf("%s was answered twice", name)
		}
		e.checkAnswer(c, ran, err)
		if done != nil {
			done(v, err)
		}
	})
	e.run(true)
	c.after = e.Log.End()
}

// Read submits a read and runs it.
func Read[T any, S coordinator.Shard](e *Env[S], name string, op func(s S, now time.Time) (T, error), done func(T, error)) {
	Do(e, name, func(s S, now time.Time, _ coordinator.Token) (coordinator.Result[T], error) {
		v, err := op(s, now)
		return coordinator.Result[T]{Reply: v}, err
	}, done)
}

// CompleteTransaction ends a producer's transaction.
func (e *Env[S]) CompleteTransaction(m coordinator.Marker) {
	e.rt.CompleteTransaction(0, m, func(error) {})
	e.run(true)
}

// checkAnswer holds an answer to the promise that all it can have seen is committed. The frame's and
// the log's own errors see nothing.
func (e *Env[S]) checkAnswer(c *call, ran bool, err error) {
	if !ran || isFrameError(err) || errors.Is(err, coordinator.ErrRefused) || errors.Is(err, kerr.MessageTooLarge) {
		return
	}
	need := c.after
	if e.inRun {
		need = e.Log.End()
	}
	if hw := e.Log.HighWatermark(); hw < need {
		e.t.Fatalf("%s was answered (%v) with the log committed up to %d; it saw up to %d", c.name, err, hw, need)
	}
}

func isFrameError(err error) bool {
	switch wire.CodeOf(err) {
	case kerr.NotCoordinator.Code, kerr.CoordinatorNotAvailable.Code, kerr.CoordinatorLoadInProgress.Code:
		return true
	}
	return false
}

func (e *Env[S]) run(op bool) {
	e.inRun = op
	e.sched.Run()
	e.inRun = false
}

// start makes a runtime on the log, as a new leader.
func (e *Env[S]) start() {
	e.epoch++
	e.rt = coordinator.New(e.options(func(s S) { e.live = s }, e.sched, e.Clock))
	rt := e.rt
	e.Log.OnCommit(func(hw int64) { rt.OnHighWatermark(0, hw) })
	if e.cfg.Image != nil {
		e.rt.OnMetadata(metadata.NewDelta(e.cfg.Image), e.cfg.Image)
	}
	e.rt.Load(0, e.epoch)
	e.run(true)
}

func (e *Env[S]) options(made func(S), sched *Sched, clk *Clock) coordinator.Options[S] {
	return coordinator.Options[S]{
		Name: "test", Topic: "test", Log: e.Log, Decode: e.cfg.Decode, Clock: clk, Spawn: sched.Spawn, LoadBytes: 512, WriteTimeout: time.Hour,
		NewShard: func(int32) S { s := e.cfg.New(); made(s); return s },
	}
}

// stop unloads; everything in flight must be answered by that.
func (e *Env[S]) stop() {
	e.rt.Unload(0, e.epoch)
	e.run(true)
	for _, c := range e.calls {
		if c.done != 1 {
			e.t.Fatalf("%s was answered %d times by the time its partition was unloaded", c.name, c.done)
		}
	}
	e.calls = nil
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := e.rt.Close(ctx); err != nil {
		e.t.Fatalf("close: %v", err)
	}
	if n := e.Clock.Timers(); n != 0 {
		e.t.Fatalf("%d timers are left after unloading", n)
	}
}

// replayed is a shard that has just loaded the log.
func (e *Env[S]) replayed() S {
	var got S
	sched := &Sched{}
	clk := NewClock()
	clk.Advance(e.Clock.Now().Sub(clk.Now()))
	rt := coordinator.New(e.options(func(s S) { got = s }, sched, clk))
	if e.cfg.Image != nil {
		rt.OnMetadata(metadata.NewDelta(e.cfg.Image), e.cfg.Image)
	}
	rt.Load(0, 1)
	sched.Run()
	if st := rt.Partitions()[0].State; st != coordinator.Active {
		e.t.Fatalf("the log does not load: the partition is %s", st)
	}
	return got
}

func (e *Env[S]) check(t *rapid.T) {
	st := e.rt.Partitions()[0].State
	if st == coordinator.Quarantined {
		t.Fatalf("the shard panicked")
	}
	if st != coordinator.Active {
		return
	}
	live, again := e.cfg.Dump(e.live), e.cfg.Dump(e.replayed())
	if live != again {
		t.Fatalf("the live state is not what the log gives\n--- live\n%s\n--- replayed\n%s", live, again)
	}
	if e.cfg.Check != nil {
		e.cfg.Check(t, e.live)
	}
}

// Check runs random operations against the shard.
func Check[S coordinator.Shard](t *testing.T, cfg Config[S]) {
	t.Helper()
	if cfg.MaxAdvance == 0 {
		cfg.MaxAdvance = 10 * time.Second
	}
	rapid.Check(t, func(t *rapid.T) { Run(t, cfg) })
}

// Run is one run of Check, for a test that has a rapid.T already.
func Run[S coordinator.Shard](t *rapid.T, cfg Config[S]) {
	e := &Env[S]{Log: NewLog(), Clock: NewClock(), cfg: cfg, t: t, sched: &Sched{}}
	e.start()
	actions := map[string]func(*rapid.T){"": func(t *rapid.T) { e.check(t) }}
	for name, op := range cfg.Ops {
		actions["op:"+name] = func(t *rapid.T) { e.t = t; op(t, e) }
	}
	actions["frame:commit"] = func(t *rapid.T) {
		e.t = t
		e.Log.Commit(rapid.Int64Range(e.Log.HighWatermark(), e.Log.End()).Draw(t, "hw"))
		e.run(false)
	}
	actions["frame:commit-all"] = func(t *rapid.T) {
		e.t = t
		e.Log.Commit(e.Log.End())
		e.run(false)
	}
	actions["frame:advance"] = func(t *rapid.T) {
		e.t = t
		e.Clock.Advance(time.Duration(rapid.Int64Range(1, int64(cfg.MaxAdvance)).Draw(t, "by")))
		e.run(true)
	}
	actions["frame:fail"] = func(t *rapid.T) {
		e.t = t
		switch rapid.IntRange(0, 2).Draw(t, "how") {
		case 0:
			e.Log.FailNext(fmt.Errorf("injected: %w", kerr.NotEnoughReplicas), false)
		case 1:
			e.Log.FailNext(fmt.Errorf("injected: %w", kerr.KafkaStorageError), true)
		default:
			e.Log.FailNext(coordinator.Refused(wire.Errorf(kerr.InvalidProducerEpoch, "injected")), false)
		}
	}
	actions["frame:new-leader"] = func(t *rapid.T) {
		e.t = t
		e.stop()
		if rapid.Bool().Draw(t, "loses the uncommitted") {
			e.Log.Truncate(rapid.Int64Range(e.Log.HighWatermark(), e.Log.End()).Draw(t, "from"))
		}
		e.start()
	}
	t.Repeat(actions)
	e.t = t
	e.stop()
}
