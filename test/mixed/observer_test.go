package mixed

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/metadata/observer"
	"github.com/ottla/ottla/test/peer"
)

// mirror is an observer's log that keeps the image only.
type mirror struct {
	img   atomic.Pointer[metadata.Image]
	delta *metadata.Delta
	snaps atomic.Int32
}

func newMirror(cluster string) *mirror {
	m := &mirror{delta: metadata.NewDelta(metadata.Empty(cluster))}
	m.img.Store(m.delta.Image())
	return m
}

func (m *mirror) Apply(c observer.Commit) error {
	for i, r := range c.Records {
		if err := m.delta.Replay(c.Base+int64(i), c.Epoch, r.Message); err != nil {
			return err
		}
	}
	if len(c.Records) == 0 {
		m.delta.SetPosition(c.Base+c.Count-1, c.Epoch)
	}
	m.img.Store(m.delta.Image())
	return nil
}

func (m *mirror) Install(img *metadata.Image) error {
	m.delta = metadata.NewDelta(img)
	m.img.Store(img)
	m.snaps.Add(1)
	return nil
}

// follow starts an observer of the cluster; it runs until the test ends.
func follow(t *testing.T, cluster, controller string, node int32, next int64) (*mirror, *lines, *observer.Observer) {
	m, l := newMirror(cluster), newLines(t)
	o := observer.New(observer.Options{Node: node, Directory: [16]byte{byte(node), 1}, ClusterID: cluster, Bootstrap: []string{controller}, Ask: l.ask, Log: m,
		Clock: clock.Real{}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), MaxWait: 20 * time.Second, Patience: 10 * time.Second}, next, 0)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return m, l, o
}

func admin(t *testing.T, b *peer.Broker) *kadm.Client {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.MetadataMinAge(50*time.Millisecond), kgo.MetadataMaxAge(200*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}

// seen is what an image says in the words of asKafka.
func seen(img *metadata.Image) string {
	var out strings.Builder
	for _, t := range img.SortedTopics() {
		fmt.Fprintf(&out, "%s %x", t.Name, t.ID)
		for n, p := range t.Partitions {
			fmt.Fprintf(&out, " %d:%d/%d%v%v", n, p.Leader, p.LeaderEpoch, p.Replicas, sorted(p.ISR))
		}
		set := img.Config(metadata.TopicConfig, t.Name)
		var keys []string
		for k := range set {
			keys = append(keys, k+"="+set[k])
		}
		slices.Sort(keys)
		fmt.Fprintf(&out, " %v\n", keys)
	}
	var users []string
	for k := range img.Scram().All() {
		users = append(users, k.User)
	}
	slices.Sort(users)
	fmt.Fprintf(&out, "users %v\n", users)
	return out.String()
}

func sorted(in []int32) []int32 {
	out := slices.Clone(in)
	slices.Sort(out)
	return out
}

// asKafka is what Kafka itself says of topics, settings and users.
func asKafka(t *testing.T, adm *kadm.Client) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	topics, err := adm.ListTopics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	configs, err := adm.DescribeTopicConfigs(ctx, topics.Names()...)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, d := range topics.Sorted() {
		fmt.Fprintf(&out, "%s %x", d.Topic, [16]byte(d.ID))
		for _, p := range d.Partitions.Sorted() {
			fmt.Fprintf(&out, " %d:%d/%d%v%v", p.Partition, p.Leader, p.LeaderEpoch, p.Replicas, sorted(p.ISR))
		}
		rc, err := configs.On(d.Topic, nil)
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		for _, c := range rc.Configs {
			if c.Source.String() == "DYNAMIC_TOPIC_CONFIG" {
				keys = append(keys, c.Key+"="+c.MaybeValue())
			}
		}
		slices.Sort(keys)
		fmt.Fprintf(&out, " %v\n", keys)
	}
	scram, err := adm.DescribeUserSCRAMs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	users := []string{}
	for u := range scram {
		users = append(users, u)
	}
	slices.SortFunc(users, cmp.Compare)
	fmt.Fprintf(&out, "users %v\n", users)
	return out.String()
}

// An observer of a real Kafka quorum ends with the image that Kafka has: by the log, by a snapshot and the log after it, and over a
// restart of the controller. Else no broker of ours could live in such a cluster.
func TestObserverOfKafka(t *testing.T) {
	t.Parallel()
	k := kafka(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	nodes, err := k.NewKafkaCluster(1, peer.Options{Dir: t.TempDir(), HeapMB: 384, Properties: map[string]string{
		"metadata.log.max.record.bytes.between.snapshots": "20000",
	}})
	if err != nil {
		t.Fatal(err)
	}
	b := nodes[0]
	if err := b.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() { b.Kill() }()
	adm := admin(t, b)
	m, l, o := follow(t, peer.ClusterID, b.Control, 71, 0)
	same := func(m *mirror) {
		t.Helper()
		eventually(t, 20*time.Second, func() error {
			if got, want := seen(m.img.Load()), asKafka(t, adm); got != want {
				return fmt.Errorf("the observer has at offset %d\n%s\nKafka says\n%s", m.img.Load().Offset(), got, want)
			}
			return nil
		})
	}
	create := func(from, to int) {
		t.Helper()
		compact := "compact"
		for i := from; i < to; i++ {
			if _, err := adm.CreateTopic(ctx, 3, 1, map[string]*string{"cleanup.policy": &compact}, fmt.Sprintf("t%03d", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	create(0, 5)
	if _, err := adm.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: "alice", Mechanism: kadm.ScramSha256, Iterations: 4096, Password: "x"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.DeleteTopics(ctx, "t003"); err != nil {
		t.Fatal(err)
	}
	same(m)
	if n, _ := o.Leader(); n.ID != 1 || n.Addr != b.Control {
		t.Errorf("the leader is node 1 at %s, not %v", b.Control, n)
	}

	// A snapshot, and the log after it. Kafka offers its snapshot to those whose last epoch is before that of the first snapshot, once
	// the one that it was formatted with is gone.
	create(5, 90)
	checkpoints := filepath.Join(b.DataDir(), "__cluster_metadata-0", "*.checkpoint")
	eventually(t, 30*time.Second, func() error {
		if files, err := filepath.Glob(checkpoints); err != nil || len(files) < 2 {
			return fmt.Errorf("Kafka has made no snapshot: %v %w", files, err)
		}
		return nil
	})
	b.Kill()
	if err := os.Remove(strings.Replace(checkpoints, "*", "00000000000000000000-0000000000", 1)); err != nil {
		t.Fatal(err)
	}
	if err := b.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	late, _, _ := follow(t, peer.ClusterID, b.Control, 72, 1)
	eventually(t, 10*time.Second, func() error {
		if late.snaps.Load() == 0 {
			return fmt.Errorf("no snapshot came")
		}
		return nil
	})
	create(90, 93)
	same(late)
	same(m)

	tools, err := k.StartTools()
	if err != nil {
		t.Fatal(err)
	}
	defer tools.Close()
	r, err := tools.Run(ctx, "org.apache.kafka.tools.MetadataQuorumCommand", "", "--bootstrap-server", b.Addr, "describe", "--replication")
	if err != nil || !strings.Contains(r.Out, "71") || !strings.Contains(r.Out, "Observer") {
		t.Errorf("Kafka does not list the observer: %v %+v", err, r)
	}

	t.Logf("%d fetches, %d batches' offset", l.asked("Fetch"), m.img.Load().Offset())
}

// The same of ours: what Kafka's quorum gives to those who follow, ours gives too, and Kafka's tool lists them.
func TestObserverOfOttla(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a broker")
	}
	bin, err := peer.BuildOttla(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	b, err := peer.StartOttla(ctx, bin, peer.Options{Dir: t.TempDir(), Properties: map[string]string{
		"metadata.log.max.record.bytes.between.snapshots": "4000", "internal.metadata.log.segment.bytes": "3000", "metadata.max.retention.bytes": "1",
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { b.Kill() }()
	adm := admin(t, b)
	about, err := adm.BrokerMetadata(ctx)
	if err != nil {
		t.Fatal(err)
	}
	m, l, o := follow(t, about.Cluster, b.Addr, 71, 0)
	same := func(m *mirror) {
		t.Helper()
		eventually(t, 20*time.Second, func() error {
			if got, want := seen(m.img.Load()), asKafka(t, adm); got != want {
				return fmt.Errorf("the observer has at offset %d\n%s\nthe broker says\n%s", m.img.Load().Offset(), got, want)
			}
			return nil
		})
	}
	compact := "compact"
	for i := range 40 {
		if _, err := adm.CreateTopic(ctx, 3, 1, map[string]*string{"cleanup.policy": &compact}, fmt.Sprintf("t%03d", i)); err != nil {
			t.Fatal(err)
		}
	}
	same(m)
	if n, _ := o.Leader(); n.ID != 1 || n.Addr != b.Addr {
		t.Errorf("the leader is node 1 at %s, not %v", b.Addr, n)
	}
	if k, err := peer.FetchKafka(); err == nil {
		tools, err := k.StartTools()
		if err != nil {
			t.Fatal(err)
		}
		defer tools.Close()
		r, err := tools.Run(ctx, "org.apache.kafka.tools.MetadataQuorumCommand", "", "--bootstrap-server", b.Addr, "describe", "--replication")
		if err != nil || !strings.Contains(r.Out, "\n71") || !strings.Contains(r.Out, "Observer") {
			t.Errorf("Kafka's tool does not list the observer: %v %+v", err, r)
		}
	}
	b.Kill()
	if err := b.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, "after"); err != nil {
		t.Fatal(err)
	}
	same(m)
	eventually(t, 20*time.Second, func() error { // the beginning of the log goes when there are snapshots enough
		if _, err := os.Stat(filepath.Join(b.DataDir(), "__cluster_metadata-0", "00000000000000000000.log")); err == nil {
			_, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: kadm.StringPtr("1000")}}, "t000", "t001", "t002", "t003", "t004", "t005", "t006", "t007", "t008", "t009")
			return fmt.Errorf("the whole log is still there: %w", err)
		}
		return nil
	})
	late, _, _ := follow(t, about.Cluster, b.Addr, 72, 0)
	same(late)
	if late.snaps.Load() == 0 {
		t.Error("who comes late has got the log without a snapshot, though its beginning is gone")
	}
	fetches := l.asked("Fetch")
	if fetches > 150 {
		t.Errorf("%d fetches for about 50 changes: it polls", fetches)
	}
	t.Logf("%d fetches, offset %d", fetches, m.img.Load().Offset())
}
