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
	l.UpdateConfig(cfg)
	l.dir.Store(d)
	p := path.Join(d.path, name)
	l.path.Store(&p)
	bases, snapshots, err := l.listFiles()
	if err != nil {
		return nil, err
	}
	fresh := false
	points := d.points[tp]
	l.start = max(points.start, 0)
	if !d.clean && len(bases) > 0 && points.recovery == 0 && points.start == 0 && bases[0] > 0 {
		// The names of the first segments were lost with the power, so nothing behind them was acknowledged.
		if bases, err = nil, l.removeAll(bases); err != nil {
			return nil, err
		}
	}
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
	l.start = max(l.start, segs[0].base)
	l.segs.Store(&segs)
	if err := l.loadEpochs(); err != nil {
		return nil, err
	}
	if fresh {
		l.end = OffsetMeta{Offset: l.start, SegmentBase: l.start}
	} else {
		if err := l.recoverSegments(points.recovery, d.clean); err != nil {
			return nil, err
		}
		if err := l.recoverProducers(snapshots); err != nil {
			return nil, err
		}
	}
	l.asOpened, l.cleanlyOpened = l.end, fresh || d.clean
	l.start = min(l.start, l.end.Offset)
	l.recoveryPoint.Store(l.end.Offset)
	l.published, l.durable, l.hw = l.end, l.end, l.end
	return l, nil
}

// listFiles gives the segments' bases and the snapshots' offsets, and removes what an interrupted cleaning or deletion has left.
func (l *Log) listFiles() (bases, snapshots []int64, err error) {
	p := *l.path.Load()
	entries, err := l.m.o.FS.ReadDir(p)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, deletedSuffix) || strings.HasSuffix(name, cleanedSuffix) || strings.HasSuffix(name, ".tmp") {
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
		}
		if err != nil {
			return err
		}
		s.trusted, s.synced = s.size.Load(), s.size.Load()
		if !sealed && !clean && s.last.Load() >= point {
			// What was recovered from the page cache may be read from now on: a power cut must not take it back.
			if err := syncFile(s.log); err != nil {
				return err
			}
			l.namesDirty.Store(true)
		}
		if i < len(segs)-1 && (!whole && !sealed || !sealed && !clean && segs[i+1].base != s.last.Load()+1) {
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
	defer s.last.Store(next - 1) // whether or not a record has it, the offsets up to the next segment are this one's
	if s.size.Load() == 0 {
		return nil
	}
	e, ok, err := s.tim.lastEntry()
	if err != nil || !ok || e.ts < 0 || s.base+int64(e.rel) >= next {
		size := s.size.Load()
		whole, err := l.scan(s, size, true)
		if err == nil && !whole {
			// What is sealed was durable: damage in it is no torn end. It stays for a repair, and reads of it are refused.
			s.size.Store(size)
			l.m.o.Logger.Error("a sealed segment is damaged; what cannot be read of it is not served", "partition", l.tp.String(), "segment", segmentName(s.base)+logSuffix)
		}
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
		if err := s.off.clear(); err != nil {
			return false, err
		}
		if err := s.tim.clear(); err != nil {
			return false, err
		}
		return l.walk(s, 0, size, true)
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
	return l.walk(s, from, size, false)
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
	return l.walk(s, from, size, true)
}

// walk takes the batches of [from, size) in; with check their checksums are verified and the file is cut where they end.
func (l *Log) walk(s *segment, from, size int64, check bool) (whole bool, err error) {
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
		if err == nil && ok && check {
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
	if !check {
		// Not closed as cleanly as it said: look at it properly.
		return l.scan(s, size, true)
	}
	if l.isSealed(s) {
		return false, nil
	}
	return false, l.cut(s, f, end, size, why)
}

// removeAll removes the segments of a log that lost its beginning.
func (l *Log) removeAll(bases []int64) error {
	for _, b := range bases {
		l.m.o.Logger.Warn("a segment without those before it was removed; nothing in it was acknowledged", "partition", l.tp.String(), "segment", segmentName(b)+logSuffix)
		if err := l.removeFiles(newSegment(l.m.files, *l.path.Load(), b)); err != nil {
			return err
		}
	}
	return nil
}

// isSealed says whether everything in a segment was durable before this start: the recovery point lies behind it.
func (l *Log) isSealed(s *segment) bool {
	segs, point := *l.segs.Load(), l.dir.Load().points[l.tp].recovery
	for i, g := range segs[:len(segs)-1] {
		if g == s {
			return segs[i+1].base <= point
		}
	}
	return false
}

func (l *Log) cut(s *segment, f vfs.File, end, size int64, why error) error {
	reason := "the last batch is not whole"
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
		l.m.o.Logger.Warn("a segment behind a torn one was removed", "partition", l.tp.String(), "segment", segmentName(s.base)+logSuffix)
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
	for _, suffix := range []string{logSuffix, offsetSuffix, timeSuffix, txnSuffix, snapshotSuffix} {
		if err := l.m.o.FS.Remove(name + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// recoverProducers loads the newest snapshot that can be read and replays what follows it.
func (l *Log) recoverProducers(snapshots []int64) error {
	from := l.start
	loaded := false
	for i := len(snapshots) - 1; i >= 0; i-- {
		at := snapshots[i]
		name := *l.path.Load() + "/" + segmentName(at) + snapshotSuffix
		if at > l.end.Offset {
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
	if err := l.findOpenTxns(); err != nil {
		return err
	}
	return l.replayProducers(max(from, l.start))
}

// findOpenTxns finds where the open transactions of a snapshot lie.
func (l *Log) findOpenTxns() error {
	for id, p := range l.producers.byID {
		if p.txnFirst.Offset < 0 {
			continue
		}
		segs, i := l.segmentOf(p.txnFirst.Offset)
		pos, _, ok, err := segs[i].position(p.txnFirst.Offset, segs[i].size.Load())
		if err != nil {
			return err
		}
		if !ok {
			p.txnFirst.Offset = -1
			continue
		}
		p.txnFirst = OffsetMeta{Offset: p.txnFirst.Offset, SegmentBase: segs[i].base, Position: pos}
		l.open = append(l.open, openTxn{producerID: id, first: p.txnFirst})
	}
	slices.SortFunc(l.open, func(a, b openTxn) int { return int(a.first.Offset - b.first.Offset) })
	return nil
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
