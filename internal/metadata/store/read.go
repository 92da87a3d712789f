package store

import (
	"errors"
	"io"
	"os"
	"path"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire"
)

// indexBytes is how far apart the entries of a segment's index lie.
const indexBytes = 64 << 10

// segment is one file of the log as its readers see it.
type segment struct {
	base  int64
	size  int64
	index []indexEntry // batches about every indexBytes, the first included
}

type indexEntry struct{ offset, pos int64 }

func (g *segment) add(offset, pos, n int64) {
	if len(g.index) == 0 || pos-g.index[len(g.index)-1].pos >= indexBytes {
		g.index = append(g.index, indexEntry{offset, pos})
	}
	g.size = pos + n
}

func (s *Store) forget(base int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, g := range s.segments {
		if g.base == base {
			s.segments = append(s.segments[:i:i], s.segments[i+1:]...)
			return
		}
	}
}

// Read gives committed batches from the one that holds offset on: at least one when there is any, else up to
// maxBytes. end is the offset after the last committed record. An offset before the log, which a snapshot stands
// for, or beyond end is OFFSET_OUT_OF_RANGE.
func (s *Store) Read(offset int64, maxBytes int) (batches []byte, end int64, err error) {
	s.mu.Lock()
	end = s.committed
	var at *segment
	for _, g := range s.segments {
		if g.base <= offset {
			at = g
		}
	}
	var base, pos, size int64
	if at != nil {
		base, size = at.base, at.size
		for _, e := range at.index {
			if e.offset <= offset {
				pos = e.pos
			}
		}
	}
	s.mu.Unlock()
	if at == nil || offset > end {
		return nil, end, wire.Errorf(kerr.OffsetOutOfRange, "offset %d of the metadata log: it holds those before %d", offset, end)
	}
	if offset == end {
		return nil, end, nil
	}
	f, err := s.fs.OpenFile(path.Join(s.dir, segmentName(base)), os.O_RDONLY, 0)
	if err != nil {
		return nil, end, err
	}
	defer f.Close()
	sc := &scanner{f: f, pos: pos, size: size}
	for {
		var batch []byte
		var h record.Header
		if batch, h, err = sc.next(); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return batches, end, err
		}
		if h.NextOffset() > end || len(batches) > 0 && len(batches)+len(batch) > maxBytes {
			return batches, end, nil
		}
		if h.LastOffset() >= offset {
			batches = append(batches, batch...)
		}
	}
}
