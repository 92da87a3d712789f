package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"go.uber.org/goleak"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/coordinator/shardtest"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is the world of one file of testdata.
type script struct {
	t     *testing.T
	out   strings.Builder
	log   *shardtest.Log
	clock *shardtest.Clock
	sched *shardtest.Sched
	rt    *coordinator.Runtime[*kv]
	conns map[string]context.CancelFunc
	n     int
}

func newScript(t *testing.T) *script {
	s := &script{t: t, log: shardtest.NewLog(), clock: shardtest.NewClock(), sched: &shardtest.Sched{}, conns: map[string]context.CancelFunc{}}
	s.rt = coordinator.New(coordinator.Options[*kv]{
		Name: "test", Topic: "__test", Log: s.log, Decode: schema.ReadGroupRecord, Clock: s.clock, Spawn: s.sched.Spawn, Registerer: prometheus.NewRegistry(),
		NewShard:   func(int32) *kv { return newKV(func(f string, a ...any) { s.printf("  "+f, a...) }) },
		MailboxOps: 4, MaxBatchBytes: 400, LoadBytes: 300,
	})
	s.log.OnCommit(func(hw int64) { s.rt.OnHighWatermark(0, hw) })
	return s
}

func (s *script) printf(f string, a ...any) { fmt.Fprintf(&s.out, f+"\n", a...) }

// answer makes a done that prints.
func answer[T any](s *script, what string) func(T, error) {
	s.n++
	id := s.n
	return func(v T, err error) {
		if err != nil {
			s.printf("#%d %s: %v", id, what, err)
			return
		}
		s.printf("#%d %s: %v", id, what, v)
	}
}

func (s *script) write(what string, op func(k *kv, tok coordinator.Token) (coordinator.Result[int64], error)) {
	coordinator.Write(s.rt, 0, "write", func(k *kv, _ time.Time, tok coordinator.Token) (coordinator.Result[int64], error) { return op(k, tok) }, answer[int64](s, what))
}

func (s *script) command(d *datadriven.TestData) string {
	s.out.Reset()
	if !s.operation(d, s.arg(d, "k")) {
		s.world(d)
	}
	if !d.HasArg("hold") { // leave it in the mailbox
		s.sched.Run()
	}
	if s.out.Len() == 0 {
		return "(nothing)\n"
	}
	return s.out.String()
}

func (s *script) arg(d *datadriven.TestData, key string) (v string) {
	d.MaybeScanArgs(s.t, key, &v)
	return v
}

func (s *script) num(d *datadriven.TestData, key string) (v int64) {
	d.MaybeScanArgs(s.t, key, &v)
	return v
}

// world is what happens around the coordinator.
func (s *script) world(d *datadriven.TestData) {
	switch d.Cmd {
	case "load":
		s.rt.Load(0, int32(s.num(d, "epoch")))
	case "unload":
		s.rt.Unload(0, int32(s.num(d, "epoch")))
	case "commit":
		upTo := s.log.End()
		d.MaybeScanArgs(s.t, "to", &upTo)
		s.log.Commit(upTo)
	case "advance":
		by, err := time.ParseDuration(s.arg(d, "by"))
		if err != nil {
			d.Fatalf(s.t, "%v", err)
		}
		s.clock.Advance(by)
	case "image":
		img := metadata.Empty("c")
		s.rt.OnMetadata(metadata.NewDelta(img), img)
	case "fail":
		err := map[string]error{"replicas": kerr.NotEnoughReplicas, "leader": kerr.NotLeaderForPartition, "disk": errors.New("disk on fire"),
			"fenced": coordinator.Refused(wire.Errorf(kerr.InvalidProducerEpoch, "fenced"))}[s.arg(d, "err")]
		s.log.FailNext(err, d.HasArg("written"))
	case "fail-reads":
		s.log.FailReads(map[bool]error{true: errors.New("cannot read"), false: nil}[!d.HasArg("off")])
	case "foreign":
		b := record.NewBuilder(record.BuilderOptions{})
		b.Append(0, []byte{0, 77, 1, 2}, []byte{0, 0}, nil)
		s.log.AppendRaw(b.Finish())
	case "state":
		for _, p := range s.rt.Partitions() {
			s.printf("partition %d epoch %d %s", p.Partition, p.LeaderEpoch, p.State)
		}
		_, end, hw, _ := s.log.Bounds(0)
		s.printf("log end %d, committed %d, timers %d", end, hw, s.clock.Timers())
	case "close":
		s.printf("%v", s.rt.Close(canceled()))
	case "run":
	default:
		d.Fatalf(s.t, "unknown command %s", d.Cmd)
	}
}

// operation is what clients ask for.
func (s *script) operation(d *datadriven.TestData, name string) bool {
	switch d.Cmd {
	case "set":
		var ttl time.Duration
		if v := s.arg(d, "ttl"); v != "" {
			ttl, _ = time.ParseDuration(v)
		}
		v := s.num(d, "v")
		s.write("set "+name, func(k *kv, _ coordinator.Token) (coordinator.Result[int64], error) { return k.set(name, v, ttl) })
	case "txn-set":
		v, pid := s.num(d, "v"), s.num(d, "pid")
		s.write("txn-set "+name, func(*kv, coordinator.Token) (coordinator.Result[int64], error) {
			return coordinator.Result[int64]{Records: []coordinator.Record{set(name, v)}, Producer: &coordinator.Producer{ID: pid}}, nil
		})
	case "end-txn":
		done := answer[string](s, "end-txn")
		s.rt.CompleteTransaction(0, coordinator.Marker{ProducerID: s.num(d, "pid"), Commit: d.HasArg("commit")}, func(err error) { done("ok", err) })
	case "set-many":
		n, atomic, undo := s.num(d, "n"), !d.HasArg("non-atomic"), d.HasArg("undo")
		s.write("set-many", func(k *kv, tok coordinator.Token) (coordinator.Result[int64], error) {
			r := coordinator.Result[int64]{NonAtomic: !atomic, Reply: n, Deliveries: k.wake("many", n), Parked: d.HasArg("park")}
			for i := range n {
				r.Records = append(r.Records, set(fmt.Sprintf("many-%03d", i), i))
			}
			if undo {
				r.OnRefused = func(err error) { s.printf("  undo: %v", err) }
			}
			return r, nil
		})
	case "get":
		coordinator.Read(s.rt, 0, "get", func(k *kv, _ time.Time) (int64, error) { return k.get(name) }, answer[int64](s, "get "+name))
	case "wait":
		ctx, cancel := context.WithCancel(context.Background())
		s.conns[name] = cancel
		coordinator.WriteContext(ctx, s.rt, 0, "wait", func(k *kv, _ time.Time, tok coordinator.Token) (coordinator.Result[int64], error) {
			return k.wait(name, tok)
		}, answer[int64](s, "wait "+name))
	case "disconnect":
		s.conns[name]()
		for s.sched.Idle() { // context.AfterFunc has a goroutine of its own
			runtime.Gosched()
		}
	case "panic":
		s.write("panic", func(*kv, coordinator.Token) (coordinator.Result[int64], error) { panic("oh no") })
	case "panic-done":
		coordinator.Write(s.rt, 0, "x", func(*kv, time.Time, coordinator.Token) (coordinator.Result[int], error) {
			return coordinator.Result[int]{}, nil
		}, func(int, error) { panic("in done") })
	case "deliver-wrong-type":
		s.write("deliver-wrong-type", func(k *kv, _ coordinator.Token) (coordinator.Result[int64], error) {
			ds := k.wake(name, 0)
			ds[0].Reply = "a string"
			return coordinator.Result[int64]{Deliveries: ds}, nil
		})
	default:
		return false
	}
	return true
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		s := newScript(t)
		datadriven.RunTest(t, path, func(_ *testing.T, d *datadriven.TestData) string { return s.command(d) })
	})
}
