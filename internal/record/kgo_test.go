package record

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// captured gives the batches that franz-go's producer sends for records, compressed with codec.
func captured(t *testing.T, codec kgo.CompressionCodec, records []*kgo.Record) [][]byte {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var (
		mu  sync.Mutex
		out [][]byte
	)
	c.ControlKey(0, func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		for _, topic := range req.(*kmsg.ProduceRequest).Topics {
			for _, p := range topic.Partitions {
				out = append(out, bytes.Clone(p.Records))
			}
		}
		return nil, nil, false
	})
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic("t"), kgo.ProducerBatchCompression(codec), kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	return out
}

func TestBatchesOfFranzGo(t *testing.T) {
	codecs := map[Codec]kgo.CompressionCodec{None: kgo.NoCompression(), Gzip: kgo.GzipCompression(), Snappy: kgo.SnappyCompression(), LZ4: kgo.Lz4Compression(), Zstd: kgo.ZstdCompression()}
	for codec, with := range codecs {
		t.Run(codec.String(), func(t *testing.T) {
			var records []*kgo.Record
			for i := range 500 {
				r := &kgo.Record{Key: []byte(fmt.Sprint("key", i)), Value: bytes.Repeat([]byte("some text "), i%70)}
				if i%10 == 3 {
					r.Key, r.Headers = nil, []kgo.RecordHeader{{Key: "h", Value: []byte("x")}, {Key: "", Value: nil}}
				}
				if i%10 == 4 {
					r.Value = nil
				}
				records = append(records, r)
			}
			at := 0
			for _, batch := range captured(t, with, records) {
				o := ValidateOptions{Now: now, BeforeMaxMs: math.MaxInt64, AfterMaxMs: math.MaxInt64, MaxMessageBytes: 1 << 20}
				for _, full := range []bool{false, true} {
					o.FullInner = full
					res, err := Validate(batch, o)
					if err != nil || res.Rewritten {
						t.Fatalf("full %v: %v, rewritten %v", full, err, res.Rewritten)
					}
				}
				h, _ := ParseHeader(batch)
				if h.Codec() != codec {
					t.Errorf("sent with codec %s", h.Codec())
				}
				err := Records(batch, LimitsFor(1<<20), func(r *Record) error {
					want := records[at]
					if !bytes.Equal(r.Key, want.Key) || (r.Key == nil) != (want.Key == nil) || !bytes.Equal(r.Value, want.Value) || (r.Value == nil) != (want.Value == nil) || len(r.Headers) != len(want.Headers) {
						return fmt.Errorf("record %d is %q %q", at, r.Key, r.Value)
					}
					at++
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if at != len(records) {
				t.Errorf("%d of %d records", at, len(records))
			}
		})
	}
}
