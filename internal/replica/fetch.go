package replica

import (
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/replica/core"
	"github.com/ottla/ottla/internal/wire"
)

// FetchPartition is what one fetch asks of one partition.
type FetchPartition struct {
	TP                 log.TopicPartition
	TopicID            [16]byte
	FetchOffset        int64
	CurrentLeaderEpoch int32 // -1: no check
	LastFetchedEpoch   int32 // -1: no check for divergence (KIP-595)
	MaxBytes           int32
	LogStart           int64 // a follower's; -1 of others
	Err                error // decided before the read (unknown topic, not authorised); answered as it is
}

// FetchResult is one partition's answer. Slice must be released by whoever takes the result.
type FetchResult struct {
	Err            error
	HighWatermark  int64
	LastStable     int64
	LogStart       int64
	Slice          log.Slice
	Aborted        []log.AbortedTxn
	DivergingEpoch int32 // with DivergingEnd where the client's log left ours; -1 where it did not
	DivergingEnd   int64

	// PreferredReplica is a broker nearer to the reader, -1 for none; the reader goes there, so nothing was read (KIP-392).
	PreferredReplica int32

	start log.OffsetMeta // where the fetch offset lies, for the estimate of what has arrived since
}

// FetchParams are what holds for all partitions of a fetch.
type FetchParams struct {
	MinBytes, MaxBytes int32
	MaxWait            time.Duration
	ReadCommitted      bool
	// Follower says that a replica fetches in order to have what it fetches: it reads up to the log's end.
	Follower    bool
	Replica     int32
	BrokerEpoch int64 // of the replica; -1 where the request does not say
	// AnyReplica says that the reader takes an answer from a follower (Fetch from version 11 on).
	AnyReplica bool
	// Rack is where a reader stands; "" where it does not say.
	Rack string
}

// Fetch reads the partitions in order, at most MaxBytes in all but at least one batch of the first that has one (KIP-74),
// and calls done once: at once when MinBytes are there, nothing may be waited for or a partition has an error, else when
// they are or MaxWait has passed. done runs on the caller's goroutine in the first case, on one of the manager's else.
// parts is kept until done returns.
func (m *Manager) Fetch(p FetchParams, parts []FetchPartition, done func([]FetchResult)) {
	results, total, final := m.read(p, parts)
	if final || m.draining.Load() || p.MaxWait <= 0 || total >= int(p.MinBytes) || len(parts) == 0 && !p.Follower {
		done(results)
		return
	}
	d := &delayedFetch{m: m, params: p, parts: parts, start: make([]log.OffsetMeta, len(parts)), done: done}
	keys := make([]log.TopicPartition, len(parts))
	for i := range results {
		d.start[i] = results[i].start
		keys[i] = parts[i].TP
		results[i].Slice.Release()
	}
	if p.Follower {
		m.followers.park(d)
		m.copies.TryCompleteElseWatch(d, min(p.MaxWait, FetchTimeoutMax), keys...)
		return
	}
	m.fetches.TryCompleteElseWatch(d, min(p.MaxWait, FetchTimeoutMax), keys...)
}

// read reads once. final says that an error or a divergence makes waiting pointless.
func (m *Manager) read(p FetchParams, parts []FetchPartition) (results []FetchResult, total int, final bool) {
	results = make([]FetchResult, len(parts))
	left := int(p.MaxBytes)
	for i := range parts {
		r := &results[i]
		m.readOne(p, &parts[i], left, total == 0, r)
		n := r.Slice.Len()
		total += n
		left = max(left-n, 0)
		if r.Err != nil || r.DivergingEpoch >= 0 || r.PreferredReplica >= 0 {
			final = true
		}
	}
	return results, total, final
}

func (m *Manager) readOne(p FetchParams, f *FetchPartition, left int, minOne bool, r *FetchResult) {
	r.HighWatermark, r.LastStable, r.LogStart, r.DivergingEpoch, r.PreferredReplica = -1, -1, -1, -1, -1
	if f.Err != nil {
		r.Err = f.Err
		return
	}
	part, l, err := m.reads(p, f)
	if err != nil {
		r.Err = err
		return
	}
	hw, lso := l.HighWatermark(), l.LastStable()
	r.HighWatermark, r.LastStable, r.LogStart = hw.Offset, lso.Offset, l.LogStartOffset()
	if f.LastFetchedEpoch >= 0 {
		epoch, end := l.EpochEnd(f.LastFetchedEpoch, l.LogEnd())
		if epoch < 0 || end < 0 {
			r.Err = wire.Errorf(kerr.OffsetOutOfRange, "%s-%d: no epoch at or below %d is known", f.TP.Topic, f.TP.Partition, f.LastFetchedEpoch)
			return
		}
		if epoch < f.LastFetchedEpoch || end < f.FetchOffset {
			r.DivergingEpoch, r.DivergingEnd = epoch, end
			return
		}
	}
	switch {
	case p.Follower:
		m.readFollower(p, f, part, l, left, minOne, r)
	case p.Rack != "" && part.Leads():
		if r.PreferredReplica = part.nearest(p.Rack, f.FetchOffset); r.PreferredReplica < 0 {
			readCommitted(p, f, l, hw, lso, left, minOne, r)
		}
	default:
		readCommitted(p, f, l, hw, lso, left, minOne, r)
	}
	if !p.Follower && part.Leads() && errors.Is(r.Err, kerr.OffsetOutOfRange) {
		if err := part.CaughtUp(); err != nil { // a reader must not be told of an end that is not the end
			r.Err = err
		}
	}
}

// reads finds what a fetch may read from: the leader's log, or for a reader who does not insist that of an in-sync follower (KIP-392).
func (m *Manager) reads(p FetchParams, f *FetchPartition) (*Partition, *log.Log, error) {
	part, err := m.Replica(f.TP)
	if err != nil {
		return nil, nil, err
	}
	if !part.Leads() && (!p.AnyReplica || !part.servesReaders()) {
		return nil, nil, part.notLeader()
	}
	if err := part.CheckEpoch(f.CurrentLeaderEpoch); err != nil {
		return nil, nil, err
	}
	if err := part.Closed(); err != nil {
		return nil, nil, err
	}
	l, err := part.Log()
	return part, l, err
}

// readCommitted is a reader's read: up to the high watermark, or the last stable offset.
func readCommitted(p FetchParams, f *FetchPartition, l *log.Log, hw, lso log.OffsetMeta, left int, minOne bool, r *FetchResult) {
	bound := hw
	if p.ReadCommitted {
		bound = lso
	}
	if bound.SegmentBase < 0 {
		var err error
		if bound, err = l.Position(bound.Offset); err != nil {
			r.Err = err
			return
		}
	}
	from, err := l.Visible(f.FetchOffset, bound)
	if err != nil {
		r.Err = err
		return
	}
	limit := min(left, int(f.MaxBytes))
	s, err := l.Read(from, limit, bound, minOne)
	if err != nil {
		r.Err = err
		return
	}
	r.Slice = s
	r.start = bound
	if s.Len() > 0 {
		r.start = log.OffsetMeta{Offset: from, SegmentBase: s.SegmentBase(), Position: s.Position()}
	}
	if p.ReadCommitted && s.Len() > 0 {
		r.Aborted = l.AbortedTxns(f.FetchOffset, bound.Offset)
	}
}

// readFollower is a follower's: up to the end of the log, before this broker's own disk has it (rule R3), and its offset is what the
// follower's disk has.
func (m *Manager) readFollower(p FetchParams, f *FetchPartition, part *Partition, l *log.Log, left int, minOne bool, r *FetchResult) {
	end := l.LogEnd()
	limit, held := m.sends(part, p.Replica, min(left, int(f.MaxBytes)))
	s, err := l.Read(f.FetchOffset, limit, end, minOne && (!held || limit > 0))
	if err != nil {
		r.Err = err
		return
	}
	at := end
	if s.Len() > 0 {
		at = log.OffsetMeta{Offset: f.FetchOffset, SegmentBase: s.SegmentBase(), Position: s.Position()}
	} else if f.FetchOffset < end.Offset {
		if at, err = l.Position(f.FetchOffset); err != nil {
			r.Err = err
			return
		}
	}
	if !part.fetched(l, core.Fetch{Replica: p.Replica, BrokerEpoch: p.BrokerEpoch, End: core.End(at), LogStart: f.LogStart}) {
		s.Release()
		r.Err = wire.Errorf(kerr.NotLeaderForPartition, "broker %d has no copy of %s-%d, as far as broker %d knows", p.Replica, f.TP.Topic, f.TP.Partition, m.node)
		return
	}
	r.Slice, r.start = s, end
	if s.Len() > 0 {
		r.start = at
		if held {
			m.throttle.out.take(s.Len())
		}
	}
	r.HighWatermark = l.HighWatermark().Offset
}

// delayedFetch waits in the purgatory under each of its partitions.
type delayedFetch struct {
	m      *Manager
	params FetchParams
	parts  []FetchPartition
	start  []log.OffsetMeta
	done   func([]FetchResult)
	fired  atomic.Bool
	tries  atomic.Int32
}

// TryComplete answers when enough has arrived, or something happened to a partition that the client must hear of. It only
// compares positions; the read itself runs on its own goroutine, because this is called from the commit thread.
func (d *delayedFetch) TryComplete() bool {
	if d.fired.Load() {
		return true
	}
	if d.params.Follower && d.params.MinBytes <= 1 && d.tries.Add(1) > 2 {
		d.finish() // after those around its parking, a try means that one of its partitions has got something
		return true
	}
	arrived := 0
	if d.m.draining.Load() {
		arrived = math.MaxInt
	}
	for i := range d.parts {
		n := d.arrived(i)
		if n == math.MaxInt {
			arrived = n
			break
		}
		if arrived < math.MaxInt {
			arrived += min(n, int(d.parts[i].MaxBytes))
		}
	}
	if arrived < int(d.params.MinBytes) {
		return false
	}
	d.finish()
	return true
}

// arrived is how many bytes the partition has gained since the fetch was parked; MaxInt where the fetch must end now.
func (d *delayedFetch) arrived(i int) int {
	f := &d.parts[i]
	part, err := d.m.Replica(f.TP)
	if err != nil || part.Closed() != nil || part.CheckEpoch(f.CurrentLeaderEpoch) != nil {
		return math.MaxInt
	}
	if !part.Leads() && (!d.params.AnyReplica || !part.servesReaders()) {
		return math.MaxInt
	}
	l := part.opened.Load()
	if l == nil {
		return 0
	}
	bound := l.HighWatermark()
	switch {
	case d.params.Follower:
		bound = l.LogEnd()
	case d.params.ReadCommitted:
		bound = l.LastStable()
	}
	start := d.start[i]
	switch {
	case f.FetchOffset < l.LogStartOffset():
		return math.MaxInt
	case bound.Offset <= start.Offset:
		return 0
	case bound.SegmentBase < 0:
		return int(bound.Offset - start.Offset) // a follower's, whose place nobody has looked for: at least a byte a record
	case bound.SegmentBase != start.SegmentBase:
		return math.MaxInt
	default:
		return int(bound.Position - start.Position)
	}
}

// Expire answers with what there is.
func (d *delayedFetch) Expire() { d.finish() }

func (d *delayedFetch) finish() {
	if !d.fired.CompareAndSwap(false, true) {
		return
	}
	if d.params.Follower {
		d.m.followers.leave(d)
	}
	d.m.running.Add(1)
	go func() {
		defer d.m.running.Done()
		results, _, _ := d.m.read(d.params, d.parts)
		d.done(results)
	}()
}
