package interop

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"} // in the order of their ids on the wire

// sampleRecords has every shape of record that clients have tripped over: null and empty keys and values, headers with
// null values and the same name twice, and values that compress.
func sampleRecords(lib library, partitions int32) []rec {
	base := time.Now().Add(-time.Hour).UnixMilli()
	var out []rec
	for i := range 60 {
		r := rec{P: int32(i) % partitions, K: fmt.Appendf(nil, "key-%d", i), V: fmt.Appendf(nil, "value-%d", i), TS: base + int64(i)*1000}
		switch i % 10 {
		case 3:
			r.K = nil
		case 4:
			r.V = nil
		case 5:
			r.V = bytes.Repeat([]byte{byte(i), 'a', 'b', 0xff}, 2000)
		case 6:
			r.K, r.V = []byte{0, 0xff, 0x80}, []byte{}
		case 7:
			r.H = []header{{"trace", []byte("abc")}, {"schlüssel", []byte{0xff, 0}}}
		case 8:
			r.H = []header{{"same", []byte("1")}, {"empty", []byte{}}}
			if !lib.mapHeaders {
				r.H = append(r.H, header{"same", []byte("2")})
			}
			if !lib.noNullHeaders {
				r.H = append(r.H, header{"null", nil})
			}
		}
		out = append(out, r)
	}
	return out
}

func (r rec) String() string {
	return fmt.Sprintf("p=%d k=%s v=%s h=%v ts=%d", r.P, short(r.K), short(r.V), r.H, r.TS)
}

func short(b []byte) string {
	if b == nil {
		return "null"
	}
	if len(b) > 24 {
		return fmt.Sprintf("%q...(%d bytes)", b[:24], len(b))
	}
	return fmt.Sprintf("%q", b)
}

func (l library) same(a, b []byte) bool {
	return (l.emptyIsNull || (a == nil) == (b == nil)) && bytes.Equal(a, b)
}

// sameRecords compares what was read with what was written, partition by partition in order.
func sameRecords(lib library, want, got []rec) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d records written, %d read", len(want), len(got))
	}
	perPartition := map[int32][]rec{}
	for _, r := range got {
		perPartition[r.P] = append(perPartition[r.P], r)
	}
	for i, w := range want {
		rest := perPartition[w.P]
		if len(rest) == 0 {
			return fmt.Errorf("record %d (%v) was not read from its partition", i, w)
		}
		g := rest[0]
		perPartition[w.P] = rest[1:]
		ok := lib.same(w.K, g.K) && lib.same(w.V, g.V) && w.TS == g.TS && len(w.H) == len(g.H)
		for j := 0; ok && j < len(w.H); j++ {
			ok = w.H[j].Name == g.H[j].Name && lib.same(w.H[j].Value, g.H[j].Value)
		}
		if !ok {
			return fmt.Errorf("record %d: wrote %v, read %v", i, w, g)
		}
	}
	return nil
}

// readAll reads count records of a topic from its start with franz-go.
func readAll(t *testing.T, topic string, count int) []*kgo.Record {
	t.Helper()
	cl := client(t, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer cl.Close()
	ctx := patience(t, 30*time.Second)
	var out []*kgo.Record
	for len(out) < count {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("read %d of %d records of %s", len(out), count, topic)
		}
		fs.EachError(func(_ string, p int32, err error) { t.Fatalf("fetch partition %d: %v", p, err) })
		out = append(out, fs.Records()...)
	}
	return out
}

func fromKgo(rs []*kgo.Record) []rec {
	var out []rec
	for _, r := range rs {
		x := rec{P: r.Partition, O: r.Offset, K: r.Key, V: r.Value, TS: r.Timestamp.UnixMilli()}
		for _, h := range r.Headers {
			x.H = append(x.H, header{h.Key, h.Value})
		}
		out = append(out, x)
	}
	return out
}

// If this fails, an application that writes with this library and codec loses or alters records, or cannot read its own.
func TestProduceAndConsumeEveryCodec(t *testing.T) {
	eachLibrary(t, func(t *testing.T, lib library) {
		p := lib.start(t)
		for id, codec := range codecs {
			t.Run(codec, func(t *testing.T) {
				topic := createTopic(t, 3, nil)
				want := sampleRecords(lib, 3)
				ans := p.ask(t, command{Cmd: "produce", Topic: topic, Codec: codec, Records: want, Partitions: 3})
				stored := readAll(t, topic, len(want))
				if err := sameRecords(lib, want, fromKgo(stored)); err != nil {
					t.Fatalf("stored: %v", err)
				}
				for _, r := range stored {
					if got := int(r.Attrs.CompressionType()); got != id && codec != "none" && len(r.Value) > 1000 {
						t.Fatalf("asked for %s, stored with %s", codec, codecs[got])
					}
				}
				checkOffsets(t, want, ans.Offsets)
				back := p.ask(t, command{Cmd: "consume", Topic: topic, Partitions: 3, Count: len(want)})
				if err := sameRecords(lib, want, back.Records); err != nil {
					t.Fatalf("read back: %v", err)
				}
			})
		}
	})
}

// checkOffsets wants 0, 1, 2, ... in every partition, in the order of the records.
func checkOffsets(t *testing.T, want []rec, got []int64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d offsets for %d records", len(got), len(want))
	}
	next := map[int32]int64{}
	for i, r := range want {
		if got[i] != next[r.P] {
			t.Fatalf("record %d acknowledged at offset %d of partition %d, expected %d", i, got[i], r.P, next[r.P])
		}
		next[r.P]++
	}
}

// If this fails, this library cannot read what other libraries wrote, in some codec.
func TestConsumeWhatOthersWrote(t *testing.T) {
	eachLibrary(t, func(t *testing.T, lib library) {
		p := lib.start(t)
		topic := createTopic(t, 3, nil)
		var want []rec
		franzCodecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
		for _, codec := range franzCodecs {
			cl := client(t, kgo.ProducerBatchCompression(codec), kgo.RecordPartitioner(kgo.ManualPartitioner()))
			rs := sampleRecords(lib, 3)
			produce(t, cl, topic, rs)
			want = append(want, rs...)
		}
		back := p.ask(t, command{Cmd: "consume", Topic: topic, Partitions: 3, Count: len(want)})
		if err := sameRecords(lib, want, back.Records); err != nil {
			t.Fatal(err)
		}
	})
}

func produce(t *testing.T, cl *kgo.Client, topic string, rs []rec) {
	t.Helper()
	var out []*kgo.Record
	for _, r := range rs {
		k := &kgo.Record{Topic: topic, Partition: r.P, Key: r.K, Value: r.V, Timestamp: time.UnixMilli(r.TS)}
		for _, h := range r.H {
			k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		out = append(out, k)
	}
	if err := cl.ProduceSync(patience(t, 30*time.Second), out...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// If this fails, an application that asks this library not to write twice gets an error, or no protection.
func TestIdempotentProducer(t *testing.T) {
	eachLibrary(t, func(t *testing.T, lib library) {
		p := lib.start(t)
		topic := createTopic(t, 3, nil)
		want := sampleRecords(lib, 3)
		p.ask(t, command{Cmd: "produce", Topic: topic, Codec: "gzip", Records: want, Partitions: 3, Idempotent: true})
		stored := readAll(t, topic, len(want))
		if err := sameRecords(lib, want, fromKgo(stored)); err != nil {
			t.Fatal(err)
		}
		for _, r := range stored {
			if r.ProducerID < 0 {
				t.Fatalf("stored without a producer id: %+v", r)
			}
		}
		if _, err := admin(t).DescribeProducers(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
	})
}
