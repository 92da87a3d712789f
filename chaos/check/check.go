// Package check judges a history of a chaos run: it takes the events one by one, in their order, and says which promises were
// broken. It knows what a correct log looks like to its clients; it must never know a client, a broker or a fault, and it has no
// clock, no I/O and no randomness. Its memory grows with the breaks in the numbers (faults, transactions), not with the records.
package check

import (
	"fmt"
	"sort"

	"github.com/ottla/ottla/chaos/history"
)

// Class is a kind of broken promise.
type Class string

// The anomalies.
const (
	AckedLost       Class = "acknowledged-lost"
	Duplicated      Class = "duplicated"
	Phantom         Class = "phantom"
	Reordered       Class = "reordered"
	OffsetReused    Class = "offset-reused"
	WrongPartition  Class = "record-in-wrong-partition"
	AbortedRead     Class = "aborted-but-read"
	TornTxn         Class = "torn-transaction"
	HangingTxn      Class = "hanging-transaction"
	EndWentBack     Class = "end-offset-went-back"
	CommitWentBack  Class = "committed-offset-went-back"
	ReadThenLost    Class = "read-then-lost"
	ToldTruncated   Class = "told-truncated-below-read"
	InputSkipped    Class = "input-skipped"
	OrphanOutput    Class = "output-of-lost-input"
	ReplicasDiffer  Class = "replicas-differ"
	NotReadToTheEnd Class = "not-read-to-the-end" // the run could not be judged: no final read of a partition
)

const examplesPerClass = 8

// Classes lists every class in the order of a report.
func Classes() []Class {
	return []Class{AckedLost, Duplicated, Phantom, Reordered, OffsetReused, WrongPartition, AbortedRead, TornTxn, HangingTxn, InputSkipped, OrphanOutput,
		EndWentBack, CommitWentBack, ReadThenLost, ToldTruncated, ReplicasDiffer, NotReadToTheEnd}
}

// Anomalies are those of one class.
type Anomalies struct {
	Count    int64
	Examples []string // the first ones
}

// Verdict is what came out.
type Verdict struct {
	Found map[Class]*Anomalies

	Produced                       Totals // values outside of transactions
	Transacted                     Totals // values inside of transactions: their results are the transactions'
	Pending                        int64  // values without any result
	Read                           int64  // values read by live readers
	Committed, Aborted, TxnUnknown int64  // transactions
	FinalRecords                   int64
	UnknownFound                   int64 // values outside of transactions, without acknowledgement, that are in the log
}

// Totals counts values by their result.
type Totals struct{ Sent, Acked, Failed, Unknown int64 }

// Valid says whether nothing was found.
func (v Verdict) Valid() bool { return len(v.Found) == 0 }

type place struct {
	topic string
	part  int32
}

func (p place) String() string { return fmt.Sprintf("%s-%d", p.topic, p.part) }

type stream struct {
	place
	writer int32
}

// sender is what one writer did to one partition.
type sender struct {
	sent  int64 // values 0..sent-1 were sent
	acked runs  // seq -> offset
	fail  runs
	final runs // seq -> offset, in the log at last
	last  int64
	unk   int64
}

// partition is what was read of one partition.
type partition struct {
	read  runs // offset -> writer, seq; live readers
	sure  runs // the same of read_committed readers alone
	final runs // offset -> writer, seq
	ended bool
	held  bool // a transaction without an end keeps what follows from being read
	next  int64
	need  bool // somebody wrote or read here
}

type txnKey struct {
	writer int32
	txn    int64
}

type txn struct {
	result  history.Kind
	outputs int64
	live    int64 // outputs seen by read_committed readers
	finally int64
	example string
}

type position struct {
	who string
	place
}

// Checker takes a history in.
type Checker struct {
	v        Verdict
	senders  map[stream]*sender
	parts    map[place]*partition
	txns     map[txnKey]*txn
	readers  map[position]int64 // next offset expected at the least
	ends     map[position]int64
	commits  map[string]int64
	inputs   map[stream]*runs // input seq -> output, of the final log
	inputTo  map[place]int64  // committed offset of the transformers' group
	group    string
	outTopic string
	inTopic  string
}

// Options name the roles that the checker cannot see from the events.
type Options struct {
	TransformGroup string // the group whose transactions turn inputs into outputs; "" if there is none
	Input, Output  string // its topics
}

// New makes a checker.
func New(o Options) *Checker {
	return &Checker{v: Verdict{Found: map[Class]*Anomalies{}}, senders: map[stream]*sender{}, parts: map[place]*partition{}, txns: map[txnKey]*txn{},
		readers: map[position]int64{}, ends: map[position]int64{}, commits: map[string]int64{}, inputs: map[stream]*runs{}, inputTo: map[place]int64{},
		group: o.TransformGroup, inTopic: o.Input, outTopic: o.Output}
}

func (c *Checker) found(class Class, format string, args ...any) {
	a := c.v.Found[class]
	if a == nil {
		a = &Anomalies{}
		c.v.Found[class] = a
	}
	a.Count++
	if len(a.Examples) < examplesPerClass {
		a.Examples = append(a.Examples, fmt.Sprintf(format, args...))
	}
}

func (c *Checker) part(p place) *partition {
	s := c.parts[p]
	if s == nil {
		s = &partition{}
		c.parts[p] = s
	}
	return s
}

func (c *Checker) sender(v *history.Value) *sender {
	k := stream{place{v.Topic, v.Partition}, v.Writer}
	s := c.senders[k]
	if s == nil {
		s = &sender{last: -1}
		c.senders[k] = s
		c.part(k.place).need = true
	}
	return s
}

func (c *Checker) txn(writer int32, n int64) *txn {
	k := txnKey{writer, n}
	t := c.txns[k]
	if t == nil {
		t = &txn{}
		c.txns[k] = t
	}
	return t
}

// Observe takes the next event.
func (c *Checker) Observe(e history.Event) {
	at := place{e.Topic, e.Partition}
	switch e.Kind {
	case history.Sent, history.Acked, history.Failed, history.Unknown:
		c.produced(e)
	case history.TxnCommit, history.TxnAbort, history.TxnUnknown:
		c.ended(e)
	case history.Read:
		c.read(e)
	case history.Seek:
		c.readers[position{e.Who, at}] = e.Offset
	case history.Truncated:
		if e.N < e.Offset {
			c.found(ToldTruncated, "%v: %s had read up to %d of %v and was told that it ends at %d", e.At, e.Who, e.Offset, at, e.N)
		}
	case history.End:
		k := position{e.Who, at}
		if was, ok := c.ends[k]; ok && e.Offset < was {
			c.found(EndWentBack, "%v: %s saw %v end at %d after %d", e.At, e.Who, at, e.Offset, was)
		}
		c.ends[k] = e.Offset
	case history.CommitOK, history.CommitSeen:
		k := e.Group + "/" + at.String()
		if was, ok := c.commits[k]; ok && e.Offset < was {
			c.found(CommitWentBack, "%v: %s: the committed offset of %s for %v is %d after %d", e.At, e.Who, e.Group, at, e.Offset, was)
		}
		c.commits[k] = e.Offset
		if e.Group == c.group {
			c.inputTo[at] = e.Offset
		}
	case history.Final:
		c.final(e)
	case history.FinalEnd:
		c.part(at).ended = true
		if e.Offset < e.N {
			c.part(at).held = true
			c.found(HangingTxn, "%v: the last stable offset stays at %d, the high watermark is %d", at, e.Offset, e.N)
		}
	case history.Replicas:
		if e.Offset >= 0 {
			c.found(ReplicasDiffer, "%v from offset %d on: %s", at, e.Offset, e.Note)
		}
	}
}

func (c *Checker) produced(e history.Event) {
	s := c.sender(e.Value)
	v := *e.Value
	n := e.Count()
	total := &c.v.Produced
	if v.Txn != 0 {
		total = &c.v.Transacted
	}
	switch e.Kind {
	case history.Sent:
		s.sent = max(s.sent, v.Seq+n)
		total.Sent += n
	case history.Acked:
		total.Acked += n
		for i := range n {
			if _, was, taken := s.acked.put(v.Seq+i, 0, e.Offset+i); taken && was != e.Offset+i {
				c.found(Duplicated, "%v: %s seq %d of writer %d acknowledged at %d and at %d", e.At, place{v.Topic, v.Partition}, v.Seq+i, v.Writer, was, e.Offset+i)
			}
		}
	case history.Failed:
		total.Failed += n
		for i := range n {
			s.fail.put(v.Seq+i, 0, v.Seq+i)
		}
	case history.Unknown:
		total.Unknown += n
		s.unk += n
	}
}

func (c *Checker) ended(e history.Event) {
	t := c.txn(e.Value.Writer, e.Txn)
	t.result, t.outputs = e.Kind, e.N
	switch e.Kind {
	case history.TxnCommit:
		c.v.Committed++
	case history.TxnAbort:
		c.v.Aborted++
	default:
		c.v.TxnUnknown++
	}
}

// known checks what a record says of itself against where it was found and what was sent.
func (c *Checker) known(e history.Event, at place) bool {
	if e.Value == nil {
		c.found(Phantom, "%v: %s read something nobody wrote at %v offset %d: %s", e.At, e.Who, at, e.Offset, e.Note)
		return false
	}
	v := *e.Value
	if (place{v.Topic, v.Partition}) != at {
		c.found(WrongPartition, "%v: %s read at %v offset %d a record that was sent to %s-%d", e.At, e.Who, at, e.Offset, v.Topic, v.Partition)
		return false
	}
	s := c.senders[stream{at, v.Writer}]
	if s == nil || v.Seq+e.Count() > s.sent {
		c.found(Phantom, "%v: %s read at %v offset %d seq %d of writer %d, which was never sent", e.At, e.Who, at, e.Offset, v.Seq, v.Writer)
		return false
	}
	return true
}

func (c *Checker) read(e history.Event) {
	at := place{e.Topic, e.Partition}
	k := position{e.Who, at}
	n := e.Count()
	c.v.Read += n
	if next, ok := c.readers[k]; ok && e.Offset < next {
		c.found(Reordered, "%v: %s read offset %d of %v after %d", e.At, e.Who, e.Offset, at, next-1)
	}
	c.readers[k] = e.Offset + n
	if !c.known(e, at) {
		return
	}
	p := c.part(at)
	p.need = true
	v := *e.Value
	for i := range n {
		if w, seq, taken := p.read.put(e.Offset+i, v.Writer, v.Seq+i); taken && (w != v.Writer || seq != v.Seq+i) {
			c.found(OffsetReused, "%v: %s read at %v offset %d seq %d of writer %d; before there was seq %d of writer %d", e.At, e.Who, at, e.Offset+i, v.Seq+i, v.Writer, seq, w)
		}
	}
	if !e.Committed {
		return
	}
	for i := range n {
		p.sure.put(e.Offset+i, v.Writer, v.Seq+i)
	}
	if v.Txn != 0 {
		c.txn(v.Writer, v.Txn).live += n
	}
}

func (c *Checker) final(e history.Event) {
	at := place{e.Topic, e.Partition}
	p := c.part(at)
	n := e.Count()
	c.v.FinalRecords += n
	if e.Offset < p.next {
		c.found(Reordered, "the final read of %v gave offset %d after %d", at, e.Offset, p.next-1)
	}
	p.next = e.Offset + n
	if !c.known(e, at) {
		return
	}
	v := *e.Value
	s := c.sender(&v)
	for i := range n {
		seq, off := v.Seq+i, e.Offset+i
		p.final.put(off, v.Writer, seq)
		_, was, taken := s.final.put(seq, 0, off)
		switch {
		case taken:
			c.found(Duplicated, "%v: seq %d of writer %d is at offsets %d and %d", at, seq, v.Writer, was, off)
		case seq < s.last:
			c.found(Reordered, "%v: seq %d of writer %d follows %d, at offset %d", at, seq, v.Writer, s.last, off)
		}
		s.last = max(s.last, seq)
		if _, _, failed := s.fail.get(seq); failed {
			c.found(Phantom, "%v: seq %d of writer %d was refused and is at offset %d", at, seq, v.Writer, off)
		}
	}
	if v.Txn == 0 {
		return
	}
	t := c.txn(v.Writer, v.Txn)
	t.finally += n
	t.example = fmt.Sprintf("%v offset %d", at, e.Offset)
	in := stream{place{c.inTopic, v.InPart}, v.InOwner}
	m := c.inputs[in]
	if m == nil {
		m = &runs{}
		c.inputs[in] = m
	}
	if _, _, twice := m.put(v.InSeq, 0, v.InSeq); twice {
		c.found(Duplicated, "the input seq %d of %v was processed twice, again at %v offset %d", v.InSeq, in.place, at, e.Offset)
	}
}

// Finish ends the history and returns the verdict.
func (c *Checker) Finish() Verdict {
	places := make([]place, 0, len(c.parts))
	for p := range c.parts {
		places = append(places, p)
	}
	sort.Slice(places, func(i, j int) bool {
		return places[i].topic < places[j].topic || places[i].topic == places[j].topic && places[i].part < places[j].part
	})
	for _, at := range places {
		p := c.parts[at]
		if !p.ended {
			if p.need {
				c.found(NotReadToTheEnd, "%v", at)
			}
			continue
		}
		c.finishReads(at, p)
	}
	for k, s := range c.senders {
		if c.parts[k.place].ended {
			c.finishSender(k, s)
		}
	}
	c.finishTxns()
	c.finishInputs()
	return c.v
}

func (c *Checker) finishReads(at place, p *partition) {
	read := &p.read
	if at.topic == c.outTopic { // outputs of aborted transactions are read by read_uncommitted readers, and rightly not by the final one
		read = &p.sure
	}
	read.each(func(off int64, w int32, seq int64) {
		s := c.senders[stream{at, w}]
		if fw, fseq, ok := p.final.get(off); ok {
			if fw != w || fseq != seq {
				c.found(OffsetReused, "%v offset %d was read as seq %d of writer %d and is seq %d of writer %d", at, off, seq, w, fseq, fw)
				if _, _, there := s.final.get(seq); !there {
					c.found(ReadThenLost, "%v: seq %d of writer %d was read at offset %d and is gone", at, seq, w, off)
				}
			}
			return
		}
		c.found(ReadThenLost, "%v: seq %d of writer %d was read at offset %d and is gone", at, seq, w, off)
	})
}

func (c *Checker) finishSender(k stream, s *sender) {
	c.v.Pending += max(s.sent-s.acked.len()-s.fail.len()-s.unk, 0)
	if k.topic == c.outTopic && c.outTopic != "" {
		return // what an acknowledgement inside a transaction is worth is decided with the transaction
	}
	s.final.each(func(seq int64, _ int32, _ int64) {
		if _, _, acked := s.acked.get(seq); !acked {
			c.v.UnknownFound++
		}
	})
	p := c.parts[k.place]
	s.acked.each(func(seq int64, _ int32, off int64) {
		_, is, ok := s.final.get(seq)
		switch {
		case !ok:
			c.found(AckedLost, "%v: seq %d of writer %d, acknowledged at offset %d", k.place, seq, k.writer, off)
			if w, other, there := p.final.get(off); there {
				c.found(OffsetReused, "%v offset %d was acknowledged for seq %d of writer %d and holds seq %d of writer %d", k.place, off, seq, k.writer, other, w)
			}
		case is != off:
			c.found(OffsetReused, "%v: seq %d of writer %d was acknowledged at offset %d and is at %d", k.place, seq, k.writer, off, is)
		}
	})
}

// blind says that some output could not be read to the end: then a missing output says nothing.
func (c *Checker) blind() bool {
	for at, p := range c.parts {
		if at.topic == c.outTopic && (p.held || p.need && !p.ended) {
			return true
		}
	}
	return false
}

func (c *Checker) finishTxns() {
	blind := c.blind()
	for k, t := range c.txns {
		if blind && (t.result == history.TxnCommit || t.result == history.TxnUnknown) {
			continue
		}
		switch t.result {
		case history.TxnCommit:
			switch {
			case t.finally == 0 && t.outputs > 0:
				c.found(AckedLost, "all %d outputs of transaction %d of writer %d, whose commit was acknowledged", t.outputs, k.txn, k.writer)
			case t.finally < t.outputs:
				c.found(TornTxn, "transaction %d of writer %d was committed with %d outputs, %d are there (%s)", k.txn, k.writer, t.outputs, t.finally, t.example)
			}
		case history.TxnAbort:
			if t.finally+t.live > 0 {
				c.found(AbortedRead, "transaction %d of writer %d was aborted; read_committed readers saw %d of its outputs, %d in the final log (%s)", k.txn, k.writer, t.live, t.finally, t.example)
			}
		case history.TxnUnknown:
			if t.finally > 0 && t.finally < t.outputs {
				c.found(TornTxn, "transaction %d of writer %d had %d outputs, %d are there (%s)", k.txn, k.writer, t.outputs, t.finally, t.example)
			}
		default:
			// A transaction without an end: its writer died with the run.
			if t.finally > 0 {
				c.found(AbortedRead, "transaction %d of writer %d never ended; %d of its outputs are read as committed (%s)", k.txn, k.writer, t.finally, t.example)
			}
		}
	}
}

// finishInputs holds the transformers to "each input exactly once": what lies below their committed offset has its output, and
// no output speaks of an input that is not there.
func (c *Checker) finishInputs() {
	if c.group == "" {
		return
	}
	blind := c.blind()
	for at, to := range c.inputTo {
		p := c.parts[at]
		if blind || p == nil || !p.ended {
			continue
		}
		p.final.each(func(off int64, w int32, seq int64) {
			if off >= to {
				return
			}
			if m := c.inputs[stream{at, w}]; m != nil {
				if _, _, ok := m.get(seq); ok {
					return
				}
			}
			c.found(InputSkipped, "%v offset %d (seq %d of writer %d) lies below the committed offset %d and has no output", at, off, seq, w, to)
		})
	}
	for in, m := range c.inputs {
		s := c.senders[in]
		if p := c.parts[in.place]; p == nil || !p.ended {
			continue
		}
		m.each(func(seq int64, _ int32, _ int64) {
			if s != nil {
				if _, _, ok := s.final.get(seq); ok {
					return
				}
			}
			c.found(OrphanOutput, "an output was made from seq %d of writer %d of %v, which is not in the log", seq, in.writer, in.place)
		})
	}
}
