package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/test/queue"
)

// kills is how many brokers a test kills (OTTLA_CLUSTER_KILLS).
func kills(t *testing.T) int {
	t.Helper()
	v := os.Getenv("OTTLA_CLUSTER_KILLS")
	if v == "" {
		return 4
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("OTTLA_CLUSTER_KILLS=%s: %v", v, err)
	}
	return n
}

// killing kills a broker after the other, chosen by which, and starts it again, with the load moving in between.
func (c *trio) killing(n int, which func() *broker, moved func() int) {
	c.t.Helper()
	for limit := time.Now().Add(8 * time.Second); c.onlyVoter() >= 0 && time.Now().Before(limit); { // the quorum grows by itself
		<-time.After(100 * time.Millisecond)
	}
	for i := range n {
		c.moves(moved, 30, fmt.Sprintf("before kill %d", i+1))
		b := which()
		if i%3 == 2 { // it is taken for dead, others take its place, and it comes back as it was
			c.t.Logf("pause %d of %d: broker %d", i+1, n, b.id)
			b.signal(syscall.SIGSTOP)
			c.moves(moved, 10, fmt.Sprintf("while broker %d stands still", b.id))
			b.signal(syscall.SIGCONT)
			continue
		}
		c.t.Logf("kill %d of %d: broker %d", i+1, n, b.id)
		b.kill()
		c.moves(moved, 10, fmt.Sprintf("without broker %d", b.id))
		b.start()
		c.ready(within(c.t, time.Minute))
	}
	c.moves(moved, 10, "at the end")
}

// moves waits until the load has done so much more.
func (c *trio) moves(moved func() int, by int, when string) {
	c.t.Helper()
	from, limit := moved(), time.After(time.Minute)
	for moved() < from+by {
		select {
		case <-limit:
			c.t.Fatalf("the load stands still %s: %d done", when, moved())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// onlyVoter is the broker that is the whole quorum of the metadata, -1 where there are several.
func (c *trio) onlyVoter() int32 {
	c.t.Helper()
	q := kmsg.NewPtrDescribeQuorumRequest()
	t := kmsg.NewDescribeQuorumRequestTopic()
	t.Topic, t.Partitions = "__cluster_metadata", []kmsg.DescribeQuorumRequestTopicPartition{{}}
	q.Topics = append(q.Topics, t)
	first, err := kgo.NewClient(kgo.SeedBrokers(c.brokers[0].addr))
	if err != nil {
		c.t.Fatal(err)
	}
	defer first.Close()
	seeds := first.SeedBrokers()
	raw, err := seeds[0].RetriableRequest(within(c.t, 20*time.Second), q)
	if err != nil {
		c.t.Fatal(err)
	}
	r := raw.(*kmsg.DescribeQuorumResponse)
	if err != nil || len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		c.t.Fatalf("the quorum: %v %+v", err, r)
	}
	if v := r.Topics[0].Partitions[0].CurrentVoters; len(v) == 1 {
		return v[0].ReplicaID
	}
	return -1
}

// random gives any broker.
func (c *trio) random(rng *rand.Rand) *broker { return c.brokers[rng.IntN(len(c.brokers))] }

// ends is what became of the transactions of a load: by the value of their records.
type ends struct {
	mu        sync.Mutex
	committed map[string]bool
	aborted   map[string]bool
	unknown   map[string]bool
}

func (e *ends) done() int { e.mu.Lock(); defer e.mu.Unlock(); return len(e.committed) }

// run commits and aborts transactions until ctx ends, with a new client, which fences the one before, after each error.
func (e *ends) run(ctx context.Context, c *trio, id string) {
	n := 0
	for ctx.Err() == nil {
		cl, err := kgo.NewClient(kgo.SeedBrokers(c.seeds()...), kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(50*time.Millisecond),
			kgo.TransactionTimeout(10*time.Second), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }), kgo.RetryTimeout(30*time.Second))
		if err != nil {
			return
		}
		for ctx.Err() == nil {
			n++
			if !e.one(ctx, cl, id, n) {
				break
			}
		}
		cl.Close()
	}
}

func (e *ends) one(ctx context.Context, cl *kgo.Client, id string, n int) (goOn bool) {
	value, commit := fmt.Sprintf("%s/%d", id, n), n%3 != 0
	note := func(m map[string]bool) { e.mu.Lock(); m[value] = true; e.mu.Unlock() }
	if err := cl.BeginTransaction(); err != nil {
		note(e.aborted)
		return false
	}
	for p := range int32(6) {
		cl.Produce(ctx, &kgo.Record{Topic: "out", Partition: p, Value: []byte(value)}, nil)
	}
	if err := cl.Flush(ctx); err != nil {
		note(e.aborted) // nobody has asked for a commit
		return false
	}
	if err := commitOffset(ctx, cl, id, 0, int64(n)); err != nil {
		commit = false
	}
	err := cl.EndTransaction(ctx, kgo.TransactionEndTry(commit))
	switch {
	case !commit:
		note(e.aborted)
	case err == nil:
		note(e.committed)
	case errors.Is(err, kgo.ErrClientClosed), ctx.Err() != nil:
		note(e.unknown)
	default:
		note(e.unknown)
	}
	return err == nil
}

// If this fails, a broker that dies tears transactions, loses them, or leaves them open.
func TestTransactionsWhileBrokersAreKilled(t *testing.T) {
	c := startTrio(t)
	plain := c.client()
	c.topic(plain, "in", 1)
	c.topic(plain, "out", 6)
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	e := &ends{committed: map[string]bool{}, aborted: map[string]bool{}, unknown: map[string]bool{}}
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Minute)
	defer stop()
	var all sync.WaitGroup
	for i := range 3 {
		all.Go(func() { e.run(ctx, c, fmt.Sprint("id", i)) })
	}
	defer func() { stop(); all.Wait() }()
	c.killing(kills(t), func() *broker { return c.random(rng) }, e.done)
	stop()
	all.Wait()
	seen := map[string]int{}
	read(within(t, 2*time.Minute), t, c, "out", kgo.ReadCommitted(), func(r *kgo.Record) { seen[string(r.Value)]++ })
	wrong := 0
	fail := func(format string, args ...any) {
		if wrong++; wrong < 10 {
			t.Errorf(format, args...)
		}
	}
	for v := range e.committed {
		if seen[v] != 6 {
			fail("%s was committed and is there %d times of 6", v, seen[v])
		}
	}
	for v := range e.aborted {
		if seen[v] != 0 {
			fail("%s was aborted and is there %d times", v, seen[v])
		}
	}
	for v, n := range seen {
		if n != 6 {
			fail("%s is torn: %d of 6", v, n)
		}
	}
	t.Logf("%d transactions committed, %d aborted, %d of unknown end; %d visible", len(e.committed), len(e.aborted), len(e.unknown), len(seen))
}

// If this fails, a group that loses its coordinator goes back to offsets before those that it had committed.
func TestCommittedOffsetsNeverGoBackWhileCoordinatorsAreKilled(t *testing.T) {
	c := startTrio(t)
	plain := c.client()
	c.topic(plain, "in", 1)
	ctx, stop := context.WithTimeout(context.Background(), 4*time.Minute)
	defer stop()
	var mu sync.Mutex
	acked, commits, reads := int64(-1), 0, 0
	var all sync.WaitGroup
	defer func() { stop(); all.Wait() }()
	all.Go(func() {
		adm := kadm.NewClient(c.client())
		for at := int64(0); ctx.Err() == nil; at++ {
			var os kadm.Offsets
			os.Add(kadm.Offset{Topic: "in", Partition: 0, At: at, LeaderEpoch: -1})
			one, cancel := context.WithTimeout(ctx, 20*time.Second)
			r, err := adm.CommitOffsets(one, "g", os)
			cancel()
			if err != nil || r.Error() != nil {
				continue
			}
			mu.Lock()
			acked = at
			commits++
			mu.Unlock()
		}
	})
	for range 2 {
		all.Go(func() {
			adm := kadm.NewClient(c.client())
			for ctx.Err() == nil {
				mu.Lock()
				least := acked
				mu.Unlock()
				one, cancel := context.WithTimeout(ctx, 20*time.Second)
				r, err := adm.FetchOffsets(one, "g")
				cancel()
				if err != nil || r.Error() != nil {
					continue
				}
				o, ok := r.Lookup("in", 0)
				if least >= 0 && (!ok || o.At < least) {
					t.Errorf("the group has committed %d and is told %d (%v)", least, o.At, ok)
					return
				}
				mu.Lock()
				reads++
				mu.Unlock()
			}
		})
	}
	moved := func() int { mu.Lock(); defer mu.Unlock(); return min(commits, reads) }
	c.moves(moved, 10, "at the start")
	c.killing(kills(t), func() *broker { return c.coordinator(plain, 0, "g") }, moved)
	t.Logf("%d commits, %d reads", commits, reads)
}

// If this fails, a queue loses records with a broker, or gives away again what was accepted.
func TestShareGroupWhileBrokersAreKilled(t *testing.T) {
	var extra []string
	for k, v := range queue.Broker() {
		extra = append(extra, k+"="+v)
	}
	c := startTrio(t, extra...)
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Minute)
	defer stop()
	a, err := queue.New(ctx, c.seeds(), "queue", "workers", 6, 3)
	if err != nil {
		t.Fatal(err)
	}
	consuming, end := context.WithCancel(ctx)
	var all, producers sync.WaitGroup
	defer func() { end(); stop(); all.Wait(); producers.Wait() }()
	for i := range 3 {
		all.Go(func() {
			if err := a.Consume(consuming, i); err != nil {
				t.Error(err)
			}
		})
	}
	producing, enough := context.WithCancel(ctx)
	producers.Go(func() { _ = a.Produce(producing, 1<<30) })
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	c.killing(kills(t), func() *broker { return c.random(rng) }, func() int { _, _, confirmed, _ := a.Verdict(); return confirmed })
	enough()
	producers.Wait()
	decided, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := a.Decided(decided); err != nil {
		t.Error(err)
		all.Go(func() { _ = a.Consume(consuming, 9) }) // whose fault is it?
		again, cancel := context.WithTimeout(ctx, 20*time.Second)
		t.Logf("with a new member: %v", a.Decided(again))
		cancel()
	}
	end()
	all.Wait()
	produced, given, confirmed, wrong := a.Verdict()
	t.Logf("%d records produced, %d times given, %d acceptances confirmed", produced, given, confirmed)
	for i, w := range wrong {
		if t.Error(w); i == 10 {
			break
		}
	}
}
