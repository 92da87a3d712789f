package replica

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/replica/core"
	"github.com/ottla/ottla/internal/wire"
)

// Partition is this broker's replica of one topic partition: its log once opened, its leader epoch, and those who
// wait for its high watermark. An idle partition is this struct and nothing else: the log opens at first use.
type Partition struct {
	m       *Manager
	tp      log.TopicPartition
	topicID [16]byte
	after   *deletion // of an earlier topic of that name, whose files go first; nil where there was none

	state  atomic.Pointer[metadata.Partition] // what the metadata says; set before anybody else sees the partition
	opened atomic.Pointer[log.Log]

	replicated atomic.Bool // this broker leads and others have copies
	few        atomic.Bool // fewer are in sync than min.insync.replicas
	active     atomic.Bool // it is in the list of those whose followers are watched

	followed atomic.Pointer[followed] // at the fetcher of its leader; nil where this broker leads, or nobody does

	mended atomic.Int64 // when damage of its log was last seen to, by Manager.now; 0 never

	openMu sync.Mutex // held while the log is being opened; never together with mu
	roleMu sync.Mutex // held while the role and the log are made to agree; mu and the log's lock are taken under it

	mu      sync.Mutex // guards what follows; memory work only
	waiters []waiter   // for the high watermark, in offset order, because appends are
	local   []waiter   // for this broker's disk
	hw      int64
	leader  *core.Leader // nil until the log is open, and where another broker leads
	told    int64        // the high watermark that the leader told this follower
	sync    *round       // a fetcher waits for syncTo to be durable
	syncTo  int64
	closed  error // why the partition serves no more: deleted, or its disk went offline

	low lowWaits
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

// LeaderEpoch is the epoch of the partition's leader, be it this broker or another.
func (p *Partition) LeaderEpoch() int32 { return p.state.Load().LeaderEpoch }

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
	durable := l.DurableEnd()
	if p.copied() {
		l.BeginHighWatermark(p.place(l, l.CheckpointedHighWatermark()))
	} else {
		l.SetHighWatermark(durable)
	}
	p.mu.Lock()
	p.hw = l.HighWatermark().Offset
	p.mu.Unlock()
	l.SetListener(p)
	p.roleMu.Lock()
	p.opened.Store(l)
	p.settle(l)
	p.roleMu.Unlock()
	return l, nil
}

// copied says whether other brokers have copies, so that what this disk has need not be committed.
func (p *Partition) copied() bool {
	s := p.state.Load()
	return s.Leader != p.m.node || len(s.Replicas) > 1
}

// settleOpening returns when no opening of the log is under way. REQUIRES: the partition is shut, so that none begins.
func (p *Partition) settleOpening() {
	p.openMu.Lock()
	defer p.openMu.Unlock()
}

// CheckEpoch answers a request that carries a current leader epoch: older is fenced, newer is not known here yet (KIP-320).
// A negative epoch asks for no check.
func (p *Partition) CheckEpoch(current int32) error {
	mine := p.LeaderEpoch()
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
	return p.AppendIn(p.LeaderEpoch(), batches, o)
}

// AppendIn is Append, unless the partition's leader epoch is another by now.
func (p *Partition) AppendIn(epoch int32, batches []byte, o log.AppendOptions) (log.AppendInfo, error) {
	l, err := p.Log()
	if err != nil {
		return log.AppendInfo{LogStartOffset: -1}, err
	}
	if !p.Leads() {
		return log.AppendInfo{LogStartOffset: -1}, p.notLeader()
	}
	o.LeaderEpoch = epoch
	info, err := l.Append(batches, o)
	if err == nil && p.replicated.Load() {
		p.m.appended(p)
	}
	return info, err
}

// Wait tells w once the high watermark has reached upTo; at once where it already has.
func (p *Partition) Wait(upTo int64, w Waiter, index int) { p.wait(&p.waiters, upTo, w, index) }

// WaitLocal tells w once what lies below upTo is durable on this broker, whatever the others have.
func (p *Partition) WaitLocal(upTo int64, w Waiter, index int) {
	if !p.replicated.Load() { // it is the same then
		p.Wait(upTo, w, index)
		return
	}
	p.wait(&p.local, upTo, w, index)
}

func (p *Partition) wait(queue *[]waiter, upTo int64, w Waiter, index int) {
	p.mu.Lock()
	err := p.closed
	if err == nil && p.leader == nil {
		err = p.notLeader()
	}
	if err != nil {
		p.mu.Unlock()
		w.Committed(index, err)
		return
	}
	at := p.hw
	if queue == &p.local {
		at = p.opened.Load().DurableEnd().Offset
	}
	if at >= upTo {
		p.mu.Unlock()
		w.Committed(index, nil)
		return
	}
	// Two appenders may register in the other order than they appended: keep the queue sorted from its end.
	q := append(*queue, waiter{})
	i := len(q) - 1
	for i > 0 && q[i-1].upTo > upTo {
		q[i] = q[i-1]
		i--
	}
	q[i] = waiter{upTo, w, index}
	*queue = q
	p.mu.Unlock()
}

// OnDurable is the log's word that everything below end is on stable storage. A leader counts it as its own share of the high
// watermark (durable-offset rule R2); a follower's next fetch tells its leader (R1).
func (p *Partition) OnDurable(l *log.Log, end log.OffsetMeta) {
	p.mu.Lock()
	if p.closed != nil { // what a deleted topic's log still makes durable is not its successor's high watermark
		p.mu.Unlock()
		return
	}
	if p.leader == nil {
		r := p.sync
		if r == nil || end.Offset < p.syncTo {
			r = nil
		} else {
			p.sync = nil
		}
		p.mu.Unlock()
		r.done()
		return
	}
	var now time.Duration
	if !p.leader.Alone() {
		now = p.m.now()
	}
	ready := reached(&p.local, end.Offset)
	p.take(l, p.leader.Durable(p.m, core.End(end), now))
	for _, r := range ready {
		r.w.Committed(r.index, nil)
	}
}

// OnLogStart is the log's word that records below start are gone.
func (p *Partition) OnLogStart(l *log.Log, _ int64) {
	p.m.fetches.Touch(p.tp)
	p.m.copies.Touch(p.tp) // the followers' logs begin there too
}

// OnOffline is the log's word that its disk failed: nothing more will become durable.
func (p *Partition) OnOffline(_ *log.Log, err error) {
	p.shut(wire.Errorf(kerr.KafkaStorageError, "%s-%d is offline: %v", p.tp.Topic, p.tp.Partition, err))
}

// everybody takes all who wait. REQUIRES: mu.
func (p *Partition) everybody() []waiter {
	all := append(append(p.waiters, p.local...), p.low.queue...)
	p.waiters, p.local, p.low.queue = nil, nil, nil
	return all
}

// shut ends the partition: everyone who waits is told err.
func (p *Partition) shut(err error) {
	p.mu.Lock()
	if p.closed == nil {
		p.closed = err
	}
	waiting := p.everybody()
	r := p.sync
	p.sync = nil
	p.mu.Unlock()
	r.done()
	for _, w := range waiting {
		w.w.Committed(w.index, err)
	}
	p.m.fetches.Touch(p.tp)
	p.m.copies.Touch(p.tp)
}

// Closed says why the partition serves no more, nil while it does.
func (p *Partition) Closed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}
