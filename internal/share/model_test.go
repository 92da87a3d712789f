package share

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// world is a naive model of what members see of a share-partition, beside the real one, its persister and a log.
type world struct {
	p       *Partition
	s       Settings
	log     []Batch
	exists  map[int64]Key // the records there are
	end     int64
	now     int64
	disk    PersistedState
	write   *StateWrite
	holds   map[string]map[int64]bool // leases that members were given and have not ended themselves
	said    map[int64]string          // accepted or rejected by its holder, whether written or not
	sure    map[int64]bool            // accepted or rejected, and the write succeeded
	given   map[int64]int             // deliveries since the last restart
	ever    map[int64]bool
	inWrite map[uint32][]int64
	buried  map[int64]bool
	letters []DeadLetter
	crashes int
}

func newWorld(t *rapid.T) *world {
	s := Settings{MaxLocks: rapid.IntRange(1, 30).Draw(t, "locks"), DeliveryLimit: int16(rapid.IntRange(2, 6).Draw(t, "limit")), LockMs: 100, Renew: true,
		KeyOrder: rapid.Bool().Draw(t, "keyorder"), DeadLetters: rapid.Bool().Draw(t, "deadletters"),
		RedeliveryMs: int64(rapid.SampledFrom([]int{0, 20}).Draw(t, "delay")), RedeliveryMaxMs: 60}
	w := &world{s: s, exists: map[int64]Key{}, now: 1, disk: PersistedState{StartOffset: 0}, said: map[int64]string{}, sure: map[int64]bool{}, ever: map[int64]bool{}, buried: map[int64]bool{}}
	w.start(t)
	return w
}

// start loads the share-partition from what was kept.
func (w *world) start(t *rapid.T) {
	p, err := New(w.disk, w.disk.StartOffset, w.s)
	if err != nil {
		t.Fatalf("what was kept cannot be loaded: %v", err)
	}
	w.p, w.write = p, nil
	w.holds, w.given, w.inWrite = map[string]map[int64]bool{}, map[int64]int{}, map[uint32][]int64{}
	for o := range w.said {
		if !w.sure[o] {
			delete(w.said, o)
		}
	}
	w.letters = p.TakeLetters()
}

func (w *world) produce(t *rapid.T) {
	b := Batch{First: w.end + int64(rapid.SampledFrom([]int{0, 0, 0, 2}).Draw(t, "hole"))}
	b.Last = b.First + int64(rapid.IntRange(0, 5).Draw(t, "records"))
	b.Skip = rapid.IntRange(0, 5).Draw(t, "skip") == 0
	for o := b.First; o <= b.Last && !b.Skip; o++ {
		if rapid.IntRange(0, 7).Draw(t, "compacted") == 0 && o != b.Last {
			continue
		}
		k := Key{Offset: o, Hash: uint64(rapid.IntRange(1, 4).Draw(t, "key")), Null: rapid.IntRange(0, 5).Draw(t, "null") == 0}
		w.exists[o] = k
		b.Keys = append(b.Keys, k)
	}
	w.end = b.Last + 1
	w.log = append(w.log, b)
}

func (w *world) acquire(t *rapid.T) {
	member := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "member")
	strict := rapid.Bool().Draw(t, "strict")
	n := rapid.IntRange(1, 12).Draw(t, "max")
	leases := acquire(w.p, w.log, w.now, Request{Member: member, MaxRecords: n, BatchSize: rapid.IntRange(1, 9).Draw(t, "batch"), Strict: strict})
	total := 0
	for _, l := range leases {
		total += int(l.Last - l.First + 1)
		for o := l.First; o <= l.Last; o++ {
			w.lease(t, member, o, l.Count)
		}
	}
	if (strict || w.s.KeyOrder) && total > n {
		t.Fatalf("%d records leased, %d asked for: %v", total, n, leases)
	}
}

func (w *world) lease(t *rapid.T, member string, o int64, count int16) {
	for m, h := range w.holds {
		if h[o] {
			t.Fatalf("%d given to %s while %s holds it", o, member, m)
		}
	}
	if w.said[o] != "" {
		t.Fatalf("%d given to %s although it was %s", o, member, w.said[o])
	}
	if w.given[o]++; w.given[o] > int(w.s.DeliveryLimit) || count > w.s.DeliveryLimit || int(count) < w.given[o] {
		t.Fatalf("%d given for the %d. time, count %d, limit %d", o, w.given[o], count, w.s.DeliveryLimit)
	}
	if k, ok := w.exists[o]; ok && w.s.KeyOrder && !k.Null {
		for x, kx := range w.exists {
			if x < o && x >= w.p.start && kx.Hash == k.Hash && !kx.Null && !w.over(x) {
				t.Fatalf("%d given before %d of the same key was decided", o, x)
			}
		}
	}
	if w.holds[member] == nil {
		w.holds[member] = map[int64]bool{}
	}
	w.holds[member][o] = true
	w.ever[o] = true
}

// over says that the real thing has decided a record for good.
func (w *world) over(o int64) bool {
	i := w.p.find(o)
	return i < len(w.p.runs) && w.p.runs[i].first <= o && w.p.runs[i].over()
}

func (w *world) acknowledge(t *rapid.T) {
	var members []string
	for m, h := range w.holds {
		if len(h) > 0 {
			members = append(members, m)
		}
	}
	if len(members) == 0 {
		return
	}
	slices.Sort(members)
	m := rapid.SampledFrom(members).Draw(t, "member")
	var offsets []int64
	for o := range w.holds[m] {
		offsets = append(offsets, o)
	}
	slices.Sort(offsets)
	o := rapid.SampledFrom(offsets).Draw(t, "offset")
	a := Ack{First: o, Last: o}
	for n := rapid.IntRange(0, 5).Draw(t, "more"); n > 0 && w.holds[m][a.Last+1]; n-- {
		a.Last++
	}
	for range a.Last - a.First + 1 {
		a.Types = append(a.Types, AckType(rapid.IntRange(0, 4).Draw(t, "type")))
	}
	gen := w.p.Gathering()
	if err := w.p.Acknowledge(m, []Ack{a}, w.now); err != nil {
		t.Fatalf("%s may not acknowledge %v: %v", m, a, err)
	}
	for o := a.First; o <= a.Last; o++ {
		switch a.typeAt(o) {
		case Accept, Reject, Gap:
			w.said[o] = "decided"
			w.inWrite[gen] = append(w.inWrite[gen], o)
		case Renew:
			continue
		default:
			w.inWrite[gen] = append(w.inWrite[gen], o)
		}
		delete(w.holds[m], o)
	}
}

// foreign tries what must be refused.
func (w *world) foreign(t *rapid.T) {
	before := fmt.Sprint(w.p.runs)
	for m, h := range w.holds {
		for o := range h {
			if w.p.Acknowledge(m+"x", []Ack{{First: o, Last: o, Types: []AckType{Accept}}}, w.now) == nil {
				t.Fatalf("a stranger may acknowledge %d", o)
			}
		}
	}
	if fmt.Sprint(w.p.runs) != before {
		t.Fatal("a refused acknowledgement changed something")
	}
}

func (w *world) take() {
	if sw, _, ok := w.p.TakeWrite(); ok {
		w.write = &sw
	}
}

// persist is what the coordinator does with a write. Nothing may be kept as acknowledged that nobody acknowledged.
func (w *world) persist(t *rapid.T) {
	for _, b := range w.write.Batches {
		for o := b.FirstOffset; o <= b.LastOffset && b.DeliveryState == Acknowledged; o++ {
			if _, ok := w.exists[o]; ok && w.said[o] == "" {
				t.Fatalf("%d is written as acknowledged: %+v", o, w.write)
			}
		}
	}
	w.disk.StartOffset = w.write.StartOffset
	w.disk.Batches = Merge(w.disk.Batches, w.write.Batches, w.disk.StartOffset)
}

func (w *world) done(t *rapid.T) {
	if w.write == nil {
		return
	}
	ok := rapid.IntRange(0, 3).Draw(t, "ok") > 0
	gen := w.p.writing
	if ok {
		w.persist(t)
	}
	w.letters = append(w.letters, w.p.WriteDone(ok, w.write.StartOffset)...)
	w.write = nil
	for _, o := range w.inWrite[gen] {
		if ok {
			w.sure[o] = w.said[o] != ""
			continue
		}
		delete(w.said, o)
		i := w.p.find(o)
		if h := w.p.runs[i].holder; h != "" {
			w.holds[h][o] = true // it is the member's again
		}
	}
	delete(w.inWrite, gen)
}

func (w *world) bury() {
	for _, l := range w.letters {
		for o := l.First; o <= l.Last; o++ {
			w.buried[o] = true
		}
		w.p.DeadLettered(l.First, l.Last, w.now)
	}
	w.letters = nil
}

func (w *world) pass(t *rapid.T) {
	w.now += int64(rapid.IntRange(1, 80).Draw(t, "ms"))
	w.p.Expire(w.now)
	w.reconcile()
}

// reconcile lets members know which leases they have lost.
func (w *world) reconcile() {
	for m, h := range w.holds {
		for o := range h {
			i := w.p.find(o)
			if i == len(w.p.runs) || w.p.runs[i].first > o || w.p.runs[i].state != Acquired || w.p.runs[i].holder != m {
				delete(h, o)
			}
		}
	}
}

func (w *world) leave(t *rapid.T) {
	m := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "member")
	w.p.ReleaseMember(m, w.now)
	w.reconcile()
}

func (w *world) crash(t *rapid.T) {
	if w.write != nil && rapid.Bool().Draw(t, "kept") {
		for _, o := range w.inWrite[w.p.writing] {
			w.sure[o] = w.said[o] != ""
		}
		w.persist(t)
	}
	w.crashes++
	w.start(t)
}

// check is what holds at all times.
func (w *world) check(t *rapid.T) {
	at := w.p.start
	for i := range w.p.runs {
		r := &w.p.runs[i]
		if r.first != at || r.last < r.first {
			t.Fatalf("runs are not gapless at %d: %+v", at, w.p.runs)
		}
		if r.state == Acquired && r.settled() {
			for o := r.first; o <= r.last; o++ {
				if !w.holds[r.holder][o] {
					t.Fatalf("%d is leased to %s, who does not know", o, r.holder)
				}
			}
		}
		at = r.last + 1
	}
	if at != w.p.end {
		t.Fatalf("runs end at %d and not at %d", at, w.p.end)
	}
	for o := range w.exists {
		if o < w.p.start && !w.sure[o] && !w.over(o) && w.ever[o] == false {
			t.Fatalf("record %d was passed over", o)
		}
	}
	for k, holders := range w.p.keys() {
		if len(holders) > 1 {
			t.Fatalf("key %d is leased %d times", k, len(holders))
		}
	}
}

// drain accepts everything: in the end nothing may be left, and every record was given to somebody.
func (w *world) drain(t *rapid.T) {
	for range 100000 {
		w.reconcile()
		w.now += 1000
		w.p.Expire(w.now)
		w.reconcile()
		leases := acquire(w.p, w.log, w.now, Request{Member: "z", MaxRecords: 50, BatchSize: 10})
		for _, l := range leases {
			for o := l.First; o <= l.Last; o++ {
				w.lease(t, "z", o, l.Count)
			}
			if err := w.p.Acknowledge("z", []Ack{{First: l.First, Last: l.Last, Types: []AckType{Accept}}}, w.now); err != nil {
				t.Fatal(err)
			}
			for o := l.First; o <= l.Last; o++ {
				w.said[o] = "decided"
			}
			delete(w.holds, "z")
		}
		if w.write == nil {
			w.take()
		}
		if w.write != nil {
			w.persist(t)
			w.letters = append(w.letters, w.p.WriteDone(true, w.write.StartOffset)...)
			w.write = nil
		}
		w.bury()
		if w.p.start >= w.end && !w.p.Changed() {
			break
		}
	}
	if w.p.start < w.end {
		t.Fatalf("the share-partition stands still at %d of %d: %+v", w.p.start, w.end, w.p.runs)
	}
	for o := range w.exists {
		if !w.ever[o] {
			t.Fatalf("record %d was never given to anybody", o)
		}
	}
}

func TestModel(t *testing.T) {
	for range 8 { // eight times the usual number of runs: one takes a fraction of a millisecond
		rapid.Check(t, modelRun)
	}
}

func modelRun(t *rapid.T) {
	w := newWorld(t)
	t.Repeat(map[string]func(*rapid.T){
		"produce": w.produce, "acquire": w.acquire, "acquire2": w.acquire, "acknowledge": w.acknowledge, "acknowledge2": w.acknowledge,
		"foreign": w.foreign, "take": func(*rapid.T) { w.take() }, "done": w.done, "bury": func(*rapid.T) { w.bury() },
		"pass": w.pass, "leave": w.leave, "crash": w.crash, "": w.check,
	})
	w.drain(t)
}
