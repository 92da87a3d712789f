package share

import (
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/wire"
)

// AckType is what a member says of a record it was given; the numbers are the protocol's.
type AckType int8

// The acknowledgements of KIP-932 and KIP-1222.
const (
	Gap     AckType = 0 // there was no record at that offset
	Accept  AckType = 1
	Release AckType = 2 // somebody else may have it
	Reject  AckType = 3 // nobody can use it
	Renew   AckType = 4 // I need more time
)

// Ack is a range of offsets with one type for all, or one for each.
type Ack struct {
	First, Last int64
	Types       []AckType
}

func (a *Ack) typeAt(offset int64) AckType {
	if len(a.Types) == 1 {
		return a.Types[0]
	}
	return a.Types[offset-a.First]
}

// pieces calls fn with every range of one type.
func (a *Ack) pieces(fn func(first, last int64, t AckType) error) error {
	first := a.First
	for first <= a.Last {
		t, last := a.typeAt(first), first
		if len(a.Types) == 1 {
			last = a.Last
		}
		for last < a.Last && a.typeAt(last+1) == t {
			last++
		}
		if err := fn(first, last, t); err != nil {
			return err
		}
		first = last + 1
	}
	return nil
}

// Acknowledge takes a member's acknowledgements, all or none. What changes is decided once the write that Gathering names is
// done. Errors: INVALID_RECORD_STATE, the member does not hold the lease, any more or at all; INVALID_REQUEST, nobody has ever had such an offset.
func (p *Partition) Acknowledge(member string, acks []Ack, now int64) error {
	for i := range acks {
		if err := acks[i].pieces(func(first, last int64, t AckType) error { return p.mayAcknowledge(member, first, last, t) }); err != nil {
			return err
		}
	}
	for i := range acks {
		_ = acks[i].pieces(func(first, last int64, t AckType) error {
			p.acknowledge(max(first, p.start), last, t, now)
			return nil
		})
	}
	p.tidy()
	return nil
}

func (p *Partition) mayAcknowledge(member string, first, last int64, t AckType) error {
	if last < p.start {
		return nil // decided long ago
	}
	switch {
	case p.end == p.start || first >= p.end:
		return wire.Errorf(kerr.InvalidRequest, "Batch record not found. The first offset in request is past acquired records.")
	case last >= p.end:
		return wire.Errorf(kerr.InvalidRequest, "Batch record not found. The last offset in request is past acquired records.")
	case t == Renew && !p.s.Renew:
		return wire.Errorf(kerr.InvalidRecordState, "Renewing acquisition locks is not enabled for the group.")
	}
	for i := p.find(max(first, p.start)); i < len(p.runs) && p.runs[i].first <= last; i++ {
		r := &p.runs[i]
		switch {
		case t == Gap && r.state == Archived && r.settled():
		case !r.settled():
			return wire.Errorf(kerr.InvalidRecordState, "The record state is invalid. The acknowledgement of delivery could not be completed.")
		case r.state != Acquired:
			return wire.Errorf(kerr.InvalidRecordState, "The batch cannot be acknowledged. The batch is not in the acquired state.")
		case r.holder != member:
			return wire.Errorf(kerr.InvalidRecordState, "Member is not the owner of batch record")
		}
	}
	return nil
}

// acknowledge applies one piece that was found right.
func (p *Partition) acknowledge(first, last int64, t AckType, now int64) {
	if first > last {
		return
	}
	from, to := p.isolate(first, last)
	for i := from; i < to; i++ {
		r := &p.runs[i]
		if r.state != Acquired {
			continue // a gap that was known
		}
		switch t {
		case Accept:
			p.change(r, Acknowledged, now)
		case Release:
			p.giveBack(r, now)
		case Reject:
			r.cause = RejectedByClient
			p.change(r, p.grave(), now)
		case Renew:
			r.until = now + p.s.LockMs
		default:
			p.change(r, Archived, now)
		}
	}
}

// grave is where records go that nobody will get again.
func (p *Partition) grave() DeliveryState {
	if p.s.DeadLetters {
		return Archiving
	}
	return Archived
}

// giveBack makes a leased run available again, unless it was delivered too often.
func (p *Partition) giveBack(r *run, now int64) {
	if r.count >= p.s.DeliveryLimit {
		r.cause = DeliveredTooOften
		p.change(r, p.grave(), now)
		return
	}
	p.change(r, Available, now)
}

// change puts a run into a state, to be written; it counts from the write's end on.
func (p *Partition) change(r *run, to DeliveryState, now int64) {
	r.was = before{state: r.state, holder: r.holder, until: r.until}
	r.state, r.holder, r.until = to, "", 0
	if to == Available {
		r.until = p.notBefore(r.count, now)
	}
	r.gen, r.dirty, p.changed = p.gen, false, true
}

// notBefore is when a record that was delivered count times may be delivered again; 0 is at once.
func (p *Partition) notBefore(count int16, now int64) int64 {
	if p.s.RedeliveryMs <= 0 {
		return 0
	}
	delay := p.s.RedeliveryMs
	for n := int16(1); n < count && delay < p.s.RedeliveryMaxMs; n++ {
		delay *= 2
	}
	return now + min(delay, max(p.s.RedeliveryMaxMs, p.s.RedeliveryMs))
}

// ReleaseMember gives back all that a member holds: it left, or closed its session. It tells how many records.
func (p *Partition) ReleaseMember(member string, now int64) (n int64) {
	for i := range p.runs {
		if r := &p.runs[i]; r.state == Acquired && r.settled() && r.holder == member {
			n += p.lose(r, now)
		}
	}
	if n > 0 {
		p.tidy()
	}
	return n
}

// Expire gives back what was leased until now or earlier. It tells how many records.
func (p *Partition) Expire(now int64) (n int64) {
	for i := range p.runs {
		r := &p.runs[i]
		switch {
		case !r.settled() || r.until > now:
		case r.state == Available:
			r.until = 0
		case r.state == Acquired:
			n += p.lose(r, now)
		}
	}
	p.tidy()
	return n
}

// lose gives a run back that its holder has lost. That counts at once, though its write may fail: nobody waits for its answer, and the
// lease is over all the same.
func (p *Partition) lose(r *run, now int64) int64 {
	p.giveBack(r, now)
	if r.state == Available {
		r.gen, r.dirty = 0, true
	}
	r.was = before{}
	return r.last - r.first + 1
}
