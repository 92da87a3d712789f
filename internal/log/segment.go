package log

import (
	"fmt"
	"io"
	"math"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ottla/ottla/internal/record"
)

const (
	logSuffix      = ".log"
	offsetSuffix   = ".index"
	timeSuffix     = ".timeindex"
	txnSuffix      = ".txnindex"
	snapshotSuffix = ".snapshot"
	deletedSuffix  = ".deleted"
	cleanedSuffix  = ".cleaned"
	swapSuffix     = ".swap"
)

// segmentName is the name of a segment's files without their suffix.
func segmentName(base int64) string { return fmt.Sprintf("%020d", base) }

// parseBase is the inverse, for a file name with the given suffix.
func parseBase(name, suffix string) (int64, bool) {
	text, ok := strings.CutSuffix(name, suffix)
	if !ok || len(text) != 20 {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 0
}

// segment is one file of batches with its indexes. Batches are appended by whoever holds Log.mu; the rest may read meanwhile.
type segment struct {
	base int64
	dir  string // of the partition
	log  *file
	off  *index[offsetEntry]
	tim  *index[timeEntry]
	txn  *txnIndex

	size    atomic.Int64 // bytes of whole batches
	maxTs   atomic.Int64 // -1: no batch with a time
	maxTsAt atomic.Int64 // last offset of the batch that has it
	firstTs atomic.Int64 // largest time of the first batch, -1: not known
	last    atomic.Int64 // last offset, base-1 when empty

	// Of the appender, guarded by Log.mu.
	sinceIndex int64

	// Of compaction: the earliest time after which tombstones in here may go, 0 for none.
	horizon atomic.Int64

	// Of the checkpoint, guarded by Log.opMu.
	synced int64

	// trusted says from which position on this process wrote the bytes itself; below, reads check them once.
	trusted  atomic.Int64
	verified intervals
	mended   atomic.Bool // damage was repaired since the scrub found it
}

func newSegment(c *fileCache, dir string, base int64) *segment {
	return newSegmentNamed(c, dir, base, "")
}

// newSegmentNamed is newSegment, of files with something behind their names.
func newSegmentNamed(c *fileCache, dir string, base int64, extra string) *segment {
	name := path.Join(dir, segmentName(base))
	s := &segment{base: base, dir: dir, log: c.file(name + logSuffix + extra)}
	s.off = newOffsetIndex(c.file(name + offsetSuffix + extra))
	s.tim = newTimeIndex(c.file(name + timeSuffix + extra))
	s.txn = newTxnIndex(c, c.file(name+txnSuffix+extra), base)
	s.maxTs.Store(record.NoTimestamp)
	s.firstTs.Store(record.NoTimestamp)
	s.last.Store(base - 1)
	return s
}

// retire closes the segment's files once their readers are done.
func (s *segment) retire() {
	s.log.retire()
	s.off.file.retire()
	s.tim.file.retire()
	s.txn.file.retire()
}

// write puts a batch's bytes at the segment's end; REQUIRES: Log.mu.
func (s *segment) write(b []byte) error {
	// What may fail for want of a descriptor comes before the bytes: note needs both indexes.
	if err := s.off.load(); err != nil {
		return err
	}
	if err := s.tim.load(); err != nil {
		return err
	}
	f, err := s.log.acquire()
	if err != nil {
		return err
	}
	defer s.log.release()
	pos := s.size.Load()
	if _, err := f.WriteAt(b, pos); err != nil {
		if noSpace(err) {
			// Whatever part was written must not stand behind the segment's end.
			if terr := f.Truncate(pos); terr != nil {
				return terr
			}
		}
		return err
	}
	return nil
}

// note takes a batch that stands at pos into the segment's bounds and indexes; REQUIRES: Log.mu, or sole use.
func (s *segment) note(h *record.Header, pos int64, interval int64) {
	last := h.LastOffset()
	if h.MaxTimestamp > s.maxTs.Load() {
		s.maxTs.Store(h.MaxTimestamp)
		s.maxTsAt.Store(last)
	}
	if s.firstTs.Load() == record.NoTimestamp {
		s.firstTs.Store(h.MaxTimestamp)
	}
	if s.sinceIndex > interval {
		s.off.append(offsetEntry{uint32(last - s.base), uint32(pos)})
		s.noteTime()
		s.sinceIndex = 0
	}
	s.sinceIndex += int64(h.Size())
	s.last.Store(last)
	s.size.Store(pos + int64(h.Size()))
}

// noteTime adds the largest time so far to the time index, where it has grown.
func (s *segment) noteTime() {
	ts, at := s.maxTs.Load(), s.maxTsAt.Load()
	if ts < 0 {
		return
	}
	if e, ok, err := s.tim.lastEntry(); err != nil || ok && (ts <= e.ts || uint32(at-s.base) <= e.rel) {
		return
	}
	s.tim.append(timeEntry{ts, uint32(at - s.base)})
}

// flushIndexes writes entries that are only in memory; they need not be durable.
func (s *segment) flushIndexes() error {
	if err := s.off.flush(); err != nil {
		return err
	}
	return s.tim.flush()
}

// clearIndexes empties the indexes, so that they can be built again.
func (s *segment) clearIndexes() error {
	if err := s.off.clear(); err != nil {
		return err
	}
	return s.tim.clear()
}

// finish ends the segment: no more batches come. The time index gets its last entry, the files their exact sizes.
func (s *segment) finish() error {
	if _, err := s.tim.len(); err != nil {
		return err
	}
	s.noteTime()
	if _, err := s.off.len(); err != nil {
		return err
	}
	if err := s.off.trim(); err != nil {
		return err
	}
	return s.tim.trim()
}

// position finds the first batch whose last offset is at or above offset, scanning from the index's hint. ok is false where no
// batch up to limit has it.
func (s *segment) position(offset, limit int64) (pos int64, h record.Header, ok bool, err error) {
	rel := offset - s.base
	var hint int64
	if e, found, err := s.off.search(func(e offsetEntry) bool { return int64(e.rel) <= rel }); err != nil {
		return 0, h, false, err
	} else if found {
		hint = int64(e.pos)
		if !s.plausible(e, limit) {
			hint = 0 // an index is only a hint; a wrong one costs time
		}
	}
	f, err := s.log.acquire()
	if err != nil {
		return 0, h, false, err
	}
	defer s.log.release()
	sc := scanner{f: f, pos: hint, limit: limit}
	for {
		pos, h, ok, err := sc.next()
		if err != nil || !ok {
			return pos, h, false, err
		}
		if h.LastOffset() >= offset {
			return pos, h, true, nil
		}
	}
}

// plausible checks an index entry against the batch that it points to.
func (s *segment) plausible(e offsetEntry, limit int64) bool {
	if int64(e.pos)+record.HeaderSize > limit {
		return false
	}
	f, err := s.log.acquire()
	if err != nil {
		return false
	}
	defer s.log.release()
	var b [record.HeaderSize]byte
	if _, err := f.ReadAt(b[:], int64(e.pos)); err != nil {
		return false
	}
	h, err := record.ParseHeader(b[:])
	return err == nil && h.LastOffset() == s.base+int64(e.rel)
}

// scanner walks batch headers in a file without reading the records.
type scanner struct {
	f          io.ReaderAt
	pos, limit int64
	buf        [record.HeaderSize]byte
}

// next gives the next batch's position and header; ok is false at the limit, or where a batch does not end before it.
func (s *scanner) next() (pos int64, h record.Header, ok bool, err error) {
	if s.pos+record.HeaderSize > s.limit {
		return s.pos, h, false, nil
	}
	if _, err := s.f.ReadAt(s.buf[:], s.pos); err != nil {
		if err == io.EOF {
			return s.pos, h, false, nil
		}
		return s.pos, h, false, err
	}
	h, err = record.ParseHeader(s.buf[:])
	if err != nil {
		return s.pos, h, false, err
	}
	if s.pos+int64(h.Size()) > s.limit {
		return s.pos, h, false, nil
	}
	pos = s.pos
	s.pos += int64(h.Size())
	return pos, h, true, nil
}

// distrust makes every read of the segment verify what it serves, because damage was found in it.
func (s *segment) distrust() {
	s.trusted.Store(math.MaxInt64)
	s.verified.clear()
}

// intervals is a small set of byte ranges.
type intervals struct {
	mu   sync.Mutex
	list [][2]int64 // sorted, apart
}

// intervalsMax bounds the set; beyond it the first is forgotten, which costs one more check.
const intervalsMax = 64

func (v *intervals) has(from, to int64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range v.list {
		if r[0] <= from && to <= r[1] {
			return true
		}
	}
	return from >= to
}

func (v *intervals) clear() {
	v.mu.Lock()
	v.list = nil
	v.mu.Unlock()
}

func (v *intervals) add(from, to int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out [][2]int64
	placed := false
	for _, r := range v.list {
		switch {
		case r[1] < from:
			out = append(out, r)
		case to < r[0]:
			if !placed {
				out, placed = append(out, [2]int64{from, to}), true
			}
			out = append(out, r)
		default:
			from, to = min(from, r[0]), max(to, r[1])
		}
	}
	if !placed {
		out = append(out, [2]int64{from, to})
	}
	if len(out) > intervalsMax {
		out = out[1:]
	}
	v.list = out
}
