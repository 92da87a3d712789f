package check

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ottla/ottla/chaos/history"
)

// world is a correct cluster and its clients in a few lines: it makes clean histories, into which a test plants what it likes.
type world struct {
	t       *rapid.T
	events  []history.Event
	in      [2][]history.Value // the logs of the input topic
	out     [2][]slot
	seq     [2][2]int64 // by partition and writer
	outSeq  [2]int64
	taken   [2]int64 // inputs processed
	txns    int64
	readers map[string]*[2]int64
}

type slot struct {
	v       history.Value
	aborted bool
	marker  bool
}

const (
	inTopic, outTopic, group = "in", "out", "transform"
	transformer              = 9
)

func (w *world) add(e history.Event) { w.events = append(w.events, e) }

func (w *world) produce() {
	p, writer := rapid.IntRange(0, 1).Draw(w.t, "part"), rapid.IntRange(0, 1).Draw(w.t, "writer")
	n := rapid.IntRange(1, 5).Draw(w.t, "n")
	v := history.Value{Topic: inTopic, Partition: int32(p), Writer: int32(writer), Seq: w.seq[p][writer]}
	w.seq[p][writer] += int64(n)
	w.add(history.Event{Kind: history.Sent, Value: &v, N: int64(n)})
	off := int64(len(w.in[p]))
	switch rapid.IntRange(0, 9).Draw(w.t, "result") {
	case 0:
		w.add(history.Event{Kind: history.Failed, Value: &v, N: int64(n)})
		return
	case 1:
		w.add(history.Event{Kind: history.Unknown, Value: &v, N: int64(n)})
		if rapid.Bool().Draw(w.t, "lost") {
			return
		}
	default:
		w.add(history.Event{Kind: history.Acked, Value: &v, N: int64(n), Offset: off})
	}
	for i := range n {
		w.in[p] = append(w.in[p], v.Next(int64(i)))
	}
}

func (w *world) transact() {
	p := rapid.IntRange(0, 1).Draw(w.t, "part")
	n := min(int64(rapid.IntRange(1, 4).Draw(w.t, "n")), int64(len(w.in[p]))-w.taken[p])
	if n <= 0 {
		return
	}
	w.txns++
	result := rapid.SampledFrom([]history.Kind{history.TxnCommit, history.TxnCommit, history.TxnAbort, history.TxnUnknown}).Draw(w.t, "result")
	commit := result == history.TxnCommit || result == history.TxnUnknown && rapid.Bool().Draw(w.t, "committed")
	for i := range n {
		q := (p + int(i)) % 2
		input := w.in[p][w.taken[p]+i]
		v := history.Value{Topic: outTopic, Partition: int32(q), Writer: transformer, Seq: w.outSeq[q], Txn: w.txns, InPart: int32(p), InOwner: input.Writer, InSeq: input.Seq}
		w.outSeq[q]++
		w.add(history.Event{Kind: history.Sent, Value: &v})
		w.add(history.Event{Kind: history.Acked, Value: &v, Offset: int64(len(w.out[q]))})
		w.out[q] = append(w.out[q], slot{v: v, aborted: !commit})
	}
	for q := range w.out {
		w.out[q] = append(w.out[q], slot{marker: true})
	}
	if commit {
		w.taken[p] += n
	}
	w.add(history.Event{Kind: result, Value: &history.Value{Writer: transformer}, Txn: w.txns, N: n})
	w.add(history.Event{Kind: history.CommitSeen, Who: "o", Group: group, Topic: inTopic, Partition: int32(p), Offset: w.taken[p]})
}

func (w *world) read() {
	who := rapid.SampledFrom([]string{"committed", "uncommitted"}).Draw(w.t, "who")
	pos := w.readers[who]
	for p, log := range w.in {
		if pos[p] < int64(len(log)) {
			v := log[pos[p]]
			w.add(history.Event{Kind: history.Read, Who: who, Topic: inTopic, Partition: int32(p), Offset: pos[p], Value: &v, Committed: who == "committed"})
			pos[p]++
		}
		w.add(history.Event{Kind: history.End, Who: "o", Topic: inTopic, Partition: int32(p), Offset: int64(len(log))})
	}
	outs := w.readers[who+"-out"]
	for p, log := range w.out {
		if outs[p] >= int64(len(log)) {
			continue
		}
		s := log[outs[p]]
		if !s.marker && !(s.aborted && who == "committed") {
			w.add(history.Event{Kind: history.Read, Who: who, Topic: outTopic, Partition: int32(p), Offset: outs[p], Value: &s.v, Committed: who == "committed"})
		}
		outs[p]++
	}
}

func (w *world) finish() []history.Event {
	for p, log := range w.in {
		for off, v := range log {
			w.add(history.Event{Kind: history.Final, Topic: inTopic, Partition: int32(p), Offset: int64(off), Value: &v, Committed: true})
		}
		w.add(history.Event{Kind: history.FinalEnd, Topic: inTopic, Partition: int32(p), Offset: int64(len(log)), N: int64(len(log))})
		w.add(history.Event{Kind: history.Replicas, Topic: inTopic, Partition: int32(p), Offset: -1})
	}
	for p, log := range w.out {
		for off, s := range log {
			if !s.marker && !s.aborted {
				w.add(history.Event{Kind: history.Final, Topic: outTopic, Partition: int32(p), Offset: int64(off), Value: &s.v, Committed: true})
			}
		}
		w.add(history.Event{Kind: history.FinalEnd, Topic: outTopic, Partition: int32(p), Offset: int64(len(log)), N: int64(len(log))})
	}
	return w.events
}

// clean draws a clean history in which every kind of event occurs.
func clean(t *rapid.T) []history.Event {
	w := &world{t: t, readers: map[string]*[2]int64{}}
	for _, who := range []string{"committed", "uncommitted", "committed-out", "uncommitted-out"} {
		w.readers[who] = &[2]int64{}
	}
	for range rapid.IntRange(30, 80).Draw(t, "steps") {
		switch rapid.IntRange(0, 3).Draw(t, "step") {
		case 0, 1:
			w.produce()
		case 2:
			w.transact()
		default:
			w.read()
		}
	}
	return w.finish()
}

func judge(events []history.Event) Verdict {
	c := New(Options{TransformGroup: group, Input: inTopic, Output: outTopic})
	for _, e := range events {
		c.Observe(e)
	}
	return c.Finish()
}

func (v Verdict) String() string {
	var s string
	for _, c := range Classes() {
		if a := v.Found[c]; a != nil {
			s += fmt.Sprintf("%s %d %q\n", c, a.Count, a.Examples)
		}
	}
	return s
}

func TestCleanHistoriesAreClean(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := clean(t)
		if v := judge(events); !v.Valid() {
			t.Fatal(v)
		}
	})
}

// where draws one event that fits; a history without one is drawn again.
func where(t *rapid.T, events []history.Event, fits func(history.Event) bool) int {
	var at []int
	for i, e := range events {
		if fits(e) {
			at = append(at, i)
		}
	}
	if len(at) == 0 {
		t.Skip("no event to spoil")
	}
	return rapid.SampledFrom(at).Draw(t, "where")
}

func kind(k history.Kind, topic string) func(history.Event) bool {
	return func(e history.Event) bool {
		return e.Kind == k && (topic == "" || e.Topic == topic || e.Value != nil && e.Value.Topic == topic)
	}
}

func insert(events []history.Event, at int, e ...history.Event) []history.Event {
	return slices.Insert(slices.Clone(events), at, e...)
}

// without removes the events that fit.
func without(events []history.Event, fits func(history.Event) bool) []history.Event {
	return slices.DeleteFunc(slices.Clone(events), fits)
}

type plant struct {
	class Class
	name  string
	spoil func(t *rapid.T, events []history.Event) []history.Event
}

// acked says which input values were acknowledged.
func acked(events []history.Event, v *history.Value) bool {
	for _, e := range events {
		if e.Kind == history.Acked && e.Value.Topic == v.Topic && e.Value.Partition == v.Partition && e.Value.Writer == v.Writer && v.Seq >= e.Value.Seq && v.Seq < e.Value.Seq+e.Count() {
			return true
		}
	}
	return false
}

func wasRead(events []history.Event, f history.Event) bool {
	return slices.ContainsFunc(events, func(e history.Event) bool {
		return e.Kind == history.Read && e.Topic == f.Topic && e.Partition == f.Partition && e.Offset == f.Offset
	})
}

func txnOutputs(events []history.Event, txn int64) func(history.Event) bool {
	return func(e history.Event) bool { return e.Kind == history.Final && e.Value.Txn == txn }
}

func plants() []plant {
	return append(logPlants(), clientPlants()...)
}

// logPlants spoil what is in the log.
func logPlants() []plant {
	return []plant{
		{AckedLost, "an acknowledged record is not in the log", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, func(e history.Event) bool { return kind(history.Final, inTopic)(e) && acked(ev, e.Value) })
			return slices.Delete(slices.Clone(ev), i, i+1)
		}},
		{AckedLost, "a committed transaction is not there", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, kind(history.TxnCommit, ""))
			return without(ev, txnOutputs(ev, ev[i].Txn))
		}},
		{ReadThenLost, "a record that was read is not in the log", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, func(e history.Event) bool { return kind(history.Final, inTopic)(e) && wasRead(ev, e) })
			return slices.Delete(slices.Clone(ev), i, i+1)
		}},
		{Duplicated, "a record is in the log twice", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, kind(history.Final, inTopic))
			again := ev[i]
			again.Offset += 1 << 20
			end := where(t, ev, func(e history.Event) bool {
				return e.Kind == history.FinalEnd && e.Topic == inTopic && e.Partition == again.Partition
			})
			return insert(ev, end, again)
		}},
		{Duplicated, "an input was processed twice", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, kind(history.Final, outTopic))
			v, sent := *ev[i].Value, int64(0)
			for _, e := range ev {
				if e.Kind == history.Sent && e.Value.Topic == outTopic && e.Value.Partition == v.Partition {
					sent = max(sent, e.Value.Seq+1)
				}
			}
			v.Seq = sent
			again := ev[i]
			again.Value, again.Offset = &v, 1<<20
			end := where(t, ev, func(e history.Event) bool {
				return e.Kind == history.FinalEnd && e.Topic == outTopic && e.Partition == again.Partition
			})
			return insert(ev, end, history.Event{Kind: history.Sent, Value: &v}, again)
		}},
		{Phantom, "a record that was never sent", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, kind(history.FinalEnd, inTopic))
			return insert(ev, i, history.Event{Kind: history.Final, Topic: inTopic, Partition: ev[i].Partition, Offset: 1 << 20, Value: &history.Value{Topic: inTopic, Partition: ev[i].Partition, Seq: 1 << 20}})
		}},
		{Phantom, "bytes that nobody wrote", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, kind(history.FinalEnd, inTopic))
			return insert(ev, i, history.Event{Kind: history.Final, Topic: inTopic, Partition: ev[i].Partition, Offset: 1 << 20, Note: "garbage"})
		}},
		{Phantom, "a record that was refused", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, kind(history.Failed, ""))
			v := *ev[i].Value
			end := where(t, ev, func(e history.Event) bool {
				return e.Kind == history.FinalEnd && e.Topic == inTopic && e.Partition == v.Partition
			})
			return insert(ev, end, history.Event{Kind: history.Final, Topic: inTopic, Partition: v.Partition, Offset: 1 << 20, Value: &v})
		}},
		{Reordered, "two records of a writer change places", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, kind(history.Final, inTopic))
			ev = slices.Clone(ev)
			for j := i + 1; j < len(ev); j++ {
				if kind(history.Final, inTopic)(ev[j]) && ev[j].Partition == ev[i].Partition && ev[j].Value.Writer == ev[i].Value.Writer {
					ev[i].Value, ev[j].Value = ev[j].Value, ev[i].Value
					return ev
				}
			}
			t.Skip("no second record")
			return nil
		}},
		{OffsetReused, "an offset holds another record than was read there", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, func(e history.Event) bool { return kind(history.Final, inTopic)(e) && wasRead(ev, e) })
			ev = slices.Clone(ev)
			v := ev[i].Value.Next(1 << 20)
			ev[i].Value = &v
			return insert(ev, 0, history.Event{Kind: history.Sent, Value: &history.Value{Topic: inTopic, Partition: v.Partition, Writer: v.Writer}, N: 1 << 30})
		}},
		{WrongPartition, "a record is in another partition", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, kind(history.Final, inTopic))
			ev = slices.Clone(ev)
			v := *ev[i].Value
			v.Partition = 1 - v.Partition
			ev[i].Value = &v
			return ev
		}},
		{AbortedRead, "an aborted transaction's output is read as committed", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, kind(history.TxnAbort, ""))
			for _, e := range ev {
				if e.Kind == history.Acked && e.Value.Txn == ev[i].Txn {
					read := history.Event{Kind: history.Read, Who: "another", Topic: outTopic, Partition: e.Value.Partition, Offset: e.Offset, Value: e.Value, Committed: true}
					return insert(ev, i+1, read)
				}
			}
			t.Skip("an empty transaction")
			return nil
		}},
		{TornTxn, "a part of a transaction", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, func(e history.Event) bool {
				return (e.Kind == history.TxnCommit || e.Kind == history.TxnUnknown) && e.N > 1
			})
			j := where(t, ev, txnOutputs(ev, ev[i].Txn))
			return slices.Delete(slices.Clone(ev), j, j+1)
		}},
		{InputSkipped, "an input below the committed offset has no output", func(t *rapid.T, ev []history.Event) []history.Event {
			j := where(t, ev, kind(history.Final, outTopic))
			return slices.Delete(slices.Clone(ev), j, j+1)
		}},
		{OrphanOutput, "an output of an input that is lost", func(t *rapid.T, ev []history.Event) []history.Event {
			j := where(t, ev, kind(history.Final, outTopic))
			v := ev[j].Value
			i := where(t, ev, func(e history.Event) bool {
				return kind(history.Final, inTopic)(e) && e.Partition == v.InPart && e.Value.Writer == v.InOwner && e.Value.Seq == v.InSeq
			})
			return slices.Delete(slices.Clone(ev), i, i+1)
		}},
	}
}

// clientPlants spoil what clients were told.
func clientPlants() []plant {
	return []plant{
		{HangingTxn, "the last stable offset stays behind", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, kind(history.FinalEnd, outTopic))
			ev = slices.Clone(ev)
			ev[i].N++
			return ev
		}},
		{EndWentBack, "the end goes back", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, func(e history.Event) bool { return e.Kind == history.End && e.Offset > 0 })
			back := ev[i]
			back.Offset--
			return insert(ev, i+1, back)
		}},
		{CommitWentBack, "a committed offset goes back", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, func(e history.Event) bool { return e.Kind == history.CommitSeen && e.Offset > 0 })
			back := ev[i]
			back.Offset = -1
			return insert(ev, i+1, back)
		}},
		{ToldTruncated, "a reader is told that the log is shorter than what it read", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, kind(history.Read, inTopic))
			return insert(ev, i+1, history.Event{Kind: history.Truncated, Who: ev[i].Who, Topic: inTopic, Partition: ev[i].Partition, Offset: ev[i].Offset + 1, N: ev[i].Offset})
		}},
		{Reordered, "a reader goes back without a seek", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, kind(history.Read, inTopic))
			return insert(ev, i+1, ev[i])
		}},
		{Duplicated, "one record is acknowledged at two offsets", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, kind(history.Acked, inTopic))
			again := ev[i]
			again.Offset++
			return insert(ev, i+1, again)
		}},
		{ReplicasDiffer, "replicas differ", func(t *rapid.T, ev []history.Event) []history.Event {
			i := where(t, ev, kind(history.Replicas, inTopic))
			ev = slices.Clone(ev)
			ev[i].Offset = 3
			return ev
		}},
		{NotReadToTheEnd, "the final reader did not arrive", func(t *rapid.T, ev []history.Event) []history.Event {
			where(t, ev, kind(history.Sent, inTopic))
			return without(ev, kind(history.FinalEnd, inTopic))
		}},
	}
}

func TestPlantedAnomaliesAreFound(t *testing.T) {
	planted := map[Class]bool{}
	for _, p := range plants() {
		planted[p.class] = true
		t.Run(fmt.Sprintf("%s/%s", p.class, p.name), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				events := clean(t)
				spoiled := p.spoil(t, events)
				if v := judge(spoiled); v.Found[p.class] == nil {
					t.Fatalf("planted %s (%s), found: %v", p.class, p.name, v)
				}
			})
		})
	}
	for _, c := range Classes() {
		if !planted[c] {
			t.Errorf("no test plants %s", c)
		}
	}
}

// What lies behind a hanging transaction is not lost: it cannot be read yet.
func TestAHangingTransactionIsNotAlsoALoss(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := clean(t)
		i := where(t, events, kind(history.Final, outTopic))
		p, from := events[i].Partition, events[i].Offset
		events = without(events, func(e history.Event) bool {
			return e.Kind == history.Final && e.Topic == outTopic && e.Partition == p && e.Offset >= from
		})
		for i, e := range events {
			if e.Kind == history.FinalEnd && e.Topic == outTopic && e.Partition == p {
				events[i].Offset = from
			}
			if e.Kind == history.Read && e.Topic == outTopic && e.Partition == p && e.Offset >= from {
				t.Skip("it was read before: that is another anomaly")
			}
		}
		v := judge(events)
		if v.Found[HangingTxn] == nil || len(v.Found) != 1 {
			t.Fatal(v)
		}
	})
}

// The runs are a map, whatever the order of their numbers.
func TestRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m runs
		model := map[int64][2]int64{}
		for range rapid.IntRange(1, 200).Draw(t, "n") {
			k, tag := int64(rapid.IntRange(0, 60).Draw(t, "k")), int32(rapid.IntRange(0, 1).Draw(t, "tag"))
			v := k + int64(rapid.IntRange(0, 1).Draw(t, "slope"))
			was, ok := model[k]
			gotTag, got, taken := m.put(k, tag, v)
			if taken != ok || taken && (int64(gotTag) != was[0] || got != was[1]) {
				t.Fatalf("put(%d) said %d %d %v, the map holds %v %v", k, gotTag, got, taken, was, ok)
			}
			if !ok {
				model[k] = [2]int64{int64(tag), v}
			}
		}
		n := 0
		m.each(func(k int64, tag int32, v int64) {
			n++
			if was, ok := model[k]; !ok || was != [2]int64{int64(tag), v} {
				t.Fatalf("holds %d -> %d %d, want %v %v", k, tag, v, was, ok)
			}
		})
		if n != len(model) || m.len() != int64(n) {
			t.Fatalf("%d keys of %d", n, len(model))
		}
	})
}

func TestHistoryIsReplayedAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := clean(t)
		var file bytes.Buffer
		rec := history.NewRecorder(&file)
		for _, e := range events {
			rec.Record(e)
		}
		if err := rec.Flush(); err != nil {
			t.Fatal(err)
		}
		var back []history.Event
		if err := history.Replay(&file, func(e history.Event) { back = append(back, e) }); err != nil {
			t.Fatal(err)
		}
		if len(back) != len(events) {
			t.Fatalf("%d events of %d", len(back), len(events))
		}
		for i := range back {
			back[i].At = 0
			if !reflect.DeepEqual(back[i], events[i]) {
				t.Fatalf("%+v, was %+v", back[i], events[i])
			}
		}
	})
}
