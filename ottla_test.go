package ottla_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/ottla/ottla"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o ottla.Options) *ottla.Broker {
	t.Helper()
	b, err := ottla.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func stop(t *testing.T, b *ottla.Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// converse writes records to a topic and reads them back as a member of a group.
func converse(t *testing.T, topic string, n int, opts ...kgo.Opt) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	adm, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer adm.Close()
	if _, err := kadm.NewClient(adm).CreateTopic(ctx, 3, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(append(opts, kgo.ConsumeTopics(topic), kgo.ConsumerGroup("g-"+topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for i := range n {
		cl.Produce(ctx, &kgo.Record{Topic: topic, Key: fmt.Append(nil, i%7), Value: fmt.Append(nil, i)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for len(seen) < n && ctx.Err() == nil {
		fs := cl.PollFetches(ctx)
		fs.EachRecord(func(r *kgo.Record) { seen[string(r.Value)] = true })
	}
	if len(seen) != n {
		t.Fatalf("%d of %d records came back", len(seen), n)
	}
	if err := cl.CommitUncommittedOffsets(ctx); err != nil {
		t.Fatal(err)
	}
}

// A test of somebody else's program has a broker without a port or a file.
func TestInMemoryPipeOnly(t *testing.T) {
	b := start(t, ottla.Options{InMemory: true, PipeOnly: true})
	converse(t, "pipe", 500, kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dial))
	stop(t, b)
}

// What a broker on disk has acknowledged is there when it starts again.
func TestRestartKeepsRecords(t *testing.T) {
	dir := t.TempDir()
	b := start(t, ottla.Options{DataDir: dir})
	converse(t, "kept", 500, kgo.SeedBrokers(b.Addr()))
	id := b.ClusterID()
	stop(t, b)
	b = start(t, ottla.Options{DataDir: dir})
	defer stop(t, b)
	if b.ClusterID() != id {
		t.Errorf("the cluster id changed from %s to %s", id, b.ClusterID())
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.ConsumeTopics("kept"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got := 0
	for got < 500 && ctx.Err() == nil {
		fs := cl.PollFetches(ctx)
		got += fs.NumRecords()
	}
	if got != 500 {
		t.Fatalf("%d of 500 records are there after a restart", got)
	}
}

// Two brokers of one program know nothing of each other.
func TestTwoBrokers(t *testing.T) {
	a, b := start(t, ottla.Options{InMemory: true}), start(t, ottla.Options{InMemory: true})
	defer stop(t, a)
	defer stop(t, b)
	if a.ClusterID() == b.ClusterID() {
		t.Error("two brokers have the same cluster id")
	}
	converse(t, "one", 50, kgo.SeedBrokers(a.Addr()))
	converse(t, "one", 50, kgo.SeedBrokers(b.Addr()))
}

// A setting with a typing mistake is refused with the name that was meant.
func TestBadSetting(t *testing.T) {
	_, err := ottla.Start(t.Context(), ottla.Options{InMemory: true, Config: map[string]string{"log.retention.hour": "1"}})
	if err == nil {
		t.Fatal("an unknown setting was accepted")
	}
}
