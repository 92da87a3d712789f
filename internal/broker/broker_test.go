package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/ottla/ottla/internal/broker"
	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/network"
	"github.com/ottla/ottla/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options(t *testing.T, disk vfs.FS, listeners string, settings map[string]string) broker.Options {
	t.Helper()
	all := map[string]string{"listeners": listeners, "offsets.topic.num.partitions": "4"}
	for k, v := range settings {
		all[k] = v
	}
	values, err := config.New(all)
	if err != nil {
		t.Fatal(err)
	}
	protocols, err := network.ParseProtocolMap(config.ListenerSecurityProtocolMap.Get(values))
	if err != nil {
		t.Fatal(err)
	}
	endpoints, err := network.ParseListeners(listeners, protocols)
	if err != nil {
		t.Fatal(err)
	}
	o := broker.Options{FS: disk, Clock: clock.Real{}, Values: values, LogDirs: []string{"/a", "/b"}, NodeID: -1, Logger: slog.New(slog.DiscardHandler), Level: new(slog.LevelVar)}
	for _, e := range endpoints {
		o.Listeners = append(o.Listeners, network.ListenerConfig{Endpoint: e})
	}
	return o
}

func closed(t *testing.T, b *broker.Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr), kgo.RetryTimeout(time.Second))...)
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

// What was written in one life is there in the next, under the same ids and a newer epoch, and nothing of a broker outlives it.
func TestLives(t *testing.T) {
	disk := vfs.NewMem()
	id, written := "", 0
	for life := range 4 {
		b, err := broker.Start(t.Context(), options(t, disk, "PLAINTEXT://127.0.0.1:0", nil))
		if err != nil {
			t.Fatal(err)
		}
		if id == "" {
			id = b.ClusterID()
		} else if b.ClusterID() != id {
			t.Fatalf("life %d: cluster %s was %s", life, b.ClusterID(), id)
		}
		addr := b.Addr().String()
		cl := client(t, addr, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("kept"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.AllowAutoTopicCreation())
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		for range 10 {
			if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "kept", Value: fmt.Append(nil, written)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			written++
		}
		// The group goes on where it stood: each life sees its own ten.
		for n := written - 10; n < written; {
			fetches := cl.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				t.Fatalf("life %d, record %d: %v", life, n, err)
			}
			fetches.EachRecord(func(r *kgo.Record) {
				if string(r.Value) != fmt.Sprint(n) {
					t.Fatalf("life %d: record %s where %d was to come", life, r.Value, n)
				}
				n++
			})
		}
		if err := cl.CommitUncommittedOffsets(ctx); err != nil {
			t.Fatal(err)
		}
		topics, err := kadm.NewClient(cl).ListTopics(ctx, "kept")
		if err != nil {
			t.Fatal(err)
		}
		if epoch := topics["kept"].Partitions[0].LeaderEpoch; epoch != int32(life) {
			t.Errorf("life %d leads in epoch %d", life, epoch)
		}
		cancel()
		cl.Close()
		closed(t, b)
		for _, dir := range []string{"/a", "/b"} {
			entries, err := disk.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if strings.HasSuffix(e.Name(), "-stray") {
					t.Fatalf("life %d set %s aside, which is known", life, e.Name())
				}
			}
		}
	}
}

// Starting and stopping at once, or with clients in the middle of things, neither hangs nor leaves anything running.
func TestStopsWhateverIsUnderWay(t *testing.T) {
	disk := vfs.NewMem()
	for round := range 6 {
		b, err := broker.Start(t.Context(), options(t, disk, "PLAINTEXT://127.0.0.1:0", nil))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		if round > 0 {
			for i := range 4 {
				cl := client(t, b.Addr().String(), kgo.AllowAutoTopicCreation(), kgo.ConsumerGroup(fmt.Sprint("g", i%2)), kgo.ConsumeTopics("busy"), kgo.FetchMaxWait(30*time.Second))
				first := make(chan struct{})
				wg.Go(func() {
					defer cl.CloseAllowingRebalance()
					var once sync.Once
					for ctx.Err() == nil {
						cl.Produce(ctx, &kgo.Record{Topic: "busy", Value: make([]byte, 1000)}, func(*kgo.Record, error) { once.Do(func() { close(first) }) })
						cl.PollRecords(ctx, 1)
					}
				})
				<-first
			}
		}
		begun := time.Now()
		closed(t, b)
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("round %d: the stop took %v", round, took)
		}
		cancel()
		wg.Wait()
	}
}

// Clients of every listener are told the address of that listener, as they dialled it or as it is advertised.
func TestListeners(t *testing.T) {
	o := options(t, vfs.NewMem(), "PLAINTEXT://127.0.0.1:0,SECOND://localhost:0", map[string]string{"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SECOND:PLAINTEXT"})
	o.Advertised = []network.Endpoint{{Name: "SECOND", Host: "second.example", Port: 1234}}
	b, err := broker.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, b)
	cl := client(t, b.Addr().String())
	defer cl.Close()
	brokers, err := kadm.NewClient(cl).ListBrokers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%s:%d", brokers[0].Host, brokers[0].Port); got != b.Addr().String() {
		t.Errorf("a client of the first listener is sent to %s; it dialled %s", got, b.Addr())
	}
}

// A start that cannot be says what is wrong and what to do, and leaves nothing behind: not a lock, a port or a goroutine.
func TestStartsThatCannotBe(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	other := vfs.NewMem()
	first, err := broker.Start(t.Context(), options(t, other, "PLAINTEXT://127.0.0.1:0", nil))
	if err != nil {
		t.Fatal(err)
	}
	closed(t, first)
	held := vfs.NewMem()
	if err := held.MkdirAll("/a", 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := held.Lock("/a/.lock")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	for _, c := range []struct {
		name      string
		disk      vfs.FS
		listeners string
		settings  map[string]string
		want      string
	}{
		{"port in use", vfs.NewMem(), "PLAINTEXT://" + busy.Addr().String(), nil, "choose another port"},
		{"no such address", vfs.NewMem(), "PLAINTEXT://192.0.2.1:0", nil, "this machine has no such address"},
		{"locked", held, "PLAINTEXT://127.0.0.1:0", nil, "another broker is running on it"},
		{"no permission", vfs.NewInject(vfs.NewMem(), vfs.Rule{Ops: vfs.OpOpen, Err: fs.ErrPermission}), "PLAINTEXT://127.0.0.1:0", nil, "must be able to write there"},
		{"full disk", vfs.NewInject(vfs.NewMem(), vfs.Rule{Ops: vfs.OpWrite, Err: syscall.ENOSPC}), "PLAINTEXT://127.0.0.1:0", nil, "no space left"},
		{"another cluster", other, "PLAINTEXT://127.0.0.1:0", map[string]string{"ottla.cluster.id": "AAAAAAAAAAAAAAAAAAAAAQ"}, "cluster"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := broker.Start(t.Context(), options(t, c.disk, c.listeners, c.settings))
			if err == nil {
				closed(t, b)
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("it says %q, not what to do: %q", err, c.want)
			}
		})
	}
	again, err := broker.Start(t.Context(), options(t, other, "PLAINTEXT://127.0.0.1:0", nil)) // the refused start has let go of it
	if err != nil {
		t.Fatal(err)
	}
	closed(t, again)
}

// A disk that fails under a running broker: producers are told, the broker stays up, stops, and starts again on the mended disk.
func TestDiskFailsAndIsMended(t *testing.T) {
	mem := vfs.NewMem()
	disk := vfs.NewInject(mem)
	o := options(t, disk, "PLAINTEXT://127.0.0.1:0", nil)
	var said syncBuffer
	o.Logger = slog.New(slog.NewTextHandler(&said, nil))
	b, err := broker.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	cl := client(t, b.Addr().String(), kgo.AllowAutoTopicCreation(), kgo.RecordDeliveryTimeout(time.Second), kgo.RecordRetries(3))
	for i := range 20 {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	disk.SetRules(vfs.Rule{Ops: vfs.OpWrite | vfs.OpSync, Path: "/t-0/", Err: syscall.EIO}, vfs.Rule{Ops: vfs.OpWrite | vfs.OpSync, Path: "journal", Err: syscall.EIO})
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("lost")}).FirstErr(); err == nil {
		t.Error("a record was acknowledged on a broken disk")
	}
	if _, err := kadm.NewClient(cl).ListTopics(t.Context()); err != nil {
		t.Errorf("the broker does not answer any more: %v", err)
	}
	cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_ = b.Close(ctx) // what is wrong with the disk it may say
	if !strings.Contains(said.String(), "a log dir is offline") {
		t.Errorf("the log does not tell of the disk:\n%s", said.String())
	}
	disk.SetRules()
	b, err = broker.Start(t.Context(), options(t, disk, "PLAINTEXT://127.0.0.1:0", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, b)
	cl = client(t, b.Addr().String(), kgo.ConsumeTopics("t"))
	defer cl.Close()
	got := map[string]bool{}
	for len(got) < 20 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d records: %v", len(got), err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got[string(r.Value)] = true })
	}
	for i := range 20 {
		if !got[fmt.Sprint(i)] {
			t.Errorf("record %d is gone", i)
		}
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
