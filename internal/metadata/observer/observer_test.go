package observer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/metadata"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options(q *quorum, log Log) Options {
	return Options{Node: 9, ClusterID: "c", Bootstrap: []string{"two:2", "three:3", "one:1"}, Ask: q.ask, Log: log, Clock: clock.Real{}, Logger: slog.New(slog.DiscardHandler),
		MaxWait: 50 * time.Millisecond, Patience: 50 * time.Millisecond, Backoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond}
}

// A follower that took a batch twice, skipped one, or took one that was never committed would have another image than the quorum.
func TestFollowsWhateverTheQuorumDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q, f := newQuorum(), newFollower()
		q.append()
		o := options(q, f)
		c := newCore(&o, 0, 0)
		seat, n := 0, 0
		round := func() (idle bool) {
			to := Node{c.leader, c.addr}
			if to.Addr == "" {
				to = Node{-1, o.Bootstrap[seat%3]}
				seat++
			}
			resp, wait, err := q.answer(to, c.request())
			if err != nil {
				c.failed(to)
				return false
			}
			out := c.answer(to, resp)
			if errors.Is(out.err, ErrDiverged) {
				t.Fatal(out.err)
			}
			if out.err != nil {
				c.failed(to)
			}
			if out.image != nil {
				if err := f.Install(out.image); err != nil {
					t.Fatal(err)
				}
			}
			for _, cm := range out.commits {
				if cm.Base+1 > q.hw {
					t.Fatalf("batch of offset %d was handed over, committed are those below %d", cm.Base, q.hw)
				}
				if err := f.Apply(cm); err != nil {
					t.Fatal(err)
				}
			}
			return wait && out.progress
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				var names []string
				for range rapid.IntRange(1, 3).Draw(t, "records") {
					n++
					names = append(names, fmt.Sprintf("t%d", n))
				}
				q.append(names...)
			},
			"commit": func(t *rapid.T) { q.commit(rapid.IntRange(1, 4).Draw(t, "batches")) },
			"elect": func(t *rapid.T) {
				q.elect(rapid.Int32Range(1, 3).Draw(t, "node"), rapid.IntRange(0, 4).Draw(t, "lost"))
			},
			"cut":     func(t *rapid.T) { q.cut() },
			"restart": func(t *rapid.T) { c = newCore(&o, f.img.Offset()+1, max(0, f.img.Epoch())) },
			"down":    func(t *rapid.T) { q.down[q.nodes[rapid.Int32Range(1, 3).Draw(t, "node")]] = true },
			"up":      func(t *rapid.T) { clear(q.down) },
			"fetch":   func(t *rapid.T) { round() },
			"fetches": func(t *rapid.T) { round(); round(); round() },
			"": func(t *rapid.T) {
				if f.img.Offset() > q.whole.Offset() {
					t.Fatalf("ahead of the quorum: %s, %s", names(f.img), names(q.whole))
				}
			},
		})
		clear(q.down)
		q.elect(2, 0)
		q.append("last")
		q.commit(1000)
		for i := 0; !round(); i++ {
			if i > 1000 {
				t.Fatalf("never caught up: at %d of %d", c.next, q.hw)
			}
		}
		if got, want := names(f.img), names(q.whole); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	})
}

// The loop goes on over dead nodes, changes of leadership and snapshots, and sleeps while nothing is committed.
func TestRun(t *testing.T) {
	q, f := newQuorum(), newFollower()
	q.append()
	q.append("a")
	q.commit(2)
	o := options(q, f)
	o.MaxWait, o.Patience = time.Minute, time.Minute
	leaders := make(chan Node, 100)
	o.OnLeader = func(node, _ int32, addr string) { leaders <- Node{node, addr} }
	ctx, cancel := context.WithCancel(t.Context())
	ob := New(o, 0, 0)
	done := make(chan error)
	go func() { done <- ob.Run(ctx) }()
	reach := func() {
		t.Helper()
		deadline := time.After(10 * time.Second)
		for {
			q.mu.Lock()
			want := names(q.whole)
			q.mu.Unlock()
			if names(f.image()) == want {
				return
			}
			select {
			case <-f.changed:
			case <-deadline:
				t.Fatalf("at %s, not %s", names(f.image()), want)
			}
		}
	}
	reach()
	step := func(change func()) {
		q.mu.Lock()
		change()
		q.mu.Unlock()
		reach()
	}
	step(func() { q.append("b"); q.commit(1) })
	step(func() { q.append("never committed") })
	step(func() { q.elect(3, 1); q.down["one:1"] = true; q.append("c"); q.commit(10) })
	step(func() {
		q.append("d")
		q.append("e")
		q.commit(10)
		q.cut()
		q.elect(2, 0)
		q.append("f")
		q.commit(10)
	})
	for want := (Node{2, "two:2"}); <-leaders != want; {
	}
	if n, epoch := ob.Leader(); n != (Node{2, "two:2"}) || epoch != 3 {
		t.Fatalf("leader %v, epoch %d", n, epoch)
	}
	q.mu.Lock()
	asked := q.asked
	q.mu.Unlock()
	if asked > 60 {
		t.Errorf("%d requests for a handful of changes: it polls", asked)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A log that cannot take what is committed ends the observer: going on would leave a hole.
func TestEndsWhereTheLogFails(t *testing.T) {
	q := newQuorum()
	q.append("a")
	q.commit(1)
	broken := errors.New("disk gone")
	err := New(options(q, failing{broken}), 0, 0).Run(t.Context())
	if !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Apply(Commit) error            { return f.err }
func (f failing) Install(*metadata.Image) error { return f.err }

// A quorum that lost what it had committed must not take it from its observers too.
func TestLostQuorumIsNotFollowed(t *testing.T) {
	q, f := newQuorum(), newFollower()
	q.append("a")
	q.append("b")
	q.commit(2)
	o := options(q, f)
	c := newCore(&o, 0, 0)
	ask := func() outcome {
		resp, _, err := q.answer(Node{1, "one:1"}, c.request())
		if err != nil {
			t.Fatal(err)
		}
		return c.answer(Node{1, "one:1"}, resp)
	}
	for c.next < 2 {
		if out := ask(); out.err != nil {
			t.Fatal(out.err)
		}
	}
	q.hw = 0
	q.elect(1, 2)
	q.append("other")
	q.commit(5)
	var out outcome
	for range 3 {
		out = ask()
	}
	if !errors.Is(out.err, ErrDiverged) || len(out.commits) > 0 {
		t.Fatalf("%+v", out)
	}
}

// Bytes of an answer come from outside: nothing may panic, and nothing damaged may be handed over.
func FuzzAnswers(f *testing.F) {
	q := newQuorum()
	q.append()
	q.append("a", "b")
	q.commit(2)
	q.cut()
	f.Add(append(append([]byte{}, q.snap...), 1), int64(3), true)
	q = newQuorum()
	q.append("a", "b")
	f.Add(q.batches[0].bytes, int64(2), false)
	f.Fuzz(func(t *testing.T, b []byte, hw int64, snapshot bool) {
		log := newFollower()
		o := options(newQuorum(), log)
		c := newCore(&o, 0, 0)
		c.epoch, c.leader = 1, 1
		if snapshot {
			c.beginSnapshot(3, 1)
			r := kmsg.NewPtrFetchSnapshotResponse()
			p := kmsg.NewFetchSnapshotResponseTopicPartition()
			p.SnapshotID.EndOffset, p.SnapshotID.Epoch, p.Size, p.Bytes = 3, 1, int64(len(b)), b
			p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = 1, 1
			r.Topics = []kmsg.FetchSnapshotResponseTopic{{Partitions: []kmsg.FetchSnapshotResponseTopicPartition{p}}}
			c.answer(Node{1, "x"}, r)
			return
		}
		r := kmsg.NewPtrFetchResponse()
		p := kmsg.NewFetchResponseTopicPartition()
		p.HighWatermark, p.RecordBatches = hw, b
		p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = 1, 1
		r.Topics = []kmsg.FetchResponseTopic{{Partitions: []kmsg.FetchResponseTopicPartition{p}}}
		out := c.answer(Node{1, "x"}, r)
		next := int64(0)
		for _, cm := range out.commits {
			if cm.Base != next {
				t.Fatalf("batch of %d where %d is next", cm.Base, next)
			}
			next = c.next
		}
	})
}
