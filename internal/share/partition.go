package share

import (
	"fmt"
	"math"
	"slices"
)

// Settings are what a group's configs say about one share-partition. They may change at any time (SetSettings).
type Settings struct {
	MaxLocks      int   // records between the start and the end of what is in flight
	DeliveryLimit int16 // deliveries after which a record that comes back is archived
	LockMs        int64 // length of a lease
	Renew         bool  // members may lengthen a lease
	// RedeliveryMs keeps a record that came back from being delivered again, doubled with every further delivery up to
	// RedeliveryMaxMs; 0 delivers it at once.
	RedeliveryMs, RedeliveryMaxMs int64
	// KeyOrder leases a record only when no earlier record of its key is undecided.
	KeyOrder bool
	// DeadLetters sends records that are rejected or were delivered too often through the state Archiving.
	DeadLetters bool
}

// Cause says why a record goes to the dead-letter topic.
type Cause int8

// The causes of KIP-1191.
const (
	NoCause Cause = iota
	RejectedByClient
	DeliveredTooOften
)

// String is what the dead letter's header says.
func (c Cause) String() string {
	switch c {
	case RejectedByClient:
		return "Offset rejected by client."
	case DeliveredTooOften:
		return "Offset delivery count exceeded the threshold."
	default:
		return ""
	}
}

// run is a range of offsets that share everything that is known of them.
type run struct {
	first, last int64
	state       DeliveryState
	count       int16
	cause       Cause
	keyed       bool   // key is known; only under KeyOrder, where undecided runs then are one record long
	null        bool   // the key is null: in nobody's way
	dirty       bool   // a lease ran out and the coordinator has not been told
	gen         uint32 // the write that this change waits for; 0: none
	key         uint64
	holder      string // the member, while Acquired
	until       int64  // Acquired: when the lease ends. Available: not before
	was         before // what a failed write goes back to
}

// before is a run before a change.
type before struct {
	state  DeliveryState
	holder string
	until  int64
}

// settled says that no write is awaited.
func (r *run) settled() bool { return r.gen == 0 }

// over says that the run is decided for good.
func (r *run) over() bool { return r.state.Terminal() && r.settled() }

// Partition is one share-partition. It is not safe for concurrent use. Times are milliseconds of one clock.
type Partition struct {
	s     Settings
	start int64 // first offset that is not decided
	end   int64 // one past the last offset in flight
	runs  []run // in offset order, gapless over [start, end)

	gen       uint32 // the write that gathers changes now
	changed   bool   // there is something to write
	writing   uint32 // the write under way, 0 for none
	persisted int64  // the start that the coordinator knows
	letters   []DeadLetter
}

// New makes a share-partition of what the coordinator kept. start is where it begins; a persisted start of -1 has been
// replaced by what share.auto.offset.reset says, and is written with the next write. An error says what is wrong with the state.
func New(state PersistedState, start int64, s Settings) (*Partition, error) {
	p := &Partition{s: s, start: start, end: start, gen: 1, persisted: state.StartOffset}
	p.changed = start != state.StartOffset
	for _, b := range state.Batches {
		if b.LastOffset < b.FirstOffset || b.FirstOffset < p.end {
			return nil, fmt.Errorf("state batch %d-%d is out of order after offset %d", b.FirstOffset, b.LastOffset, p.end)
		}
		if b.FirstOffset > p.end { // leased or never given when the broker stopped
			p.runs = append(p.runs, run{first: p.end, last: b.FirstOffset - 1, state: Available})
		}
		r := run{first: b.FirstOffset, last: b.LastOffset, state: b.DeliveryState, count: b.DeliveryCount}
		switch r.state {
		case Acquired:
			r.state = Available
		case Available, Acknowledged, Archived:
		case Archiving:
			if !s.DeadLetters {
				r.state = Archived
				break
			}
			r.cause = DeliveredTooOften
			if r.count < s.DeliveryLimit {
				r.cause = RejectedByClient
			}
			p.letters = append(p.letters, DeadLetter{First: r.first, Last: r.last, Count: r.count, Cause: r.cause})
		default:
			return nil, fmt.Errorf("state batch %d-%d has the unknown state %d", b.FirstOffset, b.LastOffset, b.DeliveryState)
		}
		p.runs = append(p.runs, r)
		p.end = b.LastOffset + 1
	}
	p.tidy()
	return p, nil
}

// SetSettings takes new settings over for what happens from now on.
func (p *Partition) SetSettings(s Settings) { p.s = s }

// Settings are the settings in force.
func (p *Partition) Settings() Settings { return p.s }

// Start is the first offset that is not decided (SPSO).
func (p *Partition) Start() int64 { return p.start }

// End is one past the last offset that is or was in flight (SPEO + 1).
func (p *Partition) End() int64 { return p.end }

// InFlight is the number of offsets between start and end.
func (p *Partition) InFlight() int { return int(p.end - p.start) }

// room is how many more offsets may come in flight.
func (p *Partition) room() int64 { return max(int64(p.s.MaxLocks)-(p.end-p.start), 0) }

// find is the index of the run that holds offset, or where it would stand.
func (p *Partition) find(offset int64) int {
	i, _ := slices.BinarySearchFunc(p.runs, offset, func(r run, o int64) int {
		if r.last < o {
			return -1
		}
		if r.first > o {
			return 1
		}
		return 0
	})
	return i
}

// split makes sure that a run begins at offset, if any run holds it, and returns the index of that run.
func (p *Partition) split(offset int64) int {
	i := p.find(offset)
	if i == len(p.runs) || p.runs[i].first >= offset {
		return i
	}
	rest := p.runs[i]
	rest.first = offset
	p.runs[i].last = offset - 1
	p.runs = slices.Insert(p.runs, i+1, rest)
	return i + 1
}

// isolate makes runs of exactly [first, last] and returns their indexes, the second one past the end.
func (p *Partition) isolate(first, last int64) (from, to int) {
	p.split(last + 1)
	from = p.split(first)
	to = from
	for to < len(p.runs) && p.runs[to].last <= last {
		to++
	}
	return from, to
}

// tidy joins neighbours that are alike and moves the start over what is decided.
func (p *Partition) tidy() {
	for i := range p.runs {
		if r := &p.runs[i]; r.over() {
			*r = run{first: r.first, last: r.last, state: r.state, count: r.count, dirty: r.dirty}
		}
	}
	n := 0
	for i := range p.runs {
		if n > 0 && alike(&p.runs[n-1], &p.runs[i]) {
			p.runs[n-1].last = p.runs[i].last
			continue
		}
		if n != i {
			p.runs[n] = p.runs[i]
		}
		n++
	}
	clear(p.runs[n:])
	p.runs = p.runs[:n]
	drop := 0
	for drop < len(p.runs) && p.runs[drop].over() && !p.runs[drop].dirty {
		p.start = p.runs[drop].last + 1
		drop++
	}
	if drop > 0 {
		p.runs = slices.Delete(p.runs, 0, drop)
	}
}

func alike(a, b *run) bool {
	return a.state == b.state && a.count == b.count && a.gen == b.gen && a.holder == b.holder && a.until == b.until &&
		a.cause == b.cause && a.dirty == b.dirty && !a.keyed && !b.keyed && a.was == b.was
}

// Next gives the offset to read from for somebody who may take max records now: the first that is available, else the end.
// upTo is the last offset that is of use to him. ok is false where nothing may be leased now.
func (p *Partition) Next(now int64, max int) (from, upTo int64, ok bool) {
	if p.s.KeyOrder {
		return p.nextByKey(now)
	}
	left := int64(max)
	from = -1
	for i := range p.runs {
		r := &p.runs[i]
		if !p.free(r, now) {
			continue
		}
		if from < 0 {
			from = r.first
		}
		if n := r.last - r.first + 1; n < left {
			left -= n
			continue
		}
		return from, r.first + left - 1, true
	}
	room := p.room()
	if from < 0 {
		from = p.end
		if room == 0 {
			return 0, 0, false
		}
	}
	if room == 0 {
		return from, p.end - 1, true
	}
	return from, p.end + min(left, room) - 1, true
}

// free says that a run may be leased now.
func (p *Partition) free(r *run, now int64) bool {
	return r.state == Available && r.settled() && r.until <= now
}

// Wake is the next time at which something happens by itself: a lease ends or a record may be delivered again. ok is false
// where nothing will.
func (p *Partition) Wake() (at int64, ok bool) {
	at = math.MaxInt64
	for i := range p.runs {
		r := &p.runs[i]
		if r.settled() && (r.state == Acquired || r.state == Available && r.until > 0) {
			at = min(at, r.until)
		}
	}
	return at, at != math.MaxInt64
}

// MoveStart forgets everything below the log's start: those records are gone.
func (p *Partition) MoveStart(logStart int64) {
	if logStart <= p.start {
		return
	}
	p.changed = true
	if logStart >= p.end {
		p.runs, p.start, p.end = nil, logStart, logStart
		return
	}
	p.runs = slices.Delete(p.runs, 0, p.split(logStart))
	p.start = logStart
	p.tidy()
}
