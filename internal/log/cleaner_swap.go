package log

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/vfs"
)

// How a cleaned segment takes the place of one or several old ones, so that a crash at any moment leaves either (Kafka's own protocol
// and names, so that a directory that either broker left in the middle of it is finished by the other):
//
//  1. The new files are written under their names with `.cleaned` behind, and synced. A start removes such files.
//  2. The index of aborted transactions, if there is or was one, then the log are renamed to `.swap`. The directory is synced: from
//     here on the new segment counts, and a start finishes what follows.
//  3. The old segments behind the first go, and the first one's indexes, for which the new ones come. The directory is synced.
//  4. The log gets its name, over the first old one's.

// newCleaned makes the segment that a group is written to.
func (l *Log) newCleaned(group []*segment) (*segment, error) {
	out := newSegmentNamed(l.m.files, *l.path.Load(), group[0].base, cleanedSuffix)
	f, err := out.log.acquire()
	if err != nil {
		return nil, err
	}
	defer out.log.release()
	return out, f.Truncate(0)
}

// append is write and note, for a segment that nobody knows yet.
func (s *segment) append(batch []byte, interval int64) error {
	h, err := record.ParseHeader(batch)
	if err != nil {
		return err
	}
	pos := s.size.Load()
	if err := s.write(batch); err != nil {
		return err
	}
	s.note(&h, pos, interval)
	if s.off.full() || s.tim.full() {
		return s.flushIndexes()
	}
	return nil
}

// expect notes that tombstones or markers in the segment may go at horizon.
func (s *segment) expect(horizon int64) {
	if h := s.horizon.Load(); h == 0 || horizon < h {
		s.horizon.Store(horizon)
	}
}

// keepAborted takes the aborted transactions of an old segment over, but for those whose marker went.
func (s *segment) keepAborted(old *segment, dropped map[int64]bool) error {
	entries, err := old.txn.list()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if dropped[e.last] {
			if err := s.txn.touch(); err != nil { // an empty index says more than none: the old one goes
				return err
			}
			continue
		}
		if err := s.txn.add(e); err != nil {
			return err
		}
	}
	return nil
}

// complete makes a cleaned segment durable.
func (s *segment) complete() error {
	if err := s.finish(); err != nil {
		return err
	}
	if err := s.txn.sync(); err != nil {
		return err
	}
	f, err := s.log.acquire()
	if err != nil {
		return err
	}
	defer s.log.release()
	return f.Sync()
}

// dropCleaned removes what was written in vain.
func (l *Log) dropCleaned(out *segment) error {
	out.retire()
	var errs []error
	name := path.Join(out.dir, segmentName(out.base))
	for _, suffix := range segmentSuffixes {
		if err := l.m.o.FS.Remove(name + suffix + cleanedSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// replace puts a complete cleaned segment in the place of a group.
func (l *Log) replace(group []*segment, out *segment) error {
	l.opMu.Lock()
	defer l.opMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	segs := *l.segs.Load()
	at := slices.Index(segs, group[0])
	if at < 0 || l.broken != nil || l.gone || at+len(group) >= len(segs) || !slices.Equal(segs[at:at+len(group)], group) || out.dir != *l.path.Load() {
		return l.dropCleaned(out) // retention or a move was faster
	}
	if err := l.swap(group, out); err != nil {
		return l.failLocked(err) // the files are between two states, which the next start resolves
	}
	out.last.Store(group[len(group)-1].last.Load()) // the offsets up to the next segment are this one's, whether or not a record has them
	out.synced = out.size.Load()
	if out.size.Load() > 0 {
		if err := l.loadFirstTime(out); err != nil {
			return l.failLocked(err)
		}
	}
	next := slices.Concat(segs[:at], []*segment{out}, segs[at+len(group):])
	l.segs.Store(&next)
	group[0].retire()
	return nil
}

// swap renames the files. REQUIRES: opMu, mu.
func (l *Log) swap(group []*segment, out *segment) error {
	fsys, name := l.m.o.FS, path.Join(out.dir, segmentName(out.base))
	if err := renameOr(out.txn.file, name+txnSuffix+swapSuffix, nil); err != nil {
		return err
	}
	if err := out.log.rename(name + logSuffix + swapSuffix); err != nil {
		return err
	}
	if err := fsys.SyncDir(out.dir); err != nil {
		return err
	}
	l.discard(group[1:])
	remove := func(name string) error { return removeIfThere(fsys, name) }
	if err := errors.Join(renameOr(out.txn.file, name+txnSuffix, nil), renameOr(out.off.file, name+offsetSuffix, remove), renameOr(out.tim.file, name+timeSuffix, remove)); err != nil {
		return err
	}
	if err := fsys.SyncDir(out.dir); err != nil {
		return err
	}
	if err := out.log.rename(name + logSuffix); err != nil {
		return err
	}
	return fsys.SyncDir(out.dir)
}

// renameOr gives a file its name. Where it was never made, it is to have that name when it is, and instead deals with an old one.
func renameOr(f *file, to string, instead func(name string) error) error {
	err := f.rename(to)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f.setPath(to)
	if instead == nil {
		return nil
	}
	return instead(to)
}

func removeIfThere(fsys vfs.FS, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// finishSwaps ends what a crash has left between two steps. REQUIRES: nobody else knows the log.
func (l *Log) finishSwaps() error {
	dir := *l.path.Load()
	entries, err := l.m.o.FS.ReadDir(dir)
	if err != nil {
		return err
	}
	var bases []int64
	for _, e := range entries {
		if b, ok := parseBase(e.Name(), logSuffix); ok {
			bases = append(bases, b)
		}
	}
	for _, e := range entries {
		base, ok := parseBase(strings.TrimSuffix(e.Name(), swapSuffix), logSuffix)
		if !ok || !strings.HasSuffix(e.Name(), swapSuffix) {
			continue
		}
		if err := l.finishSwap(dir, base, bases); err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) finishSwap(dir string, base int64, bases []int64) error {
	fsys, name := l.m.o.FS, path.Join(dir, segmentName(base))
	last, err := lastOffsetOf(fsys, name+logSuffix+swapSuffix, base)
	if err != nil {
		return err
	}
	l.m.o.Logger.Info("a compaction that a crash interrupted is finished", "partition", l.tp.String(), "segment", segmentName(base)+logSuffix, "last_offset", last)
	for _, b := range bases {
		if b <= base || b > last {
			continue
		}
		for _, suffix := range segmentSuffixes {
			if err := removeIfThere(fsys, path.Join(dir, segmentName(b)+suffix)); err != nil {
				return err
			}
		}
	}
	for _, suffix := range []string{offsetSuffix, timeSuffix} { // they are made anew
		if err := removeIfThere(fsys, name+suffix); err != nil {
			return err
		}
	}
	if err := fsys.Rename(name+txnSuffix+swapSuffix, name+txnSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := fsys.SyncDir(dir); err != nil {
		return err
	}
	if err := fsys.Rename(name+logSuffix+swapSuffix, name+logSuffix); err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}

// lastOffsetOf reads the headers of a log file; base-1 where it holds no batch.
func lastOffsetOf(fsys vfs.FS, name string, base int64) (last int64, err error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	last = base - 1
	for sc := (scanner{f: f, limit: size}); ; {
		_, h, ok, err := sc.next()
		if err != nil || !ok {
			return last, err
		}
		last = h.LastOffset()
	}
}
