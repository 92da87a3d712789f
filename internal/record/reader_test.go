package record

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The file holds the six segments of a partition that Apache Kafka 4.4 wrote, one after the other: 15 batches of three
// records, three for each codec, an aborted and a committed transaction, an idempotent and a plain batch.
func kafkaSample(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/kafka-4.4-segments.bin")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadsWhatKafkaWrote(t *testing.T) {
	sample := kafkaSample(t)
	it := NewBatchIter(sample)
	var codecs, controls []string
	next, records := int64(0), 0
	for n := 0; ; n++ {
		batch, h, ok, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if !CheckCRC(batch) || h.BaseOffset != next {
			t.Fatalf("batch %d: CRC %v, base offset %d where %d is due", n, CheckCRC(batch), h.BaseOffset, next)
		}
		next = h.NextOffset()
		if h.IsControl() {
			c, err := ParseControl(batch)
			if err != nil {
				t.Fatal(err)
			}
			e, ok, err := ParseEndTxn(c)
			if !ok || err != nil {
				t.Fatalf("%v %v", ok, err)
			}
			controls = append(controls, fmt.Sprintf("%s commit=%v", c.Type, e.Commit))
			again := EndTxnMarker(e.Commit, e.CoordinatorEpoch, h.ProducerID, h.ProducerEpoch, h.BaseOffset, h.BaseTimestamp)
			SetLeaderEpoch(again, h.PartitionLeaderEpoch)
			if !bytes.Equal(batch, again) {
				t.Fatalf("end marker\n%x built as\n%x", batch, again)
			}
			continue
		}
		if n < 15 {
			codecs = append(codecs, h.Codec().String())
		}
		b := NewBuilder(BuilderOptions{BaseOffset: h.BaseOffset, LeaderEpoch: h.PartitionLeaderEpoch, Codec: h.Codec(), Transactional: h.IsTransactional(),
			HasProducer: h.HasProducerID(), ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch, BaseSequence: h.BaseSequence})
		err = Records(batch, Limits{}, func(r *Record) error {
			records++
			b.AppendWithOffset(r.Offset(&h), r.Timestamp(&h), r.Key, r.Value, r.Headers)
			if n < 15 && r.OffsetDelta == 0 && (string(r.Key) != fmt.Sprintf("key%d", n) || len(r.Headers) != 1 || string(r.Headers[0].Key) != "h") {
				t.Errorf("batch %d: first record %q %v", n, r.Key, r.Headers)
			}
			if n < 15 && r.OffsetDelta == 1 && (r.Key != nil || string(r.Value) != "x") {
				t.Errorf("batch %d: second record %q", n, r.Key)
			}
			if n < 15 && r.OffsetDelta == 2 && (r.Value != nil || string(r.Key) != "t") {
				t.Errorf("batch %d: third record %q", n, r.Key)
			}
			return nil
		})
		if err != nil {
			t.Fatalf("batch %d: %v", n, err)
		}
		if h.Codec() == None && !bytes.Equal(b.Finish(), batch) {
			t.Errorf("batch %d\n%x built as\n%x", n, batch, b.Finish())
		}
	}
	if it.Pos() != len(sample) {
		t.Errorf("stopped at %d of %d bytes", it.Pos(), len(sample))
	}
	if got := strings.Join(codecs, " "); got != "uncompressed uncompressed uncompressed gzip gzip gzip snappy snappy snappy lz4 lz4 lz4 zstd zstd zstd" {
		t.Errorf("codecs %s", got)
	}
	if got := strings.Join(controls, ", "); got != "ABORT commit=false, COMMIT commit=true" {
		t.Errorf("controls %s", got)
	}
	if next != 54 {
		t.Errorf("ends at offset %d", next)
	}
	t.Logf("%d records", records)
}

type flatRecord struct {
	ts         int64
	key, value []byte
	headers    []RecordHeader
}

func bytesOrNil(t *rapid.T, label string) []byte {
	switch rapid.IntRange(0, 9).Draw(t, label+"Kind") {
	case 0:
		return nil
	case 1:
		return []byte{}
	case 2:
		return bytes.Repeat([]byte("0123456789"), rapid.IntRange(1, 9000).Draw(t, label+"Repeat"))
	}
	return rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, label)
}

func TestBuildAndReadRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		codec := Codec(rapid.IntRange(0, 4).Draw(t, "codec"))
		o := BuilderOptions{BaseOffset: rapid.Int64Range(0, 1<<50).Draw(t, "base"), LeaderEpoch: 3, Codec: codec, Level: rapid.IntRange(-1, 20).Draw(t, "level"),
			HasProducer: rapid.Bool().Draw(t, "producer"), ProducerID: 77, ProducerEpoch: 2, BaseSequence: 9, Transactional: rapid.Bool().Draw(t, "txn")}
		if rapid.Bool().Draw(t, "horizon") {
			o.DeleteHorizon, o.BaseTimestamp = true, 12345
		}
		b := NewBuilder(o)
		want := make([]flatRecord, rapid.IntRange(1, 40).Draw(t, "n"))
		maxTime := NoTimestamp
		for i := range want {
			r := &want[i]
			r.ts = rapid.Int64Range(-1, 1<<45).Draw(t, "ts")
			r.key, r.value = bytesOrNil(t, "key"), bytesOrNil(t, "value")
			for range rapid.IntRange(0, 3).Draw(t, "headers") {
				r.headers = append(r.headers, RecordHeader{Key: rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "hk"), Value: bytesOrNil(t, "hv")})
			}
			maxTime = max(maxTime, r.ts)
			b.Append(r.ts, r.key, r.value, r.headers)
		}
		batch := b.Finish()
		h, err := ParseHeader(batch)
		if err != nil || h.Size() != len(batch) || !CheckCRC(batch) || h.MaxTimestamp != maxTime || int(h.NumRecords) != len(want) ||
			h.LastOffset() != o.BaseOffset+int64(len(want))-1 || h.IsTransactional() != o.Transactional || h.HasProducerID() != o.HasProducer || h.HasDeleteHorizon() != o.DeleteHorizon {
			t.Fatalf("header %+v, err %v", h, err)
		}
		if !plausible(codec, batch[HeaderSize:], h.NumRecords) {
			t.Fatalf("codec %s: own batch is not plausible", codec)
		}
		i := 0
		err = Records(batch, Limits{}, func(r *Record) error {
			w := want[i]
			if r.Offset(&h) != o.BaseOffset+int64(i) || r.Timestamp(&h) != w.ts || !same(r.Key, w.key) || !same(r.Value, w.value) || len(r.Headers) != len(w.headers) {
				return fmt.Errorf("record %d is %+v", i, *r)
			}
			for j, hd := range r.Headers {
				if !bytes.Equal(hd.Key, w.headers[j].Key) || !same(hd.Value, w.headers[j].Value) {
					return fmt.Errorf("record %d header %d is %+v", i, j, hd)
				}
			}
			i++
			return nil
		})
		if err != nil || i != len(want) {
			t.Fatalf("%d of %d records: %v", i, len(want), err)
		}
	})
}

// same compares bytes and tells null from empty.
func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }
