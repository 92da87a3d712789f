package consumer

import (
	"github.com/ottla/ottla/internal/group/effect"
)

// epochs is the group as the checks of member epochs see it.
func (g *Group) epochs() effect.Epochs[*Member] {
	return effect.Epochs[*Member]{Group: g.id, Protocol: "a member of the consumer protocol", Dead: g.dead, Members: g.members, Static: g.static}
}

// Stands is of effect.Member.
func (m *Member) Stands() (epoch int32, classic bool) { return m.Epoch, m.Classic != nil }

// CheckCommit tells whether a member may commit offsets; see effect.Epochs.
func (g *Group) CheckCommit(c effect.Commit) error { return g.epochs().CheckCommit(c) }

// CheckPartition is asked where CheckCommit said STALE_MEMBER_EPOCH: a member that is an epoch behind because the
// group has moved on may still commit for a partition that has been its own since the epoch it names or before
// (KIP-1251).
func (g *Group) CheckPartition(c effect.Commit, topic string, id UUID, partition int32) bool {
	m := g.members[c.MemberID]
	if m == nil || m.Classic != nil || c.Generation < 0 || c.Generation > m.Epoch {
		return false
	}
	if id == (UUID{}) && g.env.Image != nil {
		if t := g.env.Image.Topic(topic); t != nil {
			id = t.ID
		}
	}
	for _, ps := range []Partitions{m.Assigned, m.Revoking} {
		if since, ok := ps[id][partition]; ok {
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
