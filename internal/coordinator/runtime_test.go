package coordinator_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"pgregory.net/rapid"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/coordinator/shardtest"
	"github.com/ottla/ottla/internal/wire/schema"
)

// The helper that tests every shard, on the simplest shard there is.
func TestShard(t *testing.T) {
	shardtest.Check(t, config(func() *kv { return newKV(nil) }))
}

func config(newShard func() *kv) shardtest.Config[*kv] {
	names := rapid.SampledFrom([]string{"a", "b", "c"})
	return shardtest.Config[*kv]{
		New: newShard, Decode: schema.ReadGroupRecord, Dump: (*kv).dump, MaxAdvance: 2 * time.Second,
		Ops: map[string]func(*rapid.T, *shardtest.Env[*kv]){
			"set": func(t *rapid.T, e *shardtest.Env[*kv]) {
				name, v, ttl := names.Draw(t, "name"), rapid.Int64Range(-1, 9).Draw(t, "v"), rapid.IntRange(0, 2).Draw(t, "ttl")
				shardtest.Do(e, "set", func(s *kv, _ time.Time, _ coordinator.Token) (coordinator.Result[int64], error) {
					return s.set(name, v, time.Duration(ttl)*time.Second)
				}, nil)
			},
			"get": func(t *rapid.T, e *shardtest.Env[*kv]) {
				name := names.Draw(t, "name")
				shardtest.Read(e, "get", func(s *kv, _ time.Time) (int64, error) { return s.get(name) }, nil)
			},
			"wait": func(t *rapid.T, e *shardtest.Env[*kv]) {
				name := names.Draw(t, "name")
				shardtest.Do(e, "wait", func(s *kv, _ time.Time, tok coordinator.Token) (coordinator.Result[int64], error) {
					return s.wait(name, tok)
				}, nil)
			},
			"txn": func(t *rapid.T, e *shardtest.Env[*kv]) {
				name, pid := names.Draw(t, "name"), rapid.Int64Range(0, 2).Draw(t, "pid")
				shardtest.Do(e, "txn", func(*kv, time.Time, coordinator.Token) (coordinator.Result[int64], error) {
					return coordinator.Result[int64]{Records: []coordinator.Record{set(name, 100+pid)}, Producer: &coordinator.Producer{ID: pid}}, nil
				}, nil)
			},
			"end-txn": func(t *rapid.T, e *shardtest.Env[*kv]) {
				e.CompleteTransaction(coordinator.Marker{ProducerID: rapid.Int64Range(0, 2).Draw(t, "pid"), Commit: rapid.Bool().Draw(t, "commit")})
			},
			"many": func(t *rapid.T, e *shardtest.Env[*kv]) {
				shardtest.Do(e, "many", func(*kv, time.Time, coordinator.Token) (coordinator.Result[int64], error) {
					r := coordinator.Result[int64]{NonAtomic: true}
					for i := range int64(20) {
						r.Records = append(r.Records, set(fmt.Sprintf("m%d", i), i))
					}
					return r, nil
				}, nil)
			},
		},
	}
}

// cheat breaks the one rule of shards: an operation changes what replay changes.
func TestShardtestFindsACheat(t *testing.T) {
	cfg := config(func() *kv { return newKV(nil) })
	cfg.Ops["cheat"] = func(_ *rapid.T, e *shardtest.Env[*kv]) {
		shardtest.Do(e, "cheat", func(s *kv, _ time.Time, _ coordinator.Token) (coordinator.Result[int64], error) {
			s.values["a"]++
			return coordinator.Result[int64]{}, nil
		}, nil)
	}
	for name, v := range map[string]string{"rapid.nofailfile": "true", "rapid.shrinktime": "0s"} {
		old := flag.Lookup(name).Value.String()
		if err := flag.Set(name, v); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = flag.Set(name, old) }()
	}
	found := ""
	tb := &quietTB{}
	func() {
		defer func() {
			if r := recover(); r != nil {
				found = fmt.Sprint(r)
			}
		}()
		rapid.Check(tb, func(rt *rapid.T) { shardtest.Run(rt, cfg) })
	}()
	if all := found + tb.out.String(); !strings.Contains(all, "the live state is not what the log gives") {
		t.Fatalf("a shard that cheats was not found out: %q", all)
	}
}

// quietTB takes a failure that is expected.
type quietTB struct {
	rapid.TB
	out strings.Builder
}

func (q *quietTB) Helper()                   {}
func (q *quietTB) Name() string              { return "quiet" }
func (q *quietTB) Logf(f string, a ...any)   { fmt.Fprintf(&q.out, f+"\n", a...) }
func (q *quietTB) Log(a ...any)              { fmt.Fprintln(&q.out, a...) }
func (q *quietTB) Errorf(f string, a ...any) { q.Logf(f, a...) }
func (q *quietTB) Error(a ...any)            { q.Log(a...) }
func (q *quietTB) Fatalf(f string, a ...any) { q.Logf(f, a...); panic("stop") }
func (q *quietTB) Fatal(a ...any)            { q.Log(a...); panic("stop") }
func (q *quietTB) Fail()                     {}
func (q *quietTB) FailNow()                  { panic("stop") }
func (q *quietTB) Failed() bool              { return false }

// Real goroutines, a real clock, leaders that come and go: every done is called exactly once and each partition runs
// one thing at a time.
func TestConcurrent(t *testing.T) {
	const partitions, clients, perClient = 5, 8, 200
	logs := make([]*shardtest.Log, partitions)
	for i := range logs {
		logs[i] = shardtest.NewLog()
	}
	reg := prometheus.NewRegistry()
	var inside [partitions]atomic.Int32
	rt := coordinator.New(coordinator.Options[*kv]{
		Name: "test", Topic: "__test", Log: manyLogs(logs), Decode: schema.ReadGroupRecord, Registerer: reg, ReloadBackoff: time.Millisecond,
		NewShard: func(int32) *kv { return newKV(nil) },
	})
	for i, l := range logs {
		l.OnCommit(func(hw int64) { rt.OnHighWatermark(int32(i), hw) })
		rt.Load(int32(i), 1)
	}
	var answered, ok, refused atomic.Int64
	stop := make(chan struct{})
	var background, working, waiting sync.WaitGroup
	background.Go(func() {
		epoch := int32(1)
		for next := int64(30); ; runtime.Gosched() {
			select {
			case <-stop:
				return
			default:
			}
			for _, l := range logs {
				l.Commit(l.End())
			}
			if ok.Load() < next { // trouble comes with progress, not with time
				continue
			}
			next += 30
			epoch++
			p := rand.N(int32(partitions))
			rt.Unload(p, epoch)
			rt.Load(p, epoch)
			logs[rand.N(partitions)].FailNext(errors.New("injected"), next%20 == 0)
		}
	})
	for range clients {
		working.Go(func() {
			for good := 0; good < perClient; {
				p := rand.N(int32(partitions))
				waiting.Add(1)
				var once atomic.Bool
				next := make(chan error, 1)
				coordinator.Write(rt, p, "set", func(s *kv, _ time.Time, _ coordinator.Token) (coordinator.Result[int64], error) {
					if inside[p].Add(1) != 1 {
						t.Error("two operations of one shard at once")
					}
					defer inside[p].Add(-1)
					return s.set("a", s.values["a"]+1, time.Duration(rand.N(3))*time.Millisecond)
				}, func(_ int64, err error) {
					if once.Swap(true) {
						t.Error("answered twice")
					}
					answered.Add(1)
					if err == nil {
						ok.Add(1)
					} else {
						refused.Add(1)
					}
					next <- err
					waiting.Done()
				})
				if <-next == nil {
					good++
				} else {
					runtime.Gosched()
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { working.Wait(); waiting.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("stuck: %d answered, %d well", answered.Load(), ok.Load())
	}
	close(stop)
	background.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := rt.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if ok.Load() == 0 || refused.Load() == 0 {
		t.Fatalf("%d operations succeeded, %d failed: both should happen", ok.Load(), refused.Load())
	}
	if families, err := reg.Gather(); err != nil || len(families) != 8 {
		t.Fatalf("%d metrics, %v", len(families), err)
	}
}

func TestAnswerAfterClose(t *testing.T) {
	rt := coordinator.New(coordinator.Options[*kv]{Name: "test", Log: shardtest.NewLog(), Decode: schema.ReadGroupRecord, NewShard: func(int32) *kv { return newKV(nil) }})
	rt.Load(0, 1)
	if err := rt.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	rt.Load(0, 2)
	late := make(chan error, 1)
	coordinator.Read(rt, 0, "get", func(s *kv, _ time.Time) (int64, error) { return s.get("a") }, func(_ int64, err error) { late <- err })
	if err := <-late; !errors.Is(err, kerr.NotCoordinator) {
		t.Fatal(err)
	}
}

// manyLogs is one log a partition.
type manyLogs []*shardtest.Log

func (m manyLogs) Append(p, epoch int32, b []byte, o coordinator.AppendOptions) (int64, error) {
	return m[p].Append(p, epoch, b, o)
}
func (m manyLogs) Bounds(p int32) (start, end, hw int64, err error) { return m[p].Bounds(p) }
func (m manyLogs) Read(p int32, from int64, n int) ([]byte, error)  { return m[p].Read(p, from, n) }

func TestIdlePartitionsCostNoGoroutine(t *testing.T) {
	l := shardtest.NewLog()
	sched := &shardtest.Sched{}
	rt := coordinator.New(coordinator.Options[*kv]{Name: "test", Log: l, Decode: schema.ReadGroupRecord, NewShard: func(int32) *kv { return newKV(nil) }, Spawn: sched.Spawn, Clock: shardtest.NewClock()})
	for p := range int32(1000) {
		rt.Load(p, 0)
	}
	sched.Run()
	for _, p := range rt.Partitions() {
		if p.State != coordinator.Active {
			t.Fatalf("%+v", p)
		}
	}
	if !sched.Idle() {
		t.Fatal("workers are left")
	}
	if err := rt.Close(canceled()); err == nil {
		t.Fatal("closed without a worker to do it")
	}
}

func BenchmarkWrite(b *testing.B) {
	l := shardtest.NewLog()
	rt := coordinator.New(coordinator.Options[*kv]{Name: "test", Log: discard{l}, Decode: schema.ReadGroupRecord, NewShard: func(int32) *kv { return newKV(nil) }})
	rt.Load(0, 1)
	for rt.Partitions()[0].State != coordinator.Active {
		runtime.Gosched()
	}
	var wg sync.WaitGroup
	b.ReportAllocs()
	records := []coordinator.Record{set("a", 1)}
	run := func(n int) {
		wg.Add(n)
		for range n {
			coordinator.Write(rt, 0, "set", func(*kv, time.Time, coordinator.Token) (coordinator.Result[int64], error) {
				return coordinator.Result[int64]{Records: records}, nil
			}, func(int64, error) { wg.Done() })
		}
		wg.Wait()
	}
	rt.OnHighWatermark(0, 1<<60)
	for n := b.N; n > 0; n -= 1000 {
		run(min(n, 1000))
	}
	if err := rt.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// discard keeps no batch.
type discard struct{ *shardtest.Log }

func (d discard) Append(int32, int32, []byte, coordinator.AppendOptions) (int64, error) {
	return 0, nil
}
