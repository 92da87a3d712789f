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

// compacting is a log under test with the model of it.
type compacting struct {
	t       *testing.T
	rng     *rand.Rand
	disk    *crashFS
	m       *Manager
	l       *Log
	c       *cleaner
	cfg     Config
	model   map[string]string
	pending map[int64]map[string]*string // by producer, of its open transaction
	seq     map[int64]int32
	value   int
}

func (x *compacting) open(disk *vfs.Mem) {
	x.disk = &crashFS{Mem: disk, rng: x.rng}
	x.m = slowManager(x.t, x.disk, "/data")
	x.l = open(x.t, x.m, 1, x.cfg)
	o := x.m.o.Cleaner
	o.MapBytes = int64(cleanerEntryBytes * (1 + x.rng.Intn(12)))
	x.c = &cleaner{m: x.m, o: o, clean: map[TopicPartition]int64{}, failed: map[*Log]bool{}}
}

func (x *compacting) append(b []byte) {
	x.t.Helper()
	w := newWatch(x.l)
	info, err := x.l.Append(b, AppendOptions{Origin: Coordinator})
	if err != nil {
		x.t.Fatal(err)
	}
	if err := w.wait(info.LastOffset + 1); err != nil {
		x.t.Fatal(err)
	}
}

// write appends a batch, of a producer's transaction or, with producer -1, of none.
func (x *compacting) write(producer int64) {
	x.t.Helper()
	txn := producer >= 0
	b := record.NewBuilder(record.BuilderOptions{Codec: record.Codec(x.rng.Intn(5)), HasProducer: txn, ProducerID: producer, BaseSequence: x.seq[producer], Transactional: txn})
	into := map[string]*string{}
	n := 1 + x.rng.Intn(3)
	for range n {
		k := "k" + strconv.Itoa(x.rng.Intn(6))
		x.value++
		into[k] = nil
		var raw []byte
		if x.rng.Intn(4) > 0 {
			v := fmt.Sprint("v", x.value)
			into[k], raw = &v, []byte(v)
		}
		b.Append(1_600_000_000_000, []byte(k), raw, nil)
	}
	x.append(b.Finish())
	if !txn {
		apply(x.model, into)
		return
	}
	x.seq[producer] += int32(n)
	if x.pending[producer] == nil {
		x.pending[producer] = map[string]*string{}
	}
	maps.Copy(x.pending[producer], into)
}

func (x *compacting) end(producer int64, commit bool) {
	x.t.Helper()
	x.append(record.EndTxnMarker(commit, 0, producer, 0, 0, 1_600_000_000_000))
	if commit {
		apply(x.model, x.pending[producer])
	}
	delete(x.pending, producer)
}

func (x *compacting) roll() {
	x.t.Helper()
	if err := x.l.Roll(); err != nil {
		x.t.Fatal(err)
	}
}

// compact makes a pass, and now and then goes on with what a crash in the middle of it left.
func (x *compacting) compact() {
	t := x.t
	t.Helper()
	x.disk.arm(1 + x.rng.Intn(40))
	before := committedView(t, x.l)
	x.c.consider(t.Context(), x.l)
	if after := committedView(t, x.l); !maps.Equal(before, after) {
		t.Fatalf("compaction changed %v into %v", before, after)
	}
	shot := x.disk.taken()
	x.disk.arm(0)
	if shot == nil || x.rng.Intn(2) == 0 {
		return
	}
	closeManager(t, x.m)
	x.open(shot)
	if after := committedView(t, x.l); !maps.Equal(before, after) {
		t.Fatalf("a crash in a compaction changed %v into %v", before, after)
	}
}

func compactionModel(t *testing.T, rng *rand.Rand) {
	x := &compacting{t: t, rng: rng, cfg: DefaultConfig(), model: map[string]string{}, pending: map[int64]map[string]*string{}, seq: map[int64]int32{}}
	x.cfg.Compact, x.cfg.Delete, x.cfg.DeleteRetentionMs = true, false, 0
	x.cfg.SegmentBytes, x.cfg.IndexIntervalBytes = int64(1<<10+rng.Intn(3<<10)), 100
	x.open(vfs.NewMem())
	defer func() { closeManager(t, x.m) }()
	for range 60 {
		switch p := int64(1 + rng.Intn(3)); rng.Intn(8) {
		case 0, 1, 2:
			x.write(p)
		case 3: // outside of transactions only while none is open: the order of commits is the order of the model
			if len(x.pending) == 0 {
				x.write(-1)
			}
		case 4, 5:
			if x.pending[p] != nil {
				x.end(p, len(x.pending) == 1 && rng.Intn(2) == 0)
			}
		case 6:
			x.roll()
		case 7:
			x.compact()
		}
	}
	for p := range maps.Clone(x.pending) {
		x.end(p, false)
	}
	if got := committedView(t, x.l); !maps.Equal(got, x.model) {
		t.Fatalf("a reader sees %v, committed was %v", got, x.model)
	}
	x.c.o.MapBytes = 1 << 20
	for range 6 { // until nothing changes any more: tombstones and markers need a second look, merged segments a third
		x.roll()
		x.c.clean = map[TopicPartition]int64{}
		x.c.consider(t.Context(), x.l)
	}
	if got := committedView(t, x.l); !maps.Equal(got, x.model) {
		t.Fatalf("after compaction a reader sees %v, committed was %v", got, x.model)
	}
	if stable, end := x.l.LastStable().Offset, x.l.LogEnd().Offset; stable != end {
		t.Fatalf("the last stable offset is %d and the end %d, and no transaction is open", stable, end)
	}
	if n := len(*x.l.segs.Load()); n > 3 {
		t.Errorf("%d segments of %d bytes are left", n, x.l.Size())
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
