package txn

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/twmb/franz-go/pkg/kerr"
	"pgregory.net/rapid"

	"github.com/ottla/ottla/internal/coordinator"
)

// bench is a shard with a log that never fails.
type bench struct {
	s         *Shard
	now       time.Time
	log       []coordinator.Record
	timers    map[string]time.Time
	announced []string
	fresh     int64
}

func newBench() *bench {
	b := &bench{now: time.UnixMilli(1_000_000), fresh: 100}
	b.load()
	return b
}

// load begins a new life from the log.
func (b *bench) load() {
	b.timers, b.announced = map[string]time.Time{}, nil
	b.s = New(Options{MaxTimeoutMs: 60_000, Expiration: time.Hour, ExpiryInterval: time.Minute, Announce: func(id string) { b.announced = append(b.announced, id) }, Log: slog.New(slog.DiscardHandler)})
	for _, r := range b.log {
		if err := b.s.Replay(0, -1, -1, r); err != nil {
			panic(err)
		}
	}
	b.set(b.s.OnLoaded(b.now, nil))
}

func (b *bench) set(timers []coordinator.Timer) {
	for _, t := range timers {
		if delete(b.timers, t.Key); t.After > 0 {
			b.timers[t.Key] = b.now.Add(t.After)
		}
	}
}

func commit[T any](b *bench, r coordinator.Result[T], err error) (T, error) {
	if err != nil {
		return r.Reply, err
	}
	for _, rec := range r.Records {
		b.log = append(b.log, rec)
		if err := b.s.Replay(0, -1, -1, rec); err != nil {
			panic(err)
		}
	}
	b.set(r.Timers)
	return r.Reply, nil
}

// wait lets time pass and timers fire.
func (b *bench) wait(d time.Duration) {
	until := b.now.Add(d)
	for {
		key, at := "", until
		for k, t := range b.timers {
			if !t.After(at) {
				key, at = k, t
			}
		}
		if key == "" {
			b.now = until
			return
		}
		delete(b.timers, key)
		b.now = at
		r, err := b.s.OnTimer(b.now, key)
		if _, err = commit(b, r, err); err != nil {
			panic(err)
		}
	}
}

func (b *bench) withID(op func(fresh int64) (coordinator.Result[Granted], error)) (Granted, error) {
	g, err := commit2(b, op, NoProducer)
	if err == nil && g.NeedID {
		b.fresh++
		g, err = commit2(b, op, b.fresh)
	}
	return g, err
}

func commit2(b *bench, op func(int64) (coordinator.Result[Granted], error), fresh int64) (Granted, error) {
	r, err := op(fresh)
	return commit(b, r, err)
}

func (b *bench) init(id string, timeoutMs int32, have Producer) (Granted, error) {
	return b.withID(func(fresh int64) (coordinator.Result[Granted], error) {
		return b.s.InitProducerID(b.now, id, timeoutMs, have, fresh)
	})
}

func (b *bench) end(id string, p Producer, commits bool, version int16) (Granted, error) {
	return b.withID(func(fresh int64) (coordinator.Result[Granted], error) {
		return b.s.EndTxn(b.now, id, p, commits, version, fresh)
	})
}

func (b *bench) add(id string, p Producer, version int16, parts ...Partition) error {
	r, err := b.s.AddPartitions(b.now, id, p, parts, version)
	_, err = commit(b, r, err)
	return err
}

func (b *bench) complete(id string) *Decision {
	d := b.s.Prepared(id)
	if d != nil {
		r, err := b.s.Complete(b.now, d)
		if _, err = commit(b, r, err); err != nil {
			panic(err)
		}
	}
	return d
}

func code(err error) string {
	var ke *kerr.Error
	if errors.As(err, &ke) {
		return ke.Message
	}
	if err != nil {
		return err.Error()
	}
	return "ok"
}

func (b *bench) show(id string) string {
	t := b.s.Get(id)
	if t == nil {
		return "unknown"
	}
	var parts []string
	for _, p := range t.Sorted() {
		parts = append(parts, fmt.Sprintf("%s-%d", p.Topic, p.Partition))
	}
	return fmt.Sprintf("%v producer %d epoch %d partitions [%s]", t.State, t.ProducerID, t.Epoch, strings.Join(parts, " "))
}

// The scripts say what a transactional id goes through; the last line of each answer is its state.
//
//	init [pid= epoch=] [timeout=]; add pid= epoch= [v=] t-0 ...; verify pid= epoch= t-0 ...; end pid= epoch= commit|abort [v=]
//	complete; wait DURATION; reload; epoch N (as if so many transactions had passed)
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		b := newBench()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			p := Producer{NoProducer, NoEpoch}
			version, timeoutMs, epoch := int64(Version2), int64(10_000), int64(NoEpoch)
			d.MaybeScanArgs(t, "pid", &p.ID)
			d.MaybeScanArgs(t, "epoch", &epoch)
			d.MaybeScanArgs(t, "v", &version)
			d.MaybeScanArgs(t, "timeout", &timeoutMs)
			p.Epoch = int16(epoch)
			var parts []Partition
			var words []string
			for _, a := range d.CmdArgs {
				if topic, n, ok := strings.Cut(a.Key, "-"); ok && len(a.Vals) == 0 {
					parts = append(parts, Partition{topic, int32(n[0] - '0')})
				} else if len(a.Vals) == 0 {
					words = append(words, a.Key)
				}
			}
			out := ""
			switch d.Cmd {
			case "init":
				g, err := b.init("x", int32(timeoutMs), p)
				out = fmt.Sprintf("%s %+v aborting=%v", code(err), g.Producer, g.Aborting)
			case "add":
				out = code(b.add("x", p, int16(version), parts...))
			case "verify":
				for _, q := range parts {
					out += fmt.Sprintf("%s-%d %s ", q.Topic, q.Partition, code(b.s.Verify("x", p, parts)[q]))
				}
			case "end":
				g, err := b.end("x", p, words[0] == "commit", int16(version))
				out = fmt.Sprintf("%s %+v", code(err), g.Producer)
			case "complete":
				out = fmt.Sprintf("%+v", b.complete("x"))
				if b.s.Prepared("x") == nil && strings.HasPrefix(out, "<nil>") {
					out = "nothing to complete"
				}
			case "wait":
				dur, err := time.ParseDuration(words[0])
				if err != nil {
					t.Fatal(err)
				}
				b.wait(dur)
			case "reload":
				b.load()
				out = fmt.Sprint("announced ", b.announced)
			case "epoch":
				n := b.s.Get("x").clone()
				var e int64
				if _, err := fmt.Sscan(words[0], &e); err != nil {
					t.Fatal(err)
				}
				n.Epoch = int16(e)
				b.log = append(b.log, n.record(true))
				b.load()
			default:
				t.Fatalf("unknown command %s", d.Cmd)
			}
			return strings.TrimSpace(out) + "\n" + b.show("x") + "\n"
		})
	})
}

// If this fails, an epoch goes back or is given twice, a decision changes, an ongoing transaction outlives its time, or a new life
// knows something else than the last.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBench()
		granted := map[Producer]bool{}
		newest := Producer{NoProducer, NoEpoch}
		decided := map[Producer]bool{} // by the producer of the decision: commit
		note := func(g Granted, err error) {
			if err != nil || g.Aborting {
				return
			}
			if g.ID < newest.ID || g.ID == newest.ID && g.Epoch < newest.Epoch {
				rt.Fatalf("%+v was given after %+v", g.Producer, newest)
			}
			newest = g.Producer
			granted[newest] = true
		}
		who := func() Producer {
			p := newest
			if rapid.IntRange(0, 4).Draw(rt, "stale") == 0 {
				p.Epoch -= int16(rapid.IntRange(1, 2).Draw(rt, "by"))
			}
			return p
		}
		actions := map[string]func(*rapid.T){
			"init": func(*rapid.T) { note(b.init("x", 10_000, Producer{NoProducer, NoEpoch})) },
			"bump": func(*rapid.T) {
				if p := who(); p.ID >= 0 && p.Epoch >= 0 {
					note(b.init("x", 10_000, p))
				}
			},
			"add": func(*rapid.T) {
				p := who()
				if err := b.add("x", p, Version2, Partition{"t", int32(rapid.IntRange(0, 2).Draw(rt, "partition"))}); err == nil && p != newest {
					rt.Fatalf("%+v writes after %+v was given", p, newest)
				}
			},
			"end": func(*rapid.T) {
				p, commits := who(), rapid.Bool().Draw(rt, "commit")
				before := b.s.Get("x")
				g, err := b.end("x", p, commits, Version2)
				if err == nil && before != nil && before.State == Ongoing {
					decided[Producer{b.s.Get("x").ProducerID, b.s.Get("x").Epoch}] = commits
				}
				note(g, err)
			},
			"complete": func(*rapid.T) {
				if d := b.complete("x"); d != nil {
					if c, ok := decided[d.Producer]; ok && c != d.Commit {
						rt.Fatalf("%+v was decided commit=%v and completed commit=%v", d.Producer, c, d.Commit)
					}
				}
			},
			"wait": func(*rapid.T) {
				b.wait(time.Duration(rapid.IntRange(1, 15).Draw(rt, "s")) * time.Second)
				if x := b.s.Get("x"); x != nil && x.State == Ongoing && b.now.After(x.due()) {
					rt.Fatalf("a transaction goes on after its time: %+v", x)
				}
			},
			"reload": func(*rapid.T) {
				before := b.show("x")
				b.load()
				if after := b.show("x"); after != before {
					rt.Fatalf("a new life knows %s, the last knew %s", after, before)
				}
				if (b.s.Prepared("x") != nil) != (len(b.announced) == 1) {
					rt.Fatalf("announced %v in state %s", b.announced, b.show("x"))
				}
			},
		}
		rt.Repeat(actions)
	})
}

// If this fails, a batch of the next transaction overtakes an earlier one, or is refused, while the transaction before is being ended.
func TestParkedUntilComplete(t *testing.T) {
	b := newBench()
	g, err := b.init("x", 10_000, Producer{NoProducer, NoEpoch})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.add("x", g.Producer, Version2, Partition{"t", 0}); err != nil {
		t.Fatal(err)
	}
	next, err := b.end("x", g.Producer, true, Version2)
	if err != nil {
		t.Fatal(err)
	}
	for tok, who := range map[coordinator.Token]Producer{1: next.Producer, 3: next.Producer} {
		r, err := b.s.AddOrPark(b.now, tok, "x", who, []Partition{{"t", int32(tok)}}, Version2)
		if err != nil || !r.Parked {
			t.Fatalf("%+v %v", r, err)
		}
	}
	if _, err := b.s.AddOrPark(b.now, 4, "x", g.Producer, []Partition{{"t", 4}}, Version2); !errors.Is(err, kerr.ProducerFenced) {
		t.Fatalf("a zombie gets %v", err)
	}
	r, err := b.s.Complete(b.now, b.s.Prepared("x"))
	if err != nil || len(r.Deliveries) != 2 || r.Deliveries[0].Err != nil || r.Deliveries[1].Err != nil {
		t.Fatalf("%+v %v", r.Deliveries, err)
	}
	if _, err := commit(b, r, nil); err != nil {
		t.Fatal(err)
	}
	if got, want := b.show("x"), "Ongoing producer 101 epoch 1 partitions [t-1 t-3]"; got != want {
		t.Fatalf("%s, not %s", got, want)
	}
}
