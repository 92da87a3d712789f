// Package interop drives the Kafka clients and tools that people use, as published, against a broker process and checks
// what they see. It knows the clients' public surface and Kafka's documented behaviour; it must never reach into the
// broker's code. With OTTLA_INTEROP_TARGET=kafka the same tests run against Apache Kafka, which proves the tests.
//
// A client whose toolchain is absent is skipped with the reason. OTTLA_INTEROP_CLIENTS=a,b runs only those clients.
package interop

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ottla/ottla/test/peer"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// testProperties shorten the times that group tests wait for; everything else is as a user has it.
var testProperties = map[string]string{
	"group.min.session.timeout.ms":             "1000",
	"group.consumer.min.session.timeout.ms":    "3000",
	"group.consumer.session.timeout.ms":        "6000",
	"group.consumer.min.heartbeat.interval.ms": "500",
	"group.consumer.heartbeat.interval.ms":     "1000",
	"group.streams.min.session.timeout.ms":     "3000",
	"group.streams.session.timeout.ms":         "6000",
	"group.streams.min.heartbeat.interval.ms":  "500",
	"group.streams.heartbeat.interval.ms":      "1000",
	"group.streams.initial.rebalance.delay.ms": "1000",
	"log.retention.check.interval.ms":          "2000",
}

// shared is what all tests of the run use: one broker and one tools' JVM.
type shared struct {
	dir string

	brokerOnce sync.Once
	broker     *peer.Broker
	brokerErr  error

	toolsOnce sync.Once
	tools     *peer.Tools
	toolsErr  error

	binOnce sync.Once
	bin     string
	binErr  error
}

var run shared

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f != nil && f.Value.String() == fmt.Sprint(2) {
		f.Value.Set("5") // most of the time the tests wait for group timeouts
	}
	os.Exit(mainWithCleanup(m))
}

func mainWithCleanup(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ottla-interop-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	run.dir = dir
	defer os.RemoveAll(dir)
	code := m.Run()
	if run.tools != nil {
		run.tools.Close()
	}
	if run.broker != nil {
		if !run.broker.Alive() {
			fmt.Fprintf(os.Stderr, "the broker died during the tests:\n%s\n", run.broker.Output())
			code = 1
		} else if err := run.broker.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}

func target() string {
	if v := os.Getenv("OTTLA_INTEROP_TARGET"); v != "" {
		return v
	}
	return "ottla"
}

// startBroker is the one place that decides which broker is under test.
func startBroker(ctx context.Context, dir string, properties map[string]string) (*peer.Broker, error) {
	switch target() {
	case "kafka":
		k, err := peer.FetchKafka()
		if err != nil {
			return nil, err
		}
		return k.StartKafka(ctx, peer.Options{Dir: dir, Properties: properties, HeapMB: 768})
	case "ottla":
		bin, err := ottlaBinary()
		if err != nil {
			return nil, err
		}
		return peer.StartOttla(ctx, bin, peer.Options{Dir: dir, Properties: properties, Dev: os.Getenv("OTTLA_INTEROP_DEV") != ""})
	}
	return nil, fmt.Errorf("OTTLA_INTEROP_TARGET=%s: know only ottla and kafka", target())
}

func ottlaBinary() (string, error) {
	run.binOnce.Do(func() { run.bin, run.binErr = peer.BuildOttla(run.dir) })
	return run.bin, run.binErr
}

// skipOrFail skips for a missing toolchain and fails for everything else.
func skipOrFail(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, peer.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// broker is the broker that the tests of this run share.
func broker(t *testing.T) *peer.Broker {
	t.Helper()
	if testing.Short() {
		t.Skip("real clients against a broker process: not in -short")
	}
	run.brokerOnce.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		run.broker, run.brokerErr = startBroker(ctx, filepath.Join(run.dir, "broker"), testProperties)
	})
	skipOrFail(t, run.brokerErr)
	return run.broker
}

func tools(t *testing.T) *peer.Tools {
	t.Helper()
	run.toolsOnce.Do(func() {
		var k *peer.Kafka
		if k, run.toolsErr = peer.FetchKafka(); run.toolsErr == nil {
			run.tools, run.toolsErr = k.StartTools()
		}
	})
	skipOrFail(t, run.toolsErr)
	return run.tools
}

// patience bounds one test's conversation with the broker.
func patience(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// client is a franz-go client for looking at the broker beside the client under test.
func client(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(broker(t).Addr)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func admin(t *testing.T) *kadm.Client { return kadm.NewClient(client(t)) }

var names struct {
	sync.Mutex
	n int
}

// fresh returns a name that no other test of the run uses.
func fresh(kind string) string {
	names.Lock()
	defer names.Unlock()
	names.n++
	return fmt.Sprintf("%s-%d", kind, names.n)
}

func createTopic(t *testing.T, partitions int32, configs map[string]string) string {
	t.Helper()
	topic := fresh("topic")
	cs := map[string]*string{}
	for k, v := range configs {
		cs[k] = &v
	}
	if _, err := admin(t).CreateTopic(patience(t, 30*time.Second), partitions, 1, cs, topic); err != nil {
		t.Fatal(err)
	}
	// Kafka answers before its own request threads know the topic; not every client retries what they say then.
	eventually(t, 10*time.Second, func() error {
		ends, err := admin(t).ListEndOffsets(patience(t, 10*time.Second), topic)
		if err == nil {
			err = ends.Error()
		}
		return err
	})
	return topic
}

// eventually runs check until it returns nil, and fails with its last answer when the time is over.
func eventually(t *testing.T, within time.Duration, check func() error) {
	t.Helper()
	ctx := patience(t, within)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %v", within, err)
		case <-tick.C:
		}
	}
}
