package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/wire"
)

const now = int64(1_795_435_130_610)

// defaults are a topic's settings as they are without any config.
func defaults() ValidateOptions {
	return ValidateOptions{Now: now, BeforeMaxMs: math.MaxInt64, AfterMaxMs: 3_600_000, MaxMessageBytes: 1_048_588, Where: "t-0"}
}

type rec struct {
	ts         int64 // added to now
	key, value string
	nilKey     bool
}

func kv(key, value string) rec { return rec{key: key, value: value} }

func build(o BuilderOptions, recs ...rec) []byte {
	b := NewBuilder(o)
	for _, r := range recs {
		key := []byte(r.key)
		if r.nilKey {
			key = nil
		}
		b.Append(now+r.ts, key, []byte(r.value), nil)
	}
	return b.Finish()
}

func plain(recs ...rec) []byte { return build(BuilderOptions{LeaderEpoch: -1}, recs...) }

// with changes a batch's header and makes its CRC right again.
func with(batch []byte, change func(h *Header)) []byte {
	h := decodeHeader((*[HeaderSize]byte)(batch))
	change(&h)
	h.put(batch)
	SetCRC(batch)
	return batch
}

// payload replaces what follows the header.
func payload(batch, records []byte) []byte {
	out := append(bytes.Clone(batch[:HeaderSize]), records...)
	return with(out, func(h *Header) { h.BatchLength = int32(len(out) - LengthOverhead) })
}

// oldMessage is a message of format 0 or 1.
func oldMessage(magic byte) []byte {
	body := []byte{magic, 0}
	if magic == 1 {
		body = binary.BigEndian.AppendUint64(body, uint64(now))
	}
	body = append(body, 0, 0, 0, 1, 'k', 0, 0, 0, 1, 'v')
	out := binary.BigEndian.AppendUint32(make([]byte, 8), uint32(len(body)+4))
	out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(body))
	return append(out, body...)
}

func value(n int) string { return strings.Repeat("x", n) }

// validateCase is a refusal or, without want, an acceptance.
type validateCase struct {
	name     string
	in       []byte
	o        ValidateOptions // without a limit: the defaults
	want     *kerr.Error
	logStart bool
	records  []int32 // that record errors name
}

func opt(change func(o *ValidateOptions)) ValidateOptions {
	o := defaults()
	change(&o)
	return o
}

// outsideCases are about the batch as a whole.
func outsideCases() []validateCase {
	one := plain(kv("k", "v"))
	garbage := append([]byte{20, 0, 0, 0, 2, 'k', 2, 'v', 0}, 1, 2, 3)
	atLimit := plain(rec{nilKey: true, value: value(1_048_588 - 61 - 13)})
	return []validateCase{
		{name: "one record", in: one},
		{name: "three records", in: plain(kv("a", "1"), kv("b", "2"), kv("c", "3"))},
		{name: "bad_crc", in: func() []byte { b := bytes.Clone(one); b[offCRC] ^= 0xff; return b }(), want: kerr.CorruptMessage},
		{name: "magic0", in: oldMessage(0), want: kerr.InvalidRecord},
		{name: "magic1", in: oldMessage(1), want: kerr.InvalidRecord},
		{name: "magic3", in: with(plain(kv("k", "v")), func(h *Header) { h.Magic = 3 }), want: kerr.CorruptMessage},
		{name: "too_large", in: plain(kv("k", value(1_100_000))), want: kerr.MessageTooLarge},
		{name: "at_limit", in: atLimit},
		{name: "topic_max_bytes", in: plain(kv("k", value(300))), o: opt(func(o *ValidateOptions) { o.MaxMessageBytes = 200 }), want: kerr.MessageTooLarge},
		{name: "topic_max_bytes_compressed", in: build(BuilderOptions{Codec: Gzip}, kv("k", value(300))), o: opt(func(o *ValidateOptions) { o.MaxMessageBytes = 200 })},
		{name: "two_batches", in: append(plain(kv("k", "1")), plain(kv("k", "2"))...), want: kerr.InvalidRecord},
		{name: "null_records", in: nil, want: kerr.InvalidRecord},
		{name: "empty_records", in: []byte{}, want: kerr.InvalidRecord},
		{name: "zero_count", in: plain(), want: kerr.InvalidRecord, logStart: true},
		{name: "count_mismatch", in: with(plain(kv("k", "v")), func(h *Header) { h.NumRecords = 5 }), want: kerr.InvalidRecord, logStart: true},
		{name: "last_delta_mismatch", in: with(plain(kv("k", "v")), func(h *Header) { h.LastOffsetDelta = 9 }), want: kerr.InvalidRecord, logStart: true},
		{name: "nonzero_base_offset", in: with(plain(kv("k", "v")), func(h *Header) { h.BaseOffset = 1000 }), want: kerr.InvalidRecord},
		{name: "length_short", in: func() []byte {
			b := bytes.Clone(one)
			binary.BigEndian.PutUint32(b[offBatchLength:], uint32(len(b)-LengthOverhead-4))
			return b
		}(), want: kerr.CorruptMessage},
		{name: "length_long", in: with(plain(kv("k", "v")), func(h *Header) { h.BatchLength += 40 }), want: kerr.InvalidRecord},
		{name: "length_tiny", in: with(plain(kv("k", "v")), func(h *Header) { h.BatchLength = 3 }), want: kerr.CorruptMessage},
		{name: "length_negative", in: with(plain(kv("k", "v")), func(h *Header) { h.BatchLength = -1 }), want: kerr.CorruptMessage},
		{name: "length_below_header", in: with(plain(kv("k", "v")), func(h *Header) { h.BatchLength = 40 }), want: kerr.CorruptMessage},
		{name: "trailing bytes after the batch", in: append(plain(kv("k", "v")), 1, 2, 3)},
		{name: "garbage_record", in: payload(one, garbage), want: kerr.InvalidRecord, logStart: true},
		{name: "control_attr", in: build(BuilderOptions{HasProducer: true, ProducerID: 1, Control: true}, kv("\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\x00")), want: kerr.InvalidRecord, logStart: true},
		{name: "log_append_attr", in: with(plain(kv("k", "v")), func(h *Header) { h.Attributes |= attrLogAppendTime })},
		{name: "unknown_codec", in: with(plain(kv("k", "v")), func(h *Header) { h.Attributes |= 7 }), want: kerr.UnknownServerError, logStart: true},
		{name: "corrupt_gzip", in: payload(build(BuilderOptions{Codec: Gzip}, kv("k", "v")), []byte("not gzip at all")), want: kerr.UnknownServerError, logStart: true},
	}
}

// insideCases are about codecs, times, keys, producers and the records themselves.
func insideCases() []validateCase {
	one := plain(kv("k", "v"))
	idem := BuilderOptions{HasProducer: true, ProducerID: 7}
	return []validateCase{
		{name: "zstd_v3", in: build(BuilderOptions{Codec: Zstd}, kv("k", "v")), o: opt(func(o *ValidateOptions) { o.RefuseZstd = true }), want: kerr.UnsupportedCompressionType},
		{name: "zstd_v7", in: build(BuilderOptions{Codec: Zstd}, kv("k", "v"))},
		{name: "null key", in: plain(rec{nilKey: true, value: "v"})},
		{name: "future_ts", in: plain(rec{ts: 7_200_000, key: "k"}), want: kerr.InvalidTimestamp, logStart: true, records: []int32{0}},
		{name: "future_ts compressed", in: build(BuilderOptions{Codec: LZ4}, kv("k", "v"), rec{ts: 7_200_000, key: "k"}), want: kerr.InvalidTimestamp, logStart: true, records: []int32{1}},
		{name: "future_ts_ok", in: plain(rec{ts: 1_800_000, key: "k"})},
		{name: "old_ts", in: plain(rec{ts: -195_435_130_610, key: "k"})},
		{name: "negative_ts", in: plain(rec{ts: -now - 1, key: "k"})},
		{name: "before_max", in: plain(rec{ts: -195_435_130_610, key: "k"}), o: opt(func(o *ValidateOptions) { o.BeforeMaxMs = 60_000 }), want: kerr.InvalidTimestamp, logStart: true, records: []int32{0}},
		{name: "before_max_second_record", in: plain(kv("k", "v"), rec{ts: -100_000, key: "k"}, kv("k", "v")),
			o: opt(func(o *ValidateOptions) { o.BeforeMaxMs = 60_000 }), want: kerr.InvalidTimestamp, logStart: true, records: []int32{1}},
		{name: "before_max_second_record compressed, full", in: build(BuilderOptions{Codec: Zstd}, kv("k", "v"), rec{ts: -100_000, key: "k"}, kv("k", "v")),
			o: opt(func(o *ValidateOptions) { o.BeforeMaxMs, o.FullInner = 60_000, true }), want: kerr.InvalidTimestamp, logStart: true, records: []int32{1}},
		{name: "log_append_time takes any time", in: plain(rec{ts: -195_435_130_610, key: "k"}), o: opt(func(o *ValidateOptions) { o.TimestampType, o.BeforeMaxMs = LogAppendTime, 60_000 })},
		{name: "compact_null_key", in: plain(kv("a", "1"), rec{nilKey: true, value: "v"}), o: opt(func(o *ValidateOptions) { o.Compacted = true }), want: kerr.InvalidRecord, logStart: true, records: []int32{1}},
		{name: "compact_null_key compressed", in: build(BuilderOptions{Codec: Snappy}, rec{nilKey: true}, kv("a", "1"), rec{nilKey: true}),
			o: opt(func(o *ValidateOptions) { o.Compacted = true }), want: kerr.InvalidRecord, logStart: true, records: []int32{0, 2}},
		{name: "compact null key and bad time: the time decides", in: plain(rec{nilKey: true}, rec{ts: 7_200_000, key: "k"}),
			o: opt(func(o *ValidateOptions) { o.Compacted = true }), want: kerr.InvalidTimestamp, logStart: true, records: []int32{0, 1}},
		{name: "compact_key", in: plain(kv("a", "1")), o: opt(func(o *ValidateOptions) { o.Compacted = true })},
		{name: "idempotent", in: build(idem, kv("k", "v"))},
		{name: "neg_seq", in: with(build(idem, kv("k", "v")), func(h *Header) { h.BaseSequence = -1 }), want: kerr.InvalidRecord, logStart: true},
		{name: "producer without epoch", in: with(build(idem, kv("k", "v")), func(h *Header) { h.ProducerEpoch = -1 }), want: kerr.InvalidRecord, logStart: true},
		{name: "transaction without producer", in: build(BuilderOptions{Transactional: true}, kv("k", "v")), want: kerr.InvalidRecord, logStart: true},
		{name: "wrapping sequence", in: with(build(idem, kv("k", "a"), kv("k", "b")), func(h *Header) { h.BaseSequence = math.MaxInt32 })},
		{name: "converted batch grows above the limit", in: build(BuilderOptions{Codec: Gzip}, kv("k", value(300))),
			o: opt(func(o *ValidateOptions) { o.MaxMessageBytes, o.Target = 200, TargetUncompressed }), want: kerr.MessageTooLarge},
		{name: "fewer records than said", in: with(plain(kv("k", "v"), kv("k", "v")), func(h *Header) { h.NumRecords, h.LastOffsetDelta = 3, 2 }), want: kerr.InvalidRecord, logStart: true},
		{name: "more records than said", in: with(plain(kv("k", "v"), kv("k", "v")), func(h *Header) { h.NumRecords, h.LastOffsetDelta = 1, 0 }), want: kerr.InvalidRecord, logStart: true},
		{name: "more records than said, compressed, full", in: with(build(BuilderOptions{Codec: LZ4}, kv("k", "v"), kv("k", "v")), func(h *Header) { h.NumRecords, h.LastOffsetDelta = 1, 0 }),
			o: opt(func(o *ValidateOptions) { o.FullInner = true }), want: kerr.InvalidRecord, logStart: true},
		{name: "negative record size", in: payload(one, []byte{1, 0, 0, 0, 0, 0, 0}), want: kerr.InvalidRecord, logStart: true},
		{name: "negative count of headers", in: payload(one, []byte{12, 0, 0, 0, 1, 1, 1}), want: kerr.InvalidRecord, logStart: true},
	}
}

// The codes, and whether the log start offset is known, are those that Apache Kafka 4.4 answered to the same bytes.
func TestValidateAnswersAsKafka(t *testing.T) {
	for _, c := range append(outsideCases(), insideCases()...) {
		t.Run(c.name, func(t *testing.T) {
			if c.o.MaxMessageBytes == 0 {
				c.o = defaults()
			}
			res, err := Validate(bytes.Clone(c.in), c.o)
			if c.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				checkAccepted(t, res, c.o)
				return
			}
			if !errors.Is(err, c.want) || wire.CodeOf(err) != c.want.Code {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if res.KnowsLogStart != c.logStart {
				t.Errorf("log start offset known: %v", res.KnowsLogStart)
			}
			var at []int32
			for _, e := range res.RecordErrors {
				at = append(at, e.Index)
				if e.Message == "" {
					t.Error("a record error without a message")
				}
			}
			if len(at) != len(c.records) || !bytes.Equal(i32s(at), i32s(c.records)) {
				t.Errorf("record errors %v, want %v", at, c.records)
			}
		})
	}
}

func i32s(v []int32) (b []byte) {
	for _, x := range v {
		b = binary.BigEndian.AppendUint32(b, uint32(x))
	}
	return b
}

// checkAccepted holds an accepted batch to what every reader of the log relies on.
func checkAccepted(t *testing.T, res Result, o ValidateOptions) {
	t.Helper()
	it := NewBatchIter(res.Batches)
	batch, h, ok, err := it.Next()
	if err != nil || !ok || it.Pos() != len(res.Batches) {
		t.Fatalf("not one whole batch: %v %v", ok, err)
	}
	if h != res.Header || !CheckCRC(batch) || h.TimestampType() != o.TimestampType || h.HasDeleteHorizon() {
		t.Fatalf("header %+v, result says %+v", h, res.Header)
	}
	n, maxTime := int32(0), NoTimestamp
	err = Records(batch, Limits{}, func(r *Record) error {
		if r.OffsetDelta != n {
			t.Errorf("record %d has offset delta %d", n, r.OffsetDelta)
		}
		n++
		maxTime = max(maxTime, r.Timestamp(&h))
		return nil
	})
	if err != nil || n != h.NumRecords || res.Count != int(n) {
		t.Fatalf("%d of %d records: %v", n, h.NumRecords, err)
	}
	if maxTime != res.MaxTimestamp || maxTime != NoTimestamp && res.OffsetOfMaxTimestamp != int64(n-1) {
		t.Errorf("largest time %d at %d, records say %d", res.MaxTimestamp, res.OffsetOfMaxTimestamp, maxTime)
	}
	if o.TimestampType == LogAppendTime && maxTime != o.Now {
		t.Errorf("append time %d", maxTime)
	}
}

func TestBadOffsetDeltasAreNumberedAnew(t *testing.T) {
	for codec := None; codec <= Zstd; codec++ {
		b := NewBuilder(BuilderOptions{Codec: codec, LeaderEpoch: -1, HasProducer: true, ProducerID: 5, ProducerEpoch: 1, BaseSequence: 3})
		b.AppendWithOffset(0, now, []byte("k"), []byte("v"), nil)
		b.AppendWithOffset(5, now+1, []byte("k"), []byte("w"), []RecordHeader{{Key: []byte("h")}})
		in := with(b.Finish(), func(h *Header) { h.LastOffsetDelta = 1 })
		o := defaults()
		o.FullInner = true
		res, err := Validate(in, o)
		if err != nil {
			t.Fatal(err)
		}
		if !res.Rewritten || res.Header.NextOffset() != 2 || res.Header.ProducerID != 5 || res.Header.BaseSequence != 3 {
			t.Errorf("%s: %+v", codec, res.Header)
		}
		checkAccepted(t, res, o)
	}
}

func TestConversions(t *testing.T) {
	for source := None; source <= Zstd; source++ {
		for target := TargetProducer; target <= TargetZstd; target++ {
			for _, tt := range []TimestampType{CreateTime, LogAppendTime} {
				in := build(BuilderOptions{Codec: source, HasProducer: true, ProducerID: 7, ProducerEpoch: 3, BaseSequence: 11, Transactional: true, LeaderEpoch: -1},
					kv("a", strings.Repeat("snappy", 20)), rec{ts: -5, key: "b", value: "2"}, rec{ts: 3, nilKey: true})
				before := bytes.Clone(in)
				o := defaults()
				o.Target, o.TimestampType, o.Level = target, tt, 2
				res, err := Validate(in, o)
				if err != nil {
					t.Fatalf("%s to %d: %v", source, target, err)
				}
				checkAccepted(t, res, o)
				want := target.codec(source)
				if res.Header.Codec() != want || res.Rewritten != (want != source) || !res.Header.IsTransactional() || res.Header.ProducerID != 7 ||
					res.Header.ProducerEpoch != 3 || res.Header.BaseSequence != 11 {
					t.Errorf("%s to %d: %+v", source, target, res.Header)
				}
				if !res.Rewritten && &res.Batches[0] != &in[0] {
					t.Errorf("%s to %d: copied without need", source, target)
				}
				if want == source && tt == CreateTime && !bytes.Equal(in, before) {
					t.Errorf("%s to %d: changed without need", source, target)
				}
			}
		}
	}
}

func TestParseTarget(t *testing.T) {
	for i, s := range []string{"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"} {
		if got, ok := ParseTarget(s); !ok || got != Target(i) {
			t.Errorf("%s: %v %v", s, got, ok)
		}
	}
	if _, ok := ParseTarget("none"); ok {
		t.Error("none is not a value of compression.type")
	}
}

func TestDeleteHorizonIsTakenFromProducers(t *testing.T) {
	in := build(BuilderOptions{DeleteHorizon: true, BaseTimestamp: now}, kv("k", ""))
	res, err := Validate(in, defaults())
	if err != nil {
		t.Fatal(err)
	}
	checkAccepted(t, res, defaults())
}

func TestHeaderTimesAreCorrected(t *testing.T) {
	in := with(plain(kv("k", "v"), rec{ts: 10, key: "k"}), func(h *Header) { h.MaxTimestamp = now + 500_000 })
	res, err := Validate(in, defaults())
	if err != nil || res.Header.MaxTimestamp != now+10 {
		t.Errorf("%d %v", res.Header.MaxTimestamp-now, err)
	}
	checkAccepted(t, res, defaults())
}

func TestCoordinatorsMayDoMore(t *testing.T) {
	o := defaults()
	o.Origin, o.Compacted = Coordinator, true
	marker := EndTxnMarker(true, 4, 9, 1, 0, now-1_000_000)
	in := append(marker, plain(kv("k", "v"), kv("l", "v"))...)
	res, err := Validate(in, o)
	if err != nil || res.Count != 3 || len(res.Batches) != len(in) || res.MaxTimestamp != now {
		t.Errorf("%+v %v", res, err)
	}
	o.Target = TargetGzip
	res, err = Validate(append(EndTxnMarker(false, 4, 9, 1, 0, now), plain(kv("k", "v"))...), o)
	if err != nil || res.Count != 2 || !res.Rewritten {
		t.Errorf("%+v %v", res, err)
	}
	it, codecs := NewBatchIter(res.Batches), 0
	for {
		b, h, ok, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if h.Codec() == Gzip && CheckCRC(b) {
			codecs++
		}
	}
	if codecs != 2 {
		t.Errorf("%d batches converted", codecs)
	}
}

func TestReplication(t *testing.T) {
	a, b := plain(kv("k", "v")), plain(kv("k", "v"), kv("k", "w"))
	SetBaseOffset(a, 10)
	SetBaseOffset(b, 20) // a hole that the cleaner left
	in := append(append(append([]byte{}, a...), b...), b[:30]...)
	res, err := Validate(in, ValidateOptions{Origin: Replication})
	if err != nil || len(res.Batches) != len(a)+len(b) || res.Count != 3 || res.Header.BaseOffset != 10 || res.OffsetOfMaxTimestamp != 0 {
		t.Errorf("%+v %v", res, err)
	}
	if _, err := Validate(append(append([]byte{}, b...), a...), ValidateOptions{Origin: Replication}); !errors.Is(err, kerr.CorruptMessage) {
		t.Errorf("out of order: %v", err)
	}
	in[HeaderSize] ^= 1
	if _, err := Validate(in, ValidateOptions{Origin: Replication}); !errors.Is(err, kerr.CorruptMessage) {
		t.Errorf("harmed: %v", err)
	}
}

func TestFastPathAllocatesNothing(t *testing.T) {
	recs := make([]rec, 50)
	for i := range recs {
		recs[i] = kv("key", value(100))
	}
	for codec := None; codec <= Zstd; codec++ {
		in := build(BuilderOptions{Codec: codec, LeaderEpoch: -1}, recs...)
		for _, tt := range []TimestampType{CreateTime, LogAppendTime} {
			o := defaults()
			o.TimestampType = tt
			if n := testing.AllocsPerRun(100, func() {
				if _, err := Validate(in, o); err != nil {
					t.Fatal(err)
				}
				SetBaseOffset(in, 0)
				SetLeaderEpoch(in, 5)
			}); n != 0 {
				t.Errorf("%s %s: %v allocations", codec, tt, n)
			}
		}
		fn := func(r *Record) error { return nil }
		if n := testing.AllocsPerRun(100, func() {
			if err := Records(in, Limits{}, fn); err != nil {
				t.Fatal(err)
			}
		}); n >= float64(len(recs))/2 { // a codec has its own, and the race detector empties pools
			t.Errorf("%s: %v allocations to read %d records", codec, n, len(recs))
		}
	}
}

func TestRecordErrorsAreBounded(t *testing.T) {
	recs := make([]rec, 5000)
	for i := range recs {
		recs[i] = rec{nilKey: true}
	}
	o := defaults()
	o.Compacted = true
	res, err := Validate(build(BuilderOptions{Codec: Zstd}, recs...), o)
	if !errors.Is(err, kerr.InvalidRecord) || len(res.RecordErrors) != maxRecordErrors {
		t.Errorf("%d record errors, %v", len(res.RecordErrors), err)
	}
}
