package log

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"sort"
	"time"

	"github.com/ottla/ottla/internal/vfs"
)

// Open opens the log of a partition, recovering it if needed, or makes it: in preferDir, or the dir with the fewest. A directory of
// another topic id under that name belongs to a topic that is gone, and is removed.
func (m *Manager) Open(tp TopicPartition, topicID [16]byte, cfg Config, preferDir string) (*Log, error) {
	m.mu.Lock()
	if l := m.logs[tp]; l != nil {
		m.mu.Unlock()
		return l, nil
	}
	if m.closed {
		m.mu.Unlock()
		return nil, errClosed
	}
	m.mu.Unlock()
	d, found, err := m.find(tp, topicID)
	if err != nil {
		return nil, err
	}
	if !found {
		if d = m.choose(preferDir); d == nil {
			return nil, errors.New("no log dir is online")
		}
	}
	if f := d.failure.Load(); f != nil {
		return nil, &OfflineError{Dir: d.path, Cause: *f}
	}
	p := path.Join(d.path, tp.String())
	var l *Log
	if found {
		if err := m.writePartitionMeta(d, tp, p, topicID); err != nil {
			return nil, err
		}
		if l, err = m.openLog(d, tp.String(), tp, topicID, cfg); err != nil {
			return nil, fmt.Errorf("open log %s: %w", p, err)
		}
	} else {
		if err := m.forgetPoints(d, tp); err != nil {
			return nil, fmt.Errorf("open log %s: %w", p, err)
		}
		l = m.unborn(d, p, tp, topicID, cfg)
		d.unborn.Add(1)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if other := m.logs[tp]; other != nil {
		return other, nil
	}
	m.logs[tp] = l
	return l, nil
}

// unborn is a log of nothing: its directory comes with its first batch, because most partitions of most topics are made long before
// they are used, if ever. REQUIRES: as openLog.
func (m *Manager) unborn(d *dir, p string, tp TopicPartition, id [16]byte, cfg Config) *Log {
	l := &Log{m: m, tp: tp, topicID: id, producers: newProducers(), cleanlyOpened: true}
	l.resumed.L = &l.mu
	l.UpdateConfig(cfg)
	l.dir.Store(d)
	l.path.Store(&p)
	segs := []*segment{newSegment(m.files, p, 0)}
	l.segs.Store(&segs)
	l.isUnborn.Store(true)
	return l
}

// birth makes the directory of a log that is about to get its first batch. REQUIRES: l.mu.
func (l *Log) birth() error {
	d, p := l.dir.Load(), *l.path.Load()
	if err := l.m.o.FS.MkdirAll(p, 0o755); err != nil {
		return err
	}
	if err := l.m.writePartitionMeta(d, l.tp, p, l.topicID); err != nil {
		return err
	}
	s := l.active() // in a new directory: its indexes are empty and need no files before they have entries to write
	s.off.fresh()
	s.tim.fresh()
	l.namesDirty.Store(true)
	l.dirDirty.Store(true)
	l.isUnborn.Store(false)
	d.unborn.Add(-1)
	return nil
}

func (m *Manager) writePartitionMeta(d *dir, tp TopicPartition, p string, id [16]byte) error {
	d.mu.Lock()
	have, ok := d.existing[tp]
	d.mu.Unlock()
	if ok && have == id {
		return nil
	}
	if err := writeFile(m.o.FS, path.Join(p, partitionMetaFile), appendPartitionMeta(nil, id), false); err != nil {
		return err
	}
	d.mu.Lock()
	d.existing[tp] = id
	d.mu.Unlock()
	return nil
}

// find looks for a partition's directory; one of another topic id is set aside to be removed.
func (m *Manager) find(tp TopicPartition, id [16]byte) (*dir, bool, error) {
	for _, d := range m.dirs {
		d.mu.Lock()
		have, ok := d.existing[tp]
		d.mu.Unlock()
		if !ok {
			continue
		}
		if have == id || have == ([16]byte{}) {
			return d, true, nil
		}
		m.o.Logger.Warn("a directory belongs to a topic that was deleted, and is removed", "dir", d.path, "partition", tp.String())
		if err := m.removeDir(d, tp); err != nil {
			return nil, false, err
		}
	}
	return nil, false, nil
}

func (m *Manager) choose(prefer string) *dir {
	var best *dir
	fewest := 0
	for _, d := range m.dirs {
		if d.failure.Load() != nil {
			continue
		}
		if d.path == prefer {
			return d
		}
		d.mu.Lock()
		n := len(d.existing) + int(d.unborn.Load())
		d.mu.Unlock()
		if best == nil || n < fewest {
			best, fewest = d, n
		}
	}
	return best
}

// Delete ends a log, if it is open, and removes its directory: out of sight at once, from the disk a little later.
func (m *Manager) Delete(tp TopicPartition) error { return m.DeleteAll([]TopicPartition{tp}) }

// DeleteAll is Delete of many partitions at the cost of a few syncs for all of them: a topic can have thousands. Where one fails the
// others are still deleted.
func (m *Manager) DeleteAll(tps []TopicPartition) error {
	byDir := map[*dir]*departure{}
	of := func(d *dir) *departure {
		if byDir[d] == nil {
			byDir[d] = &departure{}
		}
		return byDir[d]
	}
	for _, tp := range tps {
		m.mu.Lock()
		l := m.logs[tp]
		delete(m.logs, tp)
		m.mu.Unlock()
		if l != nil {
			l.shut()
			l.pause() // a move to another dir ends first
			defer l.resume()
			d := of(l.dir.Load())
			d.open = append(d.open, l)
			continue
		}
		for _, d := range m.dirs {
			d.mu.Lock()
			id, ok := d.existing[tp]
			d.mu.Unlock()
			if ok {
				of(d).closed = append(of(d).closed, truncation{tp, id, -1})
			}
		}
	}
	var errs []error
	for d, gone := range byDir {
		errs = append(errs, m.depart(d, gone))
	}
	return errors.Join(errs...)
}

// departure is what leaves one log dir.
type departure struct {
	open   []*Log
	closed []truncation
}

func (m *Manager) depart(d *dir, gone *departure) error {
	err := d.committer.dropAll(gone.open, gone.closed)
	var tps []TopicPartition
	for _, l := range gone.open {
		l.retire()
		if l.isUnborn.Load() {
			d.unborn.Add(-1)
			continue
		}
		tps = append(tps, l.tp)
	}
	if err != nil {
		return err
	}
	for _, c := range gone.closed {
		tps = append(tps, c.tp)
	}
	return m.removeDirs(d, tps)
}

func (m *Manager) removeDir(d *dir, tp TopicPartition) error {
	return m.removeDirs(d, []TopicPartition{tp})
}

func (m *Manager) removeDirs(d *dir, tps []TopicPartition) error {
	renamed, err := m.renameDirs(d, tps, deleteDirSuffix)
	if len(renamed) > 0 {
		m.later(time.Second, func() {
			for _, to := range renamed {
				if err := m.o.FS.RemoveAll(to); err != nil {
					m.o.Logger.Warn("a deleted partition's directory could not be removed; it is removed at the next start", "dir", to, "error", err)
				}
			}
		})
	}
	return err
}

// straySuffix ends the names of directories that were set aside.
const straySuffix = "-stray"

// SetAside takes partitions that nothing knows of out of sight and keeps their files: either a crash came between a topic's deletion
// and that of its files, or the metadata is not what belongs to these folders, and then they are all there is. The partitions
// must not be open.
func (m *Manager) SetAside(tps []TopicPartition) error {
	var errs []error
	for _, d := range m.dirs {
		var here []TopicPartition
		var marks []truncation
		d.mu.Lock()
		for _, tp := range tps {
			if id, ok := d.existing[tp]; ok {
				here, marks = append(here, tp), append(marks, truncation{tp, id, -1})
			}
		}
		d.mu.Unlock()
		if len(here) == 0 {
			continue
		}
		err := d.committer.dropAll(nil, marks)
		if err == nil {
			var aside []string
			aside, err = m.renameDirs(d, here, straySuffix)
			m.o.Logger.Warn("the metadata does not know of these partitions: their directories were set aside under names that end in -stray; delete them if their topics were deleted",
				"dir", d.path, "partitions", len(aside), "first", here[0].String())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// renameDirs gives partitions' directories names that are nobody's, durably.
func (m *Manager) renameDirs(d *dir, tps []TopicPartition, suffix string) (renamed []string, err error) {
	if len(tps) == 0 {
		return nil, nil
	}
	var errs []error
	for _, tp := range tps {
		d.mu.Lock()
		delete(d.existing, tp)
		delete(d.points, tp)
		d.stale[tp] = true
		n := m.o.Clock.Now().UnixNano()
		d.mu.Unlock()
		from := path.Join(d.path, tp.String())
		to := fmt.Sprintf("%s.%x%s", from, n, suffix)
		if err := m.o.FS.Rename(from, to); err != nil {
			errs = append(errs, err)
			continue
		}
		renamed = append(renamed, to)
	}
	// Durable before anything new takes the names: a power cut must not put an old directory in the place of a new one.
	if err := m.o.FS.SyncDir(d.path); err != nil {
		m.offline(d, err)
		return renamed, errors.Join(append(errs, err)...)
	}
	d.pointsDirty.Store(true)
	d.startsDirty.Store(true)
	return renamed, errors.Join(errs...)
}

// replay writes what the journal holds and the segments may not into the segments. It gives the files it wrote to.
func (m *Manager) replay(d *dir) (touched map[string]vfs.File, err error) {
	touched = map[string]vfs.File{}
	err = d.committer.replay(func(f *journalFrame) error {
		if f.Next <= d.points[f.TopicPartition].recovery {
			return nil
		}
		p := path.Join(d.path, f.TopicPartition.String())
		id, ok := d.existing[f.TopicPartition]
		if ok && id != f.TopicID && id != ([16]byte{}) {
			return nil // of a topic that was deleted
		}
		if !ok || id == ([16]byte{}) {
			// The directory's name was lost with the power, or its metadata: the journal is the only place that has the records.
			if err := m.o.FS.MkdirAll(p, 0o755); err != nil {
				return err
			}
			if err := writeFile(m.o.FS, path.Join(p, partitionMetaFile), appendPartitionMeta(nil, f.TopicID), false); err != nil {
				return err
			}
			d.existing[f.TopicPartition] = f.TopicID
		}
		name := path.Join(p, segmentName(f.SegmentBase)+logSuffix)
		file := touched[name]
		if file == nil {
			if file, err = m.o.FS.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
				return err
			}
			touched[name] = file
		}
		_, err := file.WriteAt(f.Payload, f.Pos)
		return err
	})
	return touched, err
}

// settleReplay makes what was replayed durable, so that the journal's old files can be used again.
func (m *Manager) settleReplay(d *dir, touched map[string]vfs.File) {
	names := make([]string, 0, len(touched))
	for name := range touched {
		names = append(names, name)
	}
	sort.Strings(names)
	dirs := map[string]bool{d.path: true}
	for _, name := range names {
		err := errors.Join(touched[name].Sync(), touched[name].Close())
		if err != nil {
			m.offline(d, err)
			return
		}
		dirs[path.Dir(name)] = true
	}
	for p := range dirs {
		if err := m.o.FS.SyncDir(p); err != nil && exists(m.o.FS, p) {
			m.offline(d, err)
			return
		}
	}
	d.committer.replayed()
}

// housekeeping runs retention and watches the disks' space until ctx ends.
func (m *Manager) housekeeping(ctx context.Context) {
	next := m.o.Clock.Now().Add(min(m.o.RetentionDelay, m.o.RetentionInterval))
	space := m.o.Clock.NewTimer(0)
	defer space.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-space.C():
		case <-m.look:
		}
		for _, d := range m.dirs {
			m.watchSpace(d)
		}
		if now := m.o.Clock.Now(); !now.Before(next) {
			next = now.Add(m.o.RetentionInterval)
			for _, l := range m.open() {
				if ctx.Err() != nil {
					return
				}
				l.retain(now.UnixMilli())
			}
		}
		space.Reset(m.nextLook(next))
	}
}

func (m *Manager) nextLook(retention time.Time) time.Duration {
	const spaceInterval = time.Second
	if until := retention.Sub(m.o.Clock.Now()); until < spaceInterval {
		return max(until, time.Millisecond)
	}
	return spaceInterval
}

// wrote counts what was appended: a fast disk can use the reserve up between two looks.
func (m *Manager) wrote(d *dir, n int) {
	if d.unlooked.Add(int64(n)) < m.o.DiskReserveBytes/4 {
		return
	}
	d.unlooked.Store(0)
	select {
	case m.look <- struct{}{}:
	default:
	}
}

// backAgainBytes must be free at least before producing goes on, however small the reserve: a volume that has room for one small record
// and none for the next is still full.
const backAgainBytes = 8 << 20

// watchSpace refuses producing while the volume is nearly full, with a gap between the two thresholds so that it does not flap.
func (m *Manager) watchSpace(d *dir) {
	u, err := m.o.FS.DiskUsage(d.path)
	if err != nil {
		return
	}
	reserve := uint64(m.o.DiskReserveBytes)
	switch {
	case u.Free < reserve && !d.full.Swap(true):
		m.o.Logger.Error("the disk is full but for its reserve: producing is refused until space is free; reading and deleting go on", "dir", d.path, "free_bytes", u.Free, "reserve_bytes", reserve)
	case u.Free >= max(reserve+reserve/4, backAgainBytes) && d.full.Swap(false):
		m.o.Logger.Info("the disk has space again: producing goes on", "dir", d.path, "free_bytes", u.Free)
	}
}
