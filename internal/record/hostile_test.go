package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kerr"
)

// compressed wraps a payload, compressed elsewhere, into a batch of n records.
func compressed(codec Codec, n int32, records []byte) []byte {
	return with(payload(plain(kv("k", "v")), records), func(h *Header) {
		h.Attributes, h.NumRecords, h.LastOffsetDelta = int16(codec), n, n-1
	})
}

func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A bomb is one record of 150 MiB of zeros, or one that claims to be.
func TestBombsAreBounded(t *testing.T) {
	big := appendRecord(nil, 0, 0, nil, make([]byte, 150<<20), nil)
	for codec := Gzip; codec <= Zstd; codec++ {
		bomb := compressed(codec, 1, compress(nil, codec, 0, big))
		t.Logf("%s: %d bytes", codec, len(bomb))
		var err error
		n := allocated(func() {
			err = Records(bomb, Limits{MaxDecompressedBytes: 8 << 20}, func(*Record) error { return nil })
		})
		var c *contentError
		if !errors.As(err, &c) || c.fault != faultLimit {
			t.Errorf("%s: %v", codec, err)
		}
		if n > 64<<20 {
			t.Errorf("%s: %d MiB allocated under a limit of 8 MiB", codec, n>>20)
		}
		o := defaults()
		o.FullInner, o.MaxMessageBytes = true, 0
		if _, err := Validate(bomb, o); !errors.Is(err, kerr.InvalidRecord) {
			t.Errorf("%s: %v", codec, err)
		}
	}
}

func TestManySmallRecordsBomb(t *testing.T) {
	one := appendRecord(nil, 0, 0, nil, nil, nil)
	records := bytes.Repeat(one, 10<<20)
	bomb := compressed(Zstd, 10<<20, compress(nil, Zstd, 0, records))
	seen := 0
	err := Records(bomb, Limits{MaxDecompressedBytes: 1 << 20}, func(*Record) error { seen++; return nil })
	if !errors.Is(err, kerr.CorruptMessage) || seen > 1<<20 {
		t.Errorf("%d records, %v", seen, err)
	}
}

func TestLyingSizesCostNothing(t *testing.T) {
	huge := binary.AppendUvarint(nil, 1<<31)
	zstdFrame := func(window byte) []byte {
		// no content size, a window descriptor, one raw block of ten bytes that is the last
		return append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, window, 10<<3 | 1, 0, 0}, appendRecord(nil, 0, 0, nil, []byte("abc"), nil)...)
	}
	cases := map[string][]byte{
		"record of 2 GiB, plain":             compressed(None, 1, append([]byte{0xfe, 0xff, 0xff, 0xff, 0x0f}, 0, 0, 0)),
		"record of 1 GiB, zstd":              compressed(Zstd, 1, compress(nil, Zstd, 0, append([]byte{0xfe, 0xff, 0xff, 0xff, 0x07}, 0, 0, 0))),
		"record of 1 GiB, gzip":              compressed(Gzip, 1, compress(nil, Gzip, 0, append([]byte{0xfe, 0xff, 0xff, 0xff, 0x07}, 0, 0, 0))),
		"snappy block of 2 GiB":              compressed(Snappy, 1, append(huge, 0xfc, 1, 2, 3)),
		"xerial block of 2 GiB":              compressed(Snappy, 1, append([]byte(xerialMagic+"\x00\x00\x00\x01\x00\x00\x00\x01\x7f\xff\xff\xff"), 1, 2)),
		"xerial block of negative size":      compressed(Snappy, 1, append([]byte(xerialMagic+"\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff"), 1, 2)),
		"zstd window of 3.75 TiB":            compressed(Zstd, 1, zstdFrame(0xff)),
		"zstd window of 256 MiB":             compressed(Zstd, 1, zstdFrame(18<<3)),
		"zstd content size of 1 EiB":         compressed(Zstd, 1, []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 16, 1, 0, 0}),
		"a thousand million headers":         compressed(None, 1, append([]byte{30, 0, 0, 0, 1, 1}, 0xfe, 0xff, 0xff, 0xff, 0x07, 0, 0, 0, 0, 0)),
		"two thousand million records":       compressed(Zstd, 1<<31-1, compress(nil, Zstd, 0, []byte{0, 0, 0})),
		"two thousand million plain records": compressed(None, 1<<31-1, []byte{12, 0, 0, 0, 1, 1, 0}),
	}
	for name, batch := range cases {
		for _, full := range []bool{false, true} {
			o := defaults()
			o.FullInner = full
			var err error
			n := allocated(func() { _, err = Validate(bytes.Clone(batch), o) })
			if err == nil && (full || !strings.HasPrefix(name, "record of 1 GiB")) { // that one lies inside the compressed data
				t.Errorf("%s, full %v: accepted", name, full)
			}
			if n > 12<<20 { // decoders that are made for the first time count as well
				t.Errorf("%s, full %v: %d MiB allocated", name, full, n>>20)
			}
		}
	}
}

// Java's highest levels ask for windows of up to 128 MiB, whatever they compress.
func TestWideZstdWindowsAreRead(t *testing.T) {
	rec := appendRecord(nil, 0, 0, nil, []byte("abc"), nil)
	frame := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3, byte(len(rec)<<3 | 1), 0, 0}, rec...)
	batch := compressed(Zstd, 1, frame)
	var got string
	n := allocated(func() {
		if err := Records(batch, Limits{}, func(r *Record) error { got = string(r.Value); return nil }); err != nil {
			t.Fatal(err)
		}
	})
	if got != "abc" || n > 12<<20 {
		t.Errorf("%q, %d MiB allocated", got, n>>20)
	}
	o := defaults()
	o.FullInner = true
	if _, err := Validate(batch, o); err != nil {
		t.Error(err)
	}
}

// Other writers' frames: raw snappy, concatenated xerial streams, lz4 with checksums, sizes and dependent blocks, zstd in
// several frames with a skippable one between.
func TestFramesOfOtherWriters(t *testing.T) {
	var records []byte
	const n = 3000
	for i := range int32(n) {
		records = append(records, appendRecord(nil, i, 0, []byte("key"), []byte("a value that repeats"), nil)...)
	}
	half := len(records) / 2
	lz := func(opts ...lz4.Option) []byte {
		var out bytes.Buffer
		w := lz4.NewWriter(&out)
		if err := w.Apply(opts...); err != nil {
			t.Fatal(err)
		}
		must(w.Write(records))
		must(0, w.Close())
		return out.Bytes()
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(true))
	if err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	zs, _ := zstd.NewWriter(&stream, zstd.WithEncoderConcurrency(1))
	must(zs.Write(records))
	must(0, zs.Close())
	cases := []struct {
		name  string
		codec Codec
		b     []byte
	}{
		{"raw snappy", Snappy, s2.EncodeSnappy(nil, records)},
		{"two xerial streams", Snappy, append(compressSnappy(nil, records[:half]), compressSnappy(nil, records[half:])...)},
		{"lz4 with everything", LZ4, lz(lz4.ChecksumOption(true), lz4.BlockChecksumOption(true), lz4.SizeOption(uint64(len(records))), lz4.BlockSizeOption(lz4.Block4Mb))},
		{"lz4 256 KiB", LZ4, lz(lz4.BlockSizeOption(lz4.Block256Kb), lz4.CompressionLevelOption(lz4.Level9))},
		{"zstd stream", Zstd, stream.Bytes()},
		{"zstd frames", Zstd, append(append(z.EncodeAll(records[:half], nil), 0x53, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9), z.EncodeAll(records[half:], nil)...)},
		{"two gzip members", Gzip, append(compressGzip(nil, 1, records[:half]), compressGzip(nil, 9, records[half:])...)},
	}
	for _, c := range cases {
		batch := compressed(c.codec, n, c.b)
		for _, full := range []bool{false, true} {
			o := defaults()
			o.FullInner = full
			if res, err := Validate(batch, o); err != nil || res.Rewritten {
				t.Errorf("%s, full %v: %v", c.name, full, err)
			}
		}
		for _, cut := range []int{1, 5, len(c.b) / 2, len(c.b) - 2} {
			b := compressed(c.codec, n, c.b[:cut])
			o := defaults()
			o.FullInner = true
			if _, err := Validate(b, o); err == nil {
				t.Errorf("%s cut at %d of %d: accepted", c.name, cut, len(c.b))
			}
		}
	}
}

// What the cheap look at a frame sees without decompressing it.
func TestPlausibleFindsWhatIsCutOrForeign(t *testing.T) {
	var recs []rec
	for range 2000 {
		recs = append(recs, kv("key", "some value that is compressed"))
	}
	for codec := Gzip; codec <= Zstd; codec++ {
		good := build(BuilderOptions{Codec: codec}, recs...)
		refused := func(name string, records []byte) {
			t.Helper()
			if _, err := Validate(compressed(codec, int32(len(recs)), records), defaults()); !errors.Is(err, kerr.UnknownServerError) {
				t.Errorf("%s, %s: %v", codec, name, err)
			}
		}
		body := good[HeaderSize:]
		refused("nothing", nil)
		refused("text", []byte("this is no compressed data at all, is it?"))
		if codec != Gzip {
			refused("cut", body[:len(body)-5])
			refused("cut in half", body[:len(body)/2])
		}
		for other := Gzip; other <= Zstd; other++ {
			if other != codec {
				refused("as "+other.String(), build(BuilderOptions{Codec: other}, recs...)[HeaderSize:])
			}
		}
	}
}
