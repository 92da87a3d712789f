package store

import (
	"errors"
	"fmt"
	"io"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/vfs"
	"github.com/ottla/ottla/internal/wire/schema"
)

// maxBatchBytes bounds a batch of the metadata log, and with it what a size field can make us allocate.
const maxBatchBytes = 256 << 20

// maxOffset is beyond every offset that a log can reach, and far from where numbers overflow.
const maxOffset = 1 << 60

// scanner reads the batches of a file one after the other.
type scanner struct {
	f         vfs.File
	pos, size int64
	buf       []byte // the file's bytes from bufPos on
	bufPos    int64
}

const readAhead = 256 << 10

func newScanner(f vfs.File) (*scanner, error) {
	size, err := f.Size()
	return &scanner{f: f, size: size}, err
}

// errTorn is a batch that is cut off, damaged or no batch at all.
var errTorn = errors.New("damaged batch")

// next gives the batch at pos and moves on. io.EOF at the end of the file, errTorn where there is no whole batch.
// The bytes are valid until the next call.
func (s *scanner) next() ([]byte, record.Header, error) {
	if s.pos >= s.size {
		return nil, record.Header{}, io.EOF
	}
	b, err := s.peek(record.HeaderSize)
	if err != nil {
		return nil, record.Header{}, err
	}
	h, err := record.ParseHeader(b)
	if err != nil || h.Magic != 2 || h.Size() < record.HeaderSize || h.Size() > maxBatchBytes || h.LastOffsetDelta < 0 || h.BaseOffset < 0 || h.BaseOffset > maxOffset {
		return nil, h, errTorn
	}
	if b, err = s.peek(h.Size()); err != nil {
		return nil, h, err
	}
	if !record.CheckCRC(b) {
		return nil, h, errTorn
	}
	s.pos += int64(h.Size())
	return b, h, nil
}

// peek gives n bytes from pos, errTorn where the file ends before.
func (s *scanner) peek(n int) ([]byte, error) {
	if s.pos+int64(n) > s.size {
		return nil, errTorn
	}
	if s.pos < s.bufPos || s.pos+int64(n) > s.bufPos+int64(len(s.buf)) {
		want := min(max(int64(n), readAhead), s.size-s.pos)
		if int64(cap(s.buf)) < want {
			s.buf = make([]byte, want)
		}
		s.buf = s.buf[:want]
		s.bufPos = s.pos
		if k, err := s.f.ReadAt(s.buf, s.pos); err != nil && !(errors.Is(err, io.EOF) && int64(k) == want) {
			return nil, fmt.Errorf("read %s at %d: %w", s.f.Name(), s.pos, err)
		}
	}
	at := s.pos - s.bufPos
	return s.buf[at : at+int64(n)], nil
}

// anyAfter says whether a whole batch of an offset beyond next starts somewhere after pos.
func (s *scanner) anyAfter(next int64) (int64, bool) {
	from := s.pos
	defer func() { s.pos = from }()
	for s.pos = from + 1; s.pos+record.HeaderSize <= s.size; s.pos++ {
		b, err := s.peek(record.HeaderSize)
		if err != nil {
			return 0, false
		}
		h, err := record.ParseHeader(b)
		if err != nil || h.Magic != 2 || h.BaseOffset <= next || h.BaseOffset > next+1<<32 || h.Size() < record.HeaderSize || h.Size() > maxBatchBytes {
			continue
		}
		if b, err = s.peek(h.Size()); err == nil && record.CheckCRC(b) {
			return s.pos, true
		}
	}
	return 0, false
}

// dataBatch builds one batch of metadata records.
func dataBatch(base int64, epoch int32, now int64, records []metadata.Versioned) ([]byte, error) {
	b := record.NewBuilder(record.BuilderOptions{BaseOffset: base, LeaderEpoch: epoch})
	var value []byte
	for _, r := range records {
		var err error
		if value, err = schema.AppendMetadataRecord(value[:0], r.Message, r.Version); err != nil {
			return nil, err
		}
		b.Append(now, nil, value, nil)
		if b.Size() > maxBatchBytes/2 {
			return nil, fmt.Errorf("%d metadata records are more than %d bytes: split the operation", len(records), maxBatchBytes/2)
		}
	}
	return b.Finish(), nil
}

// replayBatch replays the records of a batch from an offset on. Control records move the position only.
func replayBatch(d *metadata.Delta, batch []byte, h record.Header, from int64) error {
	if h.IsControl() {
		d.SetPosition(h.LastOffset(), h.PartitionLeaderEpoch)
		return nil
	}
	err := record.Records(batch, record.Limits{MaxDecompressedBytes: maxBatchBytes}, func(r *record.Record) error {
		if r.Offset(&h) < from {
			return nil
		}
		m, _, err := schema.ReadMetadataRecord(r.Value)
		if err != nil {
			return fmt.Errorf("record at offset %d: %w; a newer release wrote it, or it is damaged", r.Offset(&h), err)
		}
		return d.Replay(r.Offset(&h), h.PartitionLeaderEpoch, m)
	})
	if err == nil {
		d.SetPosition(h.LastOffset(), h.PartitionLeaderEpoch)
	}
	return err
}
