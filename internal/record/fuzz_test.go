package record

import (
	"bytes"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

func seeds(f *testing.F) [][]byte {
	var out [][]byte
	it := NewBatchIter(kafkaSample(f))
	for {
		b, _, ok, err := it.Next()
		if err != nil {
			f.Fatal(err)
		}
		if !ok {
			break
		}
		out = append(out, b)
	}
	for codec := None; codec <= Zstd; codec++ {
		out = append(out, build(BuilderOptions{Codec: codec, HasProducer: true}, kv("a", "1"), rec{ts: 5, nilKey: true}))
	}
	return append(out, oldMessage(0), oldMessage(1))
}

// The header reads back as it is written, and the iterator never goes beyond its bytes nor stands still.
func FuzzBatchHeader(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err == nil {
			again := bytes.Clone(b)
			h.put(again)
			if !bytes.Equal(again, b) || h.Size() < HeaderSize {
				t.Fatalf("%+v", h)
			}
		} else if !errors.Is(err, kerr.CorruptMessage) {
			t.Fatal(err)
		}
		CheckCRC(b)
		it := NewBatchIter(b)
		for total := 0; ; {
			batch, h, ok, err := it.Next()
			if err != nil || !ok {
				break
			}
			total += len(batch)
			if h.Size() != len(batch) || it.Pos() != total || total > len(b) {
				t.Fatalf("at %d of %d after %d", it.Pos(), len(b), total)
			}
		}
	})
}

// fix gives a batch the length and checksum that it should have, so that fuzzing gets past them.
func fix(b []byte) []byte {
	b = bytes.Clone(b)
	if len(b) >= HeaderSize {
		h := decodeHeader((*[HeaderSize]byte)(b))
		h.BatchLength, h.Magic, h.BaseOffset = int32(len(b)-LengthOverhead), MagicV2, 0
		h.put(b)
		SetCRC(b)
	}
	return b
}

// Whatever is accepted can be read by everyone: whole, with a right CRC, no more than asked for. What FullInner accepts reads
// record by record.
func FuzzValidate(f *testing.F) {
	for i, b := range seeds(f) {
		f.Add(b, uint16(i), true)
		f.Add(b, uint16(i*37), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, opts uint16, fixed bool) {
		if fixed {
			b = fix(b)
		}
		o := defaults()
		o.FullInner, o.Compacted, o.RefuseZstd = opts&1 != 0, opts&2 != 0, opts&4 != 0
		o.TimestampType, o.Target, o.Origin = TimestampType(opts>>3&1), Target(opts>>4&7)%6, Origin(opts>>7&3)%2
		o.Now, o.AfterMaxMs = 1_700_000_000_000, 1<<40
		if opts&1<<9 != 0 {
			o.BeforeMaxMs = 1 << 38
		}
		res, err := Validate(bytes.Clone(b), o)
		if err != nil {
			return
		}
		it, count := NewBatchIter(res.Batches), 0
		for {
			batch, h, ok, err := it.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if !CheckCRC(batch) || h.TimestampType() != o.TimestampType || h.HasDeleteHorizon() || len(batch) > int(o.MaxMessageBytes) || h.NumRecords <= 0 {
				t.Fatalf("CRC %v, header %+v", CheckCRC(batch), h)
			}
			if o.Origin == Client && (h.IsControl() || h.NextOffset() != int64(h.NumRecords)) {
				t.Fatalf("header %+v", h)
			}
			count += int(h.NumRecords)
			if !o.FullInner && h.Codec() != None {
				continue
			}
			i := int32(0)
			err = Records(batch, Limits{}, func(r *Record) error {
				if o.Compacted && r.Key == nil || o.Origin == Client && r.OffsetDelta != i {
					t.Fatalf("record %d: %+v", i, r)
				}
				i++
				return nil
			})
			if err != nil || i != h.NumRecords {
				t.Fatalf("%d of %d records: %v", i, h.NumRecords, err)
			}
		}
		if it.Pos() != len(res.Batches) || count != res.Count || it.Pos() == 0 {
			t.Fatalf("%d of %d bytes, %d of %d records", it.Pos(), len(res.Batches), count, res.Count)
		}
		if !res.Rewritten && len(res.Batches) > len(b) {
			t.Fatal("more than was given")
		}
	})
}

// Reading never panics, stays in its limit, and what reads without an error reads the same once it is built again.
func FuzzRecords(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = fix(b)
		h, err := ParseHeader(b)
		if err != nil {
			return
		}
		const limit = 1 << 20
		build, last, total, ok := NewBuilder(BuilderOptions{Codec: h.Codec() % 5}), int32(-1), 0, true
		err = Records(b, Limits{MaxDecompressedBytes: limit}, func(r *Record) error {
			total += len(r.Key) + len(r.Value)
			if r.OffsetDelta <= last {
				ok = false
				return nil
			}
			last = r.OffsetDelta
			build.AppendWithOffset(int64(r.OffsetDelta), r.TimestampDelta, r.Key, r.Value, r.Headers)
			return nil
		})
		if total > max(limit, len(b)) {
			t.Fatalf("%d bytes of records", total)
		}
		_, _ = ParseControl(b)
		if err != nil {
			if !errors.Is(err, kerr.CorruptMessage) {
				t.Fatal(err)
			}
			return
		}
		if h.Codec() != None && !plausible(h.Codec(), b[HeaderSize:], h.NumRecords) && h.NumRecords > 0 {
			t.Fatal("readable and not plausible")
		}
		if !ok {
			return
		}
		again := build.Finish()
		if h2, _ := ParseHeader(again); h2.NumRecords != h.NumRecords {
			t.Fatalf("%d records of %d", h2.NumRecords, h.NumRecords)
		}
		if err := Records(again, Limits{}, func(*Record) error { return nil }); err != nil {
			t.Fatal(err)
		}
	})
}

// The quick look at records that are not compressed accepts exactly what the reader reads with offsets one after the other.
func FuzzScanPlain(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < HeaderSize {
			return
		}
		b = with(fix(b), func(h *Header) { h.Attributes &^= attrCodecMask })
		h, err := ParseHeader(b)
		if err != nil || h.NumRecords <= 0 {
			return
		}
		keyed := h.BaseOffset == 0 && h.Attributes&attrControl != 0
		i, maxTime := int32(0), NoTimestamp
		err = Records(b, Limits{}, func(r *Record) error {
			if r.OffsetDelta != i || keyed && r.Key == nil {
				return errors.New("refused")
			}
			i++
			maxTime = max(maxTime, r.Timestamp(&h))
			return nil
		})
		s := scanPlain(b[HeaderSize:], &h, -1<<63, 1<<63-1, keyed)
		if s.ok != (err == nil) || s.ok && s.maxTime != maxTime {
			t.Fatalf("scan %+v, reader %v %d", s, err, maxTime)
		}
	})
}
