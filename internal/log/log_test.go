package log

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watch notes how far a log is durable.
type watch struct {
	mu   sync.Mutex
	cond *sync.Cond
	end  int64
	err  error
}

func newWatch(l *Log) *watch {
	w := &watch{end: l.DurableEnd().Offset}
	w.cond = sync.NewCond(&w.mu)
	l.SetListener(w)
	return w
}

func (w *watch) OnDurable(l *Log, end OffsetMeta) {
	l.SetHighWatermark(end)
	w.mu.Lock()
	w.end = end.Offset
	w.mu.Unlock()
	w.cond.Broadcast()
}
func (w *watch) OnLogStart(*Log, int64) {}
func (w *watch) OnOffline(_ *Log, err error) {
	w.mu.Lock()
	w.err = err
	w.mu.Unlock()
	w.cond.Broadcast()
}

func (w *watch) wait(upTo int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.end < upTo && w.err == nil {
		w.cond.Wait()
	}
	return w.err
}

func openManager(t *testing.T, fs vfs.FS) *Manager {
	t.Helper()
	m, err := NewManager(ManagerOptions{FS: fs, Clock: clock.Real{}, Logger: slog.New(slog.DiscardHandler), Dirs: []string{"/data"},
		JournalFiles: 3, JournalFileBytes: 256 << 10, DirectThresholdBytes: 32 << 10, CheckpointInterval: 5 * time.Millisecond,
		Cleaner: CleanerOptions{Backoff: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	return m
}

func closeManager(t *testing.T, m *Manager) {
	t.Helper()
	if err := m.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func batch(producer int64, seq int32, values ...string) []byte {
	b := record.NewBuilder(record.BuilderOptions{HasProducer: producer >= 0, ProducerID: producer, BaseSequence: seq})
	for _, v := range values {
		b.Append(1_600_000_000_000, []byte("k"), []byte(v), nil)
	}
	return b.Finish()
}

// contents reads a whole log: offset to value.
func contents(t *testing.T, l *Log) map[int64]string {
	t.Helper()
	out := map[int64]string{}
	for at := l.LogStartOffset(); at < l.LogEnd().Offset; {
		s, err := l.Read(at, 1<<20, l.LogEnd(), true)
		if err != nil {
			t.Fatal(err)
		}
		if s.Len() == 0 {
			break
		}
		b := make([]byte, s.Len())
		if _, err := s.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		s.Release()
		it := record.NewBatchIter(b)
		for {
			batch, h, ok, err := it.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if !record.CheckCRC(batch) {
				t.Fatalf("a batch with a wrong checksum was served at %d", h.BaseOffset)
			}
			if err := record.Records(batch, record.LimitsFor(1<<20), func(r *record.Record) error {
				out[h.BaseOffset+int64(r.OffsetDelta)] = string(r.Value)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			at = h.NextOffset()
		}
	}
	return out
}

func seeds() int {
	if n, err := strconv.Atoi(os.Getenv("OTTLA_CRASH_SEEDS")); err == nil && n > 0 {
		return n
	}
	return 200
}

// If this fails, a power cut takes back what was acknowledged, or brings something else in its place.
func TestPowerLoss(t *testing.T) {
	for seed := range seeds() {
		t.Run(strconv.Itoa(seed), func(t *testing.T) { powerLoss(t, rand.New(rand.NewSource(int64(seed)))) })
	}
}

func powerLoss(t *testing.T, rng *rand.Rand) {
	disk := vfs.NewMem()
	partitions := 1 + rng.Intn(4)
	sent := make([][]string, partitions) // everything appended, by partition and offset
	acked := make([]int64, partitions)
	for life := range 1 + rng.Intn(3) {
		m := openManager(t, disk)
		logs, watches := make([]*Log, partitions), make([]*watch, partitions)
		for p := range logs {
			var err error
			cfg := DefaultConfig()
			cfg.SegmentBytes = int64(96<<10 + rng.Intn(160<<10))
			if logs[p], err = m.Open(TopicPartition{"t", int32(p)}, [16]byte{1}, cfg, ""); err != nil {
				t.Fatal(err)
			}
			sent[p] = check(t, life, p, logs[p], sent[p], acked[p])
			watches[p] = newWatch(logs[p])
		}
		for range 5 + rng.Intn(60) {
			p := rng.Intn(partitions)
			n := 1 + rng.Intn(5)
			var values []string
			for i := range n {
				values = append(values, fmt.Sprintf("%d-%d-%d-%s", p, len(sent[p])+i, rng.Int63(), make([]byte, rng.Intn(16<<10))))
			}
			info, err := logs[p].Append(batch(int64(p), int32(len(sent[p])), values...), AppendOptions{Origin: Coordinator})
			if err != nil {
				t.Fatal(err)
			}
			if info.FirstOffset != int64(len(sent[p])) {
				t.Fatalf("partition %d gave offset %d, want %d", p, info.FirstOffset, len(sent[p]))
			}
			sent[p] = append(sent[p], values...)
			if rng.Intn(3) == 0 {
				if err := watches[p].wait(info.LastOffset + 1); err != nil {
					t.Fatal(err)
				}
			}
			if rng.Intn(20) == 0 {
				if err := logs[p].Roll(); err != nil {
					t.Fatal(err)
				}
			}
		}
		for p := range logs {
			acked[p] = logs[p].DurableEnd().Offset
		}
		crashed := disk.CrashClone(rng, vfs.CrashOptions{Data: rng.Float64(), Names: rng.Float64(), Uneven: rng.Intn(2) == 0})
		closeManager(t, m)
		disk = crashed
	}
	m := openManager(t, disk)
	defer closeManager(t, m)
	for p := range sent {
		l, err := m.Open(TopicPartition{"t", int32(p)}, [16]byte{1}, DefaultConfig(), "")
		if err != nil {
			t.Fatal(err)
		}
		check(t, -1, p, l, sent[p], acked[p])
	}
}

// check holds a recovered log against what was appended: everything acknowledged, and what is there beyond it as it was sent.
func check(t *testing.T, life, p int, l *Log, sent []string, acked int64) []string {
	t.Helper()
	end := l.LogEnd().Offset
	if end < acked || end > int64(len(sent)) {
		t.Fatalf("life %d, partition %d ends at %d; %d were acknowledged and %d sent", life, p, end, acked, len(sent))
	}
	got := contents(t, l)
	for o := range end {
		if got[o] != sent[o] {
			t.Fatalf("life %d, partition %d holds at %d another record than was sent", life, p, o)
		}
	}
	if i := l.ActiveProducers(); end > 0 && (len(i) != 1 || int64(i[0].LastSequence) != end-1) {
		t.Fatalf("life %d, partition %d: producer state %+v at end %d", life, p, i, end)
	}
	return sent[:end]
}

// If this fails, a compacted topic loses the last value of a key, or never forgets the ones before it.
func TestCompaction(t *testing.T) {
	m := openManager(t, vfs.NewMem())
	defer closeManager(t, m)
	cfg := DefaultConfig()
	cfg.Compact, cfg.Delete, cfg.SegmentBytes, cfg.DeleteRetentionMs = true, false, 2<<10, 0
	l, err := m.Open(TopicPartition{"c", 0}, [16]byte{2}, cfg, "")
	if err != nil {
		t.Fatal(err)
	}
	w := newWatch(l)
	want := map[string]int64{}
	rng := rand.New(rand.NewSource(1))
	for range 400 {
		b := record.NewBuilder(record.BuilderOptions{Codec: record.Codec(rng.Intn(5))})
		keys := []string{}
		for range 1 + rng.Intn(4) {
			k := "key" + strconv.Itoa(rng.Intn(20))
			keys = append(keys, k)
			b.Append(1_600_000_000_000, []byte(k), fmt.Append(nil, rng.Int()), nil)
		}
		info, err := l.Append(b.Finish(), AppendOptions{Origin: Coordinator})
		if err != nil {
			t.Fatal(err)
		}
		for i, k := range keys {
			want[k] = info.FirstOffset + int64(i)
		}
		if err := w.wait(info.LastOffset + 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
	before := contents(t, l)
	c := &cleaner{m: m, o: m.o.Cleaner, clean: map[TopicPartition]int64{}, failed: map[*Log]bool{}}
	c.consider(t.Context(), l)
	after := contents(t, l)
	if len(after) != len(want) {
		t.Errorf("%d records are left of %d, want one for each of %d keys", len(after), len(before), len(want))
	}
	for k, o := range want {
		if after[o] == "" || after[o] != before[o] {
			t.Errorf("the last record of %s at offset %d is %q, was %q", k, o, after[o], before[o])
		}
	}
	if end := l.LogEnd().Offset; end != int64(len(before)) {
		t.Errorf("the log ends at %d after compaction, want %d", end, len(before))
	}
}

// The frame parser reads what a disk may hold after anything.
func FuzzWalkFrames(f *testing.F) {
	f.Add(appendFrame(nil, frameData, 7, &journalFrame{TopicPartition: TopicPartition{"t", 1}, First: 1, Next: 2, Payload: []byte("x")}))
	f.Add(make([]byte, 3*blockSize))
	f.Fuzz(func(_ *testing.T, b []byte) {
		walkFrames(b, func(f *journalFrame, _ byte, _ uint64) bool { return len(f.Payload) >= 0 })
	})
}
