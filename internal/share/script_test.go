package share

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// bench is a share-partition with a log of batches, a clock and a write under way.
type bench struct {
	t     *testing.T
	p     *Partition
	log   []Batch
	now   int64
	start int64
}

// look reads like the shell does: whole batches from an offset up to the one that holds upTo.
func look(log []Batch, from, upTo int64) (batches []Batch, covered int64) {
	covered = from - 1
	for _, b := range log {
		if b.Last < from {
			continue
		}
		b.First = max(b.First, from)
		var keys []Key
		for _, k := range b.Keys {
			if k.Offset >= b.First {
				keys = append(keys, k)
			}
		}
		b.Keys = keys
		batches, covered = append(batches, b), b.Last
		if b.Last >= upTo {
			break
		}
	}
	return batches, covered
}

func acquire(p *Partition, log []Batch, now int64, r Request) []Lease {
	for {
		from, upTo, ok := p.Next(now, r.MaxRecords)
		if !ok {
			return nil
		}
		r.Now, r.From = now, from
		r.Batches, r.UpTo = look(log, from, upTo)
		leases := p.Acquire(&r)
		next, _, more := p.Next(now, r.MaxRecords)
		if len(leases) > 0 || r.UpTo < from || !more || next == from {
			return leases
		}
	}
}

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		b := &bench{t: t, now: 1000}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			b.t = t
			return b.run(d)
		})
	})
}

func (b *bench) run(d *datadriven.TestData) string {
	arg := func(name string, def int64) int64 {
		for _, a := range d.CmdArgs {
			if a.Key == name {
				n, err := strconv.ParseInt(a.Vals[0], 10, 64)
				if err != nil {
					d.Fatalf(b.t, "%s: %v", name, err)
				}
				return n
			}
		}
		return def
	}
	word := func(i int) string { return d.CmdArgs[i].Key }
	switch d.Cmd {
	case "new":
		s := Settings{MaxLocks: int(arg("locks", 100)), DeliveryLimit: int16(arg("limit", 5)), LockMs: arg("lock", 100), Renew: !d.HasArg("norenew"),
			RedeliveryMs: arg("delay", 0), RedeliveryMaxMs: arg("maxdelay", 1000), KeyOrder: d.HasArg("keyorder"), DeadLetters: d.HasArg("deadletters")}
		state := PersistedState{StartOffset: arg("start", 0)}
		for _, line := range lines(d.Input) {
			var s StateBatch
			var state1 int
			if _, err := fmt.Sscanf(line, "%d-%d state=%d count=%d", &s.FirstOffset, &s.LastOffset, &state1, &s.DeliveryCount); err != nil {
				d.Fatalf(b.t, "%s: %v", line, err)
			}
			s.DeliveryState = DeliveryState(state1)
			state.Batches = append(state.Batches, s)
		}
		p, err := New(state, max(state.StartOffset, arg("reset", 0)), s)
		if err != nil {
			return err.Error() + "\n"
		}
		b.p, b.log, b.now = p, nil, 1000
		return b.letters(p.TakeLetters()) + b.state()
	case "log":
		for _, line := range lines(d.Input) {
			b.log = append(b.log, parseBatch(d, b.t, line))
		}
		return ""
	case "acquire":
		leases := acquire(b.p, b.log, b.now, Request{Member: word(0), MaxRecords: int(arg("max", 100)), BatchSize: int(arg("batch", 100)), Strict: d.HasArg("strict")})
		var out strings.Builder
		for _, l := range leases {
			fmt.Fprintf(&out, "%d-%d count=%d\n", l.First, l.Last, l.Count)
		}
		if len(leases) == 0 {
			return "nothing\n"
		}
		return out.String()
	case "ack":
		var acks []Ack
		for _, line := range lines(d.Input) {
			acks = append(acks, parseAck(d, b.t, line))
		}
		if err := b.p.Acknowledge(word(0), acks, b.now); err != nil {
			return err.Error() + "\n" + b.state()
		}
		return b.state()
	case "write":
		w, _, ok := b.p.TakeWrite()
		if !ok {
			return "nothing\n"
		}
		b.start = w.StartOffset
		var out strings.Builder
		fmt.Fprintf(&out, "start=%d complete=%d\n", w.StartOffset, w.DeliveryCompleteCount)
		for _, s := range w.Batches {
			fmt.Fprintf(&out, "%d-%d %s count=%d\n", s.FirstOffset, s.LastOffset, s.DeliveryState, s.DeliveryCount)
		}
		return out.String()
	case "written":
		return b.letters(b.p.WriteDone(true, b.start)) + b.state()
	case "refused":
		return b.letters(b.p.WriteDone(false, b.start)) + b.state()
	case "expire":
		b.now += arg("after", 0)
		return fmt.Sprintf("expired=%d\n", b.p.Expire(b.now)) + b.state()
	case "release":
		return fmt.Sprintf("released=%d\n", b.p.ReleaseMember(word(0), b.now)) + b.state()
	case "logstart":
		b.p.MoveStart(arg("to", 0))
		return b.state()
	case "buried":
		b.p.DeadLettered(arg("first", 0), arg("last", 0), b.now)
		return b.state()
	case "wake":
		at, ok := b.p.Wake()
		if !ok {
			return "never\n"
		}
		return fmt.Sprintf("in %d\n", at-b.now)
	default:
		d.Fatalf(b.t, "unknown command %s", d.Cmd)
		return ""
	}
}

func lines(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == '\n' })
}

func parseBatch(d *datadriven.TestData, t *testing.T, line string) Batch {
	f := strings.Fields(line)
	var b Batch
	if _, err := fmt.Sscanf(f[0], "%d-%d", &b.First, &b.Last); err != nil {
		d.Fatalf(t, "%s: %v", line, err)
	}
	for _, w := range f[1:] {
		if w == "skip" {
			b.Skip = true
			continue
		}
		for i, k := range strings.Split(w, ",") {
			key := Key{Offset: b.First + int64(i), Null: k == "null"}
			for _, c := range k {
				key.Hash = key.Hash*31 + uint64(c)
			}
			b.Keys = append(b.Keys, key)
		}
	}
	return b
}

var ackWords = map[string]AckType{"gap": Gap, "accept": Accept, "release": Release, "reject": Reject, "renew": Renew}

func parseAck(d *datadriven.TestData, t *testing.T, line string) Ack {
	f := strings.Fields(line)
	var a Ack
	if _, err := fmt.Sscanf(f[0], "%d-%d", &a.First, &a.Last); err != nil {
		d.Fatalf(t, "%s: %v", line, err)
	}
	for _, w := range f[1:] {
		x, ok := ackWords[w]
		if !ok {
			d.Fatalf(t, "%s: what is %s", line, w)
		}
		a.Types = append(a.Types, x)
	}
	return a
}

func (b *bench) letters(l []DeadLetter) string {
	var out strings.Builder
	for _, x := range l {
		fmt.Fprintf(&out, "dead letter %d-%d count=%d %s\n", x.First, x.Last, x.Count, x.Cause)
	}
	return out.String()
}

func (b *bench) state() string {
	var out strings.Builder
	fmt.Fprintf(&out, "start=%d end=%d\n", b.p.start, b.p.end)
	for i := range b.p.runs {
		r := &b.p.runs[i]
		fmt.Fprintf(&out, "  %d-%d %s count=%d", r.first, r.last, r.state, r.count)
		if r.holder != "" {
			fmt.Fprintf(&out, " %s", r.holder)
		}
		if r.until > 0 {
			fmt.Fprintf(&out, " until=+%d", r.until-b.now)
		}
		if !r.settled() {
			out.WriteString(" unwritten")
		}
		if r.dirty {
			out.WriteString(" unsaid")
		}
		out.WriteString("\n")
	}
	return out.String()
}
