package sharefetch

import (
	"hash/maphash"
	"io"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/share"
	"github.com/ottla/ottla/internal/wire"
)

// scan reads the headers of a slice's batches, many at a time.
type scan struct {
	s   log.Slice
	pos int64 // of the next batch
	buf *wire.Buffer
	at  int64 // where buf begins
	n   int   // bytes in buf
}

// scanBytes is how much is read at a time: many small batches, and not much beside the header of a large one.
const scanBytes = 16 << 10

func newScan(s log.Slice) *scan { return &scan{s: s, buf: wire.GetBuffer(scanBytes)} }

func (c *scan) close() { c.buf.Release() }

// next gives the next whole batch's header and position; ok is false at the end.
func (c *scan) next() (h record.Header, pos int64, ok bool, err error) {
	if c.pos+record.HeaderSize > int64(c.s.Len()) {
		return h, 0, false, nil
	}
	if c.pos < c.at || c.pos+record.HeaderSize > c.at+int64(c.n) {
		n, err := c.s.ReadAt(c.buf.Bytes()[:scanBytes], c.pos)
		if err != nil && err != io.EOF {
			return h, 0, false, err
		}
		if n < record.HeaderSize {
			return h, 0, false, nil
		}
		c.at, c.n = c.pos, n
	}
	h, err = record.ParseHeader(c.buf.Bytes()[c.pos-c.at : c.n])
	if err != nil {
		return h, 0, false, wire.Errorf(kerr.CorruptMessage, "%v", err)
	}
	if c.pos+int64(h.Size()) > int64(c.s.Len()) {
		return h, 0, false, nil
	}
	pos = c.pos
	c.pos += int64(h.Size())
	return h, pos, true, nil
}

// found is what was read for a lease.
type found struct {
	slice   log.Slice
	batches []share.Batch
	at      []int64 // where each batch begins in the slice, and one past the last
	upTo    int64   // the last offset covered
}

// look reads from an offset up to the batch that holds upTo, about maxBytes of the log.
func (m *Manager) look(l *log.Log, from, upTo int64, maxBytes int, committed, keys bool) (f found, err error) {
	bound := l.HighWatermark()
	if committed {
		bound = l.LastStable()
	}
	if from >= bound.Offset {
		return found{upTo: from - 1}, nil
	}
	visible, err := l.Visible(from, bound)
	if err != nil {
		return f, err
	}
	f.slice, err = l.Read(visible, maxBytes, bound, true)
	if err != nil {
		return f, err
	}
	f.upTo = bound.Offset - 1
	if f.slice.Len() == 0 {
		return f, nil
	}
	var aborted []log.AbortedTxn
	if committed {
		aborted = l.AbortedTxns(from, bound.Offset)
	}
	if err := f.scan(from, upTo, aborted); err != nil {
		f.slice.Release()
		return found{}, err
	}
	if keys {
		if err := m.keys(&f); err != nil {
			f.slice.Release()
			return found{}, err
		}
	}
	return f, nil
}

// scan lists the batches. Records of the aborted transactions and markers are nobody's.
func (f *found) scan(from, upTo int64, aborted []log.AbortedTxn) error {
	slices.SortFunc(aborted, func(a, b log.AbortedTxn) int { return int(min(max(a.FirstOffset-b.FirstOffset, -1), 1)) })
	open := map[int64]bool{}
	c := newScan(f.slice)
	defer c.close()
	whole := false
	for {
		h, pos, ok, err := c.next()
		if err != nil && len(f.batches) == 0 {
			return err
		}
		if err != nil || !ok {
			break
		}
		f.at = append(f.at[:min(len(f.at), len(f.batches))], pos, pos+int64(h.Size()))
		b := share.Batch{First: max(h.BaseOffset, from), Last: h.LastOffset(), Skip: h.IsControl()}
		if len(aborted) > 0 || len(open) > 0 {
			b.Skip, aborted = skip(&h, open, aborted)
		}
		f.batches = append(f.batches, b)
		whole = true
		if b.Last >= upTo {
			break
		}
	}
	if whole {
		f.upTo = f.batches[len(f.batches)-1].Last
	} else {
		f.upTo = from - 1 // not one whole batch: nothing is known
	}
	return nil
}

// skip says whether a batch is of an aborted transaction, or a marker. open are the producers whose aborted transaction is being read.
func skip(h *record.Header, open map[int64]bool, aborted []log.AbortedTxn) (bool, []log.AbortedTxn) {
	for len(aborted) > 0 && aborted[0].FirstOffset <= h.LastOffset() {
		open[aborted[0].ProducerID] = true
		aborted = aborted[1:]
	}
	if h.IsControl() {
		// The marker of an aborted transaction ends it. One that commits has no entry, so that its producer is not among the open.
		delete(open, h.ProducerID)
		return true, aborted
	}
	return h.IsTransactional() && open[h.ProducerID], aborted
}

// keys reads the keys of all records that may be leased.
func (m *Manager) keys(f *found) error {
	for i := range f.batches {
		b := &f.batches[i]
		if b.Skip {
			continue
		}
		n := int(f.at[i+1] - f.at[i])
		buf := wire.GetBuffer(n)
		if _, err := f.slice.ReadAt(buf.Bytes()[:n], f.at[i]); err != nil && err != io.EOF {
			buf.Release()
			return err
		}
		h, err := record.ParseHeader(buf.Bytes()[:n])
		if err == nil {
			err = record.Records(buf.Bytes()[:n], limits, func(r *record.Record) error {
				if o := h.BaseOffset + int64(r.OffsetDelta); o >= b.First {
					b.Keys = append(b.Keys, share.Key{Offset: o, Null: r.Key == nil, Hash: maphash.Bytes(m.seed, r.Key)})
				}
				return nil
			})
		}
		buf.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// cut gives the part of the slice that holds the leased records; the rest of it is let go.
func (f *found) cut(leases []share.Lease) log.Slice {
	if f.slice.Len() == 0 || len(leases) == 0 {
		f.slice.Release()
		return log.Slice{}
	}
	first, last := leases[0].First, leases[len(leases)-1].Last
	from, to := -1, 0
	for i := range f.batches {
		if f.batches[i].Last < first || f.batches[i].First > last {
			continue
		}
		if from < 0 {
			from = i
		}
		to = i + 1
	}
	if from < 0 {
		f.slice.Release()
		return log.Slice{}
	}
	return f.slice.Sub(f.at[from], f.at[to])
}
