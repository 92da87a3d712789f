// Package load is what clients do to a cluster during a chaos run, every operation written into the history: producers, readers of
// both isolation levels, a group, transactions that turn inputs into outputs, and observers. It knows the Kafka protocol through a
// client; it must never know how the cluster is made, which fault is on, or whether what it sees is right.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottla/ottla/chaos/history"
)

// The names of what a run uses.
const (
	Input          = "ledger"
	Output         = "outcome"
	ReadGroup      = "readers"
	TransformGroup = "transform"
	ObserverGroup  = "observer"
)

// Options of a load.
type Options struct {
	Bootstrap        []string
	Partitions       int           // of each topic
	Every            time.Duration // one record to each input partition every so often
	Transactions     bool
	Group            bool
	ReplicationForce int16 // replication factor to create with; -1 is the cluster's default
	Seed             uint64
	Record           func(history.Event)
	Log              io.Writer // what the clients' library says; nil is nowhere
}

// Load is the running clients.
type Load struct {
	o      Options
	cancel context.CancelFunc
	ctx    context.Context
	stopp  context.CancelFunc // producers stop first
	pctx   context.Context
	prod   sync.WaitGroup
	rest   sync.WaitGroup
	errs   errorCounts

	Sent, Acked atomic.Int64
}

// client are the options of every client: fast to notice and to try again, so that what is measured is the cluster.
func client(bootstrap []string, more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(bootstrap...), kgo.MetadataMinAge(100 * time.Millisecond), kgo.MetadataMaxAge(2 * time.Second), kgo.DialTimeout(time.Second),
		kgo.RequestTimeoutOverhead(time.Second), kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }), kgo.RetryTimeout(20 * time.Second),
		kgo.RequestRetries(1 << 20), kgo.DisableClientMetrics(),
	}, more...)...)
}

// logged says what the client's library has to say, with its name and the time.
func (l *Load) logged(who string) kgo.Opt {
	if l.o.Log == nil {
		return kgo.WithLogger(nil)
	}
	return kgo.WithLogger(kgo.BasicLogger(l.o.Log, kgo.LogLevelInfo, func() string { return time.Now().UTC().Format("15:04:05.000 ") + who + " " }))
}

// Start creates the topics and starts all clients.
func Start(ctx context.Context, o Options) (*Load, error) {
	l := &Load{o: o, errs: errorCounts{m: map[string]int{}}}
	if err := l.createTopics(ctx); err != nil {
		return nil, err
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.pctx, l.stopp = context.WithCancel(l.ctx)
	for who := 0; who*perProducer < o.Partitions; who++ {
		if err := l.startProducer(who); err != nil {
			l.Abort()
			return nil, err
		}
	}
	for _, committed := range []bool{false, true} {
		if err := l.startReader(committed); err != nil {
			l.Abort()
			return nil, err
		}
	}
	if o.Group {
		for i := range 2 {
			l.rest.Go(func() { l.member(i) })
		}
	}
	if o.Transactions {
		for i := range 2 {
			l.prod.Go(func() { l.transform(i) })
		}
	}
	if err := l.startObservers(); err != nil {
		l.Abort()
		return nil, err
	}
	return l, nil
}

func (l *Load) createTopics(ctx context.Context) error {
	cl, err := client(l.o.Bootstrap)
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	for _, topic := range []string{Input, Output} {
		for try := 0; ; try++ {
			_, err := adm.CreateTopic(ctx, int32(l.o.Partitions), l.o.ReplicationForce, nil, topic)
			if err == nil || errors.Is(err, kerr.TopicAlreadyExists) {
				break
			}
			if ctx.Err() != nil || try > 100 {
				return fmt.Errorf("create %s: %w", topic, err)
			}
			pause(ctx, 200*time.Millisecond)
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// perProducer partitions share a client: a stuck partition must not hold up too many others.
const perProducer = 3

// window is the most unacknowledged records of a partition.
const window = 100

func (l *Load) startProducer(who int) error {
	cl, err := client(l.o.Bootstrap, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0),
		kgo.ProduceRequestTimeout(time.Second), kgo.RecordDeliveryTimeout(2*time.Minute), kgo.MaxBufferedRecords(1<<16), kgo.ClientID(fmt.Sprintf("producer-%d", who)), l.logged(fmt.Sprintf("producer-%d", who)))
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(l.o.Seed, uint64(who)))
	l.prod.Go(func() {
		defer cl.Close()
		l.produce(cl, who, rng)
	})
	return nil
}

func (l *Load) produce(cl *kgo.Client, who int, rng *rand.Rand) {
	first := who * perProducer
	n := min(perProducer, l.o.Partitions-first)
	seq := make([]int64, n)
	inFlight := make([]atomic.Int32, n)
	tick := time.NewTicker(l.o.Every)
	defer tick.Stop()
	for l.pctx.Err() == nil {
		<-tick.C
		for i := range n {
			if inFlight[i].Load() >= window {
				continue
			}
			inFlight[i].Add(1)
			v := history.Value{Topic: Input, Partition: int32(first + i), Writer: int32(who), Seq: seq[i]}
			seq[i]++
			l.o.Record(history.Event{Kind: history.Sent, Value: &v})
			l.Sent.Add(1)
			r := &kgo.Record{Topic: Input, Partition: v.Partition, Key: fmt.Appendf(nil, "%d", v.Partition), Value: v.Bytes(80 + rng.IntN(200))}
			cl.Produce(context.Background(), r, func(r *kgo.Record, err error) {
				inFlight[i].Add(-1)
				if err != nil {
					l.errs.add("produce", err)
					l.o.Record(history.Event{Kind: history.Unknown, Value: &v, Note: err.Error()})
					return
				}
				l.Acked.Add(1)
				l.o.Record(history.Event{Kind: history.Acked, Value: &v, Offset: r.Offset})
			})
		}
	}
	flush, cancel := context.WithTimeout(l.ctx, 60*time.Second)
	defer cancel()
	_ = cl.Flush(flush)
}

// StopProducing lets the producers and transformers end what they have begun, at most for the given time.
func (l *Load) StopProducing(patience time.Duration) {
	l.stopp()
	done := make(chan struct{})
	go func() { l.prod.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
	}
}

// Stop ends the rest.
func (l *Load) Stop() {
	l.stopp()
	l.cancel()
	l.prod.Wait()
	l.rest.Wait()
}

// Abort is Stop for a load that did not come up.
func (l *Load) Abort() { l.Stop() }

// Errors is what clients reported, by kind and text, with how often.
func (l *Load) Errors() map[string]int { return l.errs.copy() }

type errorCounts struct {
	mu sync.Mutex
	m  map[string]int
}

func (e *errorCounts) add(what string, err error) {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
		return
	}
	text := what + ": " + err.Error()
	if len(text) > 160 {
		text = text[:160]
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.m) < 200 {
		e.m[text]++
	}
}

func (e *errorCounts) copy() map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make(map[string]int, len(e.m))
	for k, v := range e.m {
		out[k] = v
	}
	return out
}
