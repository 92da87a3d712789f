// Package churn makes and deletes topics without end while others are written, read, configured and moved between disks, against a
// broker in this process, so that the race detector sees it and a stall shows where everybody stands. It knows the Kafka
// protocol and the embedded broker; it must never know the broker from inside.
package churn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/ottla/ottla"
)

func number(env string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(env)); err == nil {
		return n
	}
	return otherwise
}

// stallAfter is how long one operation may take before the test says that the broker is stuck.
const stallAfter = 30 * time.Second

type churn struct {
	t      *testing.T
	b      *ottla.Broker
	dirs   []string
	end    time.Time
	mu     sync.Mutex
	worst  map[string]time.Duration
	counts map[string]int
	stuck  atomic.Bool
}

func (c *churn) over() bool { return time.Now().After(c.end) || c.stuck.Load() }

// timed runs one operation and remembers how long it took; an operation that stalls dumps every goroutine.
func (c *churn) timed(what string, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), stallAfter)
	defer cancel()
	begun := time.Now()
	err := f(ctx)
	took := time.Since(begun)
	c.mu.Lock()
	c.worst[what] = max(c.worst[what], took)
	c.counts[what]++
	c.mu.Unlock()
	if ctx.Err() != nil && !c.stuck.Swap(true) {
		buf := make([]byte, 16<<20)
		c.t.Errorf("%s is stuck: %v\n%s", what, err, buf[:runtime.Stack(buf, true)])
	}
	return err
}

func (c *churn) client(opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(c.b.Addr()), kgo.Dialer(c.b.Dial), kgo.RetryTimeout(stallAfter), kgo.MetadataMinAge(20*time.Millisecond))...)
	if err != nil {
		c.t.Fatal(err)
	}
	return cl
}

// gone are the answers that a topic under deletion may give.
func gone(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.NotLeaderForPartition) || errors.Is(err, kerr.TopicAlreadyExists) ||
		errors.Is(err, kerr.InconsistentTopicID) || errors.Is(err, kgo.ErrRecordTimeout) || errors.Is(err, kerr.InvalidPartitions)
}

func TestChurn(t *testing.T) {
	defer goleak.VerifyNone(t)
	seconds := number("OTTLA_CHURN_SECONDS", 10)
	wide := number("OTTLA_CHURN_PARTITIONS", 50)
	dirs := []string{t.TempDir(), t.TempDir()}
	b, err := ottla.Start(t.Context(), ottla.Options{PipeOnly: true, Config: map[string]string{"log.dirs": dirs[0] + "," + dirs[1], "log.segment.bytes": "1048576", "offsets.topic.num.partitions": "4"}})
	if err != nil {
		t.Fatal(err)
	}
	c := &churn{t: t, b: b, dirs: dirs, end: time.Now().Add(time.Duration(seconds) * time.Second), worst: map[string]time.Duration{}, counts: map[string]int{}}
	cl := c.client()
	if _, err := kadm.NewClient(cl).CreateTopics(t.Context(), 1, 1, nil, "stays-0", "stays-1", "stays-2", "stays-3"); err != nil {
		t.Fatal(err)
	}
	cl.Close()
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() { c.recreate(fmt.Sprintf("wide-%d", i), wide) })
	}
	wg.Go(func() { c.names(wide) })
	for i := range 2 {
		wg.Go(func() { c.produce(uint64(i)) })
	}
	for i := range 2 {
		wg.Go(func() { c.consume(i) })
	}
	wg.Go(c.settings)
	wg.Go(c.moves)
	wg.Wait()
	for what, took := range c.worst {
		t.Logf("%-10s %5d times, %v at worst", what, c.counts[what], took.Round(time.Millisecond))
	}
	if err := b.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// recreate makes one topic again and again under the same name, writes to all of it and deletes it.
func (c *churn) recreate(topic string, partitions int) {
	for !c.over() {
		c.cycle(topic, partitions)
	}
}

// names is recreate under ever new names.
func (c *churn) names(partitions int) {
	for i := 0; !c.over(); i++ {
		c.cycle(fmt.Sprintf("once-%d", i), partitions)
	}
}

func (c *churn) cycle(topic string, partitions int) {
	cl := c.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordDeliveryTimeout(stallAfter))
	defer cl.Close()
	adm := kadm.NewClient(cl)
	if err := c.timed("create", func(ctx context.Context) error {
		r, err := adm.CreateTopic(ctx, int32(partitions), 1, nil, topic)
		return errors.Join(err, r.Err)
	}); err != nil && !gone(err) {
		c.t.Errorf("create %s: %v", topic, err)
	}
	if err := c.timed("write", func(ctx context.Context) error {
		var rs []*kgo.Record
		for p := range partitions {
			rs = append(rs, &kgo.Record{Topic: topic, Partition: int32(p), Value: make([]byte, 200)})
		}
		return cl.ProduceSync(ctx, rs...).FirstErr()
	}); err != nil && !gone(err) {
		c.t.Errorf("write %s: %v", topic, err)
	}
	if err := c.timed("offsets", func(ctx context.Context) error {
		ends, err := adm.ListEndOffsets(ctx, topic)
		if err != nil {
			return err
		}
		n := 0
		ends.Each(func(o kadm.ListedOffset) {
			if o.Offset == 1 {
				n++
			}
		})
		if n != partitions {
			return fmt.Errorf("%d of %d partitions hold their record", n, partitions)
		}
		return ends.Error()
	}); err != nil && !gone(err) {
		c.t.Errorf("offsets of %s: %v", topic, err)
	}
	if err := c.timed("delete", func(ctx context.Context) error {
		r, err := adm.DeleteTopic(ctx, topic)
		return errors.Join(err, r.Err)
	}); err != nil && !gone(err) {
		c.t.Errorf("delete %s: %v", topic, err)
	}
}

// produce writes to topics that stay; nothing may disturb it.
func (c *churn) produce(seed uint64) {
	cl := c.client()
	defer cl.Close()
	rng := rand.New(rand.NewPCG(seed, 1))
	for !c.over() {
		if err := c.timed("produce", func(ctx context.Context) error {
			var rs []*kgo.Record
			for range 20 {
				rs = append(rs, &kgo.Record{Topic: fmt.Sprintf("stays-%d", rng.IntN(4)), Value: make([]byte, rng.IntN(20_000))})
			}
			return cl.ProduceSync(ctx, rs...).FirstErr()
		}); err != nil {
			c.t.Errorf("produce: %v", err)
		}
	}
}

func (c *churn) consume(i int) {
	for !c.over() {
		cl := c.client(kgo.ConsumeRegex(), kgo.ConsumeTopics("stays-.*", "wide-.*"), kgo.ConsumerGroup(fmt.Sprintf("readers-%d", i%2)))
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		for ctx.Err() == nil {
			cl.PollFetches(ctx)
		}
		cancel()
		cl.Close()
	}
}

// settings changes what topics promise while they are written.
func (c *churn) settings() {
	cl := c.client()
	defer cl.Close()
	adm := kadm.NewClient(cl)
	for i := 0; !c.over(); i++ {
		mode := []string{"fsync", "interval", "page-cache"}[i%3]
		segment := []string{"1048576", "2097152"}[i%2]
		for n := range 4 {
			_ = c.timed("settings", func(ctx context.Context) error {
				_, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "flush", Value: &mode}, {Name: "segment.bytes", Value: &segment}}, fmt.Sprintf("stays-%d", n))
				return err
			})
		}
	}
}

// moves sends partitions to the other log dir and back.
func (c *churn) moves() {
	cl := c.client()
	defer cl.Close()
	adm := kadm.NewClient(cl)
	for i := 0; !c.over(); i++ {
		_ = c.timed("move", func(ctx context.Context) error {
			var req kadm.AlterReplicaLogDirsReq
			var s kadm.TopicsSet
			for n := range 4 {
				s.Add(fmt.Sprintf("stays-%d", n), 0)
			}
			s.Add("wide-0", 0, 1, 2)
			req.Add(c.dirs[i%2], s)
			_, err := adm.AlterAllReplicaLogDirs(ctx, req)
			return err
		})
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		<-ctx.Done()
		cancel()
	}
}
