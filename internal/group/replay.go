package group

import (
	"time"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/classic"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Replay applies one record: from the log while the shard is loading, after an operation of its own when it is live.
// producerID is -1 for a record outside of a transaction. Records of a type that this release does not handle are
// passed over, so that a topic written by a newer one still loads.
func (s *Shard) Replay(offset int64, producerID int64, producerEpoch int16, rec coordinator.Record) error {
	switch k := rec.Key.(type) {
	case *schema.OffsetCommitKey:
		v, _ := rec.Value.(*schema.OffsetCommitValue)
		s.replayOffset(offset, producerID, slot{k.Group, k.Topic, k.Partition}, v)
	case *schema.LegacyOffsetCommitKey: // Kafka before 0.9
		var v *schema.OffsetCommitValue
		if old, ok := rec.Value.(*schema.LegacyOffsetCommitValue); ok {
			v = &schema.OffsetCommitValue{Offset: old.Offset, LeaderEpoch: -1, Metadata: old.Metadata, CommitTimestamp: old.CommitTimestamp, ExpireTimestamp: -1}
		}
		s.replayOffset(offset, producerID, slot{k.Group, k.Topic, k.Partition}, v)
	case *schema.GroupMetadataKey:
		v, _ := rec.Value.(*schema.GroupMetadataValue)
		s.replayClassic(k.Group, v)
	default:
		if !s.replayConsumer(rec) && !s.replayStreams(rec) && !s.replayShare(rec) {
			s.skipped++
		}
	}
	return nil
}

// kind is a kind of group whose records say all that is to be known of it.
type kind interface {
	comparable
	Group
	Replay(key, value schema.Message) (gone bool)
}

// replayKind replays a record of a group of kind G. newborn is the group that an operation has made before its first record; one that is
// there as a simple one, for its offsets came first, is of kind G from here on.
func replayKind[G kind](s *Shard, id string, rec coordinator.Record, newborn *G, make func() G) {
	var none G
	g, ok := s.find(id).(G)
	if !ok {
		if rec.Value == nil {
			return
		}
		g = *newborn
		if g == none || g.ID() != id {
			g = make()
		}
		*newborn = none
		s.put(g)
	}
	if g.Replay(rec.Key, rec.Value) {
		s.remove(id, 0)
	}
}

// replayOffset sets an offset, keeps it until its transaction is decided, or forgets it. A group that commits without
// membership exists from its first commit on.
func (s *Shard) replayOffset(logged, producerID int64, k slot, v *schema.OffsetCommitValue) {
	if v == nil {
		s.offsets.remove(k)
		return
	}
	if s.find(k.group) == nil {
		s.put(classic.New(s.classic, k.group, v.CommitTimestamp))
	}
	p := position{
		offset: v.Offset, epoch: v.LeaderEpoch, metadata: v.Metadata, commitMs: v.CommitTimestamp, expireMs: v.ExpireTimestamp,
		logged: logged, topicID: v.TopicID,
	}
	if producerID >= 0 {
		s.offsets.pend(producerID, k, p)
		return
	}
	s.offsets.put(k, p)
}

// replayClassic makes the group that a record describes, or ends it. The record of a live group says what the
// operation that wrote it has done already.
func (s *Shard) replayClassic(id string, v *schema.GroupMetadataValue) {
	switch g := s.find(id).(type) {
	case *classic.Group:
		switch {
		case v == nil:
			s.remove(id, g.Since())
		case !s.live:
			s.put(classic.Load(s.classic, id, v))
		}
	default:
		if v != nil {
			s.put(classic.Load(s.classic, id, v))
		}
	}
}

// ReplayEndTxn decides a producer's transaction: its offsets become those of their groups, or are forgotten.
func (s *Shard) ReplayEndTxn(producerID int64, _ int16, commit bool) error {
	s.offsets.end(producerID, commit)
	return nil
}

// OnLoaded begins the life of a shard that has replayed its log.
func (s *Shard) OnLoaded(now time.Time, img *metadata.Image) []coordinator.Timer {
	s.live = true
	s.consumer.Image, s.streams.Image, s.share.Image = img, img, img
	op := &effect.Op{Now: now}
	for _, g := range s.sorted() {
		g.Start(op)
	}
	arm(op, timerExpire, s.cfg.ExpiryInterval)
	if s.skipped > 0 {
		s.log.Warn("records of unknown types were passed over: they belong to a newer release or to a kind of group this one does not have", "records", s.skipped)
	}
	return op.Timers
}

// OnImage is told of the cluster's changes. The offsets of deleted topics go, in an operation of their own.
func (s *Shard) OnImage(now time.Time, img *metadata.Image, delta *metadata.Delta) []coordinator.Timer {
	s.tellConsumers(img, delta)
	s.tellStreams(img, delta)
	s.tellShares(img)
	if delta == nil {
		return nil
	}
	for _, c := range delta.Topics() {
		if c.New == nil {
			s.lost[topic{c.Old.Name, c.Old.ID}] = true
			s.lost[topic{name: c.Old.Name}] = true
			s.lostIDs[c.Old.ID] = true
		}
	}
	op := &effect.Op{Now: now}
	if len(s.lost) > 0 {
		arm(op, timerLost, time.Millisecond)
	}
	return op.Timers
}

// OnTimer runs what a timer was set for. A timer whose group is gone does nothing.
func (s *Shard) OnTimer(now time.Time, key string) (coordinator.Result[any], error) {
	op := &effect.Op{Now: now}
	id, name, ok := effect.ParseTimerKey(key)
	if !ok {
		s.sweep(op, key)
	} else if g := s.find(id); g != nil {
		g.OnTimer(op, name)
	}
	r := result[any](op, nil)
	r.NonAtomic = !ok // tombstones do not depend on each other
	return r, nil
}

// OnUnloaded ends the shard's life; the frame answers the requests that wait.
func (s *Shard) OnUnloaded() { s.live = false }
