package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/timewheel"
	"github.com/ottla/ottla/internal/vfs"
	"github.com/ottla/ottla/internal/wire"
)

// world is a manager on a disk that the script can hold up or break, in virtual time.
type world struct {
	t      *testing.T
	mem    *vfs.Mem
	disk   *vfs.Inject
	logs   *log.Manager
	wheel  *timewheel.Wheel
	m      *Manager
	begun  time.Time
	gate   chan struct{} // not nil while the disk is held
	parked sync.WaitGroup

	mu     sync.Mutex
	events []string
}

func (w *world) event(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fmt.Sprintf("%s: ", time.Since(w.begun))+fmt.Sprintf(format, args...))
}

// told gives what has happened since it was asked last, in an order that does not depend on the scheduler.
func (w *world) told() string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	sort.Strings(w.events)
	out := strings.Join(w.events, "\n")
	w.events = nil
	if out == "" {
		return "-\n"
	}
	return out + "\n"
}

func (w *world) open() {
	logger := slog.New(slog.DiscardHandler)
	var err error
	w.logs, err = log.NewManager(log.ManagerOptions{FS: w.disk, Clock: clock.Real{}, Logger: logger, Dirs: []string{"/data"}, JournalFileBytes: 1 << 20, Cleaner: log.CleanerOptions{Disabled: true}})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.logs.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.wheel = timewheel.New(clock.Real{}, time.Millisecond)
	w.wheel.Start()
	w.m = NewManager(Options{
		Logs: w.logs, Wheel: w.wheel, Logger: logger,
		TopicConfig: func(string) log.Config {
			return log.Config{SegmentBytes: 1 << 20, Delete: true, RetentionMs: -1, RetentionBytes: -1}
		},
		OnCommitted: func(tp log.TopicPartition, hw int64) { w.event("%s committed to %d", tp, hw) },
	})
}

func (w *world) close() {
	w.m.Close()
	w.wheel.Close()
	if err := w.logs.Close(context.Background()); err != nil {
		w.event("closing the logs: %s", short(err))
	}
}

func parse(s string) log.TopicPartition {
	topic, p, _ := strings.Cut(s, "-")
	n, _ := strconv.Atoi(p)
	return log.TopicPartition{Topic: topic, Partition: int32(n)}
}

// short is an error as a client would see it.
func short(err error) string {
	if err == nil {
		return "ok"
	}
	return errorName(wire.CodeOf(err))
}

func errorName(code int16) string {
	names := map[int16]string{0: "ok", 1: "OFFSET_OUT_OF_RANGE", 3: "UNKNOWN_TOPIC_OR_PARTITION", 6: "NOT_LEADER_OR_FOLLOWER", 7: "REQUEST_TIMED_OUT", 56: "KAFKA_STORAGE_ERROR", 74: "FENCED_LEADER_EPOCH", 75: "UNKNOWN_LEADER_EPOCH"}
	if n, ok := names[code]; ok {
		return n
	}
	return fmt.Sprint("error ", code)
}

func batchOf(n int) []byte {
	b := record.NewBuilder(record.BuilderOptions{ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1})
	for range n {
		b.Append(1000, nil, make([]byte, 100), nil)
	}
	return b.Finish()
}

func (w *world) append(tp log.TopicPartition, n int) (log.AppendInfo, error) {
	p, err := w.m.Get(tp)
	if err != nil {
		return log.AppendInfo{}, err
	}
	return p.Append(batchOf(n), log.AppendOptions{Origin: log.Client, Now: 1000})
}

// produce appends to each partition and tells when all are committed.
func (w *world) produce(name string, tps []string, n int, timeout time.Duration) {
	d := w.m.DelayProduce(len(tps), func(errs []error) {
		var out []string
		for i, err := range errs {
			out = append(out, tps[i]+" "+short(err))
		}
		w.event("produce %s: %s", name, strings.Join(out, ", "))
	})
	for i, s := range tps {
		info, err := w.append(parse(s), n)
		p, getErr := w.m.Get(parse(s))
		if err = errors.Join(err, getErr); err != nil {
			d.Committed(i, err)
			continue
		}
		p.Wait(info.LastOffset+1, d, i)
	}
	d.Arm(timeout)
}

func (w *world) fetch(name string, params FetchParams, parts []FetchPartition) {
	w.m.Fetch(params, parts, func(rs []FetchResult) {
		var out []string
		for i := range rs {
			r := &rs[i]
			text := fmt.Sprintf("%s %s", parts[i].TP, short(r.Err))
			if r.Err == nil {
				text += fmt.Sprintf(" hw=%d records=%s", r.HighWatermark, offsets(&r.Slice))
			}
			if r.DivergingEpoch >= 0 {
				text += fmt.Sprintf(" diverges at epoch %d end %d", r.DivergingEpoch, r.DivergingEnd)
			}
			r.Slice.Release()
			out = append(out, text)
		}
		w.event("fetch %s: %s", name, strings.Join(out, "; "))
	})
}

// offsets are the first and last offset in a slice.
func offsets(s *log.Slice) string {
	if s.Len() == 0 {
		return "none"
	}
	b := make([]byte, s.Len())
	if _, err := s.ReadAt(b, 0); err != nil {
		return err.Error()
	}
	first, last := int64(-1), int64(-1)
	it := record.NewBatchIter(b)
	for {
		_, h, ok, err := it.Next()
		if err != nil {
			return err.Error()
		}
		if !ok {
			return fmt.Sprintf("%d..%d", first, last)
		}
		if first < 0 {
			first = h.BaseOffset
		}
		last = h.LastOffset()
	}
}

// The scripts under testdata tell what producers and consumers see while partitions come, go and wait for a slow disk.
//
//	lead a-0 epoch=1 [id=1]      the metadata says that this broker leads a-0
//	drop a-0                     its topic was deleted
//	hold, free, break            the disk makes nothing durable; does again; fails
//	produce NAME a-0 ... [records=1] [timeout=10s]
//	fetch NAME a-0@0 ... [min=1] [max=1000000] [wait=0s] [epoch=-1] [last=-1]
//	wait 1s                      virtual time passes
//	drain, restart, files
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		synctest.Test(t, func(t *testing.T) {
			w := &world{t: t, mem: vfs.NewMem(), begun: time.Now()}
			w.disk = vfs.NewInject(w.mem)
			w.open()
			defer func() {
				w.release()
				w.close()
			}()
			datadriven.RunTest(t, path, w.run)
		})
	})
}

func (w *world) release() {
	if w.gate != nil {
		close(w.gate)
		w.gate = nil
		w.disk.SetRules()
	}
}

func arg[T any](d *datadriven.TestData, key string, otherwise T) T {
	if d.HasArg(key) {
		var s string
		for _, a := range d.CmdArgs {
			if a.Key == key {
				s = a.Vals[0]
			}
		}
		switch any(otherwise).(type) {
		case int:
			n, _ := strconv.Atoi(s)
			return any(n).(T)
		case time.Duration:
			n, _ := time.ParseDuration(s)
			return any(n).(T)
		}
	}
	return otherwise
}

// bare are the arguments without a value.
func bare(d *datadriven.TestData) (out []string) {
	for _, a := range d.CmdArgs {
		if len(a.Vals) == 0 {
			out = append(out, a.Key)
		}
	}
	return out
}

func (w *world) run(t *testing.T, d *datadriven.TestData) string {
	words := bare(d)
	switch d.Cmd {
	case "lead":
		w.m.Lead(parse(words[0]), [16]byte{15: byte(arg(d, "id", 1))}, int32(arg(d, "epoch", 0)))
	case "drop":
		for _, tp := range words {
			w.m.Drop(parse(tp))
		}
	case "hold":
		gate := make(chan struct{})
		w.gate = gate
		w.disk.SetRules(vfs.Rule{Ops: vfs.OpWrite | vfs.OpSync, Path: "journal", Hook: func(vfs.Op, string) { <-gate }}, vfs.Rule{Ops: vfs.OpSync | vfs.OpSyncDir, Hook: func(vfs.Op, string) { <-gate }})
	case "free":
		w.release()
	case "break":
		gate := w.gate
		w.gate = nil
		w.disk.SetRules(vfs.Rule{Ops: vfs.OpWrite | vfs.OpSync | vfs.OpSyncDir, Err: errors.New("the disk is broken")})
		if gate != nil {
			close(gate)
		}
	case "produce":
		name, tps := words[0], words[1:]
		n, timeout := arg(d, "records", 1), arg(d, "timeout", 10*time.Second)
		w.parked.Go(func() { w.produce(name, tps, n, timeout) })
	case "fetch":
		var parts []FetchPartition
		for _, s := range words[1:] {
			tp, offset, _ := strings.Cut(s, "@")
			from, _ := strconv.ParseInt(offset, 10, 64)
			parts = append(parts, FetchPartition{TP: parse(tp), FetchOffset: from, MaxBytes: 1 << 20, CurrentLeaderEpoch: int32(arg(d, "epoch", -1)), LastFetchedEpoch: int32(arg(d, "last", -1))})
		}
		p := FetchParams{MinBytes: int32(arg(d, "min", 1)), MaxBytes: int32(arg(d, "max", 1_000_000)), MaxWait: arg(d, "wait", time.Duration(0))}
		w.parked.Go(func() { w.fetch(words[0], p, parts) })
	case "wait":
		pause, err := time.ParseDuration(words[0])
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		<-time.After(pause)
	case "drain":
		w.m.Drain()
	case "restart":
		w.parked.Wait()
		w.close()
		w.told()
		w.open()
		for _, s := range words { // what the metadata still knows
			w.m.Lead(parse(s), [16]byte{15: byte(arg(d, "id", 1))}, int32(arg(d, "epoch", 0)))
		}
		if err := w.m.SetStraysAside(func(tp log.TopicPartition) bool { _, err := w.m.Get(tp); return err == nil }); err != nil {
			w.event("strays: %v", err)
		}
	case "files":
		entries, err := w.mem.ReadDir("/data")
		if err != nil {
			return err.Error()
		}
		var names []string
		for _, e := range entries {
			if name := e.Name(); e.IsDir() && !strings.HasPrefix(name, ".") {
				if i := strings.LastIndexByte(name, '.'); i >= 0 { // the time stands between
					name = name[:i] + "…" + name[strings.LastIndexByte(name, '-'):]
				}
				names = append(names, name)
			}
		}
		sort.Strings(names)
		return strings.Join(names, "\n") + "\n"
	default:
		d.Fatalf(t, "there is no command %s", d.Cmd)
	}
	return w.told()
}
