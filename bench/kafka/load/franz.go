package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// CreateTopic makes a topic and waits until every partition has a leader that answers.
func CreateTopic(ctx context.Context, addr, topic string, partitions int, configs map[string]string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RequestTimeoutOverhead(2*time.Minute))
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	adm.SetTimeoutMillis(120_000)
	cs := map[string]*string{}
	for k, v := range configs {
		cs[k] = &v
	}
	if _, err := adm.CreateTopic(ctx, int32(partitions), 1, cs, topic); err != nil {
		return fmt.Errorf("create %s: %w", topic, err)
	}
	for {
		ends, err := adm.ListEndOffsets(ctx, topic)
		n := 0
		if err == nil {
			ends.Each(func(o kadm.ListedOffset) {
				if o.Err == nil {
					n++
				}
			})
		}
		if n == partitions {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %d of %d partitions ready: %w", topic, n, partitions, ctx.Err())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// DeleteTopic removes a topic.
func DeleteTopic(ctx context.Context, addr, topic string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	_, err = kadm.NewClient(cl).DeleteTopic(ctx, topic)
	return err
}

// ClientProduce is what an application with a full client reaches: records of RecordBytes in batches of BatchBytes.
func ClientProduce(ctx context.Context, p Produce) (Result, error) {
	codec := map[string]kgo.CompressionCodec{"": kgo.NoCompression(), "none": kgo.NoCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}[p.Codec]
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.Addr), kgo.DefaultProduceTopic(p.Topic), kgo.ProducerBatchMaxBytes(int32(p.BatchBytes)),
		kgo.ProducerBatchCompression(codec), kgo.MaxBufferedRecords(200_000), kgo.RecordPartitioner(kgo.UniformBytesPartitioner(p.BatchBytes, false, false, nil)))
	if err != nil {
		return Result{}, err
	}
	defer cl.Close()
	value := Payload(rand.New(rand.NewPCG(3, 4)), p.RecordBytes)
	if err := cl.ProduceSync(ctx, &kgo.Record{Value: value}).FirstErr(); err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, p.Limit)
	defer cancel()
	var failed atomic.Pointer[error]
	start := time.Now()
	var n int64
	for ; n*int64(p.RecordBytes) < p.Bytes && ctx.Err() == nil; n++ {
		cl.Produce(context.Background(), &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	if err := cl.Flush(context.Background()); err != nil {
		return Result{}, err
	}
	if err := failed.Load(); err != nil {
		return Result{}, *err
	}
	return Result{Bytes: n * int64(p.RecordBytes), Requests: n, Took: time.Since(start)}, nil
}

// ClientConsume reads Bytes of record values of a topic with a full client.
func ClientConsume(ctx context.Context, f Fetch) (Result, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(f.Addr), kgo.ConsumeTopics(f.Topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxPartitionBytes(int32(f.PartitionBytes)))
	if err != nil {
		return Result{}, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, f.Limit)
	defer cancel()
	var r Result
	start := time.Now()
	for r.Bytes < f.Bytes {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return r, fmt.Errorf("read %d of %d bytes: %w", r.Bytes, f.Bytes, ctx.Err())
		}
		fs.EachRecord(func(k *kgo.Record) { r.Bytes += int64(len(k.Value)); r.Requests++ })
	}
	r.Took = time.Since(start)
	return r, nil
}

// EndToEnd sends perSecond records of recordBytes for warm+d and measures, after warm, the time from when a record was
// due to when a consumer had it.
func EndToEnd(ctx context.Context, addr, topic string, recordBytes int, perSecond float64, warm, d time.Duration, measured func()) (Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	prod, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		return Result{}, err
	}
	defer prod.Close()
	cons, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return Result{}, err
	}
	defer cons.Close()
	every := time.Duration(float64(time.Second) / perSecond)
	total := int64((warm + d) / every)
	skip := int64(warm / every)
	var r Result
	var wg sync.WaitGroup
	var got atomic.Int64
	wg.Go(func() {
		for got.Load() < total && ctx.Err() == nil {
			fs := cons.PollFetches(ctx)
			now := time.Now()
			fs.EachRecord(func(k *kgo.Record) {
				if int64(binary.LittleEndian.Uint64(k.Value[8:])) >= skip {
					r.Latency.Add(now.Sub(time.Unix(0, int64(binary.LittleEndian.Uint64(k.Value)))))
				}
				got.Add(1)
			})
		}
	})
	pattern := Payload(rand.New(rand.NewPCG(5, 6)), recordBytes)
	var failed atomic.Pointer[error]
	start := time.Now()
	for i := range total {
		if i == skip {
			measured()
			r.Took = time.Since(start)
		}
		at := start.Add(every * time.Duration(i))
		if w := time.Until(at); w > 100*time.Microsecond {
			time.Sleep(w)
		}
		v := append([]byte(nil), pattern...)
		binary.LittleEndian.PutUint64(v, uint64(at.UnixNano()))
		binary.LittleEndian.PutUint64(v[8:], uint64(i))
		prod.Produce(ctx, &kgo.Record{Value: v}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	stop := time.AfterFunc(30*time.Second, cancel)
	wg.Wait()
	stop.Stop()
	if err := failed.Load(); err != nil {
		return r, *err
	}
	if got.Load() < total {
		return r, fmt.Errorf("only %d of %d records arrived", got.Load(), total)
	}
	r.Took = time.Since(start) - r.Took
	r.Requests = total - skip
	r.Bytes = r.Requests * int64(recordBytes)
	return r, nil
}
