// Package full fills a real, small file system under a real broker process: producing must be refused with an error that clients
// retry, reading and deleting must go on, and all must come back by itself when there is space, also after a kill. It knows the
// Kafka protocol, processes and mounts (it needs root, and is skipped without); it must never know the broker from inside.
package full

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottla/ottla/test/peer"
)

const diskMB = 300

// disk is a folder on a small file system of its own.
func disk(t *testing.T, kind string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	dir := t.TempDir()
	at := filepath.Join(dir, "disk")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) {
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Skipf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
		}
	}
	if kind == "tmpfs" {
		run("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", diskMB), "tmpfs", at)
	} else {
		image := filepath.Join(dir, "image")
		run("truncate", "-s", fmt.Sprintf("%dM", diskMB), image)
		run("mkfs."+kind, "-q", image)
		run("mount", "-o", "loop", image, at)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return at
}

func free(t *testing.T, at string) int64 {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(at, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

func TestFullDisk(t *testing.T) {
	for _, kind := range []string{"ext4", "tmpfs"} {
		for _, reserve := range []int64{64 << 20, 0} { // the brake, and the wall behind it
			t.Run(fmt.Sprintf("%s/reserve %d", kind, reserve), func(t *testing.T) { fullDisk(t, disk(t, kind), reserve) })
		}
	}
}

func fullDisk(t *testing.T, at string, reserve int64) {
	bin, err := peer.BuildOttla(t.TempDir())
	if errors.Is(err, peer.ErrMissing) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	b, err := peer.StartOttla(t.Context(), bin, peer.Options{Dir: at, Properties: map[string]string{
		"ottla.disk.reserve.bytes": fmt.Sprint(reserve), "log.segment.bytes": "8388608", "ottla.journal.file.bytes": "8388608", "log.retention.check.interval.ms": "1000",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if b.Alive() {
			if err := b.Stop(); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			t.Log(b.Output())
		}
	})
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.RecordDeliveryTimeout(3*time.Second), kgo.RetryTimeout(3*time.Second), kgo.ProducerBatchMaxBytes(1<<20),
		kgo.MetadataMinAge(50*time.Millisecond), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	for _, topic := range []string{"big", "small", "spare"} {
		if _, err := adm.CreateTopic(t.Context(), 1, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
	}
	acked := map[string]int64{}
	write := func(topic string, size int) error {
		err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: make([]byte, size)}).FirstErr()
		if err == nil {
			acked[topic]++
		}
		return err
	}
	for _, topic := range []string{"small", "spare"} {
		for range 20 {
			if err := write(topic, 500_000); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill := func(topic string) (err error) {
		for n := 0; n < 2*diskMB; n++ {
			if err = write(topic, 900_000); err != nil {
				break
			}
			_ = write("small", 100)
		}
		for err != nil && n0(write("small", 100)) {
		}
		return err
	}
	refused := fill("big")
	t.Logf("after %d large records, %d MiB free: %v", acked["big"], free(t, at)>>20, refused)
	if refused == nil {
		t.Fatal("the disk was never full")
	}
	if !retriable(refused) {
		t.Errorf("producing was refused with %v, which clients do not retry", refused)
	}
	reads(t, b, acked, "while the disk is full")

	b.Kill()
	if err := b.Restart(t.Context()); err != nil {
		t.Fatalf("the broker does not start on a full disk: %v", err)
	}
	reads(t, b, acked, "after a kill while the disk was full")
	if err := write("big", 900_000); err == nil && reserve > 0 {
		t.Error("a record was taken below the reserve")
	}

	if _, err := adm.DeleteTopic(t.Context(), "big"); err != nil {
		t.Fatalf("a topic cannot be deleted: %v", err)
	}
	delete(acked, "big")
	for end := time.Now().Add(20 * time.Second); ; {
		err := write("spare", 900_000)
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("producing does not come back, with %d MiB free: %v", free(t, at)>>20, err)
		}
	}
	reads(t, b, acked, "after space was freed")
	b.Kill()
	if err := b.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	reads(t, b, acked, "after another kill")
}

func n0(err error) bool { return err == nil }

func retriable(err error) bool {
	var k *kerr.Error
	return errors.Is(err, kgo.ErrRecordTimeout) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &k) && k.Retriable
}

// reads checks that every topic has at least what was acknowledged, readable from end to end.
func reads(t *testing.T, b *peer.Broker, acked map[string]int64, when string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for topic, want := range acked {
		cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.ConsumeTopics(topic))
		if err != nil {
			t.Fatal(err)
		}
		ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		end, _ := ends.Lookup(topic, 0)
		if end.Offset < want {
			t.Errorf("%s: %s ends at %d; %d records were acknowledged", when, topic, end.Offset, want)
		}
		next := int64(0)
		for next < end.Offset {
			fetches := cl.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				t.Fatalf("%s: %s at %d of %d: %v", when, topic, next, end.Offset, err)
			}
			fetches.EachRecord(func(r *kgo.Record) {
				if r.Offset != next {
					t.Fatalf("%s: %s: offset %d where %d was to come", when, topic, r.Offset, next)
				}
				next++
			})
		}
		cl.Close()
	}
}
