package log

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/ottla/ottla/internal/vfs"
)

var errClosed = errors.New("the log is closed")

// openLog opens the partition's directory, which exists. The journal has been replayed into it. Everything below the recovery point
// is durable and trusted; what follows is read, checked and, from the first batch that is not whole, cut off: it was never
// acknowledged. REQUIRES: nobody else knows the log.
func (m *Manager) openLog(d *dir, name string, tp TopicPartition, id [16]byte, cfg Config) (*Log, error) {
	l := &Log{m: m, tp: tp, topicID: id, producers: newProducers()}
	l.resumed.L = &l.mu
	l.journaled.Store(true) // by the last run, for all we know
	l.UpdateConfig(cfg)
	l.dir.Store(d)
	p := path.Join(d.path, name)
	l.path.Store(&p)
	bases, snapshots, err := l.listFiles()
	if err != nil {
		return nil, err
	}
	fresh := false
	d.mu.Lock()
	points := d.points[tp]
	d.mu.Unlock()
	l.start = max(points.start, 0)
	if len(bases) == 0 {
		bases = []int64{l.start}
		l.namesDirty.Store(true)
		l.dirDirty.Store(true)
		fresh = true
	}
	segs := make([]*segment, len(bases))
	for i, b := range bases {
		segs[i] = newSegment(m.files, p, b)
	}
	l.segs.Store(&segs)
	if err := l.dropDeleted(); err != nil {
		return nil, err
	}
	if b := (*l.segs.Load())[0].base; d.pointsKnown && !d.clean && b > l.start && b > points.recovery {
		// Neither a recovery point nor a log start has ever come up to the first segment: those before it lost their names.
		if err := l.beginAtStart(); err != nil {
			return nil, err
		}
		fresh = true
	}
	l.start = max(l.start, (*l.segs.Load())[0].base)
	if err := l.loadEpochs(); err != nil {
		return nil, err
	}
	if fresh {
		l.end = OffsetMeta{Offset: l.start, SegmentBase: l.start}
	} else {
		if err := l.recoverSegments(points.recovery, d.clean); err != nil {
			return nil, err
		}
		synced := points.recovery
		if d.clean || !d.pointsKnown {
			synced = l.end.Offset
		}
		if l.end.Offset < l.start {
			if err := l.beginAtStart(); err != nil {
				return nil, err
			}
		} else if err := l.recoverProducers(snapshots, synced); err != nil {
			return nil, err
		}
	}
	l.asOpened, l.cleanlyOpened = l.end, fresh || d.clean
	l.recoveryPoint.Store(l.end.Offset)
	if !fresh && l.namesDirty.Load() {
		// What was recovered is synced, but the names of its files may not be: the point moves once they are.
		l.recoveryPoint.Store(min(max(points.recovery, l.start), l.end.Offset))
		l.dirDirty.Store(true)
		l.asked.Store(true)
	}
	l.published, l.durable, l.hw = l.end, l.end, l.end
	l.checkpointed = min(max(points.hw, l.start), l.end.Offset)
	l.decidedAtOpen, l.decided = l.decided, nil // their markers lie below the high watermark, unless BeginHighWatermark says otherwise
	return l, nil
}

// dropDeleted removes segments all of whose records lie below the log start: their deletion did not survive the crash, or a replay
// of the journal has made them again, with holes.
func (l *Log) dropDeleted() error {
	segs := *l.segs.Load()
	n := 0
	for n < len(segs)-1 && segs[n+1].base <= l.start {
		if err := l.removeFiles(segs[n]); err != nil {
			return err
		}
		n++
	}
	kept := segs[n:]
	l.segs.Store(&kept)
	return nil
}

// beginAtStart empties a log that does not reach its start: it ends below it, because all its records were deleted and the crash has
// left nothing of the empty segment behind them, and no offset may be given twice; or it begins above it, with a hole that says that
// nothing was acknowledged.
func (l *Log) beginAtStart() error {
	l.m.o.Logger.Warn("a log that lost its segments in a crash begins again at its log start; nothing in them was acknowledged, or all of it deleted", "partition", l.tp.String(), "log_start_offset", l.start)
	for _, s := range *l.segs.Load() {
		if err := l.removeFiles(s); err != nil {
			return err
		}
	}
	segs := []*segment{newSegment(l.m.files, *l.path.Load(), l.start)}
	l.segs.Store(&segs)
	l.end = OffsetMeta{Offset: l.start, SegmentBase: l.start}
	l.epochs.truncateEnd(l.start + 1)
	l.namesDirty.Store(true)
	return nil
}

// listFiles gives the segments' bases and the snapshots' offsets, and removes what an interrupted cleaning or deletion has left.
func (l *Log) listFiles() (bases, snapshots []int64, err error) {
	p := *l.path.Load()
	if err := l.finishSwaps(); err != nil {
		return nil, nil, err
	}
	entries, err := l.m.o.FS.ReadDir(p)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, swapSuffix) || strings.HasSuffix(name, deletedSuffix) || strings.HasSuffix(name, cleanedSuffix) || strings.HasSuffix(name, ".tmp") {
			if err := l.m.o.FS.Remove(path.Join(p, name)); err != nil {
				return nil, nil, err
			}
			continue
		}
		if b, ok := parseBase(name, logSuffix); ok {
			bases = append(bases, b)
		}
		if s, ok := isSnapshot(name); ok {
			snapshots = append(snapshots, s)
		}
	}
	slices.Sort(bases)
	slices.Sort(snapshots)
	return bases, snapshots, nil
}

func (l *Log) loadEpochs() error {
	name := *l.path.Load() + "/" + epochFile
	b, err := readFile(l.m.o.FS, name, maxCheckpointBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	entries, err := parseEpochs(b)
	if err != nil {
		l.m.o.Logger.Warn("a leader epoch checkpoint cannot be read; epochs are taken from the batches instead", "file", name, "error", err)
		return nil
	}
	l.epochs.reset(entries)
	l.epochs.take()
	return nil
}

// recoverSegments finds where each segment ends and what its largest time is, and cuts what is torn.
func (l *Log) recoverSegments(point int64, clean bool) error {
	segs := *l.segs.Load()
	for i, s := range segs {
		if i > 0 && s.base > point && s.base != segs[i-1].last.Load()+1 && !l.cfg.Load().Compact {
			// The name of a segment before this one was lost; above the recovery point compaction leaves no gaps.
			if err := l.dropAfter(i - 1); err != nil {
				return err
			}
			break
		}
		size, err := fileSize(s.log)
		if err != nil {
			return err
		}
		s.size.Store(size)
		sealed := i < len(segs)-1 && segs[i+1].base <= point
		var whole bool
		switch {
		case sealed:
			whole, err = true, l.loadSealed(s, segs[i+1].base)
		case clean:
			whole, err = l.scan(s, size, false)
		default:
			whole, err = l.scanFrom(s, point)
			if err == nil && whole && i < len(segs)-1 {
				// The next start takes a sealed segment's largest time from the entry that a roll adds.
				err = s.finish()
			}
		}
		if err != nil {
			return err
		}
		s.synced = s.size.Load()
		s.trusted.Store(s.synced)
		if !sealed && !clean && s.last.Load() >= point {
			// What was recovered from the page cache may be read from now on: a power cut must not take it back.
			if err := syncFile(s.log); err != nil {
				return err
			}
			l.namesDirty.Store(true)
		}
		if !whole && i < len(segs)-1 {
			if err := l.dropAfter(i); err != nil {
				return err
			}
			break
		}
	}
	segs = *l.segs.Load()
	s := segs[len(segs)-1]
	l.end = OffsetMeta{Offset: s.last.Load() + 1, SegmentBase: s.base, Position: s.size.Load()}
	l.epochs.truncateEnd(l.end.Offset + 1)
	return nil
}

func syncFile(f *file) error {
	h, err := f.acquire()
	if err != nil {
		return err
	}
	defer f.release()
	return h.Sync()
}

func fileSize(f *file) (int64, error) {
	h, err := f.acquire()
	if err != nil {
		return 0, err
	}
	defer f.release()
	return h.Size()
}

// loadSealed takes a segment that is known to be whole from its indexes; they are built again where they do not fit.
func (l *Log) loadSealed(s *segment, next int64) error {
	s.last.Store(next - 1) // whether or not a record has it, the offsets up to the next segment are this one's
	if s.size.Load() == 0 {
		return nil
	}
	e, ok, err := s.tim.lastEntry()
	if err != nil || !ok || e.ts < 0 || s.base+int64(e.rel) >= next {
		if err := s.clearIndexes(); err != nil {
			return err
		}
		_, err := l.walk(s, 0, s.size.Load(), sealedWalk)
		s.last.Store(next - 1)
		return err
	}
	s.maxTs.Store(e.ts)
	s.maxTsAt.Store(s.base + int64(e.rel))
	return l.loadFirstTime(s)
}

func (l *Log) loadFirstTime(s *segment) error {
	f, err := s.log.acquire()
	if err != nil {
		return err
	}
	defer s.log.release()
	sc := scanner{f: f, limit: s.size.Load()}
	if _, h, ok, err := sc.next(); err == nil && ok {
		s.firstTs.Store(h.MaxTimestamp)
	}
	return nil
}

// scan walks a segment's batch headers; with rebuild its indexes are made anew, else they are used to begin near the end.
func (l *Log) scan(s *segment, size int64, rebuild bool) (whole bool, err error) {
	if rebuild {
		if err := s.clearIndexes(); err != nil {
			return false, err
		}
		return l.walk(s, 0, size, checkedWalk)
	}
	from := int64(0)
	if e, ok, err := s.off.lastEntry(); err != nil {
		return false, err
	} else if ok && s.plausible(e, size) {
		from = int64(e.pos)
	} else if ok {
		return l.scan(s, size, true)
	}
	if te, ok, err := s.tim.lastEntry(); err == nil && ok && te.ts >= 0 {
		s.maxTs.Store(te.ts)
		s.maxTsAt.Store(s.base + int64(te.rel))
	}
	if err := l.loadFirstTime(s); err != nil {
		return false, err
	}
	return l.walk(s, from, size, trustingWalk)
}

// scanFrom checks everything from the recovery point on, checksums too, and cuts at the first batch that is not whole.
func (l *Log) scanFrom(s *segment, point int64) (whole bool, err error) {
	size := s.size.Load()
	from := int64(0)
	e, ok, err := s.off.search(func(e offsetEntry) bool { return s.base+int64(e.rel) < point })
	if err != nil {
		return false, err
	}
	if ok && s.plausible(e, size) {
		from = int64(e.pos)
	}
	keep := func(o offsetEntry) bool { return int64(o.pos) < from || ok && int64(o.pos) == from && from > 0 }
	if err := s.off.truncate(keep); err != nil {
		return false, err
	}
	if err := s.tim.truncate(func(t timeEntry) bool { return from > 0 && t.rel <= e.rel }); err != nil {
		return false, err
	}
	if te, ok, err := s.tim.lastEntry(); err == nil && ok {
		s.maxTs.Store(te.ts)
		s.maxTsAt.Store(s.base + int64(te.rel))
	}
	if from > 0 {
		if err := l.loadFirstTime(s); err != nil {
			return false, err
		}
	}
	return l.walk(s, from, size, checkedWalk)
}

// walkMode says how far the batches of a segment are believed.
type walkMode uint8

const (
	// checkedWalk verifies checksums and cuts the file where whole batches end: nothing behind was acknowledged.
	checkedWalk walkMode = iota
	// trustingWalk looks at headers only, and checks everything where they do not lead to the end.
	trustingWalk
	// sealedWalk looks at headers only and never cuts: all of the file was made durable once, and what is damaged since is
	// reported when it is read.
	sealedWalk
)

// walk takes the batches of [from, size) into the segment's bounds and indexes.
func (l *Log) walk(s *segment, from, size int64, mode walkMode) (whole bool, err error) {
	f, err := s.log.acquire()
	if err != nil {
		return false, err
	}
	defer s.log.release()
	s.sinceIndex = 0
	first := from == 0
	if first {
		s.last.Store(s.base - 1)
	}
	s.size.Store(from)
	interval := int64(l.cfg.Load().IndexIntervalBytes)
	sc := scanner{f: f, pos: from, limit: size}
	var why error
	for {
		at, h, ok, err := sc.next()
		if err == nil && ok && h.BaseOffset <= s.last.Load() && (at > from || first) {
			err = errors.New("offsets do not rise")
		}
		if err == nil && ok && mode == checkedWalk {
			var good int64
			if good, err = verify(f, at, at+int64(h.Size())); err == nil && good == at {
				err = errChecksum
			}
		}
		if err != nil || !ok {
			why = err
			break
		}
		if !first {
			first = true // the batch that the index led to has its entry already
			s.last.Store(h.LastOffset())
			s.size.Store(at + int64(h.Size()))
			if h.MaxTimestamp > s.maxTs.Load() {
				s.maxTs.Store(h.MaxTimestamp)
				s.maxTsAt.Store(h.LastOffset())
			}
			continue
		}
		s.note(&h, at, interval)
		l.epochs.assign(h.PartitionLeaderEpoch, h.BaseOffset)
	}
	if err := s.flushIndexes(); err != nil {
		return false, err
	}
	end := s.size.Load()
	if end == size {
		return true, nil
	}
	switch mode {
	case trustingWalk:
		// Not closed as cleanly as it said: look at it properly.
		return l.scan(s, size, true)
	case sealedWalk:
		l.m.o.Logger.Error("a segment is damaged; what stands behind is not served", "partition", l.tp.String(), "segment", segmentName(s.base)+logSuffix, "at", end, "error", why)
		s.size.Store(size)
		return true, nil
	}
	return false, l.cut(s, f, end, size, why)
}

func (l *Log) cut(s *segment, f vfs.File, end, size int64, why error) error {
	reason := errNotWhole.Error()
	if why != nil {
		reason = why.Error()
	}
	l.m.o.Logger.Warn("a torn end was cut off a segment; nothing in it was acknowledged", "partition", l.tp.String(), "segment", segmentName(s.base)+logSuffix, "at", end, "bytes", size-end, "reason", reason)
	if err := f.Truncate(end); err != nil {
		return err
	}
	return f.Sync()
}

// dropAfter removes the segments behind i: they follow a hole.
func (l *Log) dropAfter(i int) error {
	segs := *l.segs.Load()
	for _, s := range segs[i+1:] {
		l.m.o.Logger.Warn("a segment behind a torn or missing one was removed; nothing in it was acknowledged", "partition", l.tp.String(), "segment", segmentName(s.base)+logSuffix)
		if err := l.removeFiles(s); err != nil {
			return err
		}
	}
	kept := segs[: i+1 : i+1]
	l.segs.Store(&kept)
	return nil
}

func (l *Log) removeFiles(s *segment) error {
	s.retire()
	name := path.Join(*l.path.Load(), segmentName(s.base))
	for _, suffix := range segmentSuffixes {
		if err := l.m.o.FS.Remove(name + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// recoverProducers loads the newest snapshot that can be read and replays what follows it.
func (l *Log) recoverProducers(snapshots []int64, synced int64) error {
	from := l.start
	loaded := false
	for i := len(snapshots) - 1; i >= 0; i-- {
		at := snapshots[i]
		name := *l.path.Load() + "/" + segmentName(at) + snapshotSuffix
		if at > l.end.Offset || at > synced {
			// It tells of transactions whose ends a crash may have cut off, or taken out of the index of those that were aborted.
			_ = l.m.o.FS.Remove(name)
			continue
		}
		if loaded {
			continue
		}
		b, err := readFile(l.m.o.FS, name, maxCheckpointBytes)
		if err == nil {
			l.producers, err = parseSnapshot(b)
		}
		if err != nil {
			l.m.o.Logger.Warn("a producer snapshot cannot be read; an older one is used", "file", name, "error", err)
			l.producers = newProducers()
			_ = l.m.o.FS.Remove(name)
			continue
		}
		from, loaded = at, true
		l.snapshotAt = at
	}
	if err := l.findOpenTxns(from); err != nil {
		return err
	}
	if err := l.replayProducers(max(from, l.start)); err != nil {
		return err
	}
	for _, s := range *l.segs.Load() {
		if err := s.txn.sync(); err != nil { // the segments are durable already, so no later sync of them would do it
			return err
		}
	}
	return nil
}

// findOpenTxns finds where the open transactions of a snapshot at an offset lie.
func (l *Log) findOpenTxns(at int64) error {
	for id, p := range l.producers.byID {
		if p.txnFirst.Offset < 0 {
			continue
		}
		first, err := l.firstOf(id, p.txnFirst.Offset, at)
		if err != nil {
			return err
		}
		if p.txnFirst = first; first.Offset >= 0 {
			l.open = append(l.open, openTxn{producerID: id, first: first})
		}
	}
	slices.SortFunc(l.open, func(a, b openTxn) int { return int(a.first.Offset - b.first.Offset) })
	return nil
}

// firstOf finds the first batch of a producer's transaction in [from, upTo). What is undecided still begins at from. What was decided
// since may have lost its beginning to compaction, or all of it and then its marker too: it is not open.
func (l *Log) firstOf(producer, from, upTo int64) (OffsetMeta, error) {
	segs, i := l.segmentOf(from)
	for ; i < len(segs) && segs[i].base < upTo; i++ {
		s := segs[i]
		pos, _, ok, err := s.position(from, s.size.Load())
		if err != nil {
			return OffsetMeta{}, err
		}
		if !ok {
			continue
		}
		f, err := s.log.acquire()
		if err != nil {
			return OffsetMeta{}, err
		}
		for sc := (scanner{f: f, pos: pos, limit: s.size.Load()}); ; {
			at, h, ok, err := sc.next()
			if err == nil && ok && h.BaseOffset < upTo {
				if h.ProducerID != producer || !h.IsTransactional() || h.IsControl() {
					continue
				}
				s.log.release()
				return OffsetMeta{Offset: h.BaseOffset, SegmentBase: s.base, Position: at}, nil
			}
			s.log.release()
			if err != nil {
				return OffsetMeta{}, err
			}
			break
		}
	}
	return OffsetMeta{Offset: -1}, nil
}

func (l *Log) replayProducers(from int64) error {
	segs, i := l.segmentOf(from)
	for ; i < len(segs); i++ {
		s := segs[i]
		limit := s.size.Load()
		pos, _, ok, err := s.position(from, limit)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := s.txn.truncate(from); err != nil {
			return err
		}
		if err := l.replaySegment(s, pos, limit, from); err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) replaySegment(s *segment, pos, limit, from int64) error {
	f, err := s.log.acquire()
	if err != nil {
		return err
	}
	defer s.log.release()
	sc := scanner{f: f, pos: pos, limit: limit}
	for {
		at, h, ok, err := sc.next()
		if err != nil || !ok {
			return err
		}
		if h.BaseOffset < from || !h.HasProducerID() {
			continue
		}
		var batch []byte
		if h.IsControl() {
			batch = make([]byte, h.Size())
			if _, err := f.ReadAt(batch, at); err != nil {
				return err
			}
		}
		if err := l.take(batch, &h, OffsetMeta{Offset: h.BaseOffset, SegmentBase: s.base, Position: at}, s); err != nil {
			return err
		}
	}
}
