package broker_test

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottla/ottla/internal/broker"
	"github.com/ottla/ottla/internal/vfs"
)

// cutFS takes a picture of the disk, as a power cut would leave it, before the n-th write.
type cutFS struct {
	*vfs.Mem
	rng *rand.Rand

	mu   sync.Mutex
	n    int
	shot *vfs.Mem
}

func (c *cutFS) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n--; c.n == 0 {
		c.shot = c.CrashClone(c.rng, vfs.CrashOptions{Data: c.rng.Float64(), Names: c.rng.Float64(), Uneven: true})
	}
}

func (c *cutFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := c.Mem.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &cutFile{f, c}, nil
}

type cutFile struct {
	vfs.File
	c *cutFS
}

func (f *cutFile) WriteAt(b []byte, off int64) (int, error) {
	f.c.tick()
	return f.File.WriteAt(b, off)
}

// outcome is what a client knows of a transaction.
type outcome int

const (
	unknown outcome = iota // the answer never came
	committed
	aborted
)

// If this fails, a power cut at some append leaves a transaction torn, an aborted record visible, or a partition that no transaction
// holds back standing still.
func TestTransactionsSurvivePowerCuts(t *testing.T) {
	seeds := 12
	if n, err := strconv.Atoi(os.Getenv("OTTLA_CRASH_SEEDS")); err == nil && n > 0 {
		seeds = n
	}
	for seed := range seeds {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			t.Parallel() // most of the time clients pause before they ask again
			powerCut(t, rand.New(rand.NewSource(int64(seed))))
		})
	}
}

func powerCut(t *testing.T, rng *rand.Rand) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	settings := map[string]string{"transaction.state.log.num.partitions": "2", "offsets.topic.num.partitions": "2", "group.initial.rebalance.delay.ms": "0"}
	disk := &cutFS{Mem: vfs.NewMem(), rng: rng}
	b, err := broker.Start(ctx, options(t, disk, "PLAINTEXT://127.0.0.1:0", settings))
	if err != nil {
		t.Fatal(err)
	}
	maker := client(t, b.Addr().String(), kgo.DisableClientMetrics())
	defer maker.Close()
	if _, err := kadm.NewClient(maker).CreateTopics(ctx, 3, 1, nil, "out"); err != nil {
		t.Fatal(err)
	}
	outcomes, cut := transact(t, ctx, b.Addr().String(), disk, 60+rng.Intn(300))
	closed(t, b)
	if cut == nil {
		t.Fatal("the disk was not cut")
	}
	b, err = broker.Start(ctx, options(t, cut, "PLAINTEXT://127.0.0.1:0", settings))
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, b)
	settleAndCheck(t, ctx, b.Addr().String(), outcomes)
}

// transact runs transactions, each over all partitions and with an offset of a group, until the disk's picture is taken. What it then
// knows was promised before.
func transact(t *testing.T, ctx context.Context, addr string, disk *cutFS, writes int) ([]outcome, *vfs.Mem) {
	t.Helper()
	cl := client(t, addr, kgo.DisableClientMetrics(), kgo.TransactionalID("x"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionTimeout(time.Minute))
	defer cl.Close()
	disk.mu.Lock()
	disk.n = writes
	disk.mu.Unlock()
	var outcomes []outcome
	for i := 0; ; i++ {
		disk.mu.Lock()
		shot := disk.shot
		disk.mu.Unlock()
		if shot != nil {
			return outcomes, shot
		}
		outcomes = append(outcomes, unknown)
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		var rs []*kgo.Record
		for p := range int32(3) {
			rs = append(rs, &kgo.Record{Topic: "out", Partition: p, Value: []byte(strconv.Itoa(i))})
		}
		if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		end := kgo.TransactionEndTry(i%3 != 2)
		if err := cl.EndTransaction(ctx, end); err != nil {
			t.Fatal(err)
		}
		disk.mu.Lock()
		if disk.shot == nil {
			if outcomes[i] = aborted; end {
				outcomes[i] = committed
			}
		}
		disk.mu.Unlock()
	}
}

// settleAndCheck takes the transactional id over, which ends what is open, and reads what is committed.
func settleAndCheck(t *testing.T, ctx context.Context, addr string, outcomes []outcome) {
	t.Helper()
	cl := client(t, addr, kgo.DisableClientMetrics(), kgo.TransactionalID("x"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	var rs []*kgo.Record
	for p := range int32(3) {
		rs = append(rs, &kgo.Record{Topic: "out", Partition: p, Value: []byte("last")})
	}
	if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
		t.Fatal("after the cut: ", err)
	}
	if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal("after the cut: ", err)
	}
	reader := client(t, addr, kgo.DisableClientMetrics(), kgo.ConsumeTopics("out"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(50*time.Millisecond))
	defer reader.Close()
	seen := map[string]int{}
	for seen["last"] < 3 {
		fs := reader.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("a partition stands still; read %v", seen)
		}
		fs.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
	}
	for i, o := range outcomes {
		n := seen[fmt.Sprint(i)]
		switch {
		case o == committed && n != 3:
			t.Errorf("committed transaction %d is in %d of 3 partitions", i, n)
		case o == aborted && n != 0:
			t.Errorf("aborted transaction %d is visible in %d partitions", i, n)
		case n != 0 && n != 3:
			t.Errorf("transaction %d is torn: in %d of 3 partitions", i, n)
		}
	}
}
