package record

import (
	"errors"
	"io"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Record is one record of a batch. Its slices are valid only until the reader moves on.
type Record struct {
	Attributes     int8
	OffsetDelta    int32 // offset = the batch's BaseOffset + OffsetDelta
	TimestampDelta int64 // time = the batch's BaseTimestamp + TimestampDelta, under CreateTime
	Key            []byte
	Value          []byte // nil is null for both, and not the same as empty
	Headers        []RecordHeader
}

// RecordHeader is one header of a record; keys may repeat and be empty, a nil Value is null.
type RecordHeader struct {
	Key   []byte
	Value []byte
}

// Offset is the record's offset in the partition.
func (r *Record) Offset(h *Header) int64 { return h.BaseOffset + int64(r.OffsetDelta) }

// Timestamp is the record's time in milliseconds.
func (r *Record) Timestamp(h *Header) int64 {
	if h.TimestampType() == LogAppendTime {
		return h.MaxTimestamp
	}
	return h.BaseTimestamp + r.TimestampDelta
}

// MaxDecompressedBytes is the most that any batch may decompress to, whatever the limits say.
const MaxDecompressedBytes = 1 << 30

// Limits bound what reading one batch may cost.
type Limits struct {
	// MaxDecompressedBytes bounds the decompressed records of a batch; 0 means the absolute limit of the same name.
	MaxDecompressedBytes int64
}

// LimitsFor derives limits from the configured largest batch: honest data compresses well, but not beyond a hundred times,
// and small batches may compress to anything up to 64 MiB.
func LimitsFor(maxMessageBytes int32) Limits {
	return Limits{MaxDecompressedBytes: min(max(int64(maxMessageBytes)*100, 64<<20), MaxDecompressedBytes)}
}

func (l Limits) bytes() int64 {
	if l.MaxDecompressedBytes <= 0 || l.MaxDecompressedBytes > MaxDecompressedBytes {
		return MaxDecompressedBytes
	}
	return l.MaxDecompressedBytes
}

// fault says what is wrong inside a batch: the codec's stream, the records in it, or that it is too much.
type fault int8

const (
	faultRecords fault = iota
	faultCodec
	faultLimit
)

// contentError is an error of a batch's inside. To the world it is CORRUPT_MESSAGE; Validate maps it more finely.
type contentError struct {
	fault fault
	msg   string
	cause error
}

func (e *contentError) Error() string {
	if e.cause != nil {
		return "record batch: " + e.msg + ": " + e.cause.Error()
	}
	return "record batch: " + e.msg
}

func (e *contentError) Unwrap() error { return kerr.CorruptMessage }

func faultf(f fault, msg string, cause error) error {
	return &contentError{fault: f, msg: msg, cause: cause}
}

const (
	readerBufBytes     = 32 << 10
	readerKeepBufBytes = 1 << 20 // larger buffers go to the garbage collector and not to the pool
)

// Reader gives the records of one batch, one after the other, holding no more than the record at hand and a small window
// in memory. Close gives its buffers and decoders back.
type Reader struct {
	h      Header
	left   int32 // records still to come
	rec    Record
	plain  []byte // the records still to come, where they are not compressed
	src    io.Reader
	dec    decoder
	budget int64  // bytes that may still be decompressed
	buf    []byte // window over the decompressed stream
	r, w   int
	eof    bool
}

var readers = sync.Pool{New: func() any { return new(Reader) }}

// NewReader opens the records of batch, which must hold exactly one batch. It does not check the CRC. Errors are
// CORRUPT_MESSAGE.
func NewReader(batch []byte, lim Limits) (*Reader, error) {
	h, err := ParseHeader(batch)
	if err != nil {
		return nil, err
	}
	if h.Size() != len(batch) {
		return nil, faultf(faultRecords, "length field and size differ", nil)
	}
	if h.NumRecords < 0 {
		return nil, faultf(faultRecords, "negative number of records", nil)
	}
	r := readers.Get().(*Reader)
	r.h, r.left, r.r, r.w, r.eof, r.plain, r.src = h, h.NumRecords, 0, 0, false, nil, nil
	payload := batch[HeaderSize:]
	if h.Codec() == None {
		r.plain = payload
		return r, nil
	}
	if r.left == 0 && len(payload) == 0 {
		return r, nil // the cleaner leaves such batches behind
	}
	r.budget = lim.bytes()
	if r.src, err = r.dec.open(h.Codec(), payload, r.budget); err != nil {
		r.Close()
		return nil, err
	}
	if r.buf == nil {
		r.buf = make([]byte, readerBufBytes)
	}
	return r, nil
}

// Header is the batch's header.
func (r *Reader) Header() *Header { return &r.h }

// Next gives the next record, or nil after the last. The record is overwritten by the next call.
func (r *Reader) Next() (*Record, error) {
	if r.left == 0 {
		return nil, nil
	}
	size, err := r.recordSize()
	if err != nil {
		return nil, err
	}
	body, err := r.take(int(size))
	if err != nil {
		return nil, err
	}
	if !parseRecord(body, &r.rec) {
		return nil, faultf(faultRecords, "a record's fields do not fit its size", nil)
	}
	r.left--
	return &r.rec, nil
}

// Done checks that nothing follows the last record. Call it after Next has given nil.
func (r *Reader) Done() error {
	if r.src == nil {
		if len(r.plain) > 0 {
			return faultf(faultRecords, "bytes follow the last record", nil)
		}
		return nil
	}
	if _, ok, err := r.peek(1); err != nil {
		return err
	} else if ok {
		return faultf(faultRecords, "bytes follow the last record", nil)
	}
	return nil
}

// Close gives the reader's memory back; neither it nor its last record may be used afterwards.
func (r *Reader) Close() {
	r.dec.close()
	r.plain, r.src = nil, nil
	if cap(r.buf) > readerKeepBufBytes {
		r.buf = nil
	}
	r.rec.Key, r.rec.Value = nil, nil
	clear(r.rec.Headers[:cap(r.rec.Headers)])
	readers.Put(r)
}

func (r *Reader) recordSize() (int32, error) {
	var v int32
	var n int
	if r.src == nil {
		v, n = varint32(r.plain)
		if n > 0 {
			r.plain = r.plain[n:]
		}
	} else {
		head, _, err := r.peek(5)
		if err != nil {
			return 0, err
		}
		v, n = varint32(head)
		if n > 0 {
			r.r += n
		}
	}
	switch {
	case n == 0:
		return 0, faultf(faultRecords, "fewer records than the header says", nil)
	case n < 0 || v < 0:
		return 0, faultf(faultRecords, "malformed record size", nil)
	}
	return v, nil
}

func (r *Reader) take(n int) ([]byte, error) {
	if r.src == nil {
		if n > len(r.plain) {
			return nil, faultf(faultRecords, "a record is longer than the batch", nil)
		}
		body := r.plain[:n:n]
		r.plain = r.plain[n:]
		return body, nil
	}
	if int64(n) > r.budget+int64(r.w-r.r) {
		return nil, faultf(faultLimit, "decompresses to more than is allowed", nil)
	}
	body, ok, err := r.peek(n)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, faultf(faultRecords, "a record is longer than the batch", nil)
	}
	r.r += n
	return body, nil
}

// peek gives the next n decompressed bytes, or all there are where the stream ends before (ok is false). The window grows
// only as bytes arrive, so a size that lies costs nothing.
func (r *Reader) peek(n int) (b []byte, ok bool, err error) {
	for r.w-r.r < n && !r.eof {
		switch {
		case r.r == r.w:
			r.r, r.w = 0, 0
		case r.w == len(r.buf) && r.r > 0:
			r.w = copy(r.buf, r.buf[r.r:r.w])
			r.r = 0
		}
		if r.w == len(r.buf) {
			bigger := make([]byte, 2*len(r.buf))
			copy(bigger, r.buf[:r.w])
			r.buf = bigger
		}
		m, err := r.src.Read(r.buf[r.w:])
		r.w += m
		r.budget -= int64(m)
		if r.budget < 0 {
			return nil, false, faultf(faultLimit, "decompresses to more than is allowed", nil)
		}
		switch {
		case errors.Is(err, io.EOF):
			r.eof = true
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, false, faultf(faultRecords, "compressed data ends early", nil)
		case errors.As(err, new(*contentError)):
			return nil, false, err
		case err != nil:
			return nil, false, faultf(faultCodec, "cannot be decompressed as "+r.h.Codec().String(), err)
		}
	}
	if have := r.w - r.r; have < n {
		return r.buf[r.r:r.w], false, nil
	}
	return r.buf[r.r : r.r+n : r.r+n], true, nil
}

// Records calls fn with each record of batch, which must hold exactly one batch, until fn gives an error. The record and
// its slices are valid only during the call. It does not check the CRC. Errors are CORRUPT_MESSAGE or fn's own.
func Records(batch []byte, lim Limits, fn func(*Record) error) error {
	r, err := NewReader(batch, lim)
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		rec, err := r.Next()
		if err != nil {
			return err
		}
		if rec == nil {
			return r.Done()
		}
		if err := fn(rec); err != nil {
			return err
		}
	}
}

// parseRecord reads the record whose bytes after the size are exactly b.
func parseRecord(b []byte, r *Record) bool {
	if len(b) < 1 {
		return false
	}
	r.Attributes = int8(b[0])
	b = b[1:]
	var n int
	if r.TimestampDelta, n = varint64(b); n <= 0 {
		return false
	}
	b = b[n:]
	if r.OffsetDelta, n = varint32(b); n <= 0 {
		return false
	}
	b = b[n:]
	var ok bool
	if r.Key, b, ok = field(b); !ok {
		return false
	}
	if r.Value, b, ok = field(b); !ok {
		return false
	}
	count, n := varint32(b)
	if n <= 0 || count < 0 {
		return false
	}
	b = b[n:]
	if int64(count)*2 > int64(len(b)) { // a header is two sizes at least
		return false
	}
	r.Headers = r.Headers[:0]
	for range count {
		var h RecordHeader
		if h.Key, b, ok = field(b); !ok || h.Key == nil {
			return false
		}
		if h.Value, b, ok = field(b); !ok {
			return false
		}
		r.Headers = append(r.Headers, h)
	}
	return len(b) == 0
}

// field reads a size and that many bytes; nil for a negative size, which means null.
func field(b []byte) (v, rest []byte, ok bool) {
	size, n := varint32(b)
	if n <= 0 {
		return nil, nil, false
	}
	b = b[n:]
	if size < 0 {
		return nil, b, true
	}
	if int(size) > len(b) {
		return nil, nil, false
	}
	return b[:size:size], b[size:], true
}
