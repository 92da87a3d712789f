package sharefetch

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"go.uber.org/goleak"

	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/share"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLeaseAndAcknowledge(t *testing.T) {
	r := newRig(t, defaults())
	r.produce(0, 2, numbered(0, 10)...)
	a, b := r.member("a"), r.member("b")
	x := a.fetch(4, 0, 0)
	if len(x) != 4 || x[0].value != "a0000" || x[3].offset != 3 || a.lockMs != 30000 {
		t.Fatalf("first fetch: %+v, lock %d", x, a.lockMs)
	}
	if y := b.fetch(100, 0, 0); len(y) != 6 || y[0].offset != 4 {
		t.Fatalf("the other's: %+v", y)
	}
	if err := b.ack(share.Accept, x...); !errors.Is(err, kerr.InvalidRecordState) {
		t.Fatalf("a stranger's acknowledgement: %v", err)
	}
	if err := a.ack(share.Accept, x[0], x[1], x[3]); err != nil {
		t.Fatal(err)
	}
	if err := a.ack(share.Release, x[2]); err != nil {
		t.Fatal(err)
	}
	if z := b.fetch(100, 0); len(z) != 1 || z[0].offset != 2 || z[0].count != 2 {
		t.Fatalf("redelivered: %+v", z)
	}
}

// A fetch that waits hears of records that are produced, given back, or left behind by a member that closes its session or connection.
func TestParkedFetch(t *testing.T) {
	for name, wake := range map[string]func(r *rig, holder *member, held []got){
		"produced":  func(r *rig, _ *member, _ []got) { r.produce(0, 1, "x new") },
		"released":  func(_ *rig, h *member, held []got) { _ = h.ack(share.Release, held...) },
		"closed":    func(_ *rig, h *member, _ []got) { _ = h.close() },
		"hung up":   func(_ *rig, h *member, _ []got) { h.hangup() },
		"ran out":   func(*rig, *member, []got) {},
		"compacted": func(r *rig, _ *member, _ []got) { r.produce(0, 1, "x new") },
	} {
		t.Run(name, func(t *testing.T) {
			s := defaults()
			if name == "ran out" {
				s.LockMs = 60
			}
			r := newRig(t, s)
			r.produce(0, 1, numbered(0, 3)...)
			h, w := r.member("h"), r.member("w")
			held := h.fetch(10, 0, 0)
			if len(held) != 3 {
				t.Fatalf("held: %+v", held)
			}
			done := make(chan []got, 1)
			go func() { done <- w.fetch(10, 15*time.Second, 0) }()
			r.until(func() bool { return r.m.fetches.Waiting() == 1 || len(done) == 1 })
			wake(r, h, held)
			select {
			case x := <-done:
				if len(x) == 0 {
					t.Fatal("woken for nothing")
				}
			case <-time.After(10 * time.Second):
				t.Fatal("not woken")
			}
		})
	}
}

func TestSessions(t *testing.T) {
	r := newRig(t, defaults())
	r.produce(0, 1, numbered(0, 3)...)
	m := r.member("m")
	m.epoch = 1
	if _, err := m.send(&Request{MaxRecords: 1, MaxBytes: 1}); !errors.Is(err, kerr.ShareSessionNotFound) {
		t.Fatalf("no session: %v", err)
	}
	m.epoch = 0
	m.fetch(1, 0, 0, 1)
	m.epoch = 7
	if _, err := m.send(&Request{MaxRecords: 1, MaxBytes: 1}); !errors.Is(err, kerr.InvalidShareSessionEpoch) {
		t.Fatalf("wrong epoch: %v", err)
	}
	m.epoch = 1
	// What is not here stays in the session and is said every time, until it is forgotten: it may be made yet.
	named := []Named{{ID: PartitionID{[16]byte{9}, 0}}, {ID: PartitionID{topic, 9}}}
	want := map[PartitionID]error{{[16]byte{9}, 0}: kerr.UnknownTopicID, {topic, 9}: kerr.UnknownTopicOrPartition, {topic, 0}: nil}
	for range 2 {
		res, err := m.send(&Request{MaxRecords: 1, MaxBytes: 1, Partitions: named})
		named = nil
		if err != nil || len(res) != 3 {
			t.Fatalf("%+v, %v", res, err)
		}
		for _, x := range res {
			if !errors.Is(x.Err, want[x.ID]) {
				t.Errorf("%v: %v", x.ID, x.Err)
			}
			x.Slice.Release()
		}
	}
	if _, err := m.send(&Request{MaxRecords: 1, MaxBytes: 1, Forgotten: []PartitionID{{topic, 0}, {topic, 9}, {[16]byte{9}, 0}}}); err != nil {
		t.Fatal(err)
	}
	if x := m.fetch(5, 0); len(x) != 0 {
		t.Fatalf("from a forgotten partition: %+v", x)
	}
	if err := m.close(); err != nil {
		t.Fatal(err)
	}
	if err := m.close(); !errors.Is(err, kerr.ShareSessionNotFound) {
		t.Fatalf("closed twice: %v", err)
	}
	var all []*member
	for i := range 50 {
		m := r.member(fmt.Sprint("m", i))
		m.fetch(1, 0, 3)
		all = append(all, m)
	}
	over := r.member("over")
	if _, err := over.send(&Request{MaxRecords: 1, MaxBytes: 1, Partitions: []Named{{ID: PartitionID{topic, 0}}}}); !errors.Is(err, kerr.ShareSessionLimitReached) {
		t.Fatalf("one session too many: %v", err)
	}
	for _, m := range all {
		m.hangup()
	}
	r.until(func() bool { return r.m.Sessions() == 0 })
	r.until(func() bool { r.m.mu.Lock(); defer r.m.mu.Unlock(); return len(r.m.groups) == 0 })
}

func TestReset(t *testing.T) {
	for _, c := range []struct {
		reset Reset
		first int64
	}{{Reset{Earliest: true}, 0}, {Reset{}, 5}, {Reset{ByDuration: true, Ago: time.Hour}, 5}, {Reset{ByDuration: true, Ago: 100 * 365 * 24 * time.Hour}, 0}} {
		s := defaults()
		s.Reset = c.reset
		r := newRig(t, s)
		r.produce(0, 1, numbered(0, 5)...)
		m := r.member("m")
		m.fetch(100, 0, 0)
		r.produce(0, 1, numbered(5, 6)...)
		_ = m.close()
		x := r.member("n").fetch(100, 0, 0)
		if len(x) == 0 || x[0].offset != c.first {
			t.Errorf("%+v begins at %+v", c.reset, x)
		}
	}
}

// What was decided stays decided over a restart, and nothing that was not is lost.
func TestRestart(t *testing.T) {
	r := newRig(t, defaults())
	r.produce(0, 3, numbered(0, 12)...)
	m := r.member("m")
	x := m.fetch(9, 0, 0)
	if err := m.ack(share.Accept, x[1], x[2], x[5]); err != nil {
		t.Fatal(err)
	}
	if err := m.ack(share.Reject, x[7]); err != nil {
		t.Fatal(err)
	}
	r.m.Close()
	r.start()
	var offsets []int64
	for _, g := range r.member("n").fetch(100, 0, 0) {
		offsets = append(offsets, g.offset)
	}
	if fmt.Sprint(offsets) != "[0 3 4 6 8 9 10 11]" {
		t.Fatalf("after the restart: %v", offsets)
	}
}

// A write that is refused fails its acknowledgements; a fenced one has the state loaded again.
func TestRefusedWrites(t *testing.T) {
	r := newRig(t, defaults())
	r.produce(0, 1, numbered(0, 3)...)
	m := r.member("m")
	x := m.fetch(10, 0, 0)
	var fail error
	r.persister.Fail = func(share.PartitionKey, share.StateWrite) error { return fail }
	fail = kerr.CoordinatorNotAvailable
	if err := m.ack(share.Accept, x[0]); !errors.Is(err, kerr.CoordinatorNotAvailable) {
		t.Fatal(err)
	}
	fail = nil
	if err := m.ack(share.Accept, x[0]); err != nil {
		t.Fatalf("the same again: %v", err)
	}
	fail = kerr.FencedStateEpoch
	if err := m.ack(share.Accept, x[1]); !errors.Is(err, kerr.NotLeaderForPartition) {
		t.Fatal(err)
	}
	fail = nil
	if y := m.fetch(10, 0); len(y) != 2 || y[0].offset != 1 || y[0].count != 1 {
		t.Fatalf("loaded again: %+v", y)
	}
}

func TestDeadLetters(t *testing.T) {
	for _, copies := range []bool{false, true} {
		s := defaults()
		s.DeadLetters, s.DeadLetterTopic, s.CopyRecords, s.LockMs, s.DeliveryLimit = true, "dlq.t", copies, 40, 2
		r := newRig(t, s)
		r.produce(1, 2, numbered(0, 4)...)
		m := r.member("m")
		x := m.fetch(10, 0, 1)
		if err := m.ack(share.Reject, x[1]); err != nil {
			t.Fatal(err)
		}
		if err := m.ack(share.Accept, x[2]); err != nil {
			t.Fatal(err)
		}
		r.until(func() bool { // 0 and 3 run out, twice
			m.fetch(10, time.Millisecond)
			return r.persisted(1).StartOffset == 4
		})
		v, _ := r.Open(log.TopicPartition{Topic: "dlq.t", Partition: 1}, letters)
		r.until(func() bool { return v.Log.HighWatermark().Offset == 3 })
		found := map[string]string{}
		next, err := eachIn(v.Log, 0, 2, func(_ int64, rec *record.Record) {
			h := map[string]string{}
			for _, x := range rec.Headers {
				h[string(x.Key)] = string(x.Value)
			}
			if h[headerTopic] != "t" || h[headerPartition] != "1" || h[headerGroup] != "g" || len(h) != 6 {
				t.Errorf("headers %v", h)
			}
			found[h[headerOffset]] = fmt.Sprintf("%s/%s/%s/%s", h[headerCount], h[headerMessage], rec.Key, rec.Value)
		})
		if err != nil || next != 3 {
			t.Fatal(next, err)
		}
		want := map[string]string{"1": "1/Offset rejected by client./b/b0001", "0": "2/Offset delivery count exceeded the threshold./a/a0000", "3": "2/Offset delivery count exceeded the threshold./d/d0003"}
		for o, w := range want {
			if !copies {
				w = w[:strings.Index(w, "./")+1] + "//"
			}
			if found[o] != w {
				t.Errorf("letter of %s: %q, want %q", o, found[o], w)
			}
		}
	}
}

// While the dead-letter topic is away the records wait; where it is refused for good they go without.
func TestDeadLetterTrouble(t *testing.T) {
	s := defaults()
	s.DeadLetters, s.DeadLetterTopic = true, "dlq.t"
	r := newRig(t, s)
	r.prepare = errors.New("not allowed")
	r.produce(0, 1, numbered(0, 2)...)
	m := r.member("m")
	x := m.fetch(10, 0, 0)
	if err := m.ack(share.Reject, x[0]); err != nil {
		t.Fatal(err)
	}
	r.until(func() bool { return r.persisted(0).StartOffset == 1 })
	r.mu.Lock()
	r.prepare = kerr.KafkaStorageError
	r.mu.Unlock()
	<-r.prepared
	if err := m.ack(share.Reject, x[1]); err != nil {
		t.Fatal(err)
	}
	<-r.prepared
	if got := r.persisted(0); got.StartOffset != 1 || got.Batches[0].DeliveryState != share.Archiving {
		t.Fatalf("a letter that cannot be written now: %+v", got)
	}
	r.mu.Lock()
	r.prepare = nil
	r.mu.Unlock()
	r.m.Close()
	r.start() // the next broker goes on with it
	r.member("n").fetch(10, 0, 0)
	r.until(func() bool { return r.persisted(0).StartOffset == 2 })
}

func (r *rig) persisted(partition int32) (s share.PersistedState) {
	r.persister.ReadState(share.PartitionKey{Group: "g", TopicID: topic, Partition: partition}, 0, func(x share.PersistedState, _ error) { s = x })
	return s
}

// Many members that accept, release, forget, hang up and come back: every record is accepted, and by one member only.
func TestEveryRecordOnce(t *testing.T) {
	for _, order := range []bool{false, true} {
		s := defaults()
		s.LockMs, s.DeliveryLimit, s.MaxLocks, s.KeyOrder = 50, 1000, 200, order
		r := newRig(t, s)
		const records, members = 1200, 6
		go func() {
			for i := 0; i < records/2; i += 50 {
				r.produce(0, 1+i%7, numbered(i, i+50)...)
				r.produce(1, 1+i%3, numbered(records/2+i, records/2+i+50)...)
			}
		}()
		var mu sync.Mutex
		accepted, late := map[string]int{}, map[string]bool{}
		left := func() int { mu.Lock(); defer mu.Unlock(); return records - len(accepted) - len(late) }
		var wg sync.WaitGroup
		for i := range members {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(1, uint64(i)))
				m := r.member(fmt.Sprint("m", i))
				parts := []int32{0, 1}
				for left() > 0 {
					asked := time.Now()
					x := m.fetch(1+rng.IntN(40), 20*time.Millisecond, parts...)
					parts = nil
					switch rng.IntN(12) {
					case 0:
						m.hangup()
						m = r.member(fmt.Sprint("m", i, "-", rng.IntN(1000000)))
						parts = []int32{0, 1}
						continue
					case 1:
						continue // forgotten: the lease runs out
					case 2:
						_ = m.ack(share.Release, x...)
						continue
					}
					for _, g := range x {
						if m.ack(share.Accept, g) != nil {
							continue
						}
						mu.Lock()
						if time.Since(asked).Milliseconds() < s.LockMs-1 {
							accepted[g.value]++
							delete(late, g.value)
						} else if accepted[g.value] == 0 {
							late[g.value] = true // it may have been another's meanwhile: what is decided is acknowledged again without an error
						}
						mu.Unlock()
					}
				}
				m.hangup()
			})
		}
		wg.Wait()
		for v, n := range accepted {
			if n != 1 {
				t.Errorf("%s was accepted %d times", v, n)
			}
		}
		r.until(func() bool { return r.persisted(0).StartOffset == records/2 && r.persisted(1).StartOffset == records/2 })
		r.until(func() bool { r.m.mu.Lock(); defer r.m.mu.Unlock(); return len(r.m.groups) == 0 })
	}
}

// With share.order=key a record waits for the earlier ones of its key, across members and fetches.
func TestKeyOrder(t *testing.T) {
	s := defaults()
	s.KeyOrder = true
	r := newRig(t, s)
	r.produce(0, 4, "a1", "a2", "b1", "a3", "b2")
	m, n := r.member("m"), r.member("n")
	take := func(x []got) (values []string) {
		for _, g := range x {
			values = append(values, g.value)
		}
		return values
	}
	x := m.fetch(10, 0, 0)
	if fmt.Sprint(take(x)) != "[a1 b1]" {
		t.Fatalf("first: %v", x)
	}
	if y := n.fetch(10, 0, 0); len(y) != 0 {
		t.Fatalf("while they are held: %v", y)
	}
	done := make(chan []got, 1)
	go func() { done <- n.fetch(10, 15*time.Second) }()
	r.until(func() bool { return r.m.fetches.Waiting() == 1 })
	if err := m.ack(share.Accept, x[0]); err != nil {
		t.Fatal(err)
	}
	y := <-done
	if fmt.Sprint(take(y)) != "[a2]" {
		t.Fatalf("after a1: %v", y)
	}
	if err := m.ack(share.Release, x[1]); err != nil {
		t.Fatal(err)
	}
	if z := m.fetch(10, 0); fmt.Sprint(take(z)) != "[b1]" || z[0].count != 2 {
		t.Fatalf("b1 comes back before b2: %v", z)
	}
}

// A record that came back waits as long as the group says, and a parked fetch gets it then.
func TestRedeliveryDelay(t *testing.T) {
	s := defaults()
	s.RedeliveryMs, s.RedeliveryMaxMs = 80, 1000
	r := newRig(t, s)
	r.produce(0, 1, "a1")
	m := r.member("m")
	for i, least := range []time.Duration{0, 80 * time.Millisecond, 160 * time.Millisecond} {
		begun := time.Now()
		x := m.fetch(10, 15*time.Second, 0)
		if len(x) != 1 || int(x[0].count) != i+1 {
			t.Fatalf("delivery %d: %v", i+1, x)
		}
		if took := time.Since(begun); took < least-5*time.Millisecond || took > least+10*time.Second {
			t.Errorf("delivery %d came after %v, should wait %v", i+1, took, least)
		}
		if err := m.ack(share.Release, x...); err != nil {
			t.Fatal(err)
		}
	}
}

// In read_committed nobody gets records of open or aborted transactions, and the start passes them.
func TestReadCommitted(t *testing.T) {
	s := defaults()
	s.ReadCommitted = true
	r := newRig(t, s)
	v, err := r.Open(log.TopicPartition{Topic: "t"}, topic)
	if err != nil {
		t.Fatal(err)
	}
	write := func(producer int64, seq int32, values ...string) {
		t.Helper()
		b := record.NewBuilder(record.BuilderOptions{HasProducer: true, ProducerID: producer, BaseSequence: seq, Transactional: true})
		for _, s := range values {
			b.Append(1000, nil, []byte(s), nil)
		}
		if _, err := v.Log.Append(b.Finish(), log.AppendOptions{Origin: log.Coordinator, Now: 1000}); err != nil {
			t.Fatal(err)
		}
	}
	end := func(producer int64, commit bool) {
		t.Helper()
		if _, err := v.Log.Append(record.EndTxnMarker(commit, 0, producer, 0, 0, 1000), log.AppendOptions{Origin: log.Control, Now: 1000}); err != nil {
			t.Fatal(err)
		}
	}
	settled := func() { r.until(func() bool { return v.Log.HighWatermark().Offset == v.Log.LogEnd().Offset }) }
	write(1, 0, "no", "no") // 0, 1
	write(2, 0, "yes")      // 2
	end(1, false)           // 3
	write(1, 2, "later")    // 4
	end(2, true)            // 5
	settled()
	m := r.member("m")
	x := m.fetch(10, 0, 0)
	if len(x) != 1 || x[0].value != "yes" {
		t.Fatalf("with a transaction open: %v", x)
	}
	end(1, true) // 6
	settled()
	if x = append(x, m.fetch(10, time.Second)...); len(x) != 2 || x[1].value != "later" {
		t.Fatalf("committed: %v", x)
	}
	if err := m.ack(share.Accept, x...); err != nil {
		t.Fatal(err)
	}
	if s := r.persisted(0); s.StartOffset != 7 {
		t.Fatalf("start %+v", s)
	}
}
