package ops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottla/ottla/test/peer"
)

// killed starts a command, kills it by SIGKILL once half way says so, and reports whether it was still running then.
func killed(t *testing.T, bin, addr string, halfway func() bool, args ...string) bool {
	t.Helper()
	cmd := exec.Command(bin, append([]string{"--bootstrap", addr}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for !halfway() {
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("%v: %v\n%s", args, err, out.String())
			}
			return false
		default:
		}
	}
	_ = cmd.Process.Kill()
	<-done
	return true
}

func command(t *testing.T, bin, addr string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, bin, append([]string{"--bootstrap", addr}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// A backup and a restore that were killed by SIGKILL in the middle are gone on with by the same command, and nothing is lost or there twice.
func TestKilledInTheMiddle(t *testing.T) {
	bin, err := peer.BuildOttla(t.TempDir())
	if errors.Is(err, peer.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	node := func() *peer.Broker {
		b, err := peer.StartOttla(ctx, bin, peer.Options{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Kill)
		return b
	}
	a := node()
	cl, err := kgo.NewClient(kgo.SeedBrokers(a.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if got, err := kadm.NewClient(cl).CreateTopics(ctx, 4, 1, nil, "t"); err != nil || got.Error() != nil {
		t.Fatal(err, got.Error())
	}
	const records = 10_000
	for i := range records {
		cl.Produce(ctx, &kgo.Record{Topic: "t", Partition: int32(i % 4), Key: fmt.Append(nil, i), Value: bytes.Repeat([]byte{byte(i)}, 16<<10)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	place := t.TempDir()
	objects := func() int {
		found, _ := filepath.Glob(filepath.Join(place, "objects", "*", "*"))
		return len(found)
	}
	if !killed(t, bin, a.Addr, func() bool { return objects() >= 3 }, "backup", "create", "--to", place, "--parallel", "1") {
		t.Fatal("the backup was over before it could be killed")
	}
	before := objects()
	command(t, bin, a.Addr, "backup", "create", "--to", place)
	if out := command(t, bin, a.Addr, "backup", "verify", "--to", place); !strings.Contains(out, "is sound") {
		t.Error(out)
	}
	if objects() <= before {
		t.Errorf("%d objects after the kill and %d in the end", before, objects())
	}

	b := node()
	to, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.RecordDeliveryTimeout(2*time.Second), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	some := func() bool {
		ends, err := kadm.NewClient(to).ListEndOffsets(ctx, "t")
		var n int64
		ends.Each(func(o kadm.ListedOffset) { n += max(0, o.Offset) })
		return err == nil && n > 500
	}
	restored := killed(t, bin, b.Addr, some, "restore", "--from", place, "--parallel", "1")
	if !restored {
		t.Fatal("the restore was over before it could be killed")
	}
	if err := to.ProduceSync(ctx, &kgo.Record{Topic: "t"}).FirstErr(); err == nil {
		t.Error("a topic that is half restored takes records")
	}
	// The broker falls, too.
	b.Kill()
	if err := b.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	command(t, bin, b.Addr, "restore", "--from", place)
	want, have := sums(ctx, t, a.Addr), sums(ctx, t, b.Addr)
	if len(have) != records {
		t.Errorf("%d of %d records are there", len(have), records)
	}
	for at, key := range want {
		if have[at] != key {
			t.Fatalf("at %s there is %q, not %q", at, have[at], key)
		}
	}
}

// sums reads all records of t: their keys by partition and offset.
func sums(ctx context.Context, t *testing.T, addr string) map[string]string {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, "t")
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	ends.Each(func(o kadm.ListedOffset) { total += o.Offset })
	out := map[string]string{}
	for int64(len(out)) < total {
		f := cl.PollFetches(ctx)
		if err := f.Err(); err != nil {
			t.Fatal(err)
		}
		f.EachRecord(func(r *kgo.Record) { out[fmt.Sprint(r.Partition, "@", r.Offset)] = string(r.Key) })
	}
	return out
}
