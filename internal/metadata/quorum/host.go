package quorum

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// HostOptions are what a Host is made of.
type HostOptions struct {
	NodeOptions
	Clock clock.Clock
	// Tick is the library's unit of time; 0 is 50 ms, which with ten ticks to an election is half a second.
	Tick time.Duration
	// Encode makes a batch of records, its base offset and epoch open.
	Encode func(records []metadata.Versioned) ([]byte, error)
	// Failed is told why this member stopped: its disk, or a log that it cannot read.
	Failed func(err error)
}

// Status is how a member sees the quorum.
type Status struct {
	Leader, Epoch    int32 // -1 unknown
	Active           bool  // this member is the active controller
	Voters, Learners []Member
	Alone            bool // this member is the only voter
}

// Host drives a Node in a process: one goroutine owns it.
type Host struct {
	o      HostOptions
	node   *Node
	status atomic.Pointer[Status]

	mu     sync.Mutex
	queue  []func(n *Node)
	closed bool
	wake   chan struct{}
	done   chan struct{}
}

// maxQueue bounds what waits for the goroutine; the library makes up for messages that are lost.
const maxQueue = 20_000

// NewHost opens a member and drives it until Close.
func NewHost(o HostOptions) (*Host, error) {
	if o.Tick <= 0 {
		o.Tick = 50 * time.Millisecond
	}
	node, err := OpenNode(o.NodeOptions)
	if err != nil {
		return nil, err
	}
	h := &Host{o: o, node: node, wake: make(chan struct{}, 1), done: make(chan struct{})}
	h.note()
	go h.run()
	return h, nil
}

// Status is the newest.
func (h *Host) Status() Status { return *h.status.Load() }

func (h *Host) note() {
	s := Status{Active: h.node.active, Alone: h.node.Alone()}
	s.Leader, s.Epoch = h.node.Leader()
	s.Voters, s.Learners = h.node.Members()
	h.status.Store(&s)
}

// do has f run by the goroutine; false where it will not.
func (h *Host) do(f func(n *Node)) bool {
	h.mu.Lock()
	ok := !h.closed && len(h.queue) < maxQueue
	if ok {
		h.queue = append(h.queue, f)
	}
	h.mu.Unlock()
	if ok {
		h.rouse()
	}
	return ok
}

func (h *Host) rouse() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Propose implements metadata.Proposer.
func (h *Host) Propose(records []metadata.Versioned, done func(base int64, err error)) {
	batch, err := h.o.Encode(records)
	if err != nil {
		done(-1, errors.Join(err, metadata.ErrNotWritten))
		return
	}
	if !h.do(func(n *Node) { n.Propose(batch, done) }) {
		done(-1, errors.Join(errPassive, metadata.ErrNotWritten))
	}
}

// Change changes the members; see Node.Change.
func (h *Host) Change(add, promote, remove []Member) {
	h.do(func(n *Node) {
		if err := n.Change(add, promote, remove); err != nil {
			h.o.Logger.Debug("the members of the quorum were not changed", "err", err)
		}
	})
}

// Remove takes a member out; done is called, on the host's goroutine, once that is committed or will not be.
func (h *Host) Remove(m Member, done func(err error)) {
	asked := h.do(func(n *Node) {
		if n.changed != nil {
			done(wire.Errorf(kerr.RequestTimedOut, "%v.", ErrBusy))
			return
		}
		if err := n.Change(nil, nil, []Member{m}); err != nil {
			done(wire.Errorf(kerr.RequestTimedOut, "%v.", err))
			return
		}
		n.changed = done
	})
	if !asked {
		done(errPassive)
	}
}

// Promote lets learners vote that all have the whole log, and takes others out, in one change.
func (h *Host) Promote(learners, remove []Member) {
	h.do(func(n *Node) {
		for _, m := range learners {
			if !n.CaughtUp(m) {
				return
			}
		}
		if err := n.Change(nil, learners, remove); err != nil {
			h.o.Logger.Debug("the members of the quorum were not changed", "err", err)
		}
	})
}

// Transfer hands the lead to another voter, if there is one.
func (h *Host) Transfer() {
	h.do(func(n *Node) {
		voters, _ := n.Members()
		var best Member
		most := uint64(0)
		progress := n.raft.Status().Progress
		for _, m := range voters {
			if p, ok := progress[m.ID()]; ok && m != n.o.Self && p.Match > most {
				best, most = m, p.Match
			}
		}
		if n.leading && most > 0 {
			n.raft.TransferLeader(best.ID())
		}
	})
}

// hintTries is how often a member asks for the lead after the leader's process ended, and hintJitter how long it waits at most before each:
// two that ask at the same moment split the vote.
const hintTries = 25

func hintPause(try int) time.Duration {
	if try == 0 {
		return time.Duration(rand.Int64N(int64(15 * time.Millisecond)))
	}
	return 20*time.Millisecond + time.Duration(rand.Int64N(int64(40*time.Millisecond)))
}

// PeerGone hears that a node's process ended. Was it the leader, an election begins at once; where the word was wrong it is needless, not
// harmful.
func (h *Host) PeerGone(node int32) {
	if h.Status().Leader == node {
		h.hint(node, 0)
	}
}

func (h *Host) hint(node int32, try int) {
	if try >= hintTries {
		return
	}
	h.o.Clock.AfterFunc(hintPause(try), func() {
		h.do(func(n *Node) {
			if lead, _ := n.Leader(); lead != node && lead != -1 || n.leading {
				return
			}
			n.Campaign()
			h.hint(node, try+1)
		})
	})
}

// Begin asks for the lead at once where this member is the only voter: nobody else can have it.
func (h *Host) Begin() {
	h.do(func(n *Node) {
		if n.Alone() {
			n.Campaign()
		}
	})
}

func (h *Host) run() {
	defer close(h.done)
	tick := h.o.Clock.NewTimer(h.o.Tick)
	defer func() { tick.Stop() }()
	for {
		select {
		case <-h.wake:
		case <-tick.C():
			h.node.Tick()
			tick = h.o.Clock.NewTimer(h.o.Tick)
		}
		h.mu.Lock()
		queue, closed := h.queue, h.closed
		h.queue = nil
		h.mu.Unlock()
		for _, f := range queue {
			f(h.node)
		}
		if closed {
			return
		}
		if err := h.node.Process(); err != nil {
			h.fail(err)
			return
		}
		h.note()
	}
}

// fail ends the member: what its disk holds is not known.
func (h *Host) fail(err error) {
	h.o.Logger.Error("this node's part in the metadata quorum ended; start it again once the cause is mended", "err", err)
	h.mu.Lock()
	h.closed = true
	queue := h.queue
	h.queue = nil
	h.mu.Unlock()
	for _, f := range queue {
		f(h.node)
	}
	h.node.stop()
	s := h.Status()
	s.Leader, s.Active = -1, false
	h.status.Store(&s)
	if h.o.Failed != nil {
		h.o.Failed(err)
	}
}

// Close stops the goroutine and closes the state.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.rouse()
	<-h.done
	h.node.stop()
	return h.node.Close()
}

// Frames of messages between members: the sender as JSON with its length, then messages with theirs.

// AppendMessage adds a message to a frame.
func AppendMessage(dst []byte, from Member, m *pb.Message) ([]byte, error) {
	if len(dst) == 0 {
		who, err := json.Marshal(from)
		if err != nil {
			return nil, err
		}
		dst = append(binary.BigEndian.AppendUint32(dst, uint32(len(who))), who...)
	}
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst, err := proto.MarshalOptions{}.MarshalAppend(dst, m)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst, err
}

var errFrame = errors.New("a frame of the quorum that is cut off")

func cutBytes(b []byte) (value, rest []byte, err error) {
	if len(b) < 4 || uint64(binary.BigEndian.Uint32(b)) > uint64(len(b)-4) {
		return nil, nil, errFrame
	}
	n := binary.BigEndian.Uint32(b)
	return b[4 : 4+n], b[4+n:], nil
}

// Deliver takes a frame.
func (h *Host) Deliver(frame []byte) error {
	who, rest, err := cutBytes(frame)
	if err != nil {
		return err
	}
	var from Member
	if err := json.Unmarshal(who, &from); err != nil {
		return fmt.Errorf("a frame of the quorum: %w", err)
	}
	var messages []*pb.Message
	for len(rest) > 0 {
		var part []byte
		if part, rest, err = cutBytes(rest); err != nil {
			return err
		}
		m := &pb.Message{}
		if err := proto.Unmarshal(part, m); err != nil {
			return fmt.Errorf("a frame of the quorum: %w", err)
		}
		messages = append(messages, m)
	}
	h.do(func(n *Node) {
		for _, m := range messages {
			n.Step(from, m)
		}
	})
	return nil
}

// Urgent says whether a message must not wait behind large ones.
func Urgent(m *pb.Message) bool {
	switch m.GetType() {
	case pb.MessageType_MsgApp, pb.MessageType_MsgSnap:
		return false
	}
	return true
}
