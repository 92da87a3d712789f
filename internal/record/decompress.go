package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

const (
	// zstdWindowBytes is what the pooled zstd decoders keep; levels up to 19 need no more.
	zstdWindowBytes = 8 << 20
	// zstdMaxWindowBytes is the most that a frame may ask for: what the highest zstd level uses, and what Java's decoder allows.
	zstdMaxWindowBytes = 128 << 20
	// snappyMaxRatio is above the most that snappy can do: a copy of 64 bytes takes three.
	snappyMaxRatio = 22
)

// The pools hold idle decoders. None of them runs goroutines.
var (
	gzipReaders  = sync.Pool{New: func() any { return new(gzip.Reader) }}
	lz4Readers   = sync.Pool{New: func() any { return lz4.NewReader(nil) }}
	zstdDecoders = sync.Pool{New: func() any { return newZstdDecoder() }}
)

func newZstdDecoder() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(zstdWindowBytes), zstd.WithDecodeBuffersBelow(0))
	if err != nil {
		panic("BUG: zstd decoder options: " + err.Error())
	}
	return d
}

// decoder is the decompressing side of a Reader. Its zero value is ready.
type decoder struct {
	in     bytes.Reader
	snappy snappyReader
	gzip   *gzip.Reader
	lz4    *lz4.Reader
	zstd   *zstd.Decoder
}

// open gives a stream of payload's decompressed bytes. limit is what the whole may decompress to.
func (d *decoder) open(c Codec, payload []byte, limit int64) (io.Reader, error) {
	d.in.Reset(payload)
	switch c {
	case Gzip:
		d.gzip = gzipReaders.Get().(*gzip.Reader)
		if err := d.gzip.Reset(&d.in); err != nil {
			return nil, faultf(faultCodec, "does not start as gzip", err)
		}
		return d.gzip, nil
	case Snappy:
		if err := d.snappy.reset(payload, limit); err != nil {
			return nil, err
		}
		return &d.snappy, nil
	case LZ4:
		d.lz4 = lz4Readers.Get().(*lz4.Reader)
		d.lz4.Reset(&d.in)
		return d.lz4, nil
	case Zstd:
		return d.openZstd(payload, limit)
	}
	return nil, faultf(faultCodec, "unknown compression codec", nil)
}

func (d *decoder) openZstd(payload []byte, limit int64) (io.Reader, error) {
	shape, ok := zstdShape(payload)
	switch {
	case !ok:
		return nil, faultf(faultCodec, "is not a whole zstd frame", nil)
	case shape.window > zstdMaxWindowBytes && !shape.single:
		return nil, faultf(faultLimit, "asks for a larger zstd window than is allowed", nil)
	case shape.content > uint64(limit):
		return nil, faultf(faultLimit, "decompresses to more than is allowed", nil)
	}
	if shape.window > zstdWindowBytes {
		return d.openWideZstd(payload, limit)
	}
	d.zstd = zstdDecoders.Get().(*zstd.Decoder)
	if err := d.zstd.Reset(&d.in); err != nil {
		return nil, faultf(faultCodec, "cannot be decompressed as zstd", err)
	}
	return d.zstd, nil
}

// openWideZstd decompresses at once what asks for a large window: a streaming decoder would allocate the window before it
// has seen a byte, this one allocates what comes out.
func (d *decoder) openWideZstd(payload []byte, limit int64) (io.Reader, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(MaxDecompressedBytes), zstd.WithDecoderMaxMemory(max(uint64(limit), zstdMaxWindowBytes)))
	if err != nil {
		panic("BUG: zstd decoder options: " + err.Error())
	}
	defer dec.Close()
	out, err := dec.DecodeAll(payload, nil)
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), int64(len(out)) > limit:
		return nil, faultf(faultLimit, "decompresses to more than is allowed", nil)
	case err != nil:
		return nil, faultf(faultCodec, "cannot be decompressed as zstd", err)
	}
	d.in.Reset(out)
	return &d.in, nil
}

// close gives the decoders back to their pools.
func (d *decoder) close() {
	if d.gzip != nil {
		gzipReaders.Put(d.gzip)
		d.gzip = nil
	}
	if d.lz4 != nil {
		d.lz4.Reset(nil)
		lz4Readers.Put(d.lz4)
		d.lz4 = nil
	}
	if d.zstd != nil {
		if d.zstd.Reset(nil) == nil {
			zstdDecoders.Put(d.zstd)
		}
		d.zstd = nil
	}
	d.snappy.close()
	d.in.Reset(nil)
}

var errSnappy = errors.New("malformed snappy block")

// xerialMagic starts the framing that Java's snappy streams use: 8 bytes of magic, two int32 versions, then blocks, each
// behind its int32 size. Streams may be concatenated.
const (
	xerialMagic      = "\x82SNAPPY\x00"
	xerialHeaderSize = 16
	xerialBlockBytes = 32 << 10
)

func isXerial(b []byte) bool {
	return len(b) >= xerialHeaderSize && string(b[:len(xerialMagic)]) == xerialMagic
}

// snappyReader reads both framings of snappy: one raw block, or xerial's.
type snappyReader struct {
	rest   []byte
	framed bool
	budget int64
	out    []byte // the block at hand, decoded
	pos    int
}

func (s *snappyReader) reset(payload []byte, limit int64) error {
	s.rest, s.framed, s.budget, s.pos = payload, isXerial(payload), limit, 0
	s.out = s.out[:0]
	if s.framed {
		s.rest = payload[xerialHeaderSize:]
		return nil
	}
	return s.decode(payload, len(payload))
}

func (s *snappyReader) close() {
	s.rest = nil
	if cap(s.out) > readerKeepBufBytes {
		s.out = nil
	}
}

func (s *snappyReader) Read(p []byte) (int, error) {
	for s.pos == len(s.out) {
		if len(s.rest) == 0 {
			return 0, io.EOF
		}
		if isXerial(s.rest) { // a stream behind a stream
			s.rest = s.rest[xerialHeaderSize:]
			continue
		}
		if len(s.rest) < 4 {
			return 0, io.ErrUnexpectedEOF
		}
		size := int(int32(binary.BigEndian.Uint32(s.rest)))
		if size < 0 {
			return 0, errSnappy
		}
		s.rest = s.rest[4:]
		if size > len(s.rest) {
			return 0, io.ErrUnexpectedEOF
		}
		if err := s.decode(s.rest[:size], size); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.out[s.pos:])
	s.pos += n
	return n, nil
}

// decode decodes one block of n bytes at the start of rest and drops it from there.
func (s *snappyReader) decode(block []byte, n int) error {
	size, err := s2.DecodedLen(block)
	if err != nil || size > snappyMaxRatio*len(block) {
		return faultf(faultCodec, "cannot be decompressed as snappy", errSnappy)
	}
	if int64(size) > s.budget {
		return faultf(faultLimit, "decompresses to more than is allowed", nil)
	}
	s.budget -= int64(size)
	if cap(s.out) < size {
		s.out = make([]byte, size)
	}
	s.out, err = s2.Decode(s.out[:cap(s.out)], block)
	if err != nil {
		s.out = s.out[:0]
		return faultf(faultCodec, "cannot be decompressed as snappy", err)
	}
	s.pos = 0
	s.rest = s.rest[n:]
	return nil
}
