// Package ondisk checks that the files of a broker and those of Apache Kafka 4.4 are the same files: a directory that Kafka
// wrote is served from as Kafka serves it, and Kafka's dump tool finds what it expects in ours. It knows the protocol
// through a client, and copies directories of stopped brokers; it must never know a broker from inside.
//
// Where Java or Maven is absent, the tests are skipped with the reason.
package ondisk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/ottla/ottla/test/peer"
)

const (
	group     = "readers" // classic protocol
	groupNext = "readers-848"
)

// epochMs is the time of the first record of each partition; its batches are a second apart. It is not long ago, for brokers forget the
// producers of old records.
var epochMs = time.Now().Add(-10 * time.Minute).UnixMilli()

func kafka(t *testing.T) *peer.Kafka {
	t.Helper()
	if testing.Short() {
		t.Skip("starts JVMs")
	}
	k, err := peer.FetchKafka()
	if errors.Is(err, peer.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// client asks Fetch and Produce by topic name, so that raw requests of both brokers are the same.
func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	v := kversion.Stable()
	v.SetMaxKeyVersion(0, 12)
	v.SetMaxKeyVersion(1, 12)
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr), kgo.MaxVersions(v), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RetryTimeout(30 * time.Second)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func text(s string) *string { return &s }

func create(t *testing.T, ctx context.Context, addr string) {
	t.Helper()
	adm := kadm.NewClient(client(t, addr))
	for _, topic := range []struct {
		name       string
		partitions int32
		configs    map[string]*string
	}{
		{"codecs", 5, map[string]*string{"retention.ms": text("-1")}},
		{"rolled", 1, map[string]*string{"segment.bytes": text("1048576"), "retention.ms": text("-1"), "index.interval.bytes": text("1024")}},
		{"compacted", 1, map[string]*string{"cleanup.policy": text("compact"), "segment.bytes": text("1048576"), "min.cleanable.dirty.ratio": text("0.01")}},
		{"transactions", 1, map[string]*string{"retention.ms": text("-1")}},
		{"trimmed", 1, map[string]*string{"retention.ms": text("-1")}},
	} {
		if _, err := adm.CreateTopic(ctx, topic.partitions, 1, topic.configs, topic.name); err != nil {
			t.Fatalf("create %s: %v", topic.name, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rounds produces n batches of three records each to one partition, one batch at a time.
func rounds(t *testing.T, ctx context.Context, cl *kgo.Client, topic string, partition int32, n, size int) {
	t.Helper()
	pad := strings.Repeat("ottla ", size/6)
	for i := range n {
		at := time.UnixMilli(epochMs + int64(i)*1000)
		must(t, cl.ProduceSync(ctx,
			&kgo.Record{Topic: topic, Partition: partition, Key: fmt.Appendf(nil, "key%d", i%10), Value: fmt.Appendf(nil, "value %d %s", i, pad), Timestamp: at, Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("1")}}},
			&kgo.Record{Topic: topic, Partition: partition, Key: fmt.Appendf(nil, "once%d", i), Value: []byte("x"), Timestamp: at.Add(7 * time.Millisecond)},
			&kgo.Record{Topic: topic, Partition: partition, Key: fmt.Appendf(nil, "once%d", i-5), Timestamp: at.Add(9 * time.Millisecond)},
		).FirstErr())
	}
}

// fill writes what every broker can be given: all codecs, several segments, an idempotent producer, both kinds of groups,
// a log whose beginning was deleted.
func fill(t *testing.T, ctx context.Context, addr string) {
	t.Helper()
	create(t, ctx, addr)
	for i, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		opts := []kgo.Opt{kgo.ProducerBatchCompression(codec)}
		if i%2 == 0 { // the others are idempotent
			opts = append(opts, kgo.DisableIdempotentWrite())
		}
		rounds(t, ctx, client(t, addr, opts...), "codecs", int32(i), 20, 400)
	}
	plain := client(t, addr, kgo.ProducerBatchCompression(kgo.NoCompression()))
	rounds(t, ctx, plain, "rolled", 0, 300, 10_000)
	rounds(t, ctx, plain, "compacted", 0, 300, 10_000)
	rounds(t, ctx, plain, "trimmed", 0, 20, 100)
	adm := kadm.NewClient(plain)
	deletes := kadm.Offsets{}
	deletes.AddOffset("trimmed", 0, 31, -1)
	if rs, err := adm.DeleteRecords(ctx, deletes); err != nil || rs.Error() != nil {
		t.Fatal(err, rs.Error())
	}
	consume(t, ctx, addr, group)
	consume(t, ctx, addr, groupNext, kgo.ServerSideBalancer())
}

// consume reads the codecs topic as a member of a group, commits as it goes and leaves.
func consume(t *testing.T, ctx context.Context, addr, group string, opts ...kgo.Opt) {
	t.Helper()
	cl := client(t, addr, append(opts, kgo.ConsumerGroup(group), kgo.ConsumeTopics("codecs"), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	for seen := 0; seen < 5*20*3; {
		fs := cl.PollFetches(ctx)
		must(t, fs.Err())
		seen += fs.NumRecords()
		must(t, cl.CommitUncommittedOffsets(ctx))
	}
	must(t, cl.LeaveGroupContext(ctx))
}

// transact leaves a committed, an aborted and an undecided transaction behind.
func transact(t *testing.T, ctx context.Context, addr string) {
	t.Helper()
	for i, end := range []string{"commit", "abort", "none"} {
		cl := client(t, addr, kgo.TransactionalID("tx-"+end), kgo.TransactionTimeout(14*time.Minute))
		must(t, cl.BeginTransaction())
		rounds(t, ctx, cl, "transactions", 0, 2+i, 100)
		switch end {
		case "commit":
			must(t, cl.EndTransaction(ctx, kgo.TryCommit))
		case "abort":
			must(t, cl.EndTransaction(ctx, kgo.TryAbort))
		}
	}
}

// copyDir copies the data directory of a broker that is not running.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.RemoveAll(to))
	must(t, os.CopyFS(to, os.DirFS(from)))
}
