package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/ottla/ottla"
	"github.com/ottla/ottla/internal/backup"
	"github.com/ottla/ottla/internal/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a broker in memory.
func node(t *testing.T) *ottla.Broker {
	t.Helper()
	b, err := ottla.Start(t.Context(), ottla.Options{InMemory: true, Config: map[string]string{
		"offsets.topic.num.partitions": "3", "transaction.state.log.num.partitions": "3", "group.initial.rebalance.delay.ms": "0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return b
}

func client(t *testing.T, b *ottla.Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dial), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(50 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, cl *kgo.Client, parts int32, configs map[string]*string, topics ...string) {
	t.Helper()
	got, err := kadm.NewClient(cl).CreateTopics(t.Context(), parts, 1, configs, topics...)
	must(t, err)
	must(t, got.Error())
}

func produce(t *testing.T, cl *kgo.Client, topic string, partition int32, values ...string) {
	t.Helper()
	for _, v := range values {
		must(t, cl.ProduceSync(within(t, 20*time.Second), &kgo.Record{Topic: topic, Partition: partition, Key: []byte(v), Value: []byte(v)}).FirstErr())
	}
}

// raw reads the batches of a partition as the broker gives them, markers and all, up to its end.
func raw(t *testing.T, cl *kgo.Client, topic string, partition int32) []byte {
	t.Helper()
	ctx := within(t, 20*time.Second)
	adm := kadm.NewClient(cl)
	starts, err := adm.ListStartOffsets(ctx, topic)
	must(t, err)
	ends, err := adm.ListEndOffsets(ctx, topic)
	must(t, err)
	topics, err := adm.ListTopicsWithInternal(ctx)
	must(t, err)
	start, _ := starts.Lookup(topic, partition)
	end, _ := ends.Lookup(topic, partition)
	var out []byte
	for at := start.Offset; at < end.Offset; {
		req := kmsg.NewPtrFetchRequest()
		req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = -1, 500, 1, 1<<20, -1
		ft := kmsg.NewFetchRequestTopic()
		ft.Topic, ft.TopicID = topic, topics[topic].ID
		fp := kmsg.NewFetchRequestTopicPartition()
		fp.Partition, fp.FetchOffset, fp.PartitionMaxBytes, fp.CurrentLeaderEpoch = partition, at, 1<<20, -1
		ft.Partitions = append(ft.Partitions, fp)
		req.Topics = append(req.Topics, ft)
		resp, err := req.RequestWith(ctx, cl)
		must(t, err)
		p := resp.Topics[0].Partitions[0]
		must(t, kerr.ErrorForCode(p.ErrorCode))
		it := record.NewBatchIter(p.RecordBatches)
		for {
			batch, h, ok, err := it.Next()
			must(t, err)
			if !ok {
				break
			}
			if h.NextOffset() <= at {
				continue
			}
			out = append(out, batch...)
			at = h.NextOffset()
		}
		if len(p.RecordBatches) == 0 {
			break
		}
	}
	return out
}

func save(t *testing.T, b *ottla.Broker, s backup.Store) *backup.Manifest {
	t.Helper()
	m, err := backup.Create(within(t, time.Minute), backup.Options{Client: client(t, b), Dial: b.Dial, Store: s})
	must(t, err)
	return m
}

func restore(t *testing.T, b *ottla.Broker, s backup.Store, m *backup.Manifest, change func(*backup.RestoreOptions)) *backup.Restored {
	t.Helper()
	o := backup.RestoreOptions{Client: client(t, b), Dial: b.Dial, Store: s, Manifest: m}
	if change != nil {
		change(&o)
	}
	r, err := backup.Restore(within(t, time.Minute), o)
	must(t, err)
	return r
}

func verified(t *testing.T, s backup.Store, m *backup.Manifest) {
	t.Helper()
	r, err := backup.Verify(t.Context(), s, m, nil, 2)
	must(t, err)
	if len(r.Problems) > 0 {
		t.Fatal(r.Problems)
	}
}

// What was saved during load comes back byte for byte, under the same ids, and groups go on where they stood.
func TestSavedDuringLoadComesBack(t *testing.T) {
	a := node(t)
	cl := client(t, a)
	small := "1048576"
	create(t, cl, 3, map[string]*string{"segment.bytes": &small}, "orders")
	create(t, cl, 1, map[string]*string{"cleanup.policy": kadm.StringPtr("compact")}, "table")
	create(t, cl, 2, nil, "empty")
	for i := range 30 {
		produce(t, cl, "orders", int32(i%3), fmt.Sprint("before ", i))
		produce(t, cl, "table", 0, fmt.Sprint("k", i%5))
	}
	must(t, commit(t, cl, "g", "orders", map[int32]int64{0: 4, 1: 10, 2: 7}))

	var stop atomic.Bool
	done := make(chan int)
	load := client(t, a)
	go func() {
		n := 0
		for ; !stop.Load(); n++ {
			if err := load.ProduceSync(context.Background(), &kgo.Record{Topic: "orders", Partition: int32(n % 3), Value: bytes.Repeat([]byte{byte(n)}, 5000)}).FirstErr(); err != nil {
				t.Error(err)
				break
			}
		}
		done <- n
	}()
	s := backup.Folder(t.TempDir())
	m := save(t, a, s)
	second := save(t, a, s)
	stop.Store(true)
	<-done
	verified(t, s, m)
	verified(t, s, second)
	if second.Parent != m.ID || second.NewBytes >= second.Bytes {
		t.Errorf("the second backup wrote %d of %d bytes and names %q as its parent, which is %q", second.NewBytes, second.Bytes, second.Parent, m.ID)
	}

	b := node(t)
	restore(t, b, s, second, nil)
	to := client(t, b)
	topics, err := kadm.NewClient(to).ListTopicsWithInternal(t.Context())
	must(t, err)
	for _, topic := range second.Topics {
		if topics[topic.Name].ID != kadm.TopicID(topic.ID) {
			t.Errorf("topic %s has id %v, it was %v", topic.Name, topics[topic.Name].ID, topic.ID)
		}
		for _, p := range topic.Partitions {
			want, have := raw(t, cl, topic.Name, p.Number), raw(t, to, topic.Name, p.Number)
			if !bytes.HasPrefix(want, have) || len(have) == 0 && p.End > p.LogStart {
				t.Errorf("%s-%d: %d bytes restored are not the first of the %d there", topic.Name, p.Number, len(have), len(want))
			}
			if e := topics[topic.Name].Partitions[p.Number].LeaderEpoch; e <= p.LeaderEpoch {
				t.Errorf("%s-%d: leader epoch %d does not follow %d", topic.Name, p.Number, e, p.LeaderEpoch)
			}
		}
	}
	offsets, err := kadm.NewClient(to).FetchOffsets(within(t, 20*time.Second), "g")
	must(t, err)
	for p, want := range map[int32]int64{0: 4, 1: 10, 2: 7} {
		if o, _ := offsets.Lookup("orders", p); o.At != want {
			t.Errorf("the group stands at %d in partition %d, not at %d", o.At, p, want)
		}
	}
	// The cluster takes records again, behind the old ones, and the group reads on.
	produce(t, to, "orders", 1, "after")
	g := client(t, b, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("orders"))
	first := map[int32]int64{}
	for ctx := within(t, 20*time.Second); len(first) < 3; {
		f := g.PollFetches(ctx)
		must(t, f.Err())
		f.EachRecord(func(r *kgo.Record) {
			if _, ok := first[r.Partition]; !ok {
				first[r.Partition] = r.Offset
			}
		})
	}
	if want := (map[int32]int64{0: 4, 1: 10, 2: 7}); !maps.Equal(first, want) {
		t.Errorf("the group reads on at %v, not at %v", first, want)
	}
}

func commit(t *testing.T, cl *kgo.Client, group, topic string, at map[int32]int64) error {
	o := kadm.Offsets{}
	for p, n := range at {
		o.AddOffset(topic, p, n, -1)
	}
	got, err := kadm.NewClient(cl).CommitOffsets(within(t, 20*time.Second), group, o)
	return errors.Join(err, got.Error())
}

// A point in time drops what came after it and nothing else; a group that had read on goes back to the end; transactions
// that were open then are aborted and their producers fenced.
func TestPointInTime(t *testing.T) {
	a := node(t)
	cl := client(t, a)
	create(t, cl, 1, nil, "t", "x")
	produce(t, cl, "t", 0, "1", "2", "3")
	txn := client(t, a, kgo.TransactionalID("tx"))
	must(t, txn.BeginTransaction())
	produce(t, txn, "x", 0, "committed")
	must(t, txn.EndTransaction(within(t, 20*time.Second), kgo.TryCommit))
	must(t, txn.BeginTransaction())
	produce(t, txn, "x", 0, "open")
	cut := time.Now().Truncate(time.Millisecond)
	for time.Now().UnixMilli() <= cut.UnixMilli() { // records of the same millisecond belong to before
	}
	produce(t, cl, "t", 0, "4", "5")
	must(t, txn.EndTransaction(within(t, 20*time.Second), kgo.TryCommit))
	must(t, commit(t, cl, "ahead", "t", map[int32]int64{0: 5}))
	s := backup.Folder(t.TempDir())
	m := save(t, a, s)

	b := node(t)
	r := restore(t, b, s, m, func(o *backup.RestoreOptions) { o.At = cut })
	if r.Aborted != 1 || r.Committed != 0 {
		t.Errorf("%d transactions aborted, %d committed", r.Aborted, r.Committed)
	}
	to := client(t, b)
	if got := values(t, b, "t", 3); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("t has %q", got)
	}
	ends, err := kadm.NewClient(to).ListEndOffsets(t.Context(), "t")
	must(t, err)
	if e, _ := ends.Lookup("t", 0); e.Offset != 3 {
		t.Errorf("t ends at %d", e.Offset)
	}
	// x: committed, its marker, open, and the marker that aborts it.
	stable, err := kadm.NewClient(to).ListCommittedOffsets(t.Context(), "x")
	must(t, err)
	if e, _ := stable.Lookup("x", 0); e.Offset != 4 {
		t.Errorf("x is stable up to %d, not to its end 4", e.Offset)
	}
	if got := values(t, b, "x", 1); !slices.Equal(got, []string{"committed"}) {
		t.Errorf("x has %q", got)
	}
	again := client(t, b, kgo.TransactionalID("tx"))
	must(t, again.BeginTransaction())
	produce(t, again, "x", 0, "next")
	must(t, again.EndTransaction(within(t, 20*time.Second), kgo.TryCommit))
	if got := values(t, b, "x", 2); !slices.Equal(got, []string{"committed", "next"}) {
		t.Errorf("x has %q", got)
	}
}

// values reads committed records until there are n.
func values(t *testing.T, b *ottla.Broker, topic string, n int) []string {
	t.Helper()
	cl := client(t, b, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer cl.Close()
	var out []string
	for ctx := within(t, 20*time.Second); len(out) < n; {
		f := cl.PollFetches(ctx)
		must(t, f.Err())
		f.EachRecord(func(r *kgo.Record) { out = append(out, string(r.Value)) })
	}
	return out
}

// Offsets beyond the end of what was restored are moved back to it, also where the offset was committed before the cut.
func TestOffsetsNeverLieBeyondTheEnd(t *testing.T) {
	a := node(t)
	cl := client(t, a)
	create(t, cl, 1, nil, "t")
	now := time.Now()
	for i := range 4 { // the producer's clock is behind for the first two, ahead for the others
		d := time.Duration(-2+i) * time.Hour / 2
		must(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte{'a'}, Timestamp: now.Add(d + time.Minute)}).FirstErr())
	}
	must(t, commit(t, cl, "g", "t", map[int32]int64{0: 4}))
	s := backup.Folder(t.TempDir())
	m := save(t, a, s)
	b := node(t)
	r := restore(t, b, s, m, func(o *backup.RestoreOptions) { o.At = time.Now() })
	if r.Offsets != 1 {
		t.Errorf("%d offsets moved back", r.Offsets)
	}
	offsets, err := kadm.NewClient(client(t, b)).FetchOffsets(within(t, 20*time.Second), "g")
	must(t, err)
	if o, _ := offsets.Lookup("t", 0); o.At != 2 {
		t.Errorf("the group stands at %d, and the partition ends at 2", o.At)
	}
}

// Deleted records stay deleted, offsets stay what they were, and an idempotent producer's state is back.
func TestLogStartAndProducers(t *testing.T) {
	a := node(t)
	cl := client(t, a)
	create(t, cl, 2, nil, "t")
	produce(t, cl, "t", 0, "0", "1", "2", "3", "4")
	produce(t, cl, "t", 1, "0", "1")
	adm := kadm.NewClient(cl)
	del := kadm.Offsets{}
	del.AddOffset("t", 0, 3, -1)
	del.AddOffset("t", 1, 2, -1)
	_, err := adm.DeleteRecords(t.Context(), del)
	must(t, err)
	s := backup.Folder(t.TempDir())
	m := save(t, a, s)
	b := node(t)
	restore(t, b, s, m, nil)
	to := kadm.NewClient(client(t, b))
	starts, err := to.ListStartOffsets(t.Context(), "t")
	must(t, err)
	ends, err := to.ListEndOffsets(t.Context(), "t")
	must(t, err)
	for p, want := range map[int32][2]int64{0: {3, 5}, 1: {2, 2}} {
		start, _ := starts.Lookup("t", p)
		end, _ := ends.Lookup("t", p)
		if start.Offset != want[0] || end.Offset != want[1] {
			t.Errorf("partition %d has offsets %d to %d, not %d to %d", p, start.Offset, end.Offset, want[0], want[1])
		}
	}
	set := kadm.TopicsSet{}
	set.Add("t", 0)
	was, err := adm.DescribeProducers(t.Context(), set)
	must(t, err)
	is, err := to.DescribeProducers(t.Context(), set)
	must(t, err)
	x, y := was["t"].Partitions[0].ActiveProducers.Sorted(), is["t"].Partitions[0].ActiveProducers.Sorted()
	if len(x) != 1 || len(y) != 1 || x[0].ProducerID != y[0].ProducerID || x[0].LastSequence != y[0].LastSequence {
		t.Errorf("producers were %+v and are %+v", x, y)
	}
}

// A restore touches nothing that is there, and part of a backup comes back under another name beside the original.
func TestNamesAndRefusals(t *testing.T) {
	a := node(t)
	cl := client(t, a)
	create(t, cl, 1, nil, "t", "u")
	produce(t, cl, "t", 0, "1", "2")
	s := backup.Folder(t.TempDir())
	m := save(t, a, s)
	_, err := backup.Restore(t.Context(), backup.RestoreOptions{Client: cl, Dial: a.Dial, Store: s, Manifest: m, Topics: []string{"t"}})
	if err == nil || !strings.Contains(err.Error(), "topic t exists already") {
		t.Errorf("restoring over a topic: %v", err)
	}
	restore(t, a, s, m, func(o *backup.RestoreOptions) { o.Topics, o.As = []string{"t"}, "t-old" })
	if got := values(t, a, "t-old", 2); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("t-old has %q", got)
	}
	restore(t, a, s, m, func(o *backup.RestoreOptions) { o.As = "*.2" })
	if got := values(t, a, "t.2", 2); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("t.2 has %q", got)
	}
	for _, bad := range []func(o *backup.RestoreOptions){
		func(o *backup.RestoreOptions) { o.Topics = []string{"none"} },
		func(o *backup.RestoreOptions) { o.As = "one-name" },
		func(o *backup.RestoreOptions) { o.Topics = []string{"__consumer_offsets"} },
	} {
		o := backup.RestoreOptions{Client: cl, Dial: a.Dial, Store: s, Manifest: m}
		bad(&o)
		if _, err := backup.Restore(t.Context(), o); err == nil {
			t.Errorf("%+v was not refused", o)
		}
	}
	b := node(t)
	if _, err := backup.Create(t.Context(), backup.Options{Client: client(t, b), Dial: b.Dial, Store: s}); err == nil || !strings.Contains(err.Error(), "holds backups of cluster") {
		t.Errorf("a second cluster's backup to the same place: %v", err)
	}
}

// A flipped bit, a missing object and a swapped one are found.
func TestVerifyFindsDamage(t *testing.T) {
	a := node(t)
	cl := client(t, a)
	create(t, cl, 1, nil, "t")
	produce(t, cl, "t", 0, "1", "2")
	for name, harm := range map[string]func(t *testing.T, path string){
		"flipped": func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			must(t, err)
			b[len(b)-1] ^= 1
			must(t, os.WriteFile(path, b, 0o600))
		},
		"missing": func(t *testing.T, path string) { must(t, os.Remove(path)) },
		"cut":     func(t *testing.T, path string) { must(t, os.Truncate(path, 10)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := backup.Folder(dir)
			m := save(t, a, s)
			verified(t, s, m)
			h := m.Topic("t").Partitions[0].Chunks[0].Hash
			harm(t, filepath.Join(dir, "objects", h[:2], h))
			r, err := backup.Verify(t.Context(), s, m, nil, 1)
			must(t, err)
			if len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "t-0") {
				t.Errorf("found %q", r.Problems)
			}
		})
	}
}
