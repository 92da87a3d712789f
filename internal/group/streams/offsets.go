package streams

import (
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// epochVersion is the first OffsetCommit that knows member epochs.
const epochVersion = 9

// CheckCommit tells whether a member may commit offsets: the error to refuse it with. STALE_MEMBER_EPOCH is not the
// last word: see CheckPartition. A commit without membership is welcome while the group has no members.
func (g *Group) CheckCommit(c effect.Commit) error {
	if c.Generation < 0 && len(g.members) == 0 {
		return nil
	}
	if c.Transactional && c.Generation < 0 && c.MemberID == "" && c.InstanceID == nil {
		return nil // an older producer, which does not know what group its consumer is in
	}
	m := g.members[c.MemberID]
	switch {
	case m == nil:
		return wire.Errorf(kerr.UnknownMemberID, "Member %s is not a member of group %s.", c.MemberID, g.id)
	case c.Generation == m.Epoch && (c.Transactional || c.Version >= epochVersion):
		return nil
	case !c.Transactional && c.Version < epochVersion:
		return wire.Errorf(kerr.UnsupportedVersion, "OffsetCommit version %d: a member of a streams group needs %d or above", c.Version, epochVersion)
	}
	return wire.Errorf(kerr.StaleMemberEpoch, "epoch %d of member %s of group %s: it is %d", c.Generation, m.ID, g.id, m.Epoch)
}

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

// CheckFetch tells whether offsets may be read: by anybody without membership, by a member that is at its epoch.
func (g *Group) CheckFetch(memberID *string, memberEpoch int32) error {
	if memberID == nil && memberEpoch < 0 {
		return nil
	}
	id := ""
	if memberID != nil {
		id = *memberID
	}
	switch m := g.members[id]; {
	case m == nil:
		return wire.Errorf(kerr.UnknownMemberID, "Member %s is not a member of group %s.", id, g.id)
	case m.Epoch == memberEpoch:
		return nil
	}
	return kerr.StaleMemberEpoch
}

// CheckOffsetDelete: the offsets of topics that no member reads may be deleted.
func (g *Group) CheckOffsetDelete() error {
	if g.dead {
		return kerr.GroupIDNotFound
	}
	return nil
}

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

// Retention: offsets age from their commit; those of topics that a member reads do not.
func (g *Group) Retention() effect.Retention {
	return effect.Retention{Expires: true, SinceMs: -1, KeepSubscribed: true}
}

// Touch: a commit does not keep a member alive, its heartbeats do.
func (g *Group) Touch(*effect.Op, string) {}
