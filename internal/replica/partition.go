package replica

import (
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/wire"
)

// Partition is this broker's replica of one topic partition: its log once opened, its leader epoch, and those who
// wait for its high watermark. An idle partition is this struct and nothing else: the log opens at first use.
type Partition struct {
	m       *Manager
	tp      log.TopicPartition
	topicID [16]byte
	after   *deletion // of an earlier topic of that name, whose files go first; nil where there was none

	leaderEpoch atomic.Int32
	opened      atomic.Pointer[log.Log]

	openMu sync.Mutex // held while the log is being opened; never together with mu

	mu      sync.Mutex // guards what follows; memory work only
	waiters []waiter   // in offset order, because appends are
	hw      int64
	closed  error // why the partition serves no more: deleted, or its disk went offline
}

// Waiter is told when a partition has committed up to the offset it waits for, or that it never will.
type Waiter interface {
	// Committed is called once per registration, from any goroutine; it must not block. index is the registrant's own.
	Committed(index int, err error)
}

type waiter struct {
	upTo  int64
	w     Waiter
	index int
}

// TopicPartition is the partition's name.
func (p *Partition) TopicPartition() log.TopicPartition { return p.tp }

// TopicID is the id of the topic this replica belongs to; a topic deleted and created again has another.
func (p *Partition) TopicID() [16]byte { return p.topicID }

// LeaderEpoch is the epoch in which this broker leads the partition.
func (p *Partition) LeaderEpoch() int32 { return p.leaderEpoch.Load() }

// Log is the partition's log, opened (and recovered) at first use.
func (p *Partition) Log() (*log.Log, error) {
	if l := p.opened.Load(); l != nil {
		return l, nil
	}
	if p.after != nil {
		<-p.after.done // with no lock held: this partition may itself have been dropped in the meantime
	}
	p.openMu.Lock()
	defer p.openMu.Unlock()
	if l := p.opened.Load(); l != nil {
		return l, nil
	}
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed != nil {
		return nil, closed
	}
	l, err := p.m.logs.Open(p.tp, p.topicID, p.m.topicConfig(p.tp.Topic), "")
	if err != nil {
		p.m.logger.Error("a partition could not be opened; it stays offline until its disk is mended and the broker restarted",
			"topic", p.tp.Topic, "partition", p.tp.Partition, "error", err)
		err = wire.Errorf(kerr.KafkaStorageError, "%s-%d could not be opened: %v", p.tp.Topic, p.tp.Partition, err)
		p.mu.Lock()
		p.closed = err
		p.mu.Unlock()
		return nil, err
	}
	if l.LatestEpoch() < p.leaderEpoch.Load() {
		l.SetLeaderEpoch(p.leaderEpoch.Load(), l.LogEnd().Offset)
	}
	durable := l.DurableEnd()
	p.mu.Lock()
	p.hw = durable.Offset
	p.mu.Unlock()
	l.SetHighWatermark(durable)
	l.SetListener(p)
	p.opened.Store(l)
	return l, nil
}

// settleOpening returns when no opening of the log is under way. REQUIRES: the partition is shut, so that none begins.
func (p *Partition) settleOpening() {
	p.openMu.Lock()
	defer p.openMu.Unlock()
}

// CheckEpoch answers a request that carries a current leader epoch: older is fenced, newer is not known here yet (KIP-320).
// A negative epoch asks for no check.
func (p *Partition) CheckEpoch(current int32) error {
	mine := p.leaderEpoch.Load()
	switch {
	case current < 0 || current == mine:
		return nil
	case current < mine:
		return wire.Errorf(kerr.FencedLeaderEpoch, "%s-%d: leader epoch %d of the request is older than %d; refresh metadata", p.tp.Topic, p.tp.Partition, current, mine)
	default:
		return wire.Errorf(kerr.UnknownLeaderEpoch, "%s-%d: leader epoch %d of the request is newer than %d of this broker; try again", p.tp.Topic, p.tp.Partition, current, mine)
	}
}

// Append validates nothing: batches must have passed record.Validate. Offsets and epoch are written into them in place.
func (p *Partition) Append(batches []byte, o log.AppendOptions) (log.AppendInfo, error) {
	l, err := p.Log()
	if err != nil {
		return log.AppendInfo{LogStartOffset: -1}, err
	}
	o.LeaderEpoch = p.leaderEpoch.Load()
	return l.Append(batches, o)
}

// Wait tells w once the high watermark has reached upTo; at once where it already has.
func (p *Partition) Wait(upTo int64, w Waiter, index int) {
	p.mu.Lock()
	if p.closed != nil {
		err := p.closed
		p.mu.Unlock()
		w.Committed(index, err)
		return
	}
	if p.hw >= upTo {
		p.mu.Unlock()
		w.Committed(index, nil)
		return
	}
	// Two appenders may register in the other order than they appended: keep the queue sorted from its end.
	i := len(p.waiters)
	p.waiters = append(p.waiters, waiter{})
	for i > 0 && p.waiters[i-1].upTo > upTo {
		p.waiters[i] = p.waiters[i-1]
		i--
	}
	p.waiters[i] = waiter{upTo, w, index}
	p.mu.Unlock()
}

// OnDurable is the log's word that everything below end is on stable storage. This broker is the only replica, so
// that is the high watermark (durable-offset rule R2).
func (p *Partition) OnDurable(l *log.Log, end log.OffsetMeta) {
	l.SetHighWatermark(end)
	p.mu.Lock()
	if end.Offset <= p.hw || p.closed != nil { // what a deleted topic's log still makes durable is not its successor's high watermark
		p.mu.Unlock()
		return
	}
	p.hw = end.Offset
	n := 0
	for n < len(p.waiters) && p.waiters[n].upTo <= end.Offset {
		n++
	}
	var ready []waiter
	if n > 0 {
		ready = append(ready, p.waiters[:n]...)
		rest := copy(p.waiters, p.waiters[n:])
		clear(p.waiters[rest:])
		p.waiters = p.waiters[:rest]
	}
	p.mu.Unlock()
	for _, r := range ready {
		r.w.Committed(r.index, nil)
	}
	p.m.fetches.Touch(p.tp)
	p.m.committed(p.tp, end.Offset)
}

// OnLogStart is the log's word that records below start are gone.
func (p *Partition) OnLogStart(*log.Log, int64) { p.m.fetches.Touch(p.tp) }

// OnOffline is the log's word that its disk failed: nothing more will become durable.
func (p *Partition) OnOffline(_ *log.Log, err error) {
	p.shut(wire.Errorf(kerr.KafkaStorageError, "%s-%d is offline: %v", p.tp.Topic, p.tp.Partition, err))
}

// shut ends the partition: everyone who waits is told err.
func (p *Partition) shut(err error) {
	p.mu.Lock()
	if p.closed == nil {
		p.closed = err
	}
	waiting := p.waiters
	p.waiters = nil
	p.mu.Unlock()
	for _, w := range waiting {
		w.w.Committed(w.index, err)
	}
	p.m.fetches.Touch(p.tp)
}

// Closed says why the partition serves no more, nil while it does.
func (p *Partition) Closed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}
