package log

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
)

// movingSuffix marks the copy of a partition that is being moved to another log dir; a start removes it as it removes what was deleted.
const movingSuffix = ".moving" + deleteDirSuffix

// MoveTo copies a log to another log dir and goes on there. Appends wait only while the active segment is copied. Where ctx ends before
// that, the log stays where it is.
func (m *Manager) MoveTo(ctx context.Context, tp TopicPartition, target string) error {
	m.mu.Lock()
	l := m.logs[tp]
	m.mu.Unlock()
	if l == nil {
		return fmt.Errorf("%s is not open", tp)
	}
	var to *dir
	for _, d := range m.dirs {
		if d.path == target {
			to = d
		}
	}
	if to == nil || to.failure.Load() != nil {
		return fmt.Errorf("%s is no log dir that is online", target)
	}
	l.moveMu.Lock()
	defer l.moveMu.Unlock()
	from := l.dir.Load()
	if to == from {
		return nil
	}
	if err := m.forgetPoints(to, tp); err != nil {
		return err
	}
	if l.moveUnborn(from, to) {
		return nil
	}
	tmp := path.Join(to.path, tp.String()+movingSuffix)
	if err := m.o.FS.RemoveAll(tmp); err != nil {
		return err
	}
	err := m.move(ctx, l, from, to, tmp)
	if err != nil {
		err = errors.Join(fmt.Errorf("move of %s to %s: %w", tp, target, err), m.o.FS.RemoveAll(tmp))
	}
	return err
}

func (m *Manager) move(ctx context.Context, l *Log, from, to *dir, tmp string) error {
	if err := m.o.FS.MkdirAll(tmp, 0o755); err != nil {
		return err
	}
	copied := map[*segment]bool{}
	segs := *l.segs.Load()
	for _, s := range segs[:len(segs)-1] {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := m.copySegment(s, tmp); err != nil {
			return err
		}
		copied[s] = true
	}
	l.pause()
	defer l.resume()
	if err := l.checkpoint(true); err != nil {
		return err
	}
	if err := from.committer.drop(l); err != nil {
		return err
	}
	l.opMu.Lock()
	defer l.opMu.Unlock()
	if l.gone {
		return errClosed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return m.moveLocked(l, from, to, tmp, copied)
}

// moveUnborn moves a log that has no files.
func (l *Log) moveUnborn(from, to *dir) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.isUnborn.Load() {
		return false
	}
	p := path.Join(to.path, l.tp.String())
	segs := []*segment{newSegment(l.m.files, p, 0)}
	l.segs.Store(&segs)
	l.path.Store(&p)
	l.dir.Store(to)
	from.unborn.Add(-1)
	to.unborn.Add(1)
	return true
}

// moveLocked copies what is not copied yet and swaps the directories. REQUIRES: opMu and mu of l, and that l is paused and synced.
func (m *Manager) moveLocked(l *Log, from, to *dir, tmp string, copied map[*segment]bool) error {
	old := *l.segs.Load()
	for _, s := range old {
		if err := s.flushIndexes(); err != nil {
			return err
		}
		if copied[s] {
			delete(copied, s)
		} else if err := m.copySegment(s, tmp); err != nil {
			return err
		}
	}
	for s := range copied { // gone meanwhile
		for _, suffix := range segmentSuffixes {
			if name := path.Join(tmp, segmentName(s.base)+suffix); exists(m.o.FS, name) && !l.isBase(s.base) {
				if err := m.o.FS.Remove(name); err != nil {
					return err
				}
			}
		}
	}
	if err := m.copyRest(*l.path.Load(), tmp); err != nil {
		return err
	}
	to.mu.Lock()
	_, leftover := to.existing[l.tp]
	to.mu.Unlock()
	if leftover {
		if err := m.removeDir(to, l.tp); err != nil {
			return err
		}
	}
	// Deleted records must not come back with the directory.
	to.mu.Lock()
	to.points[l.tp] = points{recovery: l.recoveryPoint.Load(), start: l.LogStartOffset(), hw: l.HighWatermark().Offset}
	to.mu.Unlock()
	if err := m.writePoints(to, true); err != nil {
		return err
	}
	dst := path.Join(to.path, l.tp.String())
	if err := m.o.FS.Rename(tmp, dst); err != nil {
		return err
	}
	if err := m.o.FS.SyncDir(to.path); err != nil {
		return err
	}
	to.mu.Lock()
	to.existing[l.tp] = l.topicID
	to.mu.Unlock()
	l.settle(to, dst, old)
	// Durably gone before appends go on: a start that finds both directories must find the same in them.
	return m.removeDir(from, l.tp)
}

// settle makes dst of the dir to the log's place. REQUIRES: opMu, mu.
func (l *Log) settle(to *dir, dst string, old []*segment) {
	segs := make([]*segment, len(old))
	for i, s := range old {
		n := newSegment(l.m.files, dst, s.base)
		n.size.Store(s.size.Load())
		n.maxTs.Store(s.maxTs.Load())
		n.maxTsAt.Store(s.maxTsAt.Load())
		n.firstTs.Store(s.firstTs.Load())
		n.last.Store(s.last.Load())
		n.sinceIndex = s.sinceIndex
		n.horizon.Store(s.horizon.Load())
		n.synced = s.size.Load()
		n.trusted.Store(s.size.Load())
		segs[i] = n
		s.retire()
	}
	l.dir.Store(to)
	l.path.Store(&dst)
	l.segs.Store(&segs)
	l.journaled.Store(false)
	l.recount()
}

// segmentSuffixes are those of a segment's files. The snapshot is that of the producers as of its base.
var segmentSuffixes = [...]string{logSuffix, offsetSuffix, timeSuffix, txnSuffix, snapshotSuffix}

// copySegment copies a segment's files, those that it has.
func (m *Manager) copySegment(s *segment, dst string) error {
	for _, suffix := range segmentSuffixes {
		name := segmentName(s.base) + suffix
		err := m.copyFile(path.Join(s.dir, name), path.Join(dst, name))
		if err != nil && !(suffix != logSuffix && errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return nil
}

// copyRest copies what is no segment's: the epochs, the metadata, the newest snapshot.
func (m *Manager) copyRest(src, dst string) error {
	entries, err := m.o.FS.ReadDir(src)
	if err != nil {
		return err
	}
	for _, e := range entries {
		_, snapshot := isSnapshot(e.Name())
		if snapshot || e.Name() == epochFile || e.Name() == partitionMetaFile {
			if err := m.copyFile(path.Join(src, e.Name()), path.Join(dst, e.Name())); err != nil {
				return err
			}
		}
	}
	return m.o.FS.SyncDir(dst)
}

func (m *Manager) copyFile(src, dst string) error {
	in, err := m.o.FS.OpenFile(src, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := m.o.FS.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	size, err := in.Size()
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for at := int64(0); at < size; {
		n, err := in.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if n == 0 && err != nil {
			return err
		}
		if _, err := out.WriteAt(buf[:n], at); err != nil {
			return err
		}
		at += int64(n)
	}
	return out.Sync()
}
