package log

import (
	"errors"
	"io"
	"os"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/vfs"
	"github.com/ottla/ottla/internal/wire"
)

// Slice is a range of whole batches in a segment file (the last one may be cut short by a limit, as Kafka's is). It keeps the
// file open until Release. The zero Slice is empty.
type Slice struct {
	file *file
	f    vfs.File
	base int64
	pos  int64
	n    int
}

// Len is the number of bytes.
func (s Slice) Len() int { return s.n }

// SegmentBase is the base offset of the segment that holds the bytes.
func (s Slice) SegmentBase() int64 { return s.base }

// Position is where the bytes begin in the segment.
func (s Slice) Position() int64 { return s.pos }

// Range gives the kernel's file and where the bytes lie in it, for sendfile; a nil file where the disk is in memory.
func (s Slice) Range() (f *os.File, off, n int64) {
	if s.f == nil {
		return nil, 0, 0
	}
	return s.f.OSFile(), s.pos, int64(s.n)
}

// ReadAt reads from the slice's own start.
func (s Slice) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(s.n) {
		return 0, io.EOF
	}
	short := false
	if int64(len(p)) > int64(s.n)-off {
		p, short = p[:int64(s.n)-off], true
	}
	n, err := s.f.ReadAt(p, s.pos+off)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// Sub is the part of the slice from its byte from up to its byte to. It takes the slice's place: one of the two is released.
func (s Slice) Sub(from, to int64) Slice {
	s.pos += from
	s.n = int(to - from)
	return s
}

// Release lets the file go; it is called once for a slice that is not empty, and may be for one that is.
func (s Slice) Release() {
	if s.file != nil {
		s.file.release()
	}
}

// Read gives batches from the one that holds offset from up to bound, about maxBytes of them; at least one whole batch where
// minOneBatch is set. An empty slice: there is nothing between from and bound. Errors: OFFSET_OUT_OF_RANGE, a
// *CorruptionError that CORRUPT_MESSAGE stands in.
func (l *Log) Read(from int64, maxBytes int, bound OffsetMeta, minOneBatch bool) (Slice, error) {
	l.posMu.Lock()
	start, end := l.start, l.published
	l.posMu.Unlock()
	if from < start || from > end.Offset {
		return Slice{}, wire.Errorf(kerr.OffsetOutOfRange, "%s holds offsets %d to %d, not %d", l.tp, start, end.Offset, from)
	}
	if from >= bound.Offset {
		return Slice{}, nil
	}
	for tries := 0; ; tries++ {
		s, err := l.read(from, maxBytes, bound, minOneBatch)
		if !errors.Is(err, os.ErrClosed) || tries == readTries {
			return s, l.readError(err)
		}
		// The segment went while it was looked for: retention, a move to another disk, the end of the topic.
		if start := l.LogStartOffset(); from < start {
			return Slice{}, wire.Errorf(kerr.OffsetOutOfRange, "%s begins at offset %d now, above %d", l.tp, start, from)
		}
	}
}

// readTries bounds how often a read begins again because the segment it wanted is being replaced.
const readTries = 3

// readError is what a client hears where a file could not be opened; that is no damage, and no failure of the disk that writes.
func (l *Log) readError(err error) error {
	var ke *kerr.Error
	if err == nil || errors.As(err, &ke) {
		return err
	}
	return wire.Errorf(kerr.KafkaStorageError, "%s cannot be read: %v", l.tp, err)
}

// read is one try; os.ErrClosed where a segment has gone meanwhile.
func (l *Log) read(from int64, maxBytes int, bound OffsetMeta, minOneBatch bool) (Slice, error) {
	segs, i := l.segmentOf(from)
	for ; i < len(segs); i++ {
		s := segs[i]
		if s.base > bound.SegmentBase {
			break
		}
		limit := s.size.Load()
		if s.base == bound.SegmentBase {
			limit = min(limit, bound.Position)
		}
		pos, h, ok, err := s.position(from, limit)
		if errors.Is(err, os.ErrClosed) || noFiles(err) {
			return Slice{}, err
		}
		if err != nil {
			return Slice{}, l.unreadable(s, pos, from, err)
		}
		if !ok {
			continue // compaction may have left nothing here from the offset on
		}
		return l.slice(s, pos, limit, &h, maxBytes, minOneBatch, from)
	}
	return Slice{}, nil
}

func (l *Log) slice(s *segment, pos, limit int64, first *record.Header, maxBytes int, minOneBatch bool, from int64) (Slice, error) {
	n := min(int64(maxBytes), limit-pos)
	if int64(first.Size()) > n {
		if !minOneBatch {
			return Slice{}, nil
		}
		n = int64(first.Size())
	} else if pos+n < limit {
		// Cut at a batch where the index knows one: a client throws the half of a batch away.
		e, ok, err := s.off.search(func(e offsetEntry) bool { return int64(e.pos) <= pos+n })
		if err == nil && ok && int64(e.pos) > pos && s.plausible(e, limit) {
			n = int64(e.pos) - pos
		}
	}
	f, err := s.log.acquire()
	if err != nil {
		return Slice{}, err
	}
	if trusted := s.trusted.Load(); pos < trusted && !s.verified.has(pos, min(pos+n, trusted)) {
		good, err := verify(f, pos, pos+n)
		if good > pos {
			s.verified.add(pos, good)
		}
		if err != nil && good == pos {
			s.log.release()
			return Slice{}, l.unreadable(s, pos, from, err)
		}
		if err != nil {
			n = good - pos // what comes before the damage is served
			l.tellDamage(s)
		}
	}
	return Slice{file: s.log, f: f, base: s.base, pos: pos, n: int(n)}, nil
}

var (
	errChecksum = errors.New("checksum does not match")
	errNotWhole = errors.New("the last batch is not whole")
)

// verify checks the batches that lie wholly in [pos, end) and gives the end of the last good one; the error says what is wrong with
// the next.
func verify(f vfs.File, pos, end int64) (good int64, err error) {
	sc := scanner{f: f, pos: pos, limit: end}
	for {
		at, h, ok, err := sc.next()
		if err != nil || !ok {
			return at, err
		}
		buf := wire.GetBuffer(h.Size())
		_, err = f.ReadAt(buf.Bytes(), at)
		if err == nil && !record.CheckCRC(buf.Bytes()) {
			err = errChecksum
		}
		buf.Release()
		if err != nil {
			return at, err
		}
	}
}

// unreadable turns a failure to read into a protocol error that tells where the damage is.
func (l *Log) unreadable(s *segment, pos, offset int64, err error) error {
	c := &CorruptionError{Dir: *l.path.Load(), Segment: segmentName(s.base) + logSuffix, Position: pos, Offset: offset, Reason: err.Error()}
	l.m.o.Logger.Error("corrupt data was found and not served", "partition", l.tp.String(), "error", c)
	l.m.metrics.corrupt.Inc()
	l.tellDamage(s)
	return wire.Errorf(kerr.CorruptMessage, "%v", c)
}

// AbortedTxns are the aborted transactions that a reader of [from, upTo) has to skip.
func (l *Log) AbortedTxns(from, upTo int64) []AbortedTxn {
	out := []AbortedTxn{}
	segs, i := l.segmentOf(from)
	for ; i < len(segs); i++ {
		entries, err := segs[i].txn.list()
		if err != nil {
			l.m.o.Logger.Error("an index of aborted transactions could not be read", "partition", l.tp.String(), "segment", segs[i].base, "error", err)
			continue
		}
		for _, e := range entries {
			if e.last >= from && e.first < upTo {
				out = append(out, AbortedTxn{e.producerID, e.first})
			}
			if e.lastStable >= upTo {
				return out
			}
		}
	}
	return out
}
