// Package core decides what a replica does: which followers are in sync, up to where a partition is committed, what its leader asks of
// the controller, where a follower cuts its log. Everything is a function of an event and its time.
//
// It knows offsets, epochs and broker ids. It must never know a clock, a disk, a connection, nor run anything by itself.
//
// One word differs from Apache Kafka: an end here is a durable end. A follower's fetch offset says what it has synced, and the leader
// counts of its own log what it has synced (rules R1 and R2 of docs/mechanisms/replication.md).
package core

import (
	"slices"
	"time"
)

// End is an offset and where it lies in the leader's files, which this package only carries along.
type End struct{ Offset, SegmentBase, Position int64 }

// Cluster is what a leader needs to know of the other brokers.
type Cluster interface {
	// Broker gives the epoch of a broker's registration, and whether it may be in sync with anybody: registered, not fenced, not shutting
	// down.
	Broker(id int32) (epoch int64, eligible bool)
}

// Settings bound the in-sync replicas of a partition.
type Settings struct {
	// MinISR is min.insync.replicas.
	MinISR int
	// LagMax is how long a follower may be behind the end of the log: replica.lag.time.max.ms.
	LagMax time.Duration
	// ShedAfter is how long one follower may hold up what the others have; 0: LagMax alone counts.
	ShedAfter time.Duration
}

// Assignment is what the metadata says of a partition.
type Assignment struct {
	Replicas, ISR  []int32
	PartitionEpoch int32
}

// Proposal asks the controller for other in-sync replicas (AlterPartition). A leader has at most one under way.
type Proposal struct {
	LeaderEpoch, PartitionEpoch int32
	ISR                         []int32
	BrokerEpochs                []int64 // of each of ISR, -1 where it is not known

	expands bool
}

// Answer is what the controller said to a proposal.
type Answer uint8

// The kinds of answers.
const (
	// Accepted comes with the state that the controller has now.
	Accepted Answer = iota
	// Refused: the proposal was looked at and not followed; the state stays as it was.
	Refused
	// Outdated: the controller knows newer epochs than this leader. What comes next is in the metadata.
	Outdated
	// Unanswered: nobody knows whether it was followed, or the controller was the wrong one. It is to be sent again.
	Unanswered
)

// Out is what an event has led to.
type Out struct {
	// HighWatermark is set where it moved.
	HighWatermark End
	Moved         bool
	// Propose is set where the controller is to be asked.
	Propose *Proposal
}

// Leader is the state of a partition where it is led. It is not safe for concurrent use.
type Leader struct {
	self       int32
	epoch      int32
	epochStart int64

	set       Settings
	replicas  []int32
	isr       []int32
	partEpoch int32
	pending   *Proposal
	notBefore time.Duration // no follower is proposed before, because one was refused
	followers []follower
	durable   End
	hw        End
}

// follower is what the leader knows of another replica.
type follower struct {
	id          int32
	brokerEpoch int64 // that of its last fetch; -1 unknown
	end         End   // Offset is -1 before its first fetch
	logStart    int64 // -1 before

	caughtUp  time.Duration // when it last had all that there was
	ever      bool          // caughtUp means something
	fetched   time.Duration // its last fetch
	endBefore int64         // the leader's log end at that time

	// Of shedding.
	holds       bool          // it is what keeps the high watermark down
	heldAt      int64         // since it was seen to lack this offset
	heldSince   time.Duration // at this time
	outUntil    time.Duration // not taken back before
	penalty     time.Duration // the next time it is shed it stays out so long
	pardonedAt  time.Duration // the penalty is forgotten then
	lastPenalty bool
}

// Penalties of a shed follower: each is twice the one before, until it has been good for long enough.
const (
	penaltyMin = 2 * time.Second
	penaltyMax = 2 * time.Minute
	goodFor    = 5 * time.Minute
)

// NewLeader begins a leader epoch. start is the end of the log then, durable and hw what is durable and known to be committed.
func NewLeader(self, epoch int32, start int64, durable, hw End, a Assignment, s Settings, now time.Duration) *Leader {
	l := &Leader{self: self, epoch: epoch, epochStart: start, durable: durable, hw: hw, set: s, partEpoch: -1}
	l.assign(a, now)
	return l
}

// Epoch is the leader epoch; PartitionEpoch that of the last assignment known.
func (l *Leader) Epoch() int32 { return l.epoch }

// PartitionEpoch is that of the newest assignment that the leader has heard of.
func (l *Leader) PartitionEpoch() int32 { return l.partEpoch }

// EpochStart is where the log ended when the epoch began.
func (l *Leader) EpochStart() int64 { return l.epochStart }

// HighWatermark is the end of what is committed.
func (l *Leader) HighWatermark() End { return l.hw }

// ISR are the committed in-sync replicas. The slice must not be changed.
func (l *Leader) ISR() []int32 { return l.isr }

// Replicas are the assigned replicas. The slice must not be changed.
func (l *Leader) Replicas() []int32 { return l.replicas }

// Pending is the proposal under way, nil where there is none.
func (l *Leader) Pending() *Proposal { return l.pending }

// Alone says that no other broker has a copy.
func (l *Leader) Alone() bool { return len(l.followers) == 0 }

// Enough says whether the in-sync replicas are as many as an acks=all produce needs (min.insync.replicas, at most the number of
// replicas). maximal counts one that is about to join: the wait for a commit asks so, an append does not.
func (l *Leader) Enough(maximal bool) bool {
	n := len(l.isr)
	if maximal && l.pending != nil && l.pending.expands {
		n = len(l.pending.ISR)
	}
	return n >= l.minISR()
}

func (l *Leader) minISR() int { return min(l.set.MinISR, max(len(l.replicas), 1)) }

// CaughtUp says whether the high watermark has reached what the epoch began with: before that it may be older than what a former leader
// has told clients (KIP-207).
func (l *Leader) CaughtUp() bool { return l.hw.Offset >= l.epochStart }

// Configure takes new settings over.
func (l *Leader) Configure(c Cluster, s Settings, now time.Duration) Out {
	l.set = s
	return l.advance(c, now)
}

// Assign takes over what the metadata says within the leader epoch; what is older than what is known is not looked at.
func (l *Leader) Assign(c Cluster, a Assignment, now time.Duration) Out {
	if a.PartitionEpoch <= l.partEpoch {
		return Out{}
	}
	l.assign(a, now)
	return l.advance(c, now)
}

func (l *Leader) assign(a Assignment, now time.Duration) {
	l.replicas, l.isr, l.partEpoch, l.pending = a.Replicas, a.ISR, a.PartitionEpoch, nil
	kept := make([]follower, 0, len(a.Replicas))
	for _, id := range a.Replicas {
		if id == l.self {
			continue
		}
		f := follower{id: id, brokerEpoch: -1, end: End{Offset: -1}, logStart: -1}
		if old := l.follower(id); old != nil {
			f = *old
		}
		if !f.ever && slices.Contains(a.ISR, id) {
			f.caughtUp, f.ever = now, true // it has all of LagMax to begin fetching
		}
		kept = append(kept, f)
	}
	l.followers = kept
}

func (l *Leader) follower(id int32) *follower {
	for i := range l.followers {
		if l.followers[i].id == id {
			return &l.followers[i]
		}
	}
	return nil
}

// Durable is the word of the leader's own disk.
func (l *Leader) Durable(c Cluster, end End, now time.Duration) Out {
	if end.Offset <= l.durable.Offset {
		return Out{}
	}
	l.durable = end
	return l.advance(c, now)
}

// Fetch is a follower's fetch, whose log was found to match the leader's up to end.
type Fetch struct {
	Replica     int32
	BrokerEpoch int64 // -1: the request does not say
	End         End
	LogStart    int64
}

// Fetched takes a follower's fetch over; logEnd is the leader's log end as it is read. ok is false where the broker has no copy of the
// partition, or a newer process of it has fetched before.
func (l *Leader) Fetched(c Cluster, q Fetch, logEnd int64, now time.Duration) (out Out, ok bool) {
	f := l.follower(q.Replica)
	if f == nil || q.BrokerEpoch >= 0 && q.BrokerEpoch < f.brokerEpoch {
		return Out{}, false
	}
	switch {
	case q.End.Offset >= logEnd:
		f.caughtUp, f.ever = now, true
	case q.End.Offset >= f.endBefore && f.end.Offset >= 0:
		f.caughtUp, f.ever = max(f.caughtUp, f.fetched), true
	}
	moved := q.End.Offset != f.end.Offset
	f.brokerEpoch, f.end, f.logStart = q.BrokerEpoch, q.End, q.LogStart
	f.fetched, f.endBefore = now, logEnd
	if p := l.expand(c, f, now); p != nil {
		out.Propose = p
	}
	if moved {
		a := l.advance(c, now)
		out.HighWatermark, out.Moved = a.HighWatermark, a.Moved
	}
	return out, true
}

// expand proposes to take a follower in, where that may be.
func (l *Leader) expand(c Cluster, f *follower, now time.Duration) *Proposal {
	if l.pending != nil || now < l.notBefore || slices.Contains(l.isr, f.id) || f.end.Offset < l.hw.Offset || f.end.Offset < l.epochStart || !l.eligible(c, f, now) {
		return nil
	}
	return l.propose(c, append(slices.Clone(l.isr), f.id), true)
}

// eligible says whether a follower could be in sync, were it not for its offset.
func (l *Leader) eligible(c Cluster, f *follower, now time.Duration) bool {
	epoch, ok := c.Broker(f.id)
	return ok && now >= f.outUntil && (f.brokerEpoch < 0 || f.brokerEpoch == epoch)
}

func (l *Leader) propose(c Cluster, isr []int32, expands bool) *Proposal {
	p := &Proposal{LeaderEpoch: l.epoch, PartitionEpoch: l.partEpoch, ISR: isr, expands: expands}
	for _, id := range isr {
		epoch := int64(-1)
		if id == l.self {
			epoch, _ = c.Broker(id)
		} else if f := l.follower(id); f != nil {
			epoch = f.brokerEpoch
		}
		p.BrokerEpochs = append(p.BrokerEpochs, epoch)
	}
	l.pending = p
	return p
}

// maximal says whether a follower is in sync, or about to be.
func (l *Leader) maximal(id int32) bool {
	return slices.Contains(l.isr, id) || l.pending != nil && l.pending.expands && slices.Contains(l.pending.ISR, id)
}

// advance moves the high watermark to what all of the maximal in-sync set have durably, and those too that have caught up and are
// about to be asked in. It stands while there are fewer in-sync replicas than min.insync.replicas (KIP-966).
func (l *Leader) advance(c Cluster, now time.Duration) Out {
	if len(l.isr) < l.minISR() {
		return Out{}
	}
	at := l.durable
	for i := range l.followers {
		f := &l.followers[i]
		if f.end.Offset < at.Offset && (l.maximal(f.id) || l.isCaughtUp(f, now) && l.eligible(c, f, now)) {
			at = f.end
		}
	}
	if at.Offset <= l.hw.Offset {
		return Out{}
	}
	l.hw = at
	return Out{HighWatermark: at, Moved: true}
}

func (l *Leader) isCaughtUp(f *follower, now time.Duration) bool {
	return f.ever && now-f.caughtUp <= l.set.LagMax
}

// Behind says whether an in-sync follower, or the leader's own disk, lacks something below end.
func (l *Leader) Behind(end int64) bool {
	if l.durable.Offset < end || l.hw.Offset < end {
		return true
	}
	for i := range l.followers {
		if f := &l.followers[i]; f.end.Offset < end && slices.Contains(l.isr, f.id) {
			return true
		}
	}
	return false
}

// LowWatermark is the lowest log start of the replicas whose brokers are alive: below it nobody has records. own is the leader's.
func (l *Leader) LowWatermark(c Cluster, own int64) int64 {
	for i := range l.followers {
		if _, alive := c.Broker(l.followers[i].id); alive {
			own = min(own, l.followers[i].logStart)
		}
	}
	return own
}

// Nearest is the in-sync follower that has the most of those that near picks and that can serve a reader at offset; -1 for none.
func (l *Leader) Nearest(offset int64, near func(id int32) bool) int32 {
	best, id := int64(-1), int32(-1)
	for i := range l.followers {
		f := &l.followers[i]
		if f.end.Offset > best && f.end.Offset >= offset && f.logStart <= offset && slices.Contains(l.isr, f.id) && near(f.id) {
			best, id = f.end.Offset, f.id
		}
	}
	return id
}
