package quorum

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand"
	"os"
	"strconv"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/vfs"
)

// simNode is one process with its disk and what it has built from the log.
type simNode struct {
	self    Member
	disk    *vfs.Mem
	n       *Node // nil while it is down
	log     []Batch
	synced  int // batches that a crash cannot take
	passive bool
}

func (s *simNode) end() int64 {
	if len(s.log) == 0 {
		return 0
	}
	return s.log[len(s.log)-1].Header.NextOffset()
}

// sim is a cluster in one goroutine: messages wait in a pool and are delivered in any order, twice, or never.
type sim struct {
	t       *testing.T
	r       *rand.Rand
	nodes   []*simNode
	pool    []simMessage
	cut     map[[2]int32]bool // ordered pairs that do not hear each other
	global  map[int64][]byte  // every batch that somebody has applied, by offset
	actives map[int32]int32   // who was active under an epoch
	acked   map[uint64]int64
	serial  uint64
}

type simMessage struct {
	from, to int32
	m        []byte
}

func batchOf(value uint64, control bool) []byte {
	b := record.NewBuilder(record.BuilderOptions{Control: control})
	if control {
		b.AppendControl(1, record.ControlLeaderChange, []byte{0, 0})
		return b.Finish()
	}
	b.Append(1, nil, binary.BigEndian.AppendUint64(nil, value), nil)
	if value%3 == 0 {
		b.Append(1, nil, []byte("second"), nil)
	}
	return b.Finish()
}

func newSim(t *testing.T, seed int64, size int) *sim {
	s := &sim{t: t, r: rand.New(rand.NewSource(seed)), cut: map[[2]int32]bool{}, global: map[int64][]byte{}, actives: map[int32]int32{}, acked: map[uint64]int64{}}
	for i := range size {
		x := &simNode{self: Member{Node: int32(i + 1), Dir: metadata.UUID{byte(i + 1), 9}}, disk: vfs.NewMem()}
		if err := x.disk.MkdirAll("/q", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := x.disk.SyncDir("/"); err != nil {
			t.Fatal(err)
		}
		s.nodes = append(s.nodes, x)
	}
	if err := Bootstrap(s.nodes[0].disk, "/q", s.nodes[0].self, 0, 0); err != nil {
		t.Fatal(err)
	}
	for _, x := range s.nodes {
		s.start(x)
	}
	return s
}

func (s *sim) start(x *simNode) {
	s.t.Helper()
	n, err := OpenNode(NodeOptions{
		Self: x.self, FS: x.disk, Dir: "/q", Logger: slog.New(slog.DiscardHandler), CompactBytes: 2000 + int64(s.r.Intn(4000)),
		Send: func(to Member, m *pb.Message) {
			b, err := proto.Marshal(m)
			if err != nil {
				s.t.Fatal(err)
			}
			s.pool = append(s.pool, simMessage{x.self.Node, to.Node, b})
		},
		Apply: func(b Batch) error { s.apply(x, b); return nil },
		CatchUp: func(offset int64) error {
			for x.end() < offset {
				raw, ok := s.global[x.end()]
				if !ok {
					s.t.Fatalf("node %d: a snapshot at %d, and nobody has applied %d", x.self.Node, offset, x.end())
				}
				h, _ := record.ParseHeader(raw)
				x.log = append(x.log, Batch{Bytes: raw, Header: h})
			}
			return nil
		},
		Sync:    func() error { x.synced = len(x.log); return nil },
		Lead:    func([]Member) ([]byte, error) { return batchOf(0, true), nil },
		Active:  func(epoch int32) { s.becameActive(x, epoch) },
		Passive: func() { x.passive = true },
	})
	if err != nil {
		s.t.Fatalf("node %d: %v", x.self.Node, err)
	}
	x.n, x.passive = n, true
}

func (s *sim) becameActive(x *simNode, epoch int32) {
	if other, ok := s.actives[epoch]; ok && other != x.self.Node {
		s.t.Fatalf("epoch %d has two active controllers: %d and %d", epoch, other, x.self.Node)
	}
	s.actives[epoch] = x.self.Node
	x.passive = false
}

// apply checks that every node builds the same log.
func (s *sim) apply(x *simNode, b Batch) {
	if b.Header.NextOffset() <= x.end() {
		have := s.global[b.Header.BaseOffset]
		if !bytes.Equal(have, b.Bytes) {
			s.t.Fatalf("node %d: another batch comes again at %d", x.self.Node, b.Header.BaseOffset)
		}
		return
	}
	if b.Header.BaseOffset != x.end() {
		s.t.Fatalf("node %d: batch at %d, its log ends at %d", x.self.Node, b.Header.BaseOffset, x.end())
	}
	if have, ok := s.global[b.Header.BaseOffset]; ok && !bytes.Equal(have, b.Bytes) {
		s.t.Fatalf("node %d: its batch at %d is not that of the others", x.self.Node, b.Header.BaseOffset)
	}
	s.global[b.Header.BaseOffset] = b.Bytes
	x.log = append(x.log, b)
}

func (s *sim) process(x *simNode) {
	if x.n == nil {
		return
	}
	if err := x.n.Process(); err != nil {
		s.t.Fatalf("node %d: %v", x.self.Node, err)
	}
}

func (s *sim) active() *simNode {
	for _, i := range s.r.Perm(len(s.nodes)) {
		if x := s.nodes[i]; x.n != nil && x.n.active {
			return x
		}
	}
	return nil
}

func (s *sim) deliver() {
	if len(s.pool) == 0 {
		return
	}
	i := s.r.Intn(min(len(s.pool), 20))
	m := s.pool[i]
	if s.r.Intn(20) > 0 { // else it comes once more
		s.pool = append(s.pool[:i], s.pool[i+1:]...)
	}
	if s.cut[[2]int32{m.from, m.to}] || s.r.Intn(30) == 0 {
		return
	}
	x := s.nodes[m.to-1]
	if x.n == nil {
		return
	}
	msg := &pb.Message{}
	if err := proto.Unmarshal(m.m, msg); err != nil {
		s.t.Fatal(err)
	}
	x.n.Step(s.nodes[m.from-1].self, msg)
	if s.r.Intn(3) > 0 {
		s.process(x)
	}
}

func (s *sim) propose() {
	x := s.active()
	if x == nil {
		return
	}
	s.serial++
	v := s.serial
	x.n.Propose(batchOf(v, false), func(base int64, err error) {
		if err == nil {
			s.acked[v] = base
		}
	})
	s.process(x)
}

func (s *sim) crash(x *simNode) {
	x.disk = x.disk.CrashClone(s.r, vfs.CrashOptions{Data: s.r.Float64(), Names: s.r.Float64(), Uneven: s.r.Intn(2) == 0})
	x.n = nil
	keep := x.synced + s.r.Intn(len(x.log)-x.synced+1)
	x.log = x.log[:keep]
}

func (s *sim) step() {
	switch k := s.r.Intn(100); {
	case k < 60:
		s.deliver()
	case k < 82:
		x := s.nodes[s.r.Intn(len(s.nodes))]
		if x.n != nil {
			x.n.Tick()
			s.process(x)
		}
	case k < 92:
		s.propose()
	case k < 94:
		if x := s.nodes[s.r.Intn(len(s.nodes))]; x.n != nil {
			s.crash(x)
		}
	case k < 97:
		if x := s.nodes[s.r.Intn(len(s.nodes))]; x.n == nil {
			s.start(x)
		}
	case k < 98:
		a, b := int32(1+s.r.Intn(len(s.nodes))), int32(1+s.r.Intn(len(s.nodes)))
		s.cut[[2]int32{a, b}] = true
		if s.r.Intn(3) > 0 {
			s.cut = map[[2]int32]bool{}
		}
	case k < 99:
		if x := s.nodes[s.r.Intn(len(s.nodes))]; x.n != nil {
			x.n.Campaign() // a dead-process hint, maybe a false one
			s.process(x)
		}
	default:
		s.change()
	}
}

// change adds, promotes or removes members.
func (s *sim) change() {
	x := s.active()
	if x == nil {
		return
	}
	voters, learners := x.n.Members()
	var ready []Member
	for _, l := range learners {
		if x.n.CaughtUp(l) {
			ready = append(ready, l)
		}
	}
	switch {
	case len(ready) > 0:
		_ = x.n.Change(nil, ready, nil)
	case len(voters)+len(learners) < len(s.nodes):
		for _, y := range s.nodes {
			in := false
			for _, m := range append(voters, learners...) {
				in = in || m == y.self
			}
			if !in {
				_ = x.n.Change([]Member{y.self}, nil, nil)
				break
			}
		}
	case len(voters) > 3:
		_ = x.n.Change(nil, nil, []Member{voters[s.r.Intn(len(voters))]})
	}
	s.process(x)
}

// settle heals everything and waits for agreement.
func (s *sim) settle() {
	s.cut = map[[2]int32]bool{}
	for _, x := range s.nodes {
		if x.n == nil {
			s.start(x)
		}
	}
	for range 400 {
		for _, x := range s.nodes {
			x.n.Tick()
			s.process(x)
		}
		for len(s.pool) > 0 {
			m := s.pool[0]
			s.pool = s.pool[1:]
			msg := &pb.Message{}
			if err := proto.Unmarshal(m.m, msg); err != nil {
				s.t.Fatal(err)
			}
			s.nodes[m.to-1].n.Step(s.nodes[m.from-1].self, msg)
			s.process(s.nodes[m.to-1])
		}
	}
}

// TestSimulation plays clusters through crashes, torn writes, lost, repeated and reordered messages, cuts and changes of members. If it
// fails, two nodes can have different metadata, or an answered change of the metadata can be lost.
func TestSimulation(t *testing.T) {
	seeds := 1000
	if testing.Short() {
		seeds = 150
	}
	if n, err := strconv.Atoi(os.Getenv("OTTLA_SIM_SEEDS")); err == nil && n > 0 {
		seeds = n
	}
	total := 0
	for seed := range seeds {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			s := newSim(t, int64(seed), 3+2*(seed%2))
			for range 3000 {
				s.step()
			}
			s.settle()
			lead := s.active()
			if lead == nil {
				t.Fatal("nobody leads in a healed cluster")
			}
			voters, _ := lead.n.Members()
			for _, m := range voters {
				if x := s.nodes[m.Node-1]; x.end() != lead.end() {
					t.Fatalf("node %d ends at %d, the leader at %d", m.Node, x.end(), lead.end())
				}
			}
			for v, base := range s.acked {
				b := s.global[base]
				h, err := record.ParseHeader(b)
				if err != nil {
					t.Fatalf("answered change %d at offset %d is lost", v, base)
				}
				want := batchOf(v, false)
				record.SetBaseOffset(want, base)
				record.SetLeaderEpoch(want, h.PartitionLeaderEpoch)
				if !bytes.Equal(b, want) || lead.end() < h.NextOffset() {
					t.Fatalf("answered change %d is not at offset %d", v, base)
				}
			}
			total += len(s.acked)
			if testing.Verbose() {
				voters, learners := lead.n.Members()
				t.Logf("%d answered of %d, %d epochs, %d voters, %d learners", len(s.acked), s.serial, len(s.actives), len(voters), len(learners))
			}
		})
	}
	if total == 0 {
		t.Error(fmt.Sprint("nothing was ever answered in ", seeds, " clusters"))
	}
}
