package log

import (
	"path"
	"strings"
)

// syncTo makes the segment files durable up to end: the direct path of a commit, and the work of a checkpoint.
func (l *Log) syncTo(end OffsetMeta) error {
	l.opMu.Lock()
	defer l.opMu.Unlock()
	if l.gone && end.Offset > l.recoveryPoint.Load() {
		return errClosed
	} else if l.gone {
		return nil
	}
	return l.syncLocked(end)
}

// syncLocked syncs the segments that hold anything between the recovery point and end. REQUIRES: opMu.
func (l *Log) syncLocked(end OffsetMeta) error {
	if end.Offset <= l.recoveryPoint.Load() && l.dirtyBytes.Load() <= 0 {
		return nil
	}
	if err := l.syncNames(); err != nil {
		return err
	}
	segs, i := l.segmentOf(l.recoveryPoint.Load())
	for ; i < len(segs); i++ {
		s := segs[i]
		size := s.size.Load()
		if s.base > end.Offset || s.synced >= size {
			continue
		}
		f, err := s.log.acquire()
		if err != nil {
			return err
		}
		err = f.Sync()
		s.log.release()
		if err == nil {
			err = s.txn.sync() // a snapshot that comes after its transactions must not outlive them
		}
		if err != nil {
			return err
		}
		l.dirtyBytes.Add(s.synced - size)
		s.synced = size
	}
	if end.Offset > l.recoveryPoint.Load() {
		// No recovery looks at the batches below the point again, so what only they tell must be elsewhere.
		if err := l.writeEpochs(); err != nil {
			return err
		}
		l.recoveryPoint.Store(end.Offset)
		l.dir.Load().pointsDirty.Store(true)
	}
	return nil
}

// syncNames makes the names of new files and of a new directory durable, before anything counts as durable because of them.
func (l *Log) syncNames() error {
	if l.namesDirty.Swap(false) {
		if err := l.m.o.FS.SyncDir(*l.path.Load()); err != nil {
			return err
		}
	}
	if l.dirDirty.Swap(false) {
		return l.m.o.FS.SyncDir(l.dir.Load().path)
	}
	return nil
}

// snapshotEvery is how many bytes of appends make a new producer snapshot worth its file.
const snapshotEvery = 16 << 20

// checkpoint makes everything appended so far durable in its segment, so that neither the journal nor a recovery needs to know it.
func (l *Log) checkpoint(final bool) error {
	l.opMu.Lock()
	defer l.opMu.Unlock()
	if l.gone {
		return nil
	}
	end := l.LogEnd()
	if err := l.syncLocked(end); err != nil {
		return l.fail(err)
	}
	if err := l.writeEpochs(); err != nil {
		return l.fail(err)
	}
	l.asked.Store(false)
	if c := l.dir.Load().committer; c != nil {
		c.checkpointed(l, end.Offset)
	}
	if final || end.Position-l.snapshotPos() > snapshotEvery {
		if err := l.snapshotNow(final); err != nil {
			return err
		}
	}
	return nil
}

// snapshotPos is where in the active segment the newest snapshot stands; the segment's start where it is older.
func (l *Log) snapshotPos() int64 {
	if l.snapshotIn != l.active().base {
		return 0
	}
	return l.snapshotAtPos
}

// snapshotNow writes a producer snapshot at the log's end and removes those that no recovery needs: all but the newest and those at the
// start of a segment. REQUIRES: opMu.
func (l *Log) snapshotNow(final bool) error {
	l.mu.Lock()
	end := l.end
	if !l.producers.dirty && !final {
		l.mu.Unlock()
		l.snapshotIn, l.snapshotAtPos = end.SegmentBase, end.Position
		return nil
	}
	l.writeSnapshot(end.Offset)
	l.mu.Unlock()
	old := l.snapshotAt
	l.snapshotAt, l.snapshotIn, l.snapshotAtPos = end.Offset, end.SegmentBase, end.Position
	if old != end.Offset && old > 0 && !l.isBase(old) {
		_ = l.m.o.FS.Remove(path.Join(*l.path.Load(), segmentName(old)+snapshotSuffix))
	}
	return nil
}

func (l *Log) isBase(offset int64) bool {
	for _, s := range *l.segs.Load() {
		if s.base == offset {
			return true
		}
	}
	return false
}

// close ends the log cleanly: all durable, indexes whole, a snapshot at the end.
func (l *Log) close() error {
	broken := l.shut()
	defer l.retire()
	if broken != nil || l.untouched() {
		return nil
	}
	for _, s := range *l.segs.Load() {
		if err := s.flushIndexes(); err != nil {
			return err
		}
	}
	if err := l.active().finish(); err != nil {
		return err
	}
	return l.checkpoint(true)
}

// shut refuses appends from now on, and says why they were refused before.
func (l *Log) shut() (broken error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	broken = l.broken
	if broken == nil {
		l.broken = l.offlineError(errClosed)
	}
	return broken
}

// retire ends everything that may still touch the log's files, and closes them.
func (l *Log) retire() {
	l.opMu.Lock()
	defer l.opMu.Unlock()
	l.gone = true
	for _, s := range *l.segs.Load() {
		s.retire()
	}
}

// recount says anew how much is appended and not synced, after segments were cut. REQUIRES: mu, opMu.
func (l *Log) recount() {
	var n int64
	for _, s := range *l.segs.Load() {
		n += max(s.size.Load()-s.synced, 0)
	}
	l.dirtyBytes.Store(n)
}

// untouched says that nothing was written since the log was opened, so that its files are as a clean close leaves them.
func (l *Log) untouched() bool {
	l.mu.Lock()
	dirty := l.producers.dirty
	l.mu.Unlock()
	return l.asOpened == l.LogEnd() && l.cleanlyOpened && !dirty && l.dirtyBytes.Load() <= 0
}

// isSnapshot gives the offset of a producer snapshot's file.
func isSnapshot(name string) (int64, bool) {
	if !strings.HasSuffix(name, snapshotSuffix) {
		return 0, false
	}
	return parseBase(name, snapshotSuffix)
}
