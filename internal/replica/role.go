package replica

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/replica/core"
	"github.com/ottla/ottla/internal/wire"
)

// This file is how a replica takes the role that the metadata gives it. The metadata's goroutine calls Set, which touches memory only; the
// log learns of it at once where it is open, else when it is opened.

// Set gives this broker's replica of a partition the role that state says: it leads, it follows a leader, or it waits for one.
func (m *Manager) Set(tp log.TopicPartition, topicID [16]byte, state *metadata.Partition) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return
	}
	p := m.parts[tp]
	if p == nil || p.topicID != topicID {
		if p != nil {
			defer p.shut(wire.Errorf(kerr.UnknownTopicOrPartition, "%s-%d was deleted and created again", tp.Topic, tp.Partition))
		}
		p = &Partition{m: m, tp: tp, topicID: topicID, after: m.leaving[tp]}
		m.parts[tp] = p
	}
	m.mu.Unlock()
	p.roleMu.Lock()
	before := p.state.Load()
	p.state.Store(state)
	if l := p.opened.Load(); l != nil {
		p.settle(l)
	}
	p.roleMu.Unlock()
	m.follow(p, before, state)
	if leads := state.Leader == m.node; leads && len(state.Replicas) > 1 {
		m.followers.release(state.Replicas) // they fetch again, and now this one too
	}
	if before != nil && (before.LeaderEpoch != state.LeaderEpoch || before.Leader != state.Leader) {
		m.fetches.Touch(tp)
		m.copies.Touch(tp)
	}
}

// Lead makes this broker the leader of a partition that it alone has.
func (m *Manager) Lead(tp log.TopicPartition, topicID [16]byte, epoch int32) {
	own := []int32{m.node}
	m.Set(tp, topicID, &metadata.Partition{Replicas: own, ISR: own, Leader: m.node, LeaderEpoch: epoch, PartitionEpoch: epoch})
}

// settle makes the open log and the waiting produces agree with the role. REQUIRES: roleMu.
func (p *Partition) settle(l *log.Log) {
	s := p.state.Load()
	if s.Leader != p.m.node {
		l.Follow(s.LeaderEpoch)
		p.mu.Lock()
		p.leader, p.told = nil, 0
		p.few.Store(false)
		waiting := p.everybody()
		p.mu.Unlock()
		err := p.notLeader()
		for _, w := range waiting {
			w.w.Committed(w.index, err)
		}
		return
	}
	start := l.Lead(s.LeaderEpoch)
	hw := l.HighWatermark()
	if hw.SegmentBase < 0 {
		hw = p.place(l, hw.Offset)
	}
	settings := p.m.settings(p.tp.Topic)
	now := p.m.now()
	p.mu.Lock()
	var out core.Out
	if p.leader == nil || p.leader.Epoch() != s.LeaderEpoch {
		p.sync.done()
		p.sync, p.syncTo = nil, 0
		a := core.Assignment{Replicas: s.Replicas, ISR: s.ISR, PartitionEpoch: s.PartitionEpoch}
		p.leader = core.NewLeader(p.m.node, s.LeaderEpoch, start.Offset, core.End(l.DurableEnd()), core.End(hw), a, settings, now)
		p.hw = hw.Offset
		out = p.leader.Tick(p.m, start.Offset, false, now)
	} else {
		out = p.leader.Assign(p.m, core.Assignment{Replicas: s.Replicas, ISR: s.ISR, PartitionEpoch: s.PartitionEpoch}, now)
	}
	p.replicated.Store(!p.leader.Alone())
	p.take(l, out)
}

// place finds an offset in the log; where that cannot be read, the log's start is as good: the high watermark moves from there.
func (p *Partition) place(l *log.Log, offset int64) log.OffsetMeta {
	at, err := l.Position(offset)
	if err != nil {
		p.m.logger.Warn("the high watermark does not lie in the log; it is found again from its start", "topic", p.tp.Topic, "partition", p.tp.Partition, "offset", offset, "error", err)
		if at, err = l.Position(l.LogStartOffset()); err != nil {
			at = l.LogEnd()
		}
	}
	return at
}

// take acts on what the leader's state has decided. REQUIRES: mu, which it gives back.
func (p *Partition) take(l *log.Log, out core.Out) {
	p.few.Store(!p.leader.Enough(false))
	if out.Propose != nil {
		p.m.isr.propose(p, p.leader, out.Propose)
	}
	if !out.Moved {
		p.mu.Unlock()
		return
	}
	p.hw = out.HighWatermark.Offset
	ready := reached(&p.waiters, p.hw)
	var err error
	if len(ready) > 0 && !p.leader.Enough(true) {
		err = wire.Errorf(kerr.NotEnoughReplicasAfterAppend, "%s-%d: the records are in the log, but fewer replicas are in sync than min.insync.replicas", p.tp.Topic, p.tp.Partition)
	}
	p.mu.Unlock()
	l.SetHighWatermark(log.OffsetMeta(out.HighWatermark))
	for _, r := range ready {
		r.w.Committed(r.index, err)
	}
	p.m.fetches.Touch(p.tp)
	p.m.committed(p.tp, out.HighWatermark.Offset)
}

// reached takes those out of a queue who wait for no more than end. REQUIRES: mu.
func reached(queue *[]waiter, end int64) []waiter {
	q := *queue
	n := 0
	for n < len(q) && q[n].upTo <= end {
		n++
	}
	if n == 0 {
		return nil
	}
	ready := append([]waiter(nil), q[:n]...)
	rest := copy(q, q[n:])
	clear(q[rest:])
	*queue = q[:rest]
	return ready
}

func (p *Partition) notLeader() error {
	return wire.Errorf(kerr.NotLeaderForPartition, "%s-%d is led by broker %d in epoch %d; refresh metadata", p.tp.Topic, p.tp.Partition, p.state.Load().Leader, p.state.Load().LeaderEpoch)
}

// Leads says whether this broker leads the partition.
func (p *Partition) Leads() bool { return p.state.Load().Leader == p.m.node }

// State is what the metadata says of the partition.
func (p *Partition) State() *metadata.Partition { return p.state.Load() }

// EnoughInSync refuses what is to be acknowledged by all in-sync replicas where they are too few (min.insync.replicas).
func (p *Partition) EnoughInSync() error {
	if !p.few.Load() {
		return nil
	}
	return wire.Errorf(kerr.NotEnoughReplicas, "%s-%d has fewer replicas in sync than min.insync.replicas asks for; nothing was written", p.tp.Topic, p.tp.Partition)
}

// CaughtUp answers a reader of offsets that a new leader cannot answer yet: its high watermark may be older than what the one before
// has told (KIP-207).
//
// Nor may it be the word of a leader that others have replaced: a broker that the controller may have given up answers NOT_LEADER_OR_FOLLOWER.
func (p *Partition) CaughtUp() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leader == nil {
		return nil
	}
	if !p.leader.Alone() && !p.m.leads() {
		return wire.Errorf(kerr.NotLeaderForPartition, "%s-%d: this broker has not been heard by the active controller for its session: another may lead by now", p.tp.Topic, p.tp.Partition)
	}
	if p.leader.CaughtUp() {
		return nil
	}
	return wire.Errorf(kerr.OffsetNotAvailable, "%s-%d: the high watermark of the new leader has not caught up yet", p.tp.Topic, p.tp.Partition)
}

// fetched notes a follower's fetch from at. It says whether the replica is one of this partition's.
func (p *Partition) fetched(l *log.Log, q core.Fetch) bool {
	logEnd, now := l.LogEnd().Offset, p.m.now()
	p.mu.Lock()
	if p.leader == nil {
		p.mu.Unlock()
		return false
	}
	out, ok := p.leader.Fetched(p.m, q, logEnd, now)
	waits := len(p.low.queue) > 0
	p.take(l, out)
	if ok && waits {
		p.mu.Lock()
		if p.leader == nil {
			p.mu.Unlock()
		} else {
			p.checkLow(l)
		}
	}
	return ok
}

// configure hands the partition the newest settings of its topic.
func (p *Partition) configure() {
	l := p.opened.Load()
	if l == nil {
		return
	}
	s := p.m.settings(p.tp.Topic)
	now := p.m.now()
	p.mu.Lock()
	if p.leader == nil {
		p.mu.Unlock()
		return
	}
	p.take(l, p.leader.Configure(p.m, s, now))
}

// Broker gives a broker's epoch and whether it may be in sync; it makes the manager a core.Cluster.
func (m *Manager) Broker(id int32) (epoch int64, eligible bool) {
	if m.image == nil {
		return -1, true
	}
	b := m.image().Broker(id)
	if b == nil {
		return -1, false
	}
	return b.Epoch, !b.Fenced && !b.InControlledShutdown
}

func (m *Manager) settings(topic string) core.Settings {
	if m.topicReplication == nil {
		return core.Settings{MinISR: 1, LagMax: 30 * time.Second}
	}
	return m.topicReplication(topic)
}

// now is the time since the manager was made.
func (m *Manager) now() time.Duration { return m.clock.Since(m.born) }
