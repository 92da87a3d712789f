package ondisk

import (
	"context"
	"encoding/binary"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottla/ottla/test/peer"
)

// If this fails, a Kafka broker cannot be replaced where it stands: its directory is opened, after a clean stop and after a
// kill, and every client sees what it saw before.
func TestKafkaDirectory(t *testing.T) {
	k := kafka(t)
	bin, err := peer.BuildOttla(t.TempDir())
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	b, err := k.StartKafka(ctx, peer.Options{Dir: t.TempDir(), HeapMB: 512, Properties: map[string]string{"log.cleaner.backoff.ms": "200", "log.initial.task.delay.ms": "0"}})
	must(t, err)
	defer func() { b.Kill() }()
	fill(t, ctx, b.Addr)
	transact(t, ctx, b.Addr)
	waitCompacted(t, ctx, b.Addr)
	copies := t.TempDir()
	killed, stopped := filepath.Join(copies, "killed"), filepath.Join(copies, "stopped")
	b.Kill()
	copyDir(t, b.DataDir(), killed)
	must(t, b.Restart(ctx))
	want := look(t, ctx, b.Addr) // after the kill, which takes back what Kafka keeps in memory for a minute, as where a log begins
	must(t, b.Stop())
	copyDir(t, b.DataDir(), stopped)

	for name, dir := range map[string]string{"killed": killed, "stopped": stopped} {
		t.Run(name, func(t *testing.T) {
			o, err := peer.NewOttla(bin, peer.Options{Dir: t.TempDir(), Properties: map[string]string{"node.id": "1"}})
			must(t, err)
			copyDir(t, dir, o.DataDir())
			must(t, o.Restart(ctx))
			defer func() { o.Kill() }()
			want.tell(t, "on Kafka's directory", look(t, ctx, o.Addr))
			goesOn(t, ctx, o.Addr)
			after := look(t, ctx, o.Addr)
			o.Kill()
			must(t, o.Restart(ctx))
			after.tell(t, "after a kill", look(t, ctx, o.Addr))
			must(t, o.Stop())
			must(t, o.Restart(ctx))
			after.tell(t, "after a clean stop", look(t, ctx, o.Addr))
			if t.Failed() {
				t.Logf("the broker said:\n%s", o.Output())
			}
		})
	}
}

// waitCompacted waits until Kafka's cleaner has been at work, and then forbids it more.
func waitCompacted(t *testing.T, ctx context.Context, addr string) {
	t.Helper()
	cl := client(t, addr)
	whole, _ := fetchAll(t, ctx, cl, "rolled", 0, 0) // the same records, not compacted
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		now, _ := fetchAll(t, ctx, cl, "compacted", 0, 0)
		if len(now) < len(whole)*3/4 {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("Kafka's cleaner has not compacted the topic")
		}
	}
	_, err := kadm.NewClient(cl).AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "min.compaction.lag.ms", Value: text("9000000000000")}}, "compacted")
	must(t, err)
}

// goesOn checks that the broker takes up the work: a producer's retry is recognised, its next batch is taken, new records
// follow the old ones, and a group reads on where it had stopped.
func goesOn(t *testing.T, ctx context.Context, addr string) {
	t.Helper()
	cl := client(t, addr)
	all, _ := fetchAll(t, ctx, cl, "codecs", 1, 0)
	batches := wholeBatches([]byte(all))
	base := int64(binary.BigEndian.Uint64(batches[len(batches)-1]))
	for _, b := range batches { // as a client sends them
		clear(b[:8])
	}
	if at, err := produceRaw(t, ctx, cl, "codecs", 1, batches[len(batches)-1]); err != nil || at != base {
		t.Errorf("the last batch of an idempotent producer sent again: offset %d, %v; it has offset %d", at, err, base)
	}
	if _, err := produceRaw(t, ctx, cl, "codecs", 1, batches[3]); err == nil {
		t.Error("a batch far behind an idempotent producer's sequence was taken")
	}
	r := &kgo.Record{Topic: "codecs", Partition: 1, Value: []byte("new")}
	must(t, cl.ProduceSync(ctx, r).FirstErr())
	if r.Offset != base+3 {
		t.Errorf("the next record has offset %d, after %d", r.Offset, base+2)
	}
	reader := client(t, addr, kgo.ConsumerGroup(group), kgo.ConsumeTopics("codecs"), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	fs := reader.PollFetches(ctx)
	must(t, fs.Err())
	if rs := fs.Records(); len(rs) != 1 || rs[0].Offset != r.Offset {
		t.Errorf("the group reads %d records, not the one that is new to it", len(rs))
	}
	must(t, reader.CommitUncommittedOffsets(ctx))
	must(t, reader.LeaveGroupContext(ctx))
}
