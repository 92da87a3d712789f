package core

import (
	"slices"
	"time"
)

// Tick looks at the time. It proposes to leave those out who have not caught up for LagMax, and, where mayShed, those who hold up what the
// others have (see Slow). logEnd is the end of the leader's log.
func (l *Leader) Tick(c Cluster, logEnd int64, mayShed bool, now time.Duration) Out {
	out := l.advance(c, now) // somebody nobody waits for any longer may have held it
	if l.pending != nil {
		return out
	}
	rest := make([]int32, 0, len(l.isr))
	for _, id := range l.isr {
		f := l.follower(id)
		if id == l.self || f != nil && (f.end.Offset == logEnd || l.isCaughtUp(f, now)) {
			rest = append(rest, id)
		}
	}
	if mayShed {
		for _, id := range l.Slow(now) {
			if i := slices.Index(rest, id); i >= 0 && len(rest)-1 >= max(2, l.minISR()) {
				rest = slices.Delete(rest, i, i+1)
				l.follower(id).punish(now)
			}
		}
	}
	if len(rest) < len(l.isr) {
		out.Propose = l.propose(c, rest, false)
		return out
	}
	if p := l.expandAny(c, logEnd, now); p != nil {
		out.Propose = p
	}
	return out
}

// expandAny takes in one whose fetch came while another proposal was under way, or while it was not eligible.
func (l *Leader) expandAny(c Cluster, logEnd int64, now time.Duration) *Proposal {
	for i := range l.followers {
		if f := &l.followers[i]; f.end.Offset == logEnd || l.isCaughtUp(f, now) {
			if p := l.expand(c, f, now); p != nil {
				return p
			}
		}
	}
	return nil
}

// refusedPause is how long no follower is proposed after the controller refused one: it knows something that this broker will learn soon.
const refusedPause = 200 * time.Millisecond

func (f *follower) punish(now time.Duration) {
	if !f.lastPenalty || now > f.pardonedAt {
		f.penalty = penaltyMin
	} else {
		f.penalty = min(2*f.penalty, penaltyMax)
	}
	f.lastPenalty, f.holds = true, false
	f.outUntil = now + f.penalty
	f.pardonedAt = f.outUntil + goodFor
}

// Observe notes who holds the high watermark up; it is called from time to time, several times within ShedAfter.
func (l *Leader) Observe(now time.Duration) {
	for i := range l.followers {
		f := &l.followers[i]
		without := l.without(f)
		switch {
		case !slices.Contains(l.isr, f.id) || without <= f.end.Offset:
			f.holds = false
		case !f.holds || f.end.Offset >= f.heldAt:
			f.holds, f.heldAt, f.heldSince = true, without, now
		}
	}
}

// without is where the high watermark could stand but for one follower.
func (l *Leader) without(but *follower) int64 {
	at := l.durable.Offset
	for i := range l.followers {
		if f := &l.followers[i]; f != but && slices.Contains(l.isr, f.id) {
			at = min(at, f.end.Offset)
		}
	}
	return at
}

// Slow lists the in-sync followers that have lacked something for ShedAfter which all others have. Where many partitions of one leader
// have slow followers, it is rather the leader that is slow, and shedding them would help nobody.
func (l *Leader) Slow(now time.Duration) []int32 {
	if l.set.ShedAfter <= 0 {
		return nil
	}
	var out []int32
	for i := range l.followers {
		if f := &l.followers[i]; f.holds && f.end.Offset < f.heldAt && now-f.heldSince > l.set.ShedAfter {
			out = append(out, f.id)
		}
	}
	return out
}

// Replied takes the controller's answer to p over. isr, leaderEpoch and partitionEpoch come with Accepted. Where again is true p is to be
// sent once more.
func (l *Leader) Replied(c Cluster, p *Proposal, a Answer, isr []int32, leaderEpoch, partitionEpoch int32, now time.Duration) (out Out, again bool) {
	if l.pending != p {
		return Out{}, false // the metadata has decided meanwhile
	}
	switch a {
	case Unanswered:
		return Out{}, true
	case Refused:
		l.pending, l.notBefore = nil, now+refusedPause
	case Outdated:
		return Out{}, false // still pending: the maximal set holds until the metadata comes
	case Accepted:
		if leaderEpoch != l.epoch || partitionEpoch < l.partEpoch {
			return Out{}, false
		}
		l.pending, l.isr, l.partEpoch = nil, isr, partitionEpoch
		return l.advance(c, now), false
	}
	return Out{}, false
}
