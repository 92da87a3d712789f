package record

import (
	"encoding/binary"
	"strconv"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Levels as Kafka's configs compression.gzip.level, compression.lz4.level and compression.zstd.level take them. Level 0 is
// each codec's default; snappy has no levels.
const (
	gzipLevels = 9
	lz4Levels  = 9 // Kafka counts to 17; its upper half is our highest
)

// appender is a growing byte slice that is written to.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

type gzipEncoder struct {
	w   *gzip.Writer
	out appender
}

type lz4Encoder struct {
	w   *lz4.Writer
	out appender
}

// The pools of encoders, by level. None of them runs goroutines.
var (
	gzipWriters  [gzipLevels + 1]sync.Pool
	lz4Writers   [lz4Levels + 1]sync.Pool
	zstdEncoders [zstd.SpeedBestCompression + 1]sync.Pool
)

// compress appends src, compressed, to dst.
func compress(dst []byte, c Codec, level int, src []byte) []byte {
	switch c {
	case Gzip:
		return compressGzip(dst, level, src)
	case Snappy:
		return compressSnappy(dst, src)
	case LZ4:
		return compressLZ4(dst, level, src)
	case Zstd:
		return compressZstd(dst, level, src)
	case None:
		return append(dst, src...)
	}
	panic("BUG: no such codec: " + strconv.Itoa(int(c)))
}

func compressGzip(dst []byte, level int, src []byte) []byte {
	if level < 1 || level > gzipLevels {
		level = 0
	}
	e, _ := gzipWriters[level].Get().(*gzipEncoder)
	if e == nil {
		setting := level
		if setting == 0 {
			setting = gzip.DefaultCompression
		}
		e = &gzipEncoder{}
		e.w, _ = gzip.NewWriterLevel(nil, setting) // the level is one it knows
	}
	e.out.b = dst
	e.w.Reset(&e.out)
	must(e.w.Write(src))
	must(0, e.w.Close())
	dst, e.out.b = e.out.b, nil
	gzipWriters[level].Put(e)
	return dst
}

// compressSnappy writes xerial's framing, which every client reads; Java's cannot do without.
func compressSnappy(dst, src []byte) []byte {
	dst = append(dst, xerialMagic+"\x00\x00\x00\x01\x00\x00\x00\x01"...)
	for len(src) > 0 {
		block := src[:min(len(src), xerialBlockBytes)]
		src = src[len(block):]
		at := len(dst)
		dst = growBy(dst, 4+s2.MaxEncodedLen(len(block)))
		n := len(s2.EncodeSnappy(dst[at+4:cap(dst)], block))
		dst = dst[:at+4+n]
		binary.BigEndian.PutUint32(dst[at:], uint32(n))
	}
	return dst
}

// growBy makes room for n more bytes after b without changing its length.
func growBy(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	bigger := make([]byte, len(b), 2*cap(b)+n)
	copy(bigger, b)
	return bigger
}

func compressLZ4(dst []byte, level int, src []byte) []byte {
	level = max(0, min(level, lz4Levels))
	e, _ := lz4Writers[level].Get().(*lz4Encoder)
	if e == nil {
		e = &lz4Encoder{w: lz4.NewWriter(nil)}
		setting := lz4.Fast
		if level > 0 {
			setting = 1 << (8 + level)
		}
		// Independent blocks of 64 KiB and no checksum of the content: all that Kafka's Java reader is sure to know.
		must(0, e.w.Apply(lz4.CompressionLevelOption(setting), lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false)))
	}
	e.out.b = dst
	e.w.Reset(&e.out)
	must(e.w.Write(src))
	must(0, e.w.Close())
	dst, e.out.b = e.out.b, nil
	lz4Writers[level].Put(e)
	return dst
}

func compressZstd(dst []byte, level int, src []byte) []byte {
	speed := zstd.SpeedDefault
	if level != 0 {
		speed = zstd.EncoderLevelFromZstd(level)
	}
	w, _ := zstdEncoders[speed].Get().(*zstd.Encoder)
	if w == nil {
		var err error
		w, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(speed),
			zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true))
		must(0, err)
	}
	dst = w.EncodeAll(src, dst)
	zstdEncoders[speed].Put(w)
	return dst
}

// must holds for writes into memory, which cannot fail.
func must(_ int, err error) {
	if err != nil {
		panic("BUG: compressing into memory failed: " + err.Error())
	}
}
