// Package crash kills a broker process with SIGKILL under load, again and again, and checks that it keeps its word:
// every record that was acknowledged is there, once, and in the order it was sent. It knows the Kafka protocol through
// a client and how to start and kill a process; it must never know the broker from inside.
//
// OTTLA_CRASH_RUNS sets the number of kills (default 3; the release check is 50), OTTLA_CRASH_SEED repeats a run,
// OTTLA_CRASH_TARGET=kafka runs the same against Apache Kafka, which promises this for a kill of the process too.
package crash

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ottla/ottla/test/peer"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	partitions = 12
	producers  = 4 // each owns partitions/producers partitions, so that order per partition is one producer's order
	topic      = "ledger"
)

func number(t *testing.T, env string, otherwise int64) int64 {
	t.Helper()
	v := os.Getenv(env)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s: %v", env, v, err)
	}
	return n
}

func newBroker(t *testing.T, more ...map[string]string) *peer.Broker {
	t.Helper()
	// Small segments, so that kills fall into rolls too.
	o := peer.Options{Dir: t.TempDir(), HeapMB: 512, Properties: map[string]string{"log.segment.bytes": "1048576", "log.retention.check.interval.ms": "3600000"}}
	for _, m := range more {
		maps.Copy(o.Properties, m)
	}
	var b *peer.Broker
	var err error
	if os.Getenv("OTTLA_CRASH_TARGET") == "kafka" {
		var k *peer.Kafka
		if k, err = peer.FetchKafka(); err == nil {
			b, err = k.NewKafka(o)
		}
	} else {
		var bin string
		if bin, err = peer.BuildOttla(filepath.Dir(o.Dir)); err == nil {
			b, err = peer.NewOttla(bin, o)
		}
	}
	if errors.Is(err, peer.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ledger is what one partition was sent and what of it was acknowledged. Records carry their sequence 0, 1, 2, ...
type ledger struct {
	mu     sync.Mutex
	sent   int64
	acked  map[int64]int64 // sequence -> offset
	failed int64           // gave up: may be there or not
}

type load struct {
	ledgers [partitions]ledger
	stop    context.CancelFunc
	wg      sync.WaitGroup
}

// startLoad produces numbered records to every partition with idempotent producers until stop; they outlive kills.
func startLoad(t *testing.T, addr string, seed uint64) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel}
	for i := range l.ledgers {
		l.ledgers[i].acked = map[int64]int64{}
	}
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(), kgo.SnappyCompression()}
	for p := range producers {
		cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks()),
			kgo.ProducerBatchCompression(codecs[p]), kgo.ProducerLinger(time.Duration(p)*time.Millisecond), kgo.MaxBufferedRecords(2000),
			kgo.RecordDeliveryTimeout(5*time.Minute), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }))
		if err != nil {
			t.Fatal(err)
		}
		l.wg.Go(func() {
			defer cl.Close()
			l.produce(ctx, cl, p, rand.New(rand.NewPCG(seed, uint64(p))))
		})
	}
	return l
}

func (l *load) produce(ctx context.Context, cl *kgo.Client, who int, rng *rand.Rand) {
	pad := make([]byte, 64<<10)
	tick := time.NewTicker(5 * time.Millisecond) // bursts of 10: enough to have batches in flight at any moment, and a ledger that fits in memory
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		if n%10 == 0 {
			<-tick.C
		}
		part := int32(who + producers*(n%(partitions/producers)))
		led := &l.ledgers[part]
		led.mu.Lock()
		seq := led.sent
		led.sent++
		led.mu.Unlock()
		size := rng.IntN(200)
		if rng.IntN(200) == 0 {
			size = rng.IntN(len(pad)) // now and then a batch that is flushed straight to its segment
		}
		r := &kgo.Record{Topic: topic, Partition: part, Key: strconv.AppendInt(nil, seq, 10), Value: pad[:size]}
		cl.Produce(context.Background(), r, func(r *kgo.Record, err error) {
			led.mu.Lock()
			defer led.mu.Unlock()
			if err != nil {
				led.failed++
				return
			}
			led.acked[seq] = r.Offset
		})
	}
	cl.Flush(context.Background())
}

func (l *load) acked() (n int64) {
	for i := range l.ledgers {
		l.ledgers[i].mu.Lock()
		n += int64(len(l.ledgers[i].acked))
		l.ledgers[i].mu.Unlock()
	}
	return n
}

// snapshot copies what has been acknowledged up to now.
func (l *load) snapshot() (out [partitions]map[int64]int64) {
	for i := range l.ledgers {
		l.ledgers[i].mu.Lock()
		out[i] = make(map[int64]int64, len(l.ledgers[i].acked))
		for s, o := range l.ledgers[i].acked {
			out[i][s] = o
		}
		l.ledgers[i].mu.Unlock()
	}
	return out
}

// If this fails, a broker that dies loses, repeats or reorders what it had acknowledged.
func TestKillUnderLoad(t *testing.T) {
	runs := number(t, "OTTLA_CRASH_RUNS", 3)
	if testing.Short() {
		t.Skip("kills real processes: not in -short")
	}
	seed := uint64(number(t, "OTTLA_CRASH_SEED", time.Now().UnixNano()))
	t.Logf("repeat with OTTLA_CRASH_SEED=%d OTTLA_CRASH_RUNS=%d", seed, runs)
	rng := rand.New(rand.NewPCG(seed, 99))
	b := newBroker(t)
	start := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := b.Restart(ctx); err != nil {
			t.Fatal(err)
		}
	}
	start()
	defer func() { b.Kill() }()
	createTopic(t, b.Addr)
	l := startLoad(t, b.Addr, seed)
	defer l.wg.Wait()
	defer l.stop()
	for run := range runs {
		before := l.acked()
		waitFor(t, time.Minute, "the load to move again", func() bool { return l.acked() > before+500 })
		pause(time.Duration(rng.IntN(1000)) * time.Millisecond)
		known := l.snapshot()
		b.Kill()
		start()
		checked := check(t, b.Addr, known)
		t.Logf("kill %d of %d: %d acknowledged records present, in order, once", run+1, runs, checked)
		if t.Failed() {
			return
		}
	}
	l.stop()
	l.wg.Wait()
	checked := check(t, b.Addr, l.snapshot())
	var sent, failed int64
	for i := range l.ledgers {
		sent += l.ledgers[i].sent
		failed += l.ledgers[i].failed
	}
	t.Logf("%d kills, %d records sent, %d acknowledged and verified, %d given up by the client", runs, sent, checked, failed)
	if checked == 0 || failed > sent/10 {
		t.Errorf("too little was acknowledged to prove anything: %d of %d, %d failed", checked, sent, failed)
	}
}

func createTopic(t *testing.T, addr string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
}

// check reads every partition from its start to its end of now and holds it against what was acknowledged before.
func check(t *testing.T, addr string, acked [partitions]map[int64]int64) (verified int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		t.Fatalf("list end offsets: %v", err)
	}
	var next, last [partitions]int64
	var seen [partitions]map[int64]int64
	left := 0
	for p := range seen {
		seen[p], last[p] = map[int64]int64{}, -1
		if o, _ := ends.Lookup(topic, int32(p)); o.Offset > 0 {
			left++
		}
	}
	for left > 0 {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("reading back stopped: %d partitions not read to their end", left)
		}
		fs.EachError(func(_ string, p int32, err error) { t.Errorf("fetch partition %d: %v", p, err) })
		fs.EachRecord(func(r *kgo.Record) {
			p := r.Partition
			end, _ := ends.Lookup(topic, p)
			if r.Offset >= end.Offset {
				return
			}
			seq, err := strconv.ParseInt(string(r.Key), 10, 64)
			switch {
			case err != nil:
				t.Errorf("partition %d offset %d: key %q was never sent", p, r.Offset, r.Key)
			case r.Offset != next[p]:
				t.Errorf("partition %d: offset %d follows %d", p, r.Offset, next[p]-1)
			case seq <= last[p]:
				if first, twice := seen[p][seq]; twice {
					t.Errorf("partition %d: record %d is at offset %d and again at %d", p, seq, first, r.Offset)
				} else {
					t.Errorf("partition %d: record %d at offset %d comes after record %d", p, seq, r.Offset, last[p])
				}
			}
			seen[p][seq], last[p], next[p] = r.Offset, seq, r.Offset+1
			if r.Offset == end.Offset-1 {
				left--
			}
		})
		if t.Failed() {
			return verified
		}
	}
	for p, want := range acked {
		for seq, off := range want {
			if at, ok := seen[p][seq]; !ok || at != off {
				t.Errorf("partition %d: record %d was acknowledged at offset %d; found %v at %d (log end %d)", p, seq, off, ok, at, next[p])
				break
			}
			verified++
		}
	}
	return verified
}

func waitFor(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	limit := time.After(within)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited %v for %s", within, what)
		}
	}
}

// pause moves the kill to a random point of the load; nothing is waited for.
func pause(d time.Duration) { <-time.After(d) }
