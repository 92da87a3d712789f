package sharefetch

import (
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/share"
	"github.com/ottla/ottla/internal/timewheel"
	"github.com/ottla/ottla/internal/wire"
)

var (
	errNotLeader = wire.Errorf(kerr.NotLeaderForPartition, "this broker leads the partition no more")
	errClosing   = wire.Errorf(kerr.NotLeaderForPartition, "the broker is shutting down")
)

// partition is one share-partition: the pure machine, its log, and those who wait for its writes.
type partition struct {
	m    *Manager
	key  share.PartitionKey
	tp   log.TopicPartition
	wait waitKey

	mu         sync.Mutex // guards what follows; memory work only. The wheel's own lock may be taken under it.
	state      *share.Partition
	view       View
	stateEpoch int32
	err        error // why it serves no more
	fetching   bool  // somebody reads for a lease
	contended  bool  // somebody else wanted to meanwhile
	idle       bool  // the group has no sessions: go when nothing is under way
	burying    int   // dead letters under way
	waiters    []waiter
	timer      timewheel.Timer
	timerAt    int64
}

// waiter waits for a write.
type waiter struct {
	gen  uint32
	done func(error)
}

func newPartition(m *Manager, group string, topicID [16]byte, tp log.TopicPartition) *partition {
	p := &partition{m: m, tp: tp, key: share.PartitionKey{Group: group, TopicID: topicID, Partition: tp.Partition},
		wait: waitKey{group, tp.Topic, tp.Partition}}
	p.timer.Task = timewheel.Func(p.expire)
	return p
}

// load reads the state; the parked fetches hear of its end.
func (p *partition) load() {
	view, err := p.m.o.Source.Open(p.tp, p.key.TopicID)
	if err != nil {
		p.m.forget(p)
		p.fail(err)
		return
	}
	p.m.o.Persister.ReadState(p.key, view.LeaderEpoch, func(s share.PersistedState, err error) { p.loaded(view, s, err) })
}

func (p *partition) loaded(view View, s share.PersistedState, err error) {
	settings := p.m.o.Settings(p.key.Group)
	start := s.StartOffset
	if err == nil && start < 0 {
		start, err = p.reset(view.Log, settings.Reset)
	}
	var state *share.Partition
	if err == nil {
		if state, err = share.New(s, start, settings.Settings); err != nil {
			err = wire.Errorf(kerr.UnknownServerError, "the state of share-partition %s makes no sense: %v", p.key, err)
		}
	}
	if err != nil {
		if !retriable(err) {
			p.m.o.Logger.Error("a share-partition could not be loaded", "group", p.key.Group, "partition", p.tp.String(), "error", err)
		}
		p.m.forget(p)
		p.fail(translate(err))
		return
	}
	p.mu.Lock()
	if p.err == nil {
		p.state, p.view, p.stateEpoch = state, view, s.StateEpoch
	}
	p.unlock(state.TakeLetters())
	p.m.fetches.TouchLater(p.wait)
}

// reset is where a group begins that has no start yet.
func (p *partition) reset(l *log.Log, r Reset) (int64, error) {
	end := l.HighWatermark()
	switch {
	case r.Earliest:
		return l.LogStartOffset(), nil
	case r.ByDuration:
		found, ok, err := l.OffsetForTimestamp(p.m.now()-r.Ago.Milliseconds(), end)
		if err != nil || !ok {
			return end.Offset, err
		}
		return found.Offset, nil
	default:
		return end.Offset, nil
	}
}

// fail ends the share-partition: who waits is told.
func (p *partition) fail(err error) {
	p.mu.Lock()
	if p.err == nil {
		p.err = err
	}
	waiters := p.waiters
	p.waiters = nil
	p.m.o.Wheel.Cancel(&p.timer)
	p.mu.Unlock()
	for _, w := range waiters {
		w.done(err)
	}
	p.m.fetches.TouchLater(p.wait)
}

// unlock lets the lock go and does what the changes under it ask for: a write, a timer, dead letters.
func (p *partition) unlock(letters []share.DeadLetter) {
	if p.err != nil || p.state == nil {
		p.mu.Unlock()
		return
	}
	w, gen, write := p.state.TakeWrite()
	w.StateEpoch, w.LeaderEpoch = p.stateEpoch, p.view.LeaderEpoch
	p.burying += len(letters)
	p.arm()
	gone := p.idle && !write && !p.state.Writing() && !p.fetching && p.burying == 0
	if gone {
		p.err = errClosing
		p.m.o.Wheel.Cancel(&p.timer)
	}
	p.mu.Unlock()
	if gone {
		p.m.forget(p)
		return
	}
	if write {
		p.m.o.Persister.WriteState(p.key, w, func(err error) { p.written(gen, w.StartOffset, err) })
	}
	for _, l := range letters {
		p.m.bury(p, l)
	}
}

// arm sets the timer for the next lease that ends; mu is held.
func (p *partition) arm() {
	at, ok := p.state.Wake()
	if !ok || at == p.timerAt {
		return
	}
	p.m.o.Wheel.Cancel(&p.timer)
	p.timerAt = at
	p.m.o.Wheel.Schedule(&p.timer, time.Duration(max(at-p.m.now(), 0))*time.Millisecond)
}

// expire is the timer: leases end.
func (p *partition) expire() {
	p.mu.Lock()
	p.timerAt = 0
	var n int64
	if p.state != nil && p.err == nil {
		n = p.state.Expire(p.m.now())
	}
	p.unlock(nil)
	p.m.metrics.expired.Add(float64(n))
	p.m.fetches.TouchLater(p.wait)
}

// written is the end of a write.
func (p *partition) written(gen uint32, start int64, err error) {
	p.mu.Lock()
	var letters []share.DeadLetter
	if p.state != nil {
		letters = p.state.WriteDone(err == nil, start)
	}
	var ready []waiter
	rest := p.waiters[:0]
	for _, w := range p.waiters {
		if w.gen == gen {
			ready = append(ready, w)
		} else {
			rest = append(rest, w)
		}
	}
	clear(p.waiters[len(rest):])
	p.waiters = rest
	dead := err != nil && fatal(err)
	if dead && p.err == nil {
		p.err = translate(err)
	}
	p.unlock(letters)
	if err != nil {
		p.m.o.Logger.Warn("the state of a share-partition could not be written", "group", p.key.Group, "partition", p.tp.String(), "error", err)
		err = translate(err)
	}
	if dead {
		p.m.forget(p)
		p.fail(err)
	}
	for _, w := range ready {
		w.done(err)
	}
	p.m.fetches.TouchLater(p.wait)
}

// acknowledge takes a member's acknowledgements; done comes once they are written.
func (p *partition) acknowledge(member string, acks []share.Ack, done func(error)) {
	p.mu.Lock()
	if p.err != nil || p.state == nil {
		err := p.err
		p.mu.Unlock()
		if err == nil {
			err = wire.Errorf(kerr.UnknownTopicOrPartition, "the share-partition is being loaded")
		}
		done(err)
		return
	}
	p.state.SetSettings(p.m.o.Settings(p.key.Group).Settings)
	gen := p.state.Gathering()
	err := p.state.Acknowledge(member, acks, p.m.now())
	waits := err == nil && p.state.Changed() && p.state.Gathering() == gen
	if waits {
		p.waiters = append(p.waiters, waiter{gen, done})
	}
	p.unlock(nil)
	if !waits {
		done(err)
	}
}

// release gives back what a member holds.
func (p *partition) release(member string) {
	p.mu.Lock()
	if p.err == nil && p.state != nil {
		p.state.ReleaseMember(member, p.m.now())
	}
	p.unlock(nil)
	p.m.fetches.TouchLater(p.wait)
}

// setIdle says whether the group has sessions; a share-partition nobody uses goes once nothing of it is under way, so that
// offsets altered meanwhile are read when somebody comes back.
func (p *partition) setIdle(idle bool) {
	p.mu.Lock()
	p.idle = idle
	p.unlock(nil)
}

// retriable says that loading again soon may go well.
func retriable(err error) bool {
	return errors.Is(err, kerr.CoordinatorNotAvailable) || errors.Is(err, kerr.CoordinatorLoadInProgress) || errors.Is(err, kerr.NotCoordinator)
}

// fatal says that the share-partition here is out of date and must be loaded again.
func fatal(err error) bool {
	return errors.Is(err, kerr.FencedStateEpoch) || errors.Is(err, kerr.FencedLeaderEpoch) || errors.Is(err, kerr.GroupIDNotFound) ||
		errors.Is(err, kerr.UnknownTopicOrPartition)
}

// translate makes a member's error of the share coordinator's.
func translate(err error) error {
	switch {
	case errors.Is(err, kerr.CoordinatorLoadInProgress) || errors.Is(err, kerr.NotCoordinator):
		return wire.Errorf(kerr.CoordinatorNotAvailable, "%v", err)
	case errors.Is(err, kerr.FencedStateEpoch) || errors.Is(err, kerr.FencedLeaderEpoch):
		return wire.Errorf(kerr.NotLeaderForPartition, "%v", err)
	default:
		return err
	}
}
