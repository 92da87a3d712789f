package log

import (
	"errors"
	"io/fs"
	"path"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/wire"
)

// DeleteRecords moves the log start up to upTo, which must not lie above the high watermark, durably, and gives the new start.
func (l *Log) DeleteRecords(upTo int64) (int64, error) {
	l.posMu.Lock()
	hw := l.hw.Offset
	l.posMu.Unlock()
	if upTo < 0 || upTo > hw {
		return -1, wire.Errorf(kerr.OffsetOutOfRange, "%s can be deleted up to its high watermark %d, not %d", l.tp, hw, upTo)
	}
	if l.raiseStart(upTo) {
		if err := l.m.writeStarts(l.dir.Load()); noSpace(err) {
			return -1, wire.Errorf(kerr.KafkaStorageError, "the disk of log dir %s is full: %v", l.Dir(), err)
		} else if err != nil {
			return -1, l.fail(err)
		}
		l.dropBelowStart()
	}
	return l.LogStartOffset(), nil
}

// raiseStart moves the log start; false where it is there already.
func (l *Log) raiseStart(to int64) bool {
	l.posMu.Lock()
	moved := to > l.start
	if moved {
		l.start = to
	}
	l.posMu.Unlock()
	if !moved {
		return false
	}
	l.epochs.truncateStart(to)
	l.dir.Load().startsDirty.Store(true)
	l.tellStart(to)
	return true
}

// dropBelowStart removes the segments all of whose records lie below the log start; the active one stays.
func (l *Log) dropBelowStart() {
	start := l.LogStartOffset()
	l.removeFirst(func(segs []*segment, i int) bool { return segs[i+1].base <= start })
}

// removeFirst takes segments from the front of the log as long as gone says so of one that is not active.
func (l *Log) removeFirst(gone func(segs []*segment, i int) bool) (removed []*segment) {
	l.opMu.Lock()
	defer l.opMu.Unlock()
	if l.gone {
		return nil
	}
	l.mu.Lock()
	segs := *l.segs.Load()
	n := 0
	for n < len(segs)-1 && gone(segs, n) {
		n++
	}
	removed = segs[:n:n]
	if n > 0 {
		rest := append([]*segment(nil), segs[n:]...)
		l.segs.Store(&rest)
	}
	l.mu.Unlock()
	for _, s := range removed {
		l.dirtyBytes.Add(s.synced - s.size.Load()) // nobody will sync them now
	}
	l.discard(removed)
	return removed
}

// discard renames the files of segments so that no restart finds them, and removes them after file.delete.delay.ms.
func (l *Log) discard(segs []*segment) {
	if len(segs) == 0 {
		return
	}
	var names []string
	for _, s := range segs {
		s.retire()
		base := path.Join(*l.path.Load(), segmentName(s.base))
		for _, suffix := range segmentSuffixes {
			if err := l.m.o.FS.Rename(base+suffix, base+suffix+deletedSuffix); err == nil {
				names = append(names, base+suffix+deletedSuffix)
			} else if !errors.Is(err, fs.ErrNotExist) {
				l.m.o.Logger.Warn("a file of a deleted segment could not be renamed; it is removed at the next start", "file", base+suffix, "error", err)
			}
		}
	}
	l.m.later(time.Duration(l.cfg.Load().FileDeleteDelayMs)*time.Millisecond, func() {
		for _, n := range names {
			if err := l.m.o.FS.Remove(n); err != nil && !errors.Is(err, fs.ErrNotExist) {
				l.m.o.Logger.Warn("a deleted segment's file could not be removed; it is removed at the next start", "file", n, "error", err)
			}
		}
	})
}

// retain applies retention by time and size.
func (l *Log) retain(now int64) {
	cfg := l.cfg.Load()
	if d := l.dir.Load(); d.startsDirty.Load() {
		if err := l.m.writeStarts(d); err != nil {
			return // no segment goes before the log start that makes it superfluous is durable; it is tried again
		}
	}
	l.dropBelowStart()
	if !cfg.Delete {
		return
	}
	if cfg.RetentionMs >= 0 {
		l.expireActive(now, cfg)
		l.retainBy("time", func(segs []*segment, i int) bool {
			ts := segs[i].maxTs.Load()
			return ts >= 0 && now-ts > cfg.RetentionMs
		})
	}
	if cfg.RetentionBytes >= 0 {
		excess := l.Size() - cfg.RetentionBytes
		l.retainBy("size", func(segs []*segment, i int) bool {
			if excess -= segs[i].size.Load(); excess < 0 {
				return false
			}
			return true
		})
	}
	l.mu.Lock()
	l.producers.expire(now - cfg.ProducerIDExpirationMs)
	l.mu.Unlock()
}

// expireActive rolls the active segment where all its records are too old, so that it can go as well.
func (l *Log) expireActive(now int64, cfg *Config) {
	s := l.active()
	if ts := s.maxTs.Load(); s.size.Load() > 0 && ts >= 0 && now-ts > cfg.RetentionMs {
		if err := l.Roll(); err != nil {
			l.m.o.Logger.Warn("a segment past its retention could not be rolled", "partition", l.tp.String(), "error", err)
		}
	}
}

// retainBy removes segments from the front of the log; nothing at or above the high watermark goes.
func (l *Log) retainBy(why string, due func(segs []*segment, i int) bool) {
	hw := l.HighWatermark().Offset
	segs := *l.segs.Load()
	n := 0
	for n < len(segs)-1 && segs[n+1].base <= hw && due(segs, n) {
		n++
	}
	if n == 0 {
		return
	}
	start := segs[n].base
	if !l.raiseStart(start) {
		return
	}
	l.m.o.Logger.Info("segments past their retention are deleted", "partition", l.tp.String(), "by", why, "segments", n, "log_start_offset", start)
	if err := l.m.writeStarts(l.dir.Load()); noSpace(err) {
		l.m.o.Logger.Error("segments past their retention stay until their log start can be written", "partition", l.tp.String(), "error", err)
		return
	} else if err != nil {
		_ = l.fail(err)
		return
	}
	l.dropBelowStart()
}

// TruncateTo removes everything at and above offset, which a leader of a later epoch has not.
func (l *Log) TruncateTo(offset int64) error { return l.truncateTo(offset, anybody) }

// truncateTo is TruncateTo; may is asked under mu, before anything is removed.
func (l *Log) truncateTo(offset int64, may func() error) error {
	if end := l.LogEnd().Offset; offset >= end {
		l.epochs.truncateEnd(end) // an epoch may begin here that has no record and that the leader does not know
		return nil
	}
	if offset <= l.LogStartOffset() {
		return l.truncateFully(offset, may)
	}
	l.pause()
	defer l.resume()
	// The marker takes back whole frames, so what stays of a frame must be in its segment before.
	if err := l.checkpoint(false); err != nil {
		return err
	}
	if err := l.dir.Load().committer.truncate(l, offset); err != nil {
		return l.offlineError(err)
	}
	l.opMu.Lock()
	defer l.opMu.Unlock()
	if l.gone {
		return l.offlineError(errClosed)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.recount()
	if err := may(); err != nil {
		return err
	}
	segs, i := l.segmentOf(offset)
	for j := len(segs) - 1; j > i; j-- {
		if err := l.removeFiles(segs[j]); err != nil {
			return l.failLocked(err)
		}
	}
	kept := segs[: i+1 : i+1]
	l.segs.Store(&kept)
	if err := l.truncateSegment(segs[i], offset); err != nil {
		return l.failLocked(err)
	}
	return l.resetTo(segs[i])
}

// pause keeps appends out until resume and holds no lock meanwhile: whoever waits for the committer must not, because a commit may need
// opMu to sync a segment.
func (l *Log) pause() {
	l.mu.Lock()
	for l.paused {
		l.resumed.Wait()
	}
	l.paused = true
	l.mu.Unlock()
}

func (l *Log) resume() {
	l.mu.Lock()
	l.paused = false
	l.resumed.Broadcast()
	l.mu.Unlock()
}

func (l *Log) truncateSegment(s *segment, offset int64) error {
	size := s.size.Load()
	pos, _, ok, err := s.position(offset, size)
	if err != nil || !ok {
		return err
	}
	f, err := s.log.acquire()
	if err != nil {
		return err
	}
	defer s.log.release()
	if err := f.Truncate(pos); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	_, err = l.scan(s, pos, true)
	s.synced = s.size.Load()
	s.trusted.Store(min(s.trusted.Load(), s.size.Load()))
	return err
}

// resetTo takes the state of the log from what is left. REQUIRES: mu, opMu.
func (l *Log) resetTo(s *segment) error {
	l.end = OffsetMeta{Offset: s.last.Load() + 1, SegmentBase: s.base, Position: s.size.Load()}
	l.epochs.truncateEnd(l.end.Offset)
	l.recoveryPoint.Store(min(l.recoveryPoint.Load(), l.end.Offset))
	l.posMu.Lock()
	l.published = l.end
	l.visible.Store(nil)
	for _, p := range []*OffsetMeta{&l.durable, &l.hw} {
		if p.Offset > l.end.Offset {
			*p = l.end
		}
	}
	l.open, l.decided = nil, nil
	l.posMu.Unlock()
	l.producers = newProducers()
	_, snapshots, err := l.listFiles()
	if err != nil {
		return err
	}
	if err := l.writeEpochs(); err != nil {
		return err
	}
	return l.recoverProducers(snapshots, l.end.Offset)
}

// TruncateFully empties the log and lets it begin at start.
func (l *Log) TruncateFully(start int64) error { return l.truncateFully(start, anybody) }

func (l *Log) truncateFully(start int64, may func() error) error {
	l.pause()
	defer l.resume()
	// If it may not be after all, everything that the marker takes back from the journal must be in its segment.
	if err := l.checkpoint(false); err != nil {
		return err
	}
	if err := l.dir.Load().committer.truncate(l, 0); err != nil {
		return l.offlineError(err)
	}
	l.opMu.Lock()
	defer l.opMu.Unlock()
	if l.gone {
		return l.offlineError(errClosed)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.recount()
	if err := may(); err != nil {
		return err
	}
	if l.isUnborn.Load() {
		if err := l.birth(); err != nil {
			return l.refuseOrFail(err)
		}
	}
	for _, s := range *l.segs.Load() {
		if err := l.removeFiles(s); err != nil {
			return l.failLocked(err)
		}
	}
	s := newSegment(l.m.files, *l.path.Load(), start)
	segs := []*segment{s}
	l.segs.Store(&segs)
	l.namesDirty.Store(true)
	l.end = OffsetMeta{Offset: start, SegmentBase: start}
	l.epochs.reset(nil)
	l.producers = newProducers()
	l.recoveryPoint.Store(start)
	l.posMu.Lock()
	l.published, l.durable, l.hw, l.start = l.end, l.end, l.end, start
	l.open, l.decided = nil, nil
	l.posMu.Unlock()
	l.dir.Load().startsDirty.Store(true)
	return l.writeEpochs()
}
