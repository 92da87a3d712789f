// Package quorum agrees on the metadata log among several nodes: it hosts a library of the Raft algorithm, keeps its state on disk, and
// hands over what is committed, batch by batch in Kafka's own format, with the offsets and epochs that every member derives alike.
//
// A Node is driven from outside - ticks, messages, proposals - and has no goroutine, clock or network of its own, so that a simulation can
// play it. A Host drives one in a process. The package knows members, batches and files. It must never know what a record means.
package quorum

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/vfs"
	"github.com/ottla/ottla/internal/wire"
)

// Member is a node with the directory that holds its state. A node whose disk was lost comes back with another directory, as another
// member: it does not know what it had promised.
type Member struct {
	Node int32         `json:"node"`
	Dir  metadata.UUID `json:"dir"`
}

// ID is the member's number in the library; never 0.
func (m Member) ID() uint64 {
	h := fnv.New64a()
	_, _ = h.Write(m.Dir[:])
	_ = binary.Write(h, binary.BigEndian, m.Node)
	return max(h.Sum64(), 1)
}

// Batch is a committed batch with its offsets and epoch written into it.
type Batch struct {
	Bytes  []byte
	Header record.Header
	Leader int32 // who leads now, -1 unknown
}

// position is what a snapshot of the library stands for: the metadata log up to an offset, which members get from each other in their own way.
type position struct {
	Offset  int64    `json:"offset"` // after the last record
	Epoch   int32    `json:"epoch"`
	Members []Member `json:"members"`
}

// NodeOptions are what a Node is made of.
type NodeOptions struct {
	Self   Member
	FS     vfs.FS
	Dir    string // of the state file; it exists
	Logger *slog.Logger
	// Send sends a message; it may be lost, and must not block.
	Send func(to Member, m *pb.Message)
	// Apply takes the next committed batch. Batches that were taken before a restart come again.
	Apply func(b Batch) error
	// CatchUp brings what Apply builds to an offset, which the log of this member has lost or never had. It may block.
	CatchUp func(offset int64) error
	// Sync makes what Apply was given durable, so that the log can let it go.
	Sync func() error
	// Retry is asked about a write of the state that failed, and may wait: true tries it again, as after a full disk. nil: never.
	Retry func(err error) bool
	// Lead makes the control batch with which a new leader begins its epoch, its base offset and epoch open.
	Lead func(members []Member) ([]byte, error)
	// Active is told when this member has become the active controller, and everything before is applied; Passive when it is not any more.
	Active  func(epoch int32)
	Passive func()
	// CompactBytes is the size of the state file from which it is written anew; 0 is 8 MiB.
	CompactBytes int64
	// ElectionTicks without a word from the leader begin an election; 0 is 10.
	ElectionTicks int
}

// Node is one member. It belongs to one goroutine.
type Node struct {
	o       NodeOptions
	id      uint64
	wal     *wal
	storage *storage
	raft    *raft.RawNode
	members map[uint64]Member
	conf    *pb.ConfState
	applied uint64
	next    int64 // offset after the last record of the log up to applied
	epoch   int32 // of that record

	lead    uint64 // 0 unknown
	leading bool
	active  bool
	began   uint64 // term for which the control batch was proposed
	serial  uint64
	pending map[uint64]func(base int64, err error)
	seen    map[uint64]Member // that wrote to this member and are not known as members
	changed func(err error)   // waits for the change of the members that is under way
	lost    error             // the state on disk is not what this member once had
}

// maxStrangers bounds whose word is remembered.
const maxStrangers = 100

// Bootstrap makes the state of a quorum whose only member is self, for a log that ends before offset with epoch.
func Bootstrap(f vfs.FS, dir string, self Member, offset int64, epoch int32) error {
	if Exists(f, dir) {
		return fmt.Errorf("%s holds the state of a quorum already", dir)
	}
	data, err := json.Marshal(position{offset, epoch, []Member{self}})
	if err != nil {
		return err
	}
	term, index := uint64(max(epoch, 1)), uint64(1)
	w := &wal{fs: f, dir: dir}
	snap := &pb.Snapshot{Data: data, Metadata: &pb.SnapshotMetadata{ConfState: &pb.ConfState{Voters: []uint64{self.ID()}}, Index: &index, Term: &term}}
	return errors.Join(w.rewrite(&pb.HardState{Term: &term, Commit: &index}, nil, snap), w.close())
}

// OpenNode opens the state of a member. Without one the node is a member of nothing until a leader writes to it.
func OpenNode(o NodeOptions) (*Node, error) {
	if o.CompactBytes <= 0 {
		o.CompactBytes = 8 << 20
	}
	if o.ElectionTicks <= 0 {
		o.ElectionTicks = 10
	}
	n := &Node{o: o, id: o.Self.ID(), members: map[uint64]Member{}, pending: map[uint64]func(int64, error){}, seen: map[uint64]Member{}}
	var err error
	n.storage = &storage{n: n}
	if n.wal, n.storage.MemoryStorage, err = openWAL(o.FS, o.Dir); err != nil {
		return nil, err
	}
	snap, err := n.storage.MemoryStorage.Snapshot()
	if err == nil {
		err = n.restore(snap)
	}
	if err == nil {
		n.raft, err = raft.NewRawNode(&raft.Config{
			ID: n.id, ElectionTick: o.ElectionTicks, HeartbeatTick: 1, Storage: n.storage, Applied: n.applied, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 64,
			MaxInflightBytes: 8 << 20, MaxUncommittedEntriesSize: 64 << 20, CheckQuorum: true, PreVote: true, StepDownOnRemoval: true,
			DisableProposalForwarding: true, Logger: quietLogger{o.Logger},
		})
	}
	if err != nil {
		return nil, errors.Join(err, n.wal.close())
	}
	return n, nil
}

// restore takes over where a snapshot of the library stands.
func (n *Node) restore(snap *pb.Snapshot) error {
	md := snap.GetMetadata()
	if md.GetIndex() == 0 {
		return nil
	}
	var p position
	if err := json.Unmarshal(snap.GetData(), &p); err != nil {
		return fmt.Errorf("the quorum's snapshot: %w", err)
	}
	n.applied, n.next, n.epoch, n.conf = md.GetIndex(), p.Offset, p.Epoch, md.GetConfState()
	n.setMembers(p.Members)
	return nil
}

func (n *Node) setMembers(list []Member) {
	n.members = map[uint64]Member{}
	for _, m := range list {
		n.members[m.ID()] = m
	}
}

// Members are those who vote and those who will, by node.
func (n *Node) Members() (voters, learners []Member) {
	vote, learn := n.conf.GetVoters(), slices.Concat(n.conf.GetLearners(), n.conf.GetLearnersNext())
	if out := n.conf.GetVotersOutgoing(); len(out) > 0 { // between two sets of voters, where both are needed: the new ones do not count yet
		for _, id := range vote {
			if !slices.Contains(out, id) {
				learn = append(learn, id)
			}
		}
		vote = out
		learn = slices.DeleteFunc(learn, func(id uint64) bool { return slices.Contains(vote, id) })
	}
	for _, id := range vote {
		voters = append(voters, n.members[id])
	}
	for _, id := range learn {
		learners = append(learners, n.members[id])
	}
	byNode := func(a, b Member) int { return int(a.Node) - int(b.Node) }
	slices.SortFunc(voters, byNode)
	slices.SortFunc(learners, byNode)
	return voters, learners
}

// Leader is the node that leads, -1 for unknown, and the newest epoch.
func (n *Node) Leader() (node, epoch int32) {
	node = -1
	if m, ok := n.members[n.lead]; ok {
		node = m.Node
	}
	return node, int32(min(n.raft.BasicStatus().HardState.GetTerm(), math.MaxInt32))
}

// Next is the offset after the last record that was applied.
func (n *Node) Next() int64 { return n.next }

// Tick lets time pass.
func (n *Node) Tick() { n.raft.Tick() }

// Step takes a message of another member. Who is new to the quorum knows its leader from its messages only.
func (n *Node) Step(from Member, m *pb.Message) {
	if m.GetTo() != n.id {
		n.o.Logger.Debug("a message of the quorum was for another member", "from", from.Node) // whose disk this node had once
		return
	}
	if id := from.ID(); id != m.GetFrom() {
		n.o.Logger.Warn("a message of the quorum in another's name was not taken", "node", from.Node)
		return
	} else if _, known := n.members[id]; !known && len(n.seen) < maxStrangers {
		n.seen[id] = from
	}
	if !n.remembers(m) {
		return
	}
	if err := n.raft.Step(m); err != nil && !errors.Is(err, raft.ErrProposalDropped) {
		n.o.Logger.Debug("a message of the quorum was not taken", "from", m.GetFrom(), "err", err)
	}
}

// remembers says whether a message may be acted upon with what this member knows of its past. Without any state it is new, or its state was
// lost: it gives nobody its vote, which it may have given away before. A leader tells a member only what that has confirmed to be committed;
// if this member does not have it, its file was lost or put back from a copy, and it must not go on under its old name.
func (n *Node) remembers(m *pb.Message) bool {
	last, err := n.storage.LastIndex()
	if err != nil {
		return false
	}
	switch m.GetType() {
	case pb.MessageType_MsgVote, pb.MessageType_MsgPreVote:
		return last > 0
	case pb.MessageType_MsgHeartbeat:
		if m.GetCommit() > last {
			n.lost = fmt.Errorf("this node's state of the metadata quorum in %s was lost or put back from a copy: the leader knows of %d entries, there are %d; empty the node's directories and let it join anew", n.o.Dir, m.GetCommit(), last)
			return false
		}
	}
	return true
}

// Campaign asks for the lead; the leader, if one is known, is forgotten first.
func (n *Node) Campaign() {
	if n.leading {
		return
	}
	_ = n.raft.ForgetLeader()
	_ = n.raft.Campaign()
}

// Alone says whether this member is the only voter.
func (n *Node) Alone() bool {
	v := n.conf.GetVoters()
	return len(v) == 1 && v[0] == n.id && len(n.conf.GetVotersOutgoing()) == 0
}

var errPassive = wire.Errorf(kerr.NotController, "This node is not the active controller.")

// Propose proposes a batch, its base offset and epoch open. done is called with the base offset once it is committed and applied, or with
// an error when it is not known whether it will be.
func (n *Node) Propose(batch []byte, done func(base int64, err error)) {
	if !n.active {
		done(-1, errPassive)
		return
	}
	n.propose(batch, done)
}

func (n *Node) propose(batch []byte, done func(base int64, err error)) {
	n.serial++
	data := binary.BigEndian.AppendUint64(make([]byte, 0, 16+len(batch)), n.id)
	data = binary.BigEndian.AppendUint64(data, n.serial)
	data = append(data, batch...)
	if err := n.raft.Propose(data); err != nil {
		done(-1, errors.Join(wire.Errorf(kerr.NotController, "The quorum did not take a change: %v", err), metadata.ErrNotWritten))
		return
	}
	n.pending[n.serial] = done
}

// ErrBusy refuses a change of the members while another is under way, or on a member that does not lead.
var ErrBusy = errors.New("the members of the quorum cannot be changed now")

// Change proposes a change of the members: those to be added as learners, learners to vote from now on, and those to leave.
func (n *Node) Change(add, promote, remove []Member) error {
	if !n.active {
		return errPassive
	}
	members := map[uint64]Member{}
	for id, m := range n.members {
		members[id] = m
	}
	cc := &pb.ConfChangeV2{}
	put := func(t pb.ConfChangeType, m Member) {
		id := m.ID()
		cc.Changes = append(cc.Changes, &pb.ConfChangeSingle{Type: &t, NodeId: &id})
	}
	for _, m := range add {
		members[m.ID()] = m
		put(pb.ConfChangeType_ConfChangeAddLearnerNode, m)
	}
	for _, m := range promote {
		put(pb.ConfChangeType_ConfChangeAddNode, m)
	}
	for _, m := range remove {
		delete(members, m.ID())
		put(pb.ConfChangeType_ConfChangeRemoveNode, m)
	}
	var list []Member
	for _, m := range members {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b Member) int { return int(a.Node) - int(b.Node) })
	var err error
	if cc.Context, err = json.Marshal(list); err != nil {
		return err
	}
	if err := n.raft.ProposeConfChange(cc); err != nil {
		return fmt.Errorf("%w: %v", ErrBusy, err)
	}
	return nil
}

func (n *Node) answerChange(err error) {
	if f := n.changed; f != nil {
		n.changed = nil
		f(err)
	}
}

// CaughtUp says whether a learner has the log up to a moment ago.
func (n *Node) CaughtUp(m Member) (ok bool) {
	if !n.leading {
		return false
	}
	last, _ := n.storage.LastIndex()
	pr, has := n.raft.Status().Progress[m.ID()]
	return has && pr.Match > 0 && pr.Match+16 >= last
}

// Process writes, sends and applies what the library has ready. An error is of the disk, or of Apply: the member must stop.
func (n *Node) Process() error {
	if n.lost != nil {
		return n.lost
	}
	for n.raft.HasReady() {
		rd := n.raft.Ready()
		if rd.SoftState != nil {
			n.roles(rd.SoftState)
		}
		// A leader's disk and its followers' work at the same time. Not so when the term is new: if it were lost, the same term could be
		// led twice.
		early := n.leading && n.sameTerm(rd.HardState)
		if early {
			n.send(rd.Messages)
		}
		if err := n.persist(&rd); err != nil {
			return err
		}
		if !early {
			n.send(rd.Messages)
		}
		for _, e := range rd.CommittedEntries {
			if err := n.apply(e); err != nil {
				return err
			}
		}
		n.raft.Advance(rd)
		n.begin()
	}
	return n.compact()
}

// sameTerm says whether a state has the term and the vote that are on disk.
func (n *Node) sameTerm(st *pb.HardState) bool {
	if raft.IsEmptyHardState(st) {
		return true
	}
	old, _, err := n.storage.InitialState()
	return err == nil && old.GetTerm() == st.GetTerm() && old.GetVote() == st.GetVote()
}

// roles notes who leads.
func (n *Node) roles(s *raft.SoftState) {
	n.lead = s.Lead
	was := n.leading
	n.leading = s.RaftState == raft.StateLeader
	if was && !n.leading {
		n.answerChange(wire.Errorf(kerr.NotController, "This node lost the lead of the metadata log before the members were changed; they may still be."))
		if n.active {
			n.active = false
			n.o.Passive()
		}
		pending := n.pending
		n.pending = map[uint64]func(int64, error){}
		for _, done := range pending {
			done(-1, wire.Errorf(kerr.NotController, "This node lost the lead of the metadata log before the change was committed; it may still be."))
		}
	}
}

// begin writes the control batch of a new lead.
func (n *Node) begin() {
	if !n.leading {
		return
	}
	term := n.raft.BasicStatus().HardState.GetTerm()
	if n.began == term {
		return
	}
	n.began = term
	voters, _ := n.Members()
	batch, err := n.o.Lead(voters)
	if err != nil {
		n.o.Logger.Error("the lead of the metadata log could not be begun", "err", err)
		return
	}
	n.propose(batch, func(_ int64, err error) {
		if err != nil || !n.leading || n.raft.BasicStatus().HardState.GetTerm() != term {
			if err == nil || n.leading {
				n.began = 0
			}
			return
		}
		n.active = true
		n.o.Active(int32(term))
	})
}

func (n *Node) send(messages []*pb.Message) {
	for _, m := range messages {
		to, ok := n.members[m.GetTo()]
		if !ok {
			to, ok = n.seen[m.GetTo()]
		}
		if ok {
			n.o.Send(to, m)
			if m.GetType() == pb.MessageType_MsgSnap {
				// It names a position only. Should it be lost, the next heartbeat leads to another.
				n.raft.ReportSnapshot(m.GetTo(), raft.SnapshotFailure)
			}
			continue
		}
		// Who is no member any more, or not known to be one yet, is told by nobody; the library tries again.
		n.raft.ReportUnreachable(m.GetTo())
	}
}

func (n *Node) persist(rd *raft.Ready) error {
	var snap *pb.Snapshot
	if !raft.IsEmptySnap(rd.Snapshot) {
		snap = rd.Snapshot
		var p position
		if err := json.Unmarshal(snap.GetData(), &p); err != nil {
			return fmt.Errorf("the leader's snapshot: %w", err)
		}
		if err := n.o.CatchUp(p.Offset); err != nil {
			return err
		}
		if err := n.o.Sync(); err != nil { // the log will not bring it again
			return err
		}
	}
	st := rd.HardState
	if raft.IsEmptyHardState(st) {
		st = nil
	}
	members := slices.ContainsFunc(rd.CommittedEntries, func(e *pb.Entry) bool { return e.GetType() != pb.EntryType_EntryNormal })
	if members && st == nil {
		var err error
		if st, _, err = n.storage.InitialState(); err != nil {
			return err
		}
	}
	// How far the log is committed need not be on disk, but for a change of the members: who has acted with the new ones must not come back
	// with the old, which may be itself alone.
	if snap != nil || rd.MustSync || len(rd.Entries) > 0 || members {
		err := n.wal.save(st, rd.Entries, snap)
		for err != nil && n.o.Retry != nil && n.o.Retry(err) {
			err = n.wal.save(st, rd.Entries, snap)
		}
		if err != nil {
			return fmt.Errorf("state of the quorum: %w", err)
		}
	}
	if snap != nil {
		if err := n.storage.ApplySnapshot(snap); err != nil {
			return err
		}
		if err := n.restore(snap); err != nil {
			return err
		}
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		if err := n.storage.SetHardState(rd.HardState); err != nil {
			return err
		}
	}
	return n.storage.Append(rd.Entries)
}

func (n *Node) apply(e *pb.Entry) error {
	if e.GetIndex() <= n.applied {
		return nil
	}
	n.applied = e.GetIndex()
	switch e.GetType() {
	case pb.EntryType_EntryConfChangeV2:
		cc := &pb.ConfChangeV2{}
		if err := proto.Unmarshal(e.GetData(), cc); err != nil {
			return fmt.Errorf("a change of the quorum's members: %w", err)
		}
		n.conf = n.raft.ApplyConfChange(cc)
		n.answerChange(nil)
		if len(cc.GetContext()) > 0 {
			var list []Member
			if err := json.Unmarshal(cc.GetContext(), &list); err != nil {
				return fmt.Errorf("a change of the quorum's members: %w", err)
			}
			n.setMembers(list)
		}
		return nil
	case pb.EntryType_EntryConfChange:
		return errors.New("a change of the quorum's members in a form that this version does not write")
	}
	if len(e.GetData()) < 16 {
		return nil // the library's own, at the begin of a term
	}
	return n.applyBatch(e)
}

func (n *Node) applyBatch(e *pb.Entry) error {
	data := e.GetData()
	batch := slices.Clone(data[16:]) // the library keeps its own
	h, err := record.ParseHeader(batch)
	if err != nil {
		return fmt.Errorf("a batch of the quorum: %w", err)
	}
	base := n.next
	record.SetBaseOffset(batch, base)
	record.SetLeaderEpoch(batch, int32(e.GetTerm()))
	h.BaseOffset, h.PartitionLeaderEpoch = base, int32(e.GetTerm())
	n.next, n.epoch = h.NextOffset(), h.PartitionLeaderEpoch
	leader := int32(-1)
	if m, ok := n.members[n.lead]; ok {
		leader = m.Node
	}
	if err := n.o.Apply(Batch{batch, h, leader}); err != nil {
		return err
	}
	if binary.BigEndian.Uint64(data) == n.id {
		serial := binary.BigEndian.Uint64(data[8:])
		if done, ok := n.pending[serial]; ok && n.leading {
			delete(n.pending, serial)
			done(base, nil)
		}
	}
	return nil
}

// storage is the library's view of the log: a member that needs a snapshot gets one of this moment, with the members of this moment.
type storage struct {
	*raft.MemoryStorage
	n *Node
}

// Snapshot implements raft.Storage.
func (s *storage) Snapshot() (*pb.Snapshot, error) { return s.fresh() }

func (s *storage) fresh() (*pb.Snapshot, error) {
	n := s.n
	if last, err := s.MemoryStorage.Snapshot(); err != nil || n.conf == nil || last.GetMetadata().GetIndex() >= n.applied {
		return last, err
	}
	list := make([]Member, 0, len(n.members))
	for _, m := range n.members {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b Member) int { return int(a.Node) - int(b.Node) })
	data, err := json.Marshal(position{n.next, n.epoch, list})
	if err != nil {
		return nil, err
	}
	return s.CreateSnapshot(n.applied, n.conf, data)
}

// compact writes the state file anew once it is large.
func (n *Node) compact() error {
	if n.wal.end < n.o.CompactBytes || n.applied == 0 || n.conf == nil {
		return nil
	}
	if err := n.o.Sync(); err != nil {
		return err
	}
	snap, err := n.storage.fresh()
	if err != nil {
		return err
	}
	if snap.GetMetadata().GetIndex() != n.applied {
		return nil
	}
	st, _, err := n.storage.InitialState()
	if err != nil {
		return err
	}
	last, err := n.storage.LastIndex()
	if err != nil {
		return err
	}
	var entries []*pb.Entry
	if last > n.applied {
		if entries, err = n.storage.Entries(n.applied+1, last+1, math.MaxUint64); err != nil {
			return err
		}
	}
	if err := n.wal.rewrite(st, entries, snap); err != nil {
		return fmt.Errorf("state of the quorum: %w", err)
	}
	// What followers may still need stays in memory for a while, as long as it is small.
	first, err := n.storage.FirstIndex()
	if keep := uint64(500); err == nil && n.applied > keep && n.applied-keep > first {
		return n.storage.Compact(n.applied - keep)
	}
	return err
}

// stop answers those who wait for proposals; the member does nothing any more.
func (n *Node) stop() {
	n.answerChange(wire.Errorf(kerr.NotController, "This node stopped before the members were changed; they may still be."))
	if n.active {
		n.active = false
		n.o.Passive()
	}
	pending := n.pending
	n.pending = map[uint64]func(int64, error){}
	for _, done := range pending {
		done(-1, wire.Errorf(kerr.NotController, "This node stopped before the change was committed; it may still be."))
	}
}

// Close closes the state file.
func (n *Node) Close() error { return n.wal.close() }

// quietLogger gives the library's words to the log, its chatter as debugging.
type quietLogger struct{ l *slog.Logger }

func (q quietLogger) Debug(v ...any)              {}
func (q quietLogger) Debugf(string, ...any)       {}
func (q quietLogger) Info(v ...any)               { q.l.Debug(fmt.Sprint(v...)) }
func (q quietLogger) Infof(f string, v ...any)    { q.l.Debug(fmt.Sprintf(f, v...)) }
func (q quietLogger) Warning(v ...any)            { q.l.Debug(fmt.Sprint(v...)) }
func (q quietLogger) Warningf(f string, v ...any) { q.l.Debug(fmt.Sprintf(f, v...)) }
func (q quietLogger) Error(v ...any)              { q.l.Error(fmt.Sprint(v...)) }
func (q quietLogger) Errorf(f string, v ...any)   { q.l.Error(fmt.Sprintf(f, v...)) }
func (q quietLogger) Fatal(v ...any)              { panic("BUG: quorum: " + fmt.Sprint(v...)) }
func (q quietLogger) Fatalf(f string, v ...any)   { panic("BUG: quorum: " + fmt.Sprintf(f, v...)) }
func (q quietLogger) Panic(v ...any)              { panic("BUG: quorum: " + fmt.Sprint(v...)) }
func (q quietLogger) Panicf(f string, v ...any)   { panic("BUG: quorum: " + fmt.Sprintf(f, v...)) }
