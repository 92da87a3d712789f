package core

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The model is a partition of several replicas with a controller, in which anything may happen between two steps: messages are delivered in
// any order or lost, brokers crash and lose what they have not synced, the metadata reaches each broker when it likes. After each step:
//
//   - what a leader has once called committed is in the log of every later leader (LeaderCompleteness), and is the same record for all;
//   - below both high watermarks two logs are equal (LogMatching);
//   - a leader's high watermark does not go back within its epoch;
//   - what is committed is durable on as many replicas as min.insync.replicas asks for.

type entry struct {
	epoch int32
	value int
}

type mark struct {
	epoch int32
	start int64
}

// node is one broker's replica.
type node struct {
	id      int32
	alive   bool
	broker  int64 // its epoch at the controller
	log     []entry
	marks   []mark // where epochs begin
	durable int64
	hw      int64

	seen     state // newest metadata that it knows
	first    int   // the metadata that has its registration; what is older it does not act on
	leader   *Leader
	fetching bool // a fetch of this incarnation is under way
	turn     int  // counts fetches, so that an answer that is late is not taken
}

// state is the partition in the metadata.
type state struct {
	leader, epoch, partEpoch int32
	isr                      []int32
}

type message struct {
	kind          string // fetch, answer, alter, altered, metadata
	from, to      int32
	epoch         int32
	offset        int64
	last          int32
	broker        int64
	turn          int
	entries       []entry
	divergesAt    int64 // -1: not
	divergesEpoch int32
	hw            int64
	proposal      *Proposal
	of            *Leader
	state         state
	refused       bool
	ineligible    bool
}

type world struct {
	rand      func(n int) int // below n
	fatal     func(format string, args ...any)
	history   []state
	now       time.Duration
	nodes     []*node
	meta      state
	fenced    map[int32]bool
	epochs    map[int32]int64 // broker epochs at the controller
	nextBE    int64
	soup      []message
	committed []entry
	by        []int32 // the epoch of the leader that committed it
	values    int
	set       Settings
}

func (w *world) Broker(id int32) (int64, bool) { return w.epochs[id], !w.fenced[id] }

func newWorld(rand func(n int) int, fatal func(format string, args ...any)) *world {
	n := 2 + rand(3)
	w := &world{rand: rand, fatal: fatal, fenced: map[int32]bool{}, epochs: map[int32]int64{}, set: Settings{MinISR: 2, LagMax: 10 * time.Second, ShedAfter: 500 * time.Millisecond}}
	for i := range n {
		w.nodes = append(w.nodes, &node{id: int32(i), alive: true, broker: int64(i + 1), seen: state{leader: -1, partEpoch: -1}})
		w.epochs[int32(i)] = int64(i + 1)
		w.meta.isr = append(w.meta.isr, int32(i))
	}
	w.nextBE = int64(n + 1)
	w.meta = state{leader: 0, epoch: 0, partEpoch: 0, isr: w.meta.isr}
	w.publish()
	return w
}

func (w *world) replicas() []int32 {
	var out []int32
	for _, n := range w.nodes {
		out = append(out, n.id)
	}
	return out
}

func (w *world) publish() { w.history = append(w.history, w.meta) }

// hear lets a broker hear of the metadata, of all of it or up to some change.
func (w *world) hear(n *node, all bool) {
	from := int(n.seen.partEpoch) + 1 // the history has one entry for each partition epoch
	if !n.alive || from >= len(w.history) {
		return
	}
	at := len(w.history) - 1
	if !all {
		at = from + w.rand(len(w.history)-from)
	}
	if at >= n.first {
		w.learn(n, w.history[at])
	}
}

// change writes a partition change; a new leader is a new epoch.
func (w *world) change(leader int32, isr []int32) {
	if leader != w.meta.leader {
		w.meta.epoch++
	}
	w.meta.leader, w.meta.isr = leader, isr
	w.meta.partEpoch++
	w.publish()
}

// fence takes a broker out of the in-sync set, unless it is the last, and elects another leader.
func (w *world) fence(id int32) {
	w.fenced[id] = true
	isr := slices.DeleteFunc(slices.Clone(w.meta.isr), func(i int32) bool { return i == id })
	if len(isr) == 0 {
		isr = []int32{id} // the last one keeps its place: only it has everything
	}
	leader := w.meta.leader
	if leader == id {
		leader = -1
		for _, i := range isr {
			if !w.fenced[i] {
				leader = i
				break
			}
		}
	}
	if leader != w.meta.leader || len(isr) != len(w.meta.isr) {
		w.change(leader, isr)
	}
}

func (w *world) unfence(id int32) {
	w.fenced[id] = false
	if w.meta.leader < 0 && slices.Contains(w.meta.isr, id) {
		w.change(id, w.meta.isr)
	}
}

// alter is the controller's answer to AlterPartition.
func (w *world) alter(m message) message {
	p := m.proposal
	out := message{kind: "altered", to: m.from, proposal: p, of: m.of, refused: true}
	if p.LeaderEpoch != w.meta.epoch || p.PartitionEpoch != w.meta.partEpoch || m.from != w.meta.leader || !slices.Contains(p.ISR, m.from) {
		return out
	}
	for i, id := range p.ISR {
		if w.fenced[id] || p.BrokerEpochs[i] >= 0 && p.BrokerEpochs[i] != w.epochs[id] {
			out.ineligible = true
			return out
		}
	}
	w.change(w.meta.leader, slices.Clone(p.ISR))
	out.refused, out.state = false, w.meta
	return out
}

func (n *node) end() int64 { return int64(len(n.log)) }

func (n *node) latest() int32 {
	if len(n.marks) == 0 {
		return -1
	}
	return n.marks[len(n.marks)-1].epoch
}

func (n *node) mark(epoch int32, start int64) {
	if n.latest() < epoch {
		n.marks = append(n.marks, mark{epoch, start})
	}
}

// EpochEnd implements Epochs, as the log's epoch cache does.
func (n *node) EpochEnd(epoch int32) (int32, int64) {
	if len(n.marks) == 0 || epoch > n.latest() {
		return -1, -1
	}
	end := n.end()
	for i := len(n.marks) - 1; i >= 0; i-- {
		if n.marks[i].epoch <= epoch {
			return n.marks[i].epoch, end
		}
		end = n.marks[i].start
	}
	return epoch, end
}

func (n *node) truncate(to int64) {
	to = min(to, n.end())
	n.log = n.log[:to:to]
	n.durable, n.hw = min(n.durable, to), min(n.hw, to)
	n.dropMarks(to)
}

func (n *node) dropMarks(end int64) {
	for len(n.marks) > 0 && n.marks[len(n.marks)-1].start >= end {
		n.marks = n.marks[:len(n.marks)-1]
	}
}

// out acts on what a leader's state says.
func (w *world) out(n *node, o Out) {
	if o.Propose != nil {
		w.soup = append(w.soup, message{kind: "alter", from: n.id, proposal: o.Propose, of: n.leader})
	}
	if !o.Moved {
		return
	}
	hw := o.HighWatermark.Offset
	if hw < n.hw && n.leader.HighWatermark().Offset < n.hw {
		w.fatal("high watermark of leader %d went back from %d to %d", n.id, n.hw, hw)
	}
	for at := int64(len(w.committed)); at < hw; at++ {
		copies := 0
		for _, m := range w.nodes {
			if m.durable > at && m.log[at] == n.log[at] {
				copies++
			}
		}
		if copies < min(w.set.MinISR, len(w.nodes)) {
			w.fatal("offset %d is committed in epoch %d and durable on %d replicas", at, n.leader.Epoch(), copies)
		}
		w.committed, w.by = append(w.committed, n.log[at]), append(w.by, n.leader.Epoch())
	}
	n.hw = max(n.hw, hw)
}

// learn takes metadata over as the shell does.
func (w *world) learn(n *node, s state) {
	was := n.seen
	n.seen = s
	a := Assignment{Replicas: w.replicas(), ISR: s.isr, PartitionEpoch: s.partEpoch}
	switch {
	case s.leader != n.id:
		n.leader = nil
		if s.epoch != was.epoch {
			n.turn++
			n.fetching = false
			n.dropMarks(n.end())
		}
	case n.leader == nil || n.leader.Epoch() != s.epoch:
		for at, e := range w.committed {
			if w.by[at] < s.epoch && (int64(at) >= n.end() || n.log[at] != e) {
				w.fatal("leader %d of epoch %d lacks the committed record at %d (ends at %d)", n.id, s.epoch, at, n.end())
			}
		}
		n.mark(s.epoch, n.end())
		n.leader = NewLeader(n.id, s.epoch, n.end(), End{Offset: n.durable}, End{Offset: n.hw}, a, w.set, w.now)
	default:
		w.out(n, n.leader.Assign(w, a, w.now))
	}
}

func (w *world) deliver(m message) {
	if m.kind == "alter" {
		w.soup = append(w.soup, w.alter(m))
		return
	}
	n := w.nodes[m.to]
	switch m.kind {
	case "fetch":
		w.serve(n, m)
	case "answer":
		w.take(n, m)
	case "altered":
		if n.leader == nil || n.leader != m.of {
			return
		}
		answer := Accepted
		switch {
		case m.ineligible:
			answer = Refused
		case m.refused:
			answer = Outdated
		}
		o, _ := n.leader.Replied(w, m.proposal, answer, m.state.isr, m.state.epoch, m.state.partEpoch, w.now)
		w.out(n, o)
	}
}

// fetch sends a follower's fetch from its durable end.
func (w *world) fetch(n *node) {
	if !n.alive || n.fetching || n.leader != nil || n.seen.leader < 0 || n.durable < n.end() {
		return
	}
	n.fetching = true
	n.turn++
	w.soup = append(w.soup, message{kind: "fetch", from: n.id, to: n.seen.leader, epoch: n.seen.epoch, offset: n.durable, last: n.latest(), broker: n.broker, turn: n.turn})
}

func (w *world) serve(n *node, m message) {
	a := message{kind: "answer", from: n.id, to: m.from, epoch: m.epoch, turn: m.turn, divergesAt: -1, refused: true}
	defer func() { w.soup = append(w.soup, a) }()
	if !n.alive || n.leader == nil || n.leader.Epoch() != m.epoch {
		return
	}
	if m.last >= 0 {
		epoch, end := n.EpochEnd(m.last)
		if epoch < 0 {
			return
		}
		if a.refused = false; epoch < m.last || end < m.offset {
			a.divergesAt, a.divergesEpoch = end, epoch
			return
		}
	}
	if a.refused = m.offset > n.end(); a.refused {
		return
	}
	a.entries = append(a.entries, n.log[m.offset:]...)
	o, ok := n.leader.Fetched(w, Fetch{Replica: m.from, BrokerEpoch: m.broker, End: End{Offset: m.offset}}, n.end(), w.now)
	w.out(n, o)
	a.refused, a.hw, a.offset = !ok, n.leader.HighWatermark().Offset, m.offset
}

func (w *world) take(n *node, m message) {
	if !n.alive || n.turn != m.turn || !n.fetching {
		return
	}
	n.fetching = false
	if m.refused || n.leader != nil || n.seen.epoch != m.epoch {
		return
	}
	if m.divergesAt >= 0 {
		to := Truncation(n, m.divergesEpoch, m.divergesAt, n.end())
		if to < n.end() {
			n.truncate(to)
		} else {
			n.dropMarks(n.end())
		}
		return
	}
	if m.offset != n.end() {
		w.fatal("follower %d at %d is answered from %d", n.id, n.end(), m.offset)
	}
	for _, e := range m.entries {
		n.mark(e.epoch, n.end())
		n.log = append(n.log, e)
	}
	n.hw = max(n.hw, FollowerHighWatermark(m.hw, n.durable))
}

func (w *world) crash(n *node, keep int64) {
	n.alive, n.leader, n.fetching = false, nil, false
	n.turn++
	n.log = n.log[:keep:keep]
	n.durable, n.hw = keep, min(n.hw, keep)
	n.dropMarks(keep)
}

func (w *world) check() {
	for i, a := range w.nodes {
		for _, b := range w.nodes[:i] {
			for at := range min(a.hw, b.hw) {
				if a.log[at] != b.log[at] {
					w.fatal("below both high watermarks replicas %d and %d differ at %d: %v and %v", a.id, b.id, at, a.log[at], b.log[at])
				}
			}
		}
		for at := range min(a.hw, int64(len(w.committed))) {
			if a.log[at] != w.committed[at] {
				w.fatal("replica %d has %v at %d, which was committed as %v", a.id, a.log[at], at, w.committed[at])
			}
		}
	}
}

// settle heals everything: what was appended last must then be committed, and all in sync.
func (w *world) settle() {
	for _, n := range w.nodes {
		if !n.alive {
			w.restart(n)
		}
		w.unfence(n.id)
	}
	for range 400 {
		w.now += 500 * time.Millisecond
		soup := w.soup
		w.soup = nil
		for _, m := range soup {
			w.deliver(m)
			w.check()
		}
		for _, n := range w.nodes {
			w.sync(n, n.end())
			w.fetch(n)
			if n.leader != nil {
				n.leader.Observe(w.now)
				w.out(n, n.leader.Tick(w, n.end(), true, w.now))
			}
		}
		for _, n := range w.nodes {
			w.hear(n, true)
		}
		if w.healthy() {
			return
		}
	}
	w.fatal("after all is healed not all replicas are in sync: %+v", w.meta)
}

func (w *world) healthy() bool {
	if w.meta.leader < 0 || len(w.meta.isr) < len(w.nodes) {
		return false
	}
	l := w.nodes[w.meta.leader]
	return l.leader != nil && l.hw == l.end() && !slices.ContainsFunc(w.nodes, func(n *node) bool { return n.end() != l.end() })
}

func (w *world) sync(n *node, to int64) {
	if n.alive && to > n.durable {
		n.durable = to
		if n.leader != nil {
			w.out(n, n.leader.Durable(w, End{Offset: to}, w.now))
		}
	}
}

// restart brings a broker back as a new incarnation: the controller fences the old one first, so that it leads in a new epoch if at all (R4).
func (w *world) restart(n *node) {
	w.fence(n.id)
	w.nextBE++
	n.alive, n.broker = true, w.nextBE
	n.seen, n.first = state{leader: -1, partEpoch: -1}, len(w.history)-1
	w.epochs[n.id] = n.broker
}

// step lets one thing happen.
func (w *world) step() {
	n := w.nodes[w.rand(len(w.nodes))]
	switch x := w.rand(100); {
	case x < 35:
		if len(w.soup) > 0 {
			w.deliver(w.draw())
		}
	case x < 50:
		w.fetch(n)
	case x < 62:
		if n.alive && n.leader != nil {
			w.values++
			n.log = append(n.log, entry{n.leader.Epoch(), w.values})
		}
	case x < 78:
		if lag := n.end() - n.durable; lag > 0 {
			w.sync(n, n.durable+1+int64(w.rand(int(lag))))
		}
	case x < 86:
		w.hear(n, w.rand(2) == 0)
	case x < 89:
		w.now += time.Duration(1+w.rand(3000)) * time.Millisecond
		if n.alive && n.leader != nil {
			n.leader.Observe(w.now)
			w.out(n, n.leader.Tick(w, n.end(), w.rand(2) == 0, w.now))
		}
	case x < 91:
		if len(w.soup) > 0 {
			w.lose(w.draw())
		}
	case x < 92:
		if n.alive {
			w.crash(n, n.durable+int64(w.rand(int(n.end()-n.durable)+1)))
		}
	case x < 95:
		if !n.alive {
			w.restart(n)
		}
	case x < 96:
		w.fence(n.id)
	default:
		w.unfence(n.id)
	}
	w.check()
}

// draw takes a message that is under way.
func (w *world) draw() message {
	i := w.rand(len(w.soup))
	m := w.soup[i]
	w.soup = slices.Delete(w.soup, i, i+1)
	return m
}

// lose is what happens where a message does not arrive: its connection breaks, and who asked asks again.
func (w *world) lose(m message) {
	switch m.kind {
	case "alter", "altered":
		w.soup = append(w.soup, message{kind: "alter", from: m.from + m.to, proposal: m.proposal, of: m.of}) // one of both is 0
	default:
		for _, n := range w.nodes {
			if n.turn == m.turn && (n.id == m.from || n.id == m.to) {
				n.fetching = false
			}
		}
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }, t.Fatalf)
		for range 200 {
			w.step()
		}
		w.settle()
	})
}

// TestSimulation runs many longer histories; what fails is run again with -seed.
func TestSimulation(t *testing.T) {
	first, last := uint64(1), *seeds
	if *seed > 0 {
		first, last = *seed, *seed
	}
	committed := 0
	for s := first; s <= last; s++ {
		r := rand.New(rand.NewPCG(s, 0))
		w := newWorld(r.IntN, func(format string, args ...any) {
			t.Helper()
			t.Fatalf("seed %d: "+format, append([]any{s}, args...)...)
		})
		for range 1000 {
			w.step()
		}
		w.settle()
		committed += len(w.committed)
	}
	if n := committed / int(last-first+1); n < 10 {
		t.Errorf("only %d records were committed in each history", n)
	}
	t.Logf("%d records committed in each of %d histories", committed/int(last-first+1), last-first+1)
}

var (
	seed  = flag.Uint64("seed", 0, "the history to run")
	seeds = flag.Uint64("seeds", 1500, "how many histories")
)

func (m message) String() string {
	return fmt.Sprintf("%s %d>%d epoch %d", m.kind, m.from, m.to, m.epoch)
}
