package log

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand"
	"strconv"
	"sync"
	"testing"

	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/vfs"
)

// crashFS takes a picture of the disk, as a power cut would leave it, before the n-th change of a name.
type crashFS struct {
	*vfs.Mem
	mu   sync.Mutex
	rng  *rand.Rand
	n    int
	shot *vfs.Mem
}

func (c *crashFS) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n--; c.n == 0 {
		c.shot = c.CrashClone(c.rng, vfs.CrashOptions{Data: c.rng.Float64(), Names: c.rng.Float64(), Uneven: true})
	}
}
func (c *crashFS) Rename(a, b string) error           { c.tick(); return c.Mem.Rename(a, b) }
func (c *crashFS) Remove(a string) error              { c.tick(); return c.Mem.Remove(a) }
func (c *crashFS) SyncDir(a string) error             { c.tick(); return c.Mem.SyncDir(a) }
func (c *crashFS) arm(n int)                          { c.mu.Lock(); c.n, c.shot = n, nil; c.mu.Unlock() }
func (c *crashFS) taken() *vfs.Mem                    { c.mu.Lock(); defer c.mu.Unlock(); return c.shot }
func (c *crashFS) Stat(a string) (fs.FileInfo, error) { return c.Mem.Stat(a) }

// committedView is what a consumer with read_committed makes of a log: the last value of every key.
func committedView(t *testing.T, l *Log) map[string]string {
	t.Helper()
	view := map[string]string{}
	aborting := map[int64]bool{}
	last := int64(-1)
	for at := l.LogStartOffset(); at < l.LastStable().Offset; {
		s, err := l.Read(at, 1<<20, l.LastStable(), true)
		if err != nil {
			t.Fatal(err)
		}
		if s.Len() == 0 {
			break
		}
		aborted := l.AbortedTxns(at, l.LastStable().Offset)
		b := make([]byte, s.Len())
		if _, err := s.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		s.Release()
		for it := record.NewBatchIter(b); ; {
			raw, h, ok, err := it.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if h.BaseOffset <= last {
				t.Fatalf("offset %d comes after %d", h.BaseOffset, last)
			}
			last = h.LastOffset()
			at = last + 1
			for _, a := range aborted {
				if a.FirstOffset == h.BaseOffset && a.ProducerID == h.ProducerID || a.ProducerID == h.ProducerID && a.FirstOffset < h.BaseOffset && !h.IsControl() && !ended(t, l, a, h.BaseOffset) {
					aborting[a.ProducerID] = true
				}
			}
			if h.IsControl() {
				delete(aborting, h.ProducerID)
				continue
			}
			if h.IsTransactional() && aborting[h.ProducerID] {
				continue
			}
			r, err := record.NewReader(raw, record.LimitsFor(1<<20))
			if err != nil {
				t.Fatal(err)
			}
			for {
				rec, err := r.Next()
				if err != nil {
					t.Fatal(err)
				}
				if rec == nil {
					break
				}
				if rec.Value == nil {
					delete(view, string(rec.Key))
				} else {
					view[string(rec.Key)] = string(rec.Value)
				}
			}
			r.Close()
		}
	}
	return view
}

// ended says whether an aborted transaction was over before offset.
func ended(t *testing.T, l *Log, a AbortedTxn, offset int64) bool {
	t.Helper()
	for _, s := range *l.segs.Load() {
		entries, err := s.txn.list()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.producerID == a.ProducerID && e.first == a.FirstOffset {
				return e.last < offset
			}
		}
	}
	return true
}

// If this fails, compaction loses the last value of a key, shows what was aborted, holds the last stable offset back, or leaves files
// that a restart after a crash in the middle takes wrongly.
func TestCompactionModel(t *testing.T) {
	for seed := range seeds() {
		t.Run(strconv.Itoa(seed), func(t *testing.T) { compactionModel(t, rand.New(rand.NewSource(int64(seed)))) })
	}
}

func compactionModel(t *testing.T, rng *rand.Rand) {
	disk := &crashFS{Mem: vfs.NewMem(), rng: rng}
	cfg := DefaultConfig()
	cfg.Compact, cfg.Delete, cfg.DeleteRetentionMs = true, false, 0
	cfg.SegmentBytes, cfg.IndexIntervalBytes = int64(1<<10+rng.Intn(3<<10)), 100
	m := slowManager(t, disk, "/data")
	l := open(t, m, 1, cfg)
	defer func() { closeManager(t, m) }()
	model := map[string]string{}
	pending := map[int64]map[string]*string{} // by producer, of its open transaction
	seq := map[int64]int32{}
	value := 0
	append1 := func(b []byte, origin Origin) {
		t.Helper()
		w := newWatch(l)
		info, err := l.Append(b, AppendOptions{Origin: origin})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.wait(info.LastOffset + 1); err != nil {
			t.Fatal(err)
		}
	}
	write := func(producer int64, txn bool) {
		b := record.NewBuilder(record.BuilderOptions{Codec: record.Codec(rng.Intn(5)), HasProducer: txn, ProducerID: producer, BaseSequence: seq[producer], Transactional: txn})
		into := map[string]*string{}
		n := 1 + rng.Intn(3)
		for range n {
			k := "k" + strconv.Itoa(rng.Intn(6))
			var v *string
			if rng.Intn(4) > 0 {
				s := fmt.Sprint("v", value)
				v = &s
			}
			value++
			into[k] = v
			var raw []byte
			if v != nil {
				raw = []byte(*v)
			}
			b.Append(1_600_000_000_000, []byte(k), raw, nil)
		}
		append1(b.Finish(), Coordinator)
		if !txn {
			apply(model, into)
			return
		}
		seq[producer] += int32(n)
		if pending[producer] == nil {
			pending[producer] = map[string]*string{}
		}
		maps.Copy(pending[producer], into)
	}
	end := func(producer int64, commit bool) {
		append1(record.EndTxnMarker(commit, 0, producer, 0, 0, 1_600_000_000_000), Coordinator)
		if commit {
			apply(model, pending[producer])
		}
		delete(pending, producer)
	}
	c := newTestCleaner(m, rng)
	for range 60 {
		switch p := int64(1 + rng.Intn(3)); rng.Intn(8) {
		case 0, 1, 2:
			write(p, true)
		case 3:
			// Keys outside of transactions only while none is open: the order of commits is the order of the model.
			if len(pending) == 0 {
				write(-1, false)
			}
		case 4, 5:
			if pending[p] != nil && len(pending) == 1 {
				end(p, rng.Intn(2) == 0)
			} else if pending[p] != nil {
				end(p, false)
			}
		case 6:
			if err := l.Roll(); err != nil {
				t.Fatal(err)
			}
		case 7:
			disk.arm(1 + rng.Intn(40))
			before := committedView(t, l)
			c.consider(t.Context(), l)
			if after := committedView(t, l); !maps.Equal(before, after) {
				t.Fatalf("compaction changed %v into %v", before, after)
			}
			if shot := disk.taken(); shot != nil && rng.Intn(2) == 0 {
				closeManager(t, m)
				disk = &crashFS{Mem: shot, rng: rng}
				m = slowManager(t, disk, "/data")
				l = open(t, m, 1, cfg)
				c = newTestCleaner(m, rng)
				if after := committedView(t, l); !maps.Equal(before, after) {
					t.Fatalf("a crash in a compaction changed %v into %v", before, after)
				}
			}
			disk.arm(0)
		}
	}
	for p := range maps.Clone(pending) {
		end(p, false)
	}
	if got := committedView(t, l); !maps.Equal(got, model) {
		t.Fatalf("a reader sees %v, committed was %v", got, model)
	}
	c.o.MapBytes = 1 << 20
	for range 6 { // until nothing changes any more: tombstones and markers need a second look, merged segments a third
		if err := l.Roll(); err != nil {
			t.Fatal(err)
		}
		c.clean = map[TopicPartition]int64{}
		c.consider(t.Context(), l)
	}
	if got := committedView(t, l); !maps.Equal(got, model) {
		t.Fatalf("after compaction a reader sees %v, committed was %v", got, model)
	}
	if stable, end := l.LastStable().Offset, l.LogEnd().Offset; stable != end {
		t.Fatalf("the last stable offset is %d and the end %d, and no transaction is open", stable, end)
	}
	if n := len(*l.segs.Load()); n > 3 {
		t.Errorf("%d segments of %d bytes are left", n, l.Size())
	}
}

func apply(model map[string]string, writes map[string]*string) {
	for k, v := range writes {
		if v == nil {
			delete(model, k)
		} else {
			model[k] = *v
		}
	}
}

func newTestCleaner(m *Manager, rng *rand.Rand) *cleaner {
	o := m.o.Cleaner
	o.MapBytes = int64(cleanerEntryBytes * (1 + rng.Intn(12)))
	return &cleaner{m: m, o: o, clean: map[TopicPartition]int64{}, failed: map[*Log]bool{}}
}
