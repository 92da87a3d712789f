package streams

import (
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/wire/schema"
)

// epochs is the group as the checks of member epochs see it.
func (g *Group) epochs() effect.Epochs[*Member] {
	return effect.Epochs[*Member]{Group: g.id, Protocol: "a member of a streams group", Dead: g.dead, Members: g.members, Static: g.static}
}

// Stands is of effect.Member.
func (m *Member) Stands() (epoch int32, classic bool) { return m.Epoch, false }

// CheckCommit tells whether a member may commit offsets; see effect.Epochs.
func (g *Group) CheckCommit(c effect.Commit) error { return g.epochs().CheckCommit(c) }

// CheckPartition is asked where CheckCommit said STALE_MEMBER_EPOCH: a member that is an epoch behind because the
// group has moved on may still commit for a task that has been its own since the epoch it names or before.
func (g *Group) CheckPartition(c effect.Commit, topic string, _ schema.UUID, partition int32) bool {
	m := g.members[c.MemberID]
	if m == nil || c.Generation < 0 || c.Generation > m.Epoch {
		return false
	}
	t := Task{g.reader(topic), partition}
	for _, roles := range []*Roles{&m.Assigned, &m.Revoking} {
		if since, ok := roles[Active][t.Subtopology][t.Partition]; ok {
			return since <= c.Generation
		}
	}
	return false
}

// CheckFetch tells whether offsets may be read.
func (g *Group) CheckFetch(memberID *string, memberEpoch int32) error {
	return g.epochs().CheckFetch(memberID, memberEpoch)
}

// CheckOffsetDelete tells whether offsets of topics that no member reads may be deleted.
func (g *Group) CheckOffsetDelete() error { return g.epochs().CheckOffsetDelete() }

// CheckDelete tells whether the group may be deleted.
func (g *Group) CheckDelete() error { return g.epochs().CheckDelete() }

// Retention is how the group's offsets age.
func (g *Group) Retention() effect.Retention { return effect.Aging() }

// Touch: a commit does not keep a member alive, its heartbeats do.
func (g *Group) Touch(*effect.Op, string) {}
