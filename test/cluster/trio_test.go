// Package cluster runs three broker processes and has clients use what their coordinators keep: transactions, groups, queues, while brokers
// are killed. It knows the command line and the Kafka protocol; it must never reach into the broker's code.
package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/test/peer"
)

// broker is one process.
type broker struct {
	t    *testing.T
	id   int32
	addr string
	dir  string
	argv []string
	cmd  *exec.Cmd
	done chan struct{}
}

// trio is a cluster of three.
type trio struct {
	t       *testing.T
	brokers []*broker
}

func (b *broker) start() {
	b.t.Helper()
	out, err := os.OpenFile(filepath.Join(b.dir, "out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		b.t.Fatal(err)
	}
	defer out.Close()
	b.cmd = exec.Command(b.argv[0], b.argv[1:]...)
	b.cmd.Stdout, b.cmd.Stderr = out, out
	b.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "OTTLA_") }) // they would be settings
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.done = make(chan struct{})
	go func(c *exec.Cmd, done chan struct{}) { _ = c.Wait(); close(done) }(b.cmd, b.done)
}

// kill is kill -9.
func (b *broker) kill() {
	_ = b.cmd.Process.Kill()
	<-b.done
}

func (b *broker) signal(s syscall.Signal) {
	b.t.Helper()
	if err := b.cmd.Process.Signal(s); err != nil {
		b.t.Fatal(err)
	}
}

func (b *broker) output() string {
	out, _ := os.ReadFile(filepath.Join(b.dir, "out"))
	if len(out) > 6000 {
		out = out[len(out)-6000:]
	}
	return string(out)
}

func startTrio(t *testing.T, extra ...string) *trio {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := t.TempDir()
	bin, err := peer.BuildOttla(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := &trio{t: t}
	ctx := within(t, time.Minute)
	join := ""
	for i := range 3 {
		b := &broker{t: t, id: int32(i + 1), dir: filepath.Join(dir, fmt.Sprint(i+1))}
		if err := os.MkdirAll(b.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		ports := make([]int, 2)
		for j := range ports {
			if ports[j], err = peer.FreePort(); err != nil {
				t.Fatal(err)
			}
		}
		b.addr = fmt.Sprint("127.0.0.1:", ports[0])
		inner := fmt.Sprint("127.0.0.1:", ports[1])
		b.argv = []string{bin, "start", "--data", filepath.Join(b.dir, "data")}
		set := append([]string{
			"listeners=PLAINTEXT://" + b.addr + ",CLUSTER://" + inner, "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CLUSTER:PLAINTEXT", "inter.broker.listener.name=CLUSTER",
			"offsets.topic.num.partitions=6", "transaction.state.log.num.partitions=6", "share.coordinator.state.topic.num.partitions=6",
			"group.initial.rebalance.delay.ms=0", "group.min.session.timeout.ms=1000",
		}, extra...)
		for _, s := range set {
			b.argv = append(b.argv, "--set", s)
		}
		if i == 0 {
			join = inner
		} else {
			b.argv = append(b.argv, "--join", join)
			if token, err := os.ReadFile(filepath.Join(c.brokers[0].dir, "data", "cluster.token")); err == nil {
				b.argv = append(b.argv, "--token", strings.TrimSpace(string(token)))
			}
		}
		c.brokers = append(c.brokers, b)
		b.start()
		c.ready(ctx)
	}
	t.Cleanup(func() {
		for _, b := range c.brokers {
			b.kill()
			if t.Failed() {
				t.Logf("broker %d:\n%s", b.id, b.output())
			}
		}
	})
	return c
}

// ready waits until all brokers that run know of each other.
func (c *trio) ready(ctx context.Context) {
	c.t.Helper()
	for _, b := range c.brokers {
		for {
			cl, err := kgo.NewClient(kgo.SeedBrokers(b.addr))
			if err != nil {
				c.t.Fatal(err)
			}
			one, cancel := context.WithTimeout(ctx, 2*time.Second)
			m, err := kadm.NewClient(cl).BrokerMetadata(one)
			cancel()
			cl.Close()
			if err == nil && len(m.Brokers) == len(c.brokers) {
				break
			}
			select {
			case <-ctx.Done():
				c.t.Fatalf("broker %d: %v, %d brokers\n%s", b.id, err, len(m.Brokers), b.output())
			case <-b.done:
				c.t.Fatalf("broker %d has ended\n%s", b.id, b.output())
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
}

func (c *trio) seeds() []string {
	var out []string
	for _, b := range c.brokers {
		out = append(out, b.addr)
	}
	return out
}

func (c *trio) client(opts ...kgo.Opt) *kgo.Client {
	c.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.seeds()...), kgo.MetadataMinAge(50 * time.Millisecond), kgo.RetryTimeout(time.Minute), kgo.RecordDeliveryTimeout(time.Minute)}, opts...)...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(cl.Close)
	return cl
}

// topic makes one whose partitions are on all brokers.
func (c *trio) topic(cl *kgo.Client, name string, partitions int32) {
	c.t.Helper()
	r, err := kadm.NewClient(cl).CreateTopic(within(c.t, 20*time.Second), partitions, 3, nil, name)
	if err != nil {
		c.t.Fatal(err, r.ErrMessage)
	}
}

// coordinator is who coordinates a key: 0 a group, 1 a transactional id.
func (c *trio) coordinator(cl *kgo.Client, typ int8, key string) *broker {
	c.t.Helper()
	q := kmsg.NewPtrFindCoordinatorRequest()
	q.CoordinatorType, q.CoordinatorKeys = typ, []string{key}
	ctx := within(c.t, 20*time.Second)
	for {
		r, err := q.RequestWith(ctx, cl)
		if err == nil && len(r.Coordinators) == 1 && r.Coordinators[0].ErrorCode == 0 {
			for _, b := range c.brokers {
				if b.id == r.Coordinators[0].NodeID {
					return b
				}
			}
		}
		select {
		case <-ctx.Done():
			c.t.Fatalf("no coordinator of %s: %v", key, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
