package interop

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ottla/ottla/test/peer"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// txnLoop is a process of clients/java/TxnLoop.java.
type txnLoop struct {
	cmd   *exec.Cmd
	lines chan string // closed at its end
	errs  string
}

func startTxnLoop(t *testing.T, addr, in, out, id string) *txnLoop {
	t.Helper()
	k, err := peer.FetchKafka()
	skipOrFail(t, err)
	src, err := os.ReadFile(clientFile("java", "TxnLoop.java"))
	if err != nil {
		t.Fatal(err)
	}
	classes, err := peer.CompileJava("TxnLoop", src, k.BrokerJars)
	skipOrFail(t, err)
	l := &txnLoop{lines: make(chan string, 10000), errs: filepath.Join(t.TempDir(), "stderr")}
	l.cmd = exec.Command(k.Java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=error", "-cp", classes+":"+k.BrokerJars+"/*",
		"TxnLoop", addr, in, out, id+"-group", id, "transaction.timeout.ms=10000", "session.timeout.ms=6000", "heartbeat.interval.ms=1000")
	errs, err := os.Create(l.errs)
	if err != nil {
		t.Fatal(err)
	}
	l.cmd.Stderr = errs
	stdout, err := l.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for s := bufio.NewScanner(stdout); s.Scan(); {
			l.lines <- s.Text()
		}
		_ = l.cmd.Wait()
		errs.Close()
		close(l.lines)
	}()
	t.Cleanup(l.kill)
	return l
}

func (l *txnLoop) kill() {
	_ = l.cmd.Process.Kill()
	for range l.lines {
		continue // to its end
	}
}

// until waits for a line that begins with one of the words, n times over.
func (l *txnLoop) until(t *testing.T, within time.Duration, n int, words ...string) string {
	t.Helper()
	limit := time.After(within)
	for {
		select {
		case line, ok := <-l.lines:
			if !ok {
				text, _ := os.ReadFile(l.errs)
				t.Fatalf("the loop ended before %q\n%s", words, text)
			}
			for _, w := range words {
				if strings.HasPrefix(line, w) {
					if n--; n <= 0 {
						return line
					}
				}
			}
		case <-limit:
			text, _ := os.ReadFile(l.errs)
			t.Fatalf("not within %v: %q\n%s", within, words, text)
		}
	}
}

// committed reads a topic as a consumer of committed records: value to how often it came.
func committed(ctx context.Context, addr, topic string) (map[string]int, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	seen := map[string]int{}
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return seen, fmt.Errorf("%w; still to be read up to %v", err, left)
		}
		fs.EachPartition(func(p kgo.FetchTopicPartition) {
			for _, r := range p.Records {
				seen[string(r.Value)]++
			}
			if n := len(p.Records); p.LastStableOffset >= left[p.Partition] && (n == 0 || p.Records[n-1].Offset+3 >= left[p.Partition]) {
				delete(left, p.Partition) // what may be missing behind the last record are markers
			}
		})
	}
	return seen, nil
}

// killCount is how often the loop is killed; OTTLA_INTEROP_KILLS=50 for the long run.
func killCount() int {
	if n, err := strconv.Atoi(os.Getenv("OTTLA_INTEROP_KILLS")); err == nil && n > 0 {
		return n
	}
	return 4
}

// If this fails, a consume-transform-produce loop with transactions loses or repeats records when the loop or the broker is killed.
func TestTransactionalLoop(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts JVMs")
	}
	ctx := patience(t, time.Duration(killCount())*30*time.Second+3*time.Minute)
	b, err := startBroker(ctx, t.TempDir(), testProperties)
	skipOrFail(t, err)
	defer func() {
		if t.Failed() {
			t.Logf("the broker said:\n%s", b.Output())
		}
		b.Kill()
	}()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopics(ctx, 3, 1, nil, "in", "out"); err != nil {
		t.Fatal(err)
	}
	total := 0
	feed := func(n int) {
		t.Helper()
		var rs []*kgo.Record
		for range n {
			rs = append(rs, &kgo.Record{Topic: "in", Key: []byte(strconv.Itoa(total % 7)), Value: []byte(strconv.Itoa(total))})
			total++
		}
		if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewSource(1))
	for i := range killCount() {
		feed(1000)
		l := startTxnLoop(t, b.Addr, "in", "out", "loop")
		l.until(t, time.Minute, 1+rng.Intn(15), "committed")
		if i%2 == 1 {
			b.Kill()
			if err := b.Restart(ctx); err != nil {
				t.Fatal(err)
			}
			l.until(t, time.Minute, 1+rng.Intn(5), "committed")
		}
		l.kill()
	}
	feed(100)
	last := startTxnLoop(t, b.Addr, "in", "out", "loop")
	last.until(t, time.Minute, 1, "ready")
	// A second instance with the same id fences the first.
	usurper := startTxnLoop(t, b.Addr, "in", "out", "loop")
	usurper.until(t, time.Minute, 1, "ready")
	eventually(t, 2*time.Minute, func() error {
		short, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		seen, err := committed(short, b.Addr, "out")
		for v, n := range seen {
			if n != 1 {
				t.Fatalf("%q came %d times", v, n)
			}
		}
		if err == nil && len(seen) < total {
			err = fmt.Errorf("%d of %d records", len(seen), total)
		}
		return err
	})
	seen, err := committed(ctx, b.Addr, "out")
	if err != nil {
		t.Fatal(err)
	}
	for i := range total {
		if n := seen["seen "+strconv.Itoa(i)]; n != 1 {
			t.Errorf("record %d came %d times", i, n)
		}
	}
}

// If this fails, franz-go's transactions do, or a fenced producer goes on.
func TestFranzTransactions(t *testing.T) {
	t.Parallel()
	b := broker(t)
	topic := createTopic(t, 2, nil)
	ctx := patience(t, time.Minute)
	id := fresh("txn")
	producer := func() *kgo.Client {
		cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.TransactionalID(id), kgo.DefaultProduceTopic(topic), kgo.TransactionTimeout(20*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		return cl
	}
	first := producer()
	send := func(cl *kgo.Client, v string, commit kgo.TransactionEndTry) error {
		if err := cl.BeginTransaction(); err != nil {
			return err
		}
		if err := cl.ProduceSync(ctx, &kgo.Record{Key: []byte(v), Value: []byte(v)}).FirstErr(); err != nil {
			return err
		}
		return cl.EndTransaction(ctx, commit)
	}
	for i, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		if err := send(first, strconv.Itoa(i), commit); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := send(producer(), "3", kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	if err := send(first, "zombie", kgo.TryCommit); err == nil {
		t.Fatal("a fenced producer commits")
	} else if ke := (*kerr.Error)(nil); !errors.As(err, &ke) {
		t.Fatalf("a fenced producer gets %v", err)
	}
	eventually(t, 20*time.Second, func() error {
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		seen, err := committed(short, b.Addr, topic)
		if err == nil && fmt.Sprint(seen) != "map[0:1 2:1 3:1]" {
			err = fmt.Errorf("read %v", seen)
		}
		return err
	})
}
