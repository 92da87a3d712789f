package telemetry

import (
	"crypto/rand"
	"encoding/binary"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/metadata"
)

const sample = `resource_metrics {
  resource { attributes { key: "group_id" value { string_value: "g" } } }
  scope_metrics {
    scope { name: "x" attributes { key: "k" value { kvlist_value { values { key: "a" value { array_value { values { int_value: 1 } } } } } } } }
    metrics { name: "a.rate" gauge { data_points { as_double: 1.5 exemplars { filtered_attributes { key: "t" } as_int: 4 } } } }
    metrics { name: "a.total" sum { is_monotonic: true aggregation_temporality: AGGREGATION_TEMPORALITY_DELTA data_points { as_int: 4 attributes { key: "topic" value { string_value: "b" } } } } }
    metrics { name: "h" histogram { data_points { count: 3 sum: 6.5 bucket_counts: [1, 1, 1] explicit_bounds: [1, 2] } } }
    metrics { name: "h" gauge { data_points { as_int: 1 } } }
    metrics { name: "h.sum" gauge { data_points { as_int: 1 } } }
    metrics { name: "e" exponential_histogram { data_points { positive { bucket_counts: 1 } } } }
    metrics { name: "s" summary { data_points { quantile_values { quantile: 0.5 value: 1 } } } }
    metrics { name: "ottla_client_info" gauge { data_points { as_int: 1 } } }
  }
}`

func sampleBytes(t testing.TB) []byte {
	data := &metricspb.MetricsData{}
	if err := prototext.Unmarshal([]byte(sample), data); err != nil {
		t.Fatal(err)
	}
	b, err := proto.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever a client pushes, in whatever compression: it is taken or refused, what is taken stays within the bounds, and the page
// that it makes is one that a scraper accepts.
func FuzzPush(f *testing.F) {
	b := sampleBytes(f)
	f.Add(b, b[:len(b)/2], int8(0))
	f.Add([]byte{0x0a, 0x00}, []byte("not otlp"), int8(0))
	for codec, name := range map[int8]string{1: "gzip", 3: "lz4", 4: "zstd"} {
		_, z := compressed(&testing.T{}, name, b)
		f.Add(z, z[1:], codec)
	}
	f.Fuzz(func(t *testing.T, one, two []byte, codec int8) {
		w := newWorld(t, map[string]string{"ottla.telemetry.client.series.max": "20", "ottla.telemetry.series.max": "100", "telemetry.max.bytes": "65536"})
		w.set("s", []string{"metrics=*", "interval.ms=100"})
		for i, push := range [][]byte{one, two, one} {
			c := Client{ID: "c\xff", SoftwareName: "s"}
			s, err := w.m.Get(c, metadata.UUID{1, byte(i % 2)})
			if err != nil && i < 2 {
				t.Fatal(err)
			} else if err != nil {
				continue
			}
			_ = w.m.Push(c, Push{InstanceID: s.InstanceID, Subscription: s.ID, Codec: codec, Metrics: push})
			w.clock.now = w.clock.now.Add(time.Second)
		}
		if n := w.m.pages.count(); n > 100 {
			t.Fatalf("%d series", n)
		}
		fams, err := prometheus.Gatherers{prometheus.NewRegistry(), w.m}.Gather()
		if err != nil {
			t.Fatalf("a scraper refuses the page: %v", err)
		}
		n := 0
		for _, f := range fams {
			n += len(f.Metric)
		}
		if n > 100 {
			t.Fatalf("%d metrics on the page", n)
		}
	})
}

// Counting before decoding must see every message that decoding makes, else memory is not bounded.
func TestManyMessages(t *testing.T) {
	point := []byte{0x0a, 0x00} // an empty data point
	var points []byte
	for range maxMessages + 1 {
		points = append(points, point...)
	}
	wrap := func(field byte, body []byte) []byte {
		out := []byte{field<<3 | 2}
		for n := len(body); ; n >>= 7 {
			if n < 0x80 {
				out = append(out, byte(n))
				break
			}
			out = append(out, byte(n)|0x80)
		}
		return append(out, body...)
	}
	for _, kind := range []byte{5, 7, 9, 10, 11} {
		b := wrap(1, wrap(2, wrap(2, wrap(kind, points))))
		if _, err := decode(b); err != errTooMany {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
	deep := []byte{}
	for range maxNesting {
		deep = wrap(5, wrap(1, deep)) // an array in an array
	}
	if _, err := decode(wrap(1, wrap(1, wrap(1, wrap(2, deep))))); err != errTooDeep {
		t.Error(err)
	}
	if _, err := decode(sampleBytes(t)); err != nil {
		t.Error(err)
	}
}

// Series and instances stay within their bounds however many clients come, and the room of those that left is used again.
func TestBounds(t *testing.T) {
	w := newWorld(t, map[string]string{"ottla.telemetry.series.max": "100"})
	w.set("s", []string{"metrics=*"})
	push := func() {
		s, err := w.m.Get(Client{ID: "c"}, metadata.UUID{})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.m.Push(Client{ID: "c"}, Push{InstanceID: s.InstanceID, Subscription: s.ID, Metrics: sampleBytes(t)}); err != nil {
			t.Fatal(err)
		}
	}
	ids := uint32(0)
	w.m.newID = func() (id metadata.UUID) { ids++; binary.BigEndian.PutUint32(id[:], ids); return id }
	for range 200 {
		push()
	}
	if n := w.m.pages.count(); n != 100 {
		t.Errorf("%d series", n)
	}
	if n := w.m.count(); n != 200 {
		t.Errorf("%d instances", n)
	}
	w.clock.now = w.clock.now.Add(15*time.Minute + time.Second)
	push()
	if n := w.m.pages.count(); n != 7 {
		t.Errorf("%d series after everybody left", n)
	}
	if n := w.m.count(); n != 1 {
		t.Errorf("%d instances after everybody left", n)
	}
	for range maxInstances + 10 {
		if _, err := w.m.Get(Client{}, metadata.UUID{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.m.count(); n != maxInstances {
		t.Errorf("%d instances", n)
	}
}

// Clients push, settings change and scrapers look, all at the same time: run with -race.
func TestAtTheSameTime(t *testing.T) {
	w := newWorld(t, map[string]string{"ottla.telemetry.series.max": "1000"})
	w.m.clock = clock.Real{}
	w.m.newID = func() (id metadata.UUID) { _, _ = rand.Read(id[:]); return id }
	w.set("s", []string{"metrics=*", "interval.ms=100"})
	b := sampleBytes(t)
	var all sync.WaitGroup
	var accepted atomic.Int64
	for range 8 {
		all.Go(func() {
			for range 50 {
				s, err := w.m.Get(Client{ID: "c"}, metadata.UUID{})
				if err != nil {
					t.Error(err)
					return
				}
				for range 2 {
					if w.m.Push(Client{ID: "c"}, Push{InstanceID: s.InstanceID, Subscription: s.ID, Metrics: b}) == nil {
						accepted.Add(1)
					}
				}
				if _, err := w.m.Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 20 {
		w.set("other", []string{"metrics=x", "match=client_id=nobody" + strconv.Itoa(i)})
	}
	all.Wait()
	if n := accepted.Load(); n < 400 {
		t.Errorf("%d pushes accepted: the first of each of 400 instances may come at once", n)
	}
	if n := w.m.pages.count(); n > 1000 {
		t.Errorf("%d series", n)
	}
}

// What decoding takes is bounded by the size of a push: messages of two bytes on the wire are the worst there are.
func TestDecodingMemory(t *testing.T) {
	var points []byte
	for range maxMessages - 10 {
		points = append(points, 0x0a, 0x00)
	}
	wrap := func(field byte, body []byte) []byte {
		return append(protowire.AppendVarint([]byte{field<<3 | 2}, uint64(len(body))), body...)
	}
	b := wrap(1, wrap(2, wrap(2, wrap(9, points)))) // histograms have the largest data points
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	data, err := decode(b)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
		t.Errorf("%d KB on the wire took %d MB", len(b)>>10, n>>20)
	}
	runtime.KeepAlive(data)
}
