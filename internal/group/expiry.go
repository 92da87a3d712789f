package group

import (
	"time"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/effect"
)

// Timers of the shard itself. A group's timers begin with a digit (effect.TimerKey).
const (
	timerExpire = "expire"
	timerLost   = "lost-topics"
)

// maxSweep bounds the records of one sweep; the rest follows at once in another operation, behind the requests that
// wait by then.
const maxSweep = 5000

// expire forgets offsets that are too old and groups that have nothing left.
func (s *Shard) expire(op *effect.Op) (more bool) {
	for _, g := range s.sorted() {
		if len(op.Records) >= maxSweep {
			return true
		}
		if g.Kind() == effect.Share {
			continue // it has no offsets here, and its place in its topics is worth keeping
		}
		if expired, left := s.expireGroup(op, g); !left && g.IsEmpty() {
			g.Tombstones(op)
			s.log.Info("group without members and offsets is removed", "group", g.ID(), "offsets_expired", expired)
		} else if expired > 0 {
			s.log.Info("offsets expired", "group", g.ID(), "offsets", expired)
		}
	}
	return false
}

// expireGroup says how many offsets it let expire and whether any is left. An offset that a transaction is about to
// replace stays.
func (s *Shard) expireGroup(op *effect.Op, g Group) (expired int, left bool) {
	rule := g.Retention()
	for _, k := range s.offsets.slots(g.ID()) {
		at, _ := s.offsets.get(k)
		if !rule.Expires || s.offsets.open[k] > 0 || !s.tooOld(op.NowMs(), rule, at) || rule.KeepSubscribed && g.Subscribed(k.topic) {
			left = true
			continue
		}
		op.Write(k.tombstone())
		expired++
		s.stats.Expired++
	}
	return expired, left
}

func (s *Shard) tooOld(nowMs int64, rule effect.Retention, at position) bool {
	if at.expireMs >= 0 {
		return nowMs >= at.expireMs
	}
	if s.cfg.OffsetsRetention <= 0 {
		return false
	}
	since := rule.SinceMs
	if since < 0 {
		since = at.commitMs
	}
	return nowMs-since >= s.cfg.OffsetsRetention.Milliseconds()
}

// dropLost forgets the offsets of topics that have been deleted, not those of a new topic of the same name.
func (s *Shard) dropLost(op *effect.Op) (more bool) {
	if len(s.lost) == 0 {
		return false
	}
	for _, g := range s.sorted() {
		if len(op.Records) >= maxSweep {
			return true
		}
		s.forgetShares(op, g)
		for _, k := range s.offsets.slots(g.ID()) {
			if at, _ := s.offsets.get(k); s.lost[topic{k.topic, at.topicID}] {
				op.Write(k.tombstone())
			}
		}
	}
	clear(s.lost)
	clear(s.lostIDs)
	return false
}

// sweep runs a timer of the shard.
func (s *Shard) sweep(op *effect.Op, key string) {
	switch key {
	case timerExpire:
		next := s.cfg.ExpiryInterval
		if s.expire(op) {
			next = time.Millisecond
		}
		arm(op, timerExpire, next)
	case timerLost:
		if s.dropLost(op) {
			arm(op, timerLost, time.Millisecond)
		}
	}
}

func arm(op *effect.Op, key string, after time.Duration) {
	op.Timers = append(op.Timers, coordinator.Timer{Key: key, After: max(after, 1)})
}
