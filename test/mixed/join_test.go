package mixed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/test/peer"
)

// cluster is two nodes of Kafka, of which the first is the controller, and one of ours.
type cluster struct {
	kafka []*peer.Broker
	ours  *peer.Broker
	tools *peer.Tools
	adm   *kadm.Client
}

const oursID = 3

// join starts Kafka's nodes, and ours as a third broker of their cluster.
func join(ctx context.Context, t *testing.T, k *peer.Kafka) *cluster {
	t.Helper()
	bin, err := peer.BuildOttla(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := &cluster{}
	if c.kafka, err = k.NewKafkaCluster(2, peer.Options{Dir: dir, HeapMB: 384, Properties: map[string]string{
		"inter.broker.listener.name": "PLAINTEXT", "broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500",
	}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, b := range append([]*peer.Broker{c.ours}, c.kafka...) {
			if b != nil && b.Alive() {
				if t.Failed() {
					t.Logf("%s at %s said:\n%s", b.Name, b.Addr, b.Output())
				}
				b.Kill()
			}
		}
	})
	for _, b := range c.kafka {
		if err := b.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	c.ours, err = peer.NewOttla(bin, peer.Options{Dir: filepath.Join(dir, "ottla"), Properties: map[string]string{
		"node.id": strconv.Itoa(oursID), "controller.quorum.bootstrap.servers": c.kafka[0].Control, "inter.broker.listener.name": "PLAINTEXT", "process.roles": "broker",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if c.tools, err = k.StartTools(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.tools.Close)
	c.adm = admin(t, c.kafka[0])
	c.brokers(t, 2)
	if err := c.ours.Launch(); err != nil {
		t.Fatal(err)
	}
	c.brokers(t, 3)
	return c
}

// brokers waits until Kafka lists so many brokers.
func (c *cluster) brokers(t *testing.T, n int) {
	t.Helper()
	eventually(t, 40*time.Second, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		m, err := c.adm.BrokerMetadata(ctx)
		if err != nil || len(m.Brokers) != n {
			return fmt.Errorf("%d brokers, not %d: %v %w", len(m.Brokers), n, m.Brokers.NodeIDs(), err)
		}
		return nil
	})
}

func (c *cluster) tool(ctx context.Context, t *testing.T, class string, args ...string) string {
	t.Helper()
	r, err := c.tools.Run(ctx, class, "", append([]string{"--bootstrap-server", c.kafka[0].Addr}, args...)...)
	if err != nil || r.Status != 0 {
		t.Fatalf("%s %v: %v, status %d\n%s\n%s", class, args, err, r.Status, r.Out, r.Stderr)
	}
	return r.Out
}

// reassign moves partitions by Kafka's tool; assignment is the replicas of partition 0, 1, ...
func (c *cluster) reassign(ctx context.Context, t *testing.T, topic string, assignment ...[]int32) {
	t.Helper()
	var parts []string
	for n, r := range assignment {
		parts = append(parts, fmt.Sprintf(`{"topic":%q,"partition":%d,"replicas":%s}`, topic, n, strings.ReplaceAll(fmt.Sprint(r), " ", ",")))
	}
	file := filepath.Join(t.TempDir(), "plan.json")
	if err := os.WriteFile(file, []byte(`{"version":1,"partitions":[`+strings.Join(parts, ",")+`]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	const class = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
	c.tool(ctx, t, class, "--reassignment-json-file", file, "--execute")
	eventually(t, 40*time.Second, func() error {
		if out := c.tool(ctx, t, class, "--reassignment-json-file", file, "--verify"); strings.Count(out, "is completed") < len(assignment) {
			return errors.New(out)
		}
		return nil
	})
}

// lead elects the preferred leaders by Kafka's tool and waits until each partition has the leader and ISR wanted.
func (c *cluster) lead(ctx context.Context, t *testing.T, topic string, leaders ...int32) {
	t.Helper()
	if r, err := c.tools.Run(ctx, "org.apache.kafka.tools.LeaderElectionCommand", "", "--bootstrap-server", c.kafka[0].Addr, "--election-type", "preferred", "--all-topic-partitions"); err != nil {
		t.Fatalf("%v %+v", err, r)
	}
	eventually(t, 20*time.Second, func() error {
		topics, err := c.adm.ListTopics(ctx, topic)
		if err != nil {
			return err
		}
		for n, want := range leaders {
			if p := topics[topic].Partitions[int32(n)]; p.Leader != want || len(p.ISR) != len(p.Replicas) {
				return fmt.Errorf("%s-%d has leader %d, ISR %v of %v; leader %d was to be", topic, n, p.Leader, p.ISR, p.Replicas, want)
			}
		}
		return nil
	})
}

// load writes numbered records with acks=all until stopped, and reads them at the same time.
type load struct {
	t       *testing.T
	topic   string
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex
	acked [][]string // by partition, in the order of their offsets
	read  [][]string
}

func startLoad(t *testing.T, c *cluster, topic string, partitions int) *load {
	t.Helper()
	l := &load{t: t, topic: topic, acked: make([][]string, partitions), read: make([][]string, partitions)}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	producer, err := kgo.NewClient(kgo.SeedBrokers(c.kafka[0].Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(2*time.Millisecond), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := kgo.NewClient(kgo.SeedBrokers(c.kafka[0].Addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	l.running.Go(func() {
		defer producer.Close()
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			p := i % partitions
			producer.Produce(context.Background(), &kgo.Record{Topic: topic, Partition: int32(p), Value: fmt.Appendf(nil, "%d-%s", i, strings.Repeat("x", i%300))}, func(r *kgo.Record, err error) {
				if err != nil {
					t.Errorf("produce: %v", err)
					return
				}
				l.mu.Lock()
				l.acked[r.Partition] = append(l.acked[r.Partition], string(r.Value))
				l.mu.Unlock()
			})
			<-tick.C
		}
		if err := producer.Flush(context.Background()); err != nil {
			t.Error(err)
		}
	})
	readers, stop := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	reading.Go(func() {
		defer consumer.Close()
		for readers.Err() == nil {
			consumer.PollFetches(readers).EachRecord(func(r *kgo.Record) {
				l.mu.Lock()
				l.read[r.Partition] = append(l.read[r.Partition], string(r.Value))
				l.mu.Unlock()
			})
		}
	})
	t.Cleanup(func() { cancel(); l.running.Wait(); stop(); reading.Wait() })
	return l
}

func (l *load) count() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.acked {
		n += len(a)
	}
	return n
}

// goesOn waits for more records of every partition to be acknowledged.
func (l *load) goesOn() {
	l.t.Helper()
	l.mu.Lock()
	before := make([]int, len(l.acked))
	for i, a := range l.acked {
		before[i] = len(a)
	}
	l.mu.Unlock()
	eventually(l.t, 20*time.Second, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for i, a := range l.acked {
			if len(a) < before[i]+20 {
				return fmt.Errorf("partition %d takes no more records", i)
			}
		}
		return nil
	})
}

// finish stops the load; everything acknowledged was read, once and in order.
func (l *load) finish() {
	l.t.Helper()
	l.cancel()
	l.running.Wait()
	eventually(l.t, 20*time.Second, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for p := range l.acked {
			if !slices.Equal(l.acked[p], l.read[p]) {
				return fmt.Errorf("partition %d: %d records acknowledged, %d read, or in another order", p, len(l.acked[p]), len(l.read[p]))
			}
		}
		return nil
	})
}

// batches reads the batches of a partition from the files of a broker, by base offset.
func batches(t *testing.T, b *peer.Broker, topic string, partition int) (bytes []byte, end int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.DataDir(), fmt.Sprintf("%s-%d", topic, partition), "*.log"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no file of %s-%d: %v", b.Name, topic, partition, err)
	}
	slices.Sort(files)
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		it := record.NewBatchIter(content)
		for {
			batch, h, ok, err := it.Next()
			if err != nil || !ok {
				break
			}
			if !record.CheckCRC(batch) || h.BaseOffset != end {
				t.Fatalf("%s: batch of offset %d where %d is next, or damaged", f, h.BaseOffset, end)
			}
			bytes, end = append(bytes, batch...), h.NextOffset()
		}
	}
	return bytes, end
}

// same compares the logs of a partition on ours and on one of Kafka's nodes, byte for byte.
func (c *cluster) same(t *testing.T, topic string, partition int, kafka int) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		a, endA := batches(t, c.ours, topic, partition)
		b, endB := batches(t, c.kafka[kafka-1], topic, partition)
		if endA != endB || endA == 0 || string(a) != string(b) {
			return fmt.Errorf("%s-%d: ours ends at offset %d (%d bytes), node %d's at %d (%d bytes)", topic, partition, endA, len(a), kafka, endB, len(b))
		}
		return nil
	})
}

// A broker of ours in a real Kafka cluster: it follows, enters the in-sync replicas, leads with Kafka's brokers as followers, comes back
// after a kill, and nothing that was acknowledged is lost, doubled or out of order. The logs are equal byte for byte.
func TestJoinsKafka(t *testing.T) {
	k := kafka(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := join(ctx, t, k)
	c.tool(ctx, t, "org.apache.kafka.tools.TopicCommand", "--create", "--topic", "t", "--replica-assignment", "1:2,2:1,1:2", "--config", "min.insync.replicas=1")
	l := startLoad(t, c, "t", 3)
	l.goesOn()

	// Following: Kafka leads 0 and 1 with ours as a replica, and then 2 is led by ours.
	c.reassign(ctx, t, "t", []int32{1, 3}, []int32{2, 1, 3}, []int32{3, 1})
	c.lead(ctx, t, "t", 1, 2, 3)
	l.goesOn()
	// Leading all, followed by Kafka.
	c.reassign(ctx, t, "t", []int32{3, 1}, []int32{3, 2, 1}, []int32{3, 2})
	c.lead(ctx, t, "t", 3, 3, 3)
	l.goesOn()
	// And back.
	c.reassign(ctx, t, "t", []int32{1, 3}, []int32{2, 3, 1}, []int32{2, 3})
	c.lead(ctx, t, "t", 1, 2, 2)
	l.goesOn()

	// A kill of ours while it follows: it comes back and catches up.
	c.ours.Kill()
	l.goesOn()
	if err := c.ours.Launch(); err != nil {
		t.Fatal(err)
	}
	c.brokers(t, 3)
	c.lead(ctx, t, "t", 1, 2, 2)
	l.finish()
	c.same(t, "t", 0, 1)
	c.same(t, "t", 1, 2)
	c.same(t, "t", 1, 1)
	c.same(t, "t", 2, 2)
	t.Logf("%d records acknowledged, read once and in order; logs equal", l.count())

	if out := c.tool(ctx, t, "org.apache.kafka.tools.MetadataQuorumCommand", "describe", "--replication"); !strings.Contains(out, fmt.Sprintf("\n%d", oursID)) || !strings.Contains(out, "Observer") {
		t.Errorf("Kafka does not list our node as an observer: %s", out)
	}
	if err := c.ours.Stop(); err != nil {
		t.Error(err)
	}
	c.brokers(t, 2)
}
