package share

import (
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// timerSession, with the member's id behind it, ends a member that is silent.
const timerSession = "session:"

// firstEpoch is the epoch of a group that has just been made.
const firstEpoch = 1

// Member epochs in requests that are none.
const (
	joinEpoch  = 0
	leaveEpoch = -1
)

// Member is one member of a group. It never changes: operations make a new one, which takes its place by replay.
type Member struct {
	ID         string
	RackID     *string
	ClientID   string
	ClientHost string
	Topics     []string // in order
	// Epoch is the member epoch; Previous the one before, which a member uses that has not seen the answer that moved it.
	Epoch, Previous int32
	Assigned        Partitions
}

func (m *Member) clone() *Member { c := *m; return &c }

// topicState says which partitions of a topic have a state.
type topicState struct {
	name       string
	partitions map[int32]bool
}

// states are a group's partitions by how far the share coordinator is with them.
type states struct {
	initializing, initialized map[schema.UUID]topicState
	deleting                  map[schema.UUID]string
}

func newStates() states {
	return states{map[schema.UUID]topicState{}, map[schema.UUID]topicState{}, map[schema.UUID]string{}}
}

func (s *states) clone() states {
	return states{cloneTopics(s.initializing), cloneTopics(s.initialized), maps.Clone(s.deleting)}
}

func cloneTopics(in map[schema.UUID]topicState) map[schema.UUID]topicState {
	out := make(map[schema.UUID]topicState, len(in))
	for id, t := range in {
		out[id] = topicState{t.name, maps.Clone(t.partitions)}
	}
	return out
}

func put(in map[schema.UUID]topicState, id schema.UUID, name string, p int32) {
	t := in[id]
	if t.partitions == nil {
		t = topicState{name, map[int32]bool{}}
		in[id] = t
	}
	t.partitions[p] = true
}

func drop(in map[schema.UUID]topicState, id schema.UUID, p int32) {
	if t, ok := in[id]; ok {
		if delete(t.partitions, p); len(t.partitions) == 0 {
			delete(in, id)
		}
	}
}

// Group is one share group. What the log keeps of it changes by replay only.
type Group struct {
	env *Env
	id  string

	epoch       int32
	hash        int64 // of the topics' metadata at epoch
	targetEpoch int32
	targetMs    int64
	members     map[string]*Member
	target      map[string]Partitions
	states      states

	// Not kept.
	dead  bool
	asked map[Partition]int64 // when a state was last asked to begin
}

// New is a group without members.
func New(env *Env, id string) *Group {
	return &Group{env: env, id: id, epoch: firstEpoch, targetEpoch: firstEpoch, members: map[string]*Member{}, target: map[string]Partitions{}, states: newStates(), asked: map[Partition]int64{}}
}

// ID is the group's id.
func (g *Group) ID() string { return g.id }

// Kind is effect.Share.
func (g *Group) Kind() effect.Kind { return effect.Share }

// StateName is the state as clients see it.
func (g *Group) StateName() string {
	switch {
	case g.dead:
		return "Dead"
	case len(g.members) == 0:
		return "Empty"
	}
	return "Stable"
}

// ProtocolType is "share".
func (g *Group) ProtocolType() string { return "share" }

// Size is the number of members.
func (g *Group) Size() int { return len(g.members) }

// IsEmpty tells whether the group has no member.
func (g *Group) IsEmpty() bool { return len(g.members) == 0 }

// Epoch is the group epoch.
func (g *Group) Epoch() int32 { return g.epoch }

// Members are the members by id. They must not be changed.
func (g *Group) Members() []*Member {
	out := make([]*Member, 0, len(g.members))
	for _, id := range slices.Sorted(maps.Keys(g.members)) {
		out = append(out, g.members[id])
	}
	return out
}

// Kill is told that the group is no more.
func (g *Group) Kill(int64) { g.dead = true }

// Subscribed tells whether a member reads the topic.
func (g *Group) Subscribed(topic string) bool {
	for _, m := range g.members {
		if slices.Contains(m.Topics, topic) {
			return true
		}
	}
	return false
}

func (g *Group) noOffsets() error {
	return wire.Errorf(kerr.GroupIDNotFound, "Group %s is not a consumer group.", g.id)
}

// CheckCommit, CheckFetch and CheckOffsetDelete refuse: a share group has no committed offsets.
func (g *Group) CheckCommit(effect.Commit) error { return g.noOffsets() }

// CheckFetch refuses as CheckCommit does.
func (g *Group) CheckFetch(*string, int32) error { return g.noOffsets() }

// CheckOffsetDelete refuses as CheckCommit does.
func (g *Group) CheckOffsetDelete() error { return g.noOffsets() }

// CheckDelete: only a group without members may be deleted.
func (g *Group) CheckDelete() error {
	switch {
	case g.dead:
		return kerr.GroupIDNotFound
	case len(g.members) == 0:
		return nil
	}
	return wire.Errorf(kerr.NonEmptyGroup, "group %s has %d members: stop them before it is deleted", g.id, len(g.members))
}

// Retention: nothing of the group ages.
func (g *Group) Retention() effect.Retention { return effect.Retention{} }

// Touch: heartbeats keep members alive.
func (g *Group) Touch(*effect.Op, string) {}

// Start arms the timers of a group that has just been loaded: every member has a full session.
func (g *Group) Start(op *effect.Op) {
	for _, m := range g.Members() {
		op.Arm(g.id, timerSession+m.ID, g.session())
	}
}

// OnTimer is told of a timer by its name. One that has lost its meaning meanwhile is ignored.
func (g *Group) OnTimer(op *effect.Op, name string) {
	id, ok := strings.CutPrefix(name, timerSession)
	m := g.members[id]
	if !ok || m == nil {
		return
	}
	g.env.Log.Info("share group member is out", "group", g.id, "member", id, "epoch", m.Epoch, "reason", "it was silent for its session timeout")
	g.remove(op, m)
}

// Tombstones writes what ends the group in the log, whatever is left of it.
func (g *Group) Tombstones(op *effect.Op) {
	for _, m := range g.Members() {
		g.bury(op, m.ID)
	}
	for _, id := range slices.Sorted(maps.Keys(g.target)) {
		if g.members[id] == nil {
			op.Write(coordinator.Record{Key: &schema.ShareGroupTargetAssignmentMemberKey{GroupID: g.id, MemberID: id}})
		}
	}
	op.Write(coordinator.Record{Key: &schema.ShareGroupTargetAssignmentMetadataKey{GroupID: g.id}})
	op.Write(coordinator.Record{Key: &schema.ShareGroupStatePartitionMetadataKey{GroupID: g.id}})
	op.Write(coordinator.Record{Key: &schema.ShareGroupMetadataKey{GroupID: g.id}})
}

// bury writes the end of a member.
func (g *Group) bury(op *effect.Op, id string) {
	op.Cancel(g.id, timerSession+id)
	op.Write(coordinator.Record{Key: &schema.ShareGroupCurrentMemberAssignmentKey{GroupID: g.id, MemberID: id}})
	op.Write(coordinator.Record{Key: &schema.ShareGroupTargetAssignmentMemberKey{GroupID: g.id, MemberID: id}})
	op.Write(coordinator.Record{Key: &schema.ShareGroupMemberMetadataKey{GroupID: g.id, MemberID: id}})
}

// remove takes a member out.
func (g *Group) remove(op *effect.Op, m *Member) {
	g.bury(op, m.ID)
	epoch := g.epoch + 1
	hash := g.hash
	if len(g.members) == 1 {
		hash = 0
		op.Write(coordinator.Record{Key: &schema.ShareGroupTargetAssignmentMetadataKey{GroupID: g.id}, Value: &schema.ShareGroupTargetAssignmentMetadataValue{AssignmentEpoch: epoch}})
	}
	g.writeEpoch(op, epoch, hash)
}

func (g *Group) writeEpoch(op *effect.Op, epoch int32, hash int64) {
	op.Write(coordinator.Record{Key: &schema.ShareGroupMetadataKey{GroupID: g.id}, Value: &schema.ShareGroupMetadataValue{Epoch: epoch, MetadataHash: hash}})
}

// partitionsOf are a topic's partitions by the metadata, 0 where it is not there.
func partitionsOf(img *metadata.Image, id schema.UUID) int32 {
	if img == nil {
		return 0
	}
	if t := img.TopicByID(id); t != nil {
		return int32(len(t.Partitions))
	}
	return 0
}
