package log

import (
	"errors"
	"os"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/wire"
)

// role says who may append. A log that nobody gave a role takes whatever comes.
type role struct {
	epoch  int32
	leads  bool
	exists bool
}

// admits says whether an append of the given epoch may go on. REQUIRES: mu.
func (l *Log) admits(epoch int32, leads bool) error {
	if r := l.role; r.exists && (r.leads != leads || r.epoch != epoch) {
		return wire.Errorf(kerr.NotLeaderForPartition, "%s is in leader epoch %d now, the append is of %d", l.tp, r.epoch, epoch)
	}
	return nil
}

// Lead lets appends of a leader in the given epoch in, and no others, from now on. It gives the log's end at that moment, where the
// epoch begins. An append under way ends first.
func (l *Log) Lead(epoch int32) (start OffsetMeta) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.role.exists || !l.role.leads || l.role.epoch != epoch {
		l.role = role{epoch: epoch, leads: true, exists: true}
		if l.epochs.latest() < epoch && !l.cfg.Load().Restoring { // the batches of a restore bring older ones
			l.epochs.assign(epoch, l.end.Offset)
		}
	}
	return l.end
}

// Follow lets what a leader of the given epoch sends in, and nothing else, from now on.
func (l *Log) Follow(epoch int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.role = role{epoch: epoch, exists: true}
	l.epochs.truncateEnd(l.end.Offset) // of an epoch that this broker led without a record nobody else knows
}

// TruncateAsFollower is TruncateTo, unless the log has another role by now.
func (l *Log) TruncateAsFollower(offset int64, epoch int32) error {
	return l.truncateTo(offset, func() error { return l.admits(epoch, false) })
}

// EmptyAsFollower is TruncateFully, unless the log has another role by now.
func (l *Log) EmptyAsFollower(start int64, epoch int32) error {
	return l.truncateFully(start, func() error { return l.admits(epoch, false) })
}

// anybody may: a truncation without a role.
func anybody() error { return nil }

// CheckpointedHighWatermark is what the checkpoint file said when the log was opened, at most its end; 0 where it said nothing.
func (l *Log) CheckpointedHighWatermark() int64 { return l.checkpointed }

// BeginHighWatermark sets the high watermark as a new role finds it: unlike SetHighWatermark it may lower what opening assumed.
func (l *Log) BeginHighWatermark(at OffsetMeta) {
	l.posMu.Lock()
	l.hw = at
	l.decided = append(l.decided, l.decidedAtOpen...)
	l.decidedAtOpen = nil
	l.posMu.Unlock()
	l.SetHighWatermark(at)
}

// SetFollowerHighWatermark is SetHighWatermark where only the offset is known: HighWatermark gives Nowhere as its place then. A follower
// learns a high watermark for every few records, and seldom reads up to it.
func (l *Log) SetFollowerHighWatermark(offset int64) {
	l.SetHighWatermark(OffsetMeta{Offset: offset, SegmentBase: Nowhere, Position: Nowhere})
}

// Nowhere is the place of an offset that was not looked for; Position looks.
const Nowhere = -1

// RaiseStart moves the log start up to what the leader says, durably; records below go. Unlike DeleteRecords it may pass
// the high watermark that this replica knows.
func (l *Log) RaiseStart(to int64) error {
	if to > l.LogEnd().Offset || !l.raiseStart(to) {
		return nil
	}
	if err := l.m.writeStarts(l.dir.Load()); noSpace(err) {
		return nil // tried again with the next retention
	} else if err != nil {
		return l.fail(err)
	}
	l.dropBelowStart()
	return nil
}

// Position is where an offset between the log's start and end lies: of its batch, or of the next one where compaction has left none.
func (l *Log) Position(offset int64) (OffsetMeta, error) {
	for tries := 0; ; tries++ {
		l.posMu.Lock()
		start, end, hw, durable := l.start, l.published, l.hw, l.durable
		l.posMu.Unlock()
		switch {
		case offset == end.Offset:
			return end, nil
		case offset == durable.Offset:
			return durable, nil
		case offset == hw.Offset && hw.SegmentBase >= 0:
			return hw, nil
		case offset < start || offset > end.Offset:
			return OffsetMeta{}, wire.Errorf(kerr.OffsetOutOfRange, "%s holds offsets %d to %d, not %d", l.tp, start, end.Offset, offset)
		}
		at, err := l.find(offset, end)
		if !errors.Is(err, os.ErrClosed) || tries == readTries {
			return at, l.readError(err)
		}
	}
}

func (l *Log) find(offset int64, end OffsetMeta) (OffsetMeta, error) {
	segs, i := l.segmentOf(offset)
	for ; i < len(segs) && segs[i].base <= end.SegmentBase; i++ {
		pos, _, ok, err := segs[i].position(offset, segs[i].size.Load())
		if err != nil {
			return OffsetMeta{}, err
		}
		if ok {
			return OffsetMeta{Offset: offset, SegmentBase: segs[i].base, Position: pos}, nil
		}
	}
	return OffsetMeta{Offset: offset, SegmentBase: end.SegmentBase, Position: end.Position}, nil
}
