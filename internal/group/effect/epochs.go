package effect

import (
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/wire"
)

// EpochVersion is the first OffsetCommit that knows member epochs.
const EpochVersion = 9

// Member is what the checks of the protocols with member epochs (KIP-848, KIP-1071) ask of a member.
type Member interface {
	comparable
	// Stands gives the member's epoch, and whether it speaks the classic protocol in a group of a newer one.
	Stands() (epoch int32, classic bool)
}

// Epochs is a group as those checks see it.
type Epochs[M Member] struct {
	Group    string
	Protocol string // in messages: "a member of the consumer protocol"
	Dead     bool
	Members  map[string]M
	Static   map[string]string // instance id to member id
}

func (e Epochs[M]) find(id string) (m M, err error) {
	m, ok := e.Members[id]
	if !ok {
		err = wire.Errorf(kerr.UnknownMemberID, "Member %s is not a member of group %s.", id, e.Group)
	}
	return m, err
}

// CheckCommit tells whether a member may commit offsets: the error to refuse it with. STALE_MEMBER_EPOCH is not the last word: the
// group's CheckPartition is. A commit without membership is welcome while the group has no members.
func (e Epochs[M]) CheckCommit(c Commit) error {
	if c.Generation < 0 && len(e.Members) == 0 {
		return nil
	}
	if c.Transactional && c.Generation < 0 && c.MemberID == "" && c.InstanceID == nil {
		return nil // an older producer, which does not know what group its consumer is in
	}
	m, err := e.find(c.MemberID)
	if err != nil {
		return err
	}
	epoch, classic := m.Stands()
	switch {
	case c.Generation == epoch && (classic || c.Transactional || c.Version >= EpochVersion):
		return nil
	case classic:
		return wire.Errorf(kerr.IllegalGeneration, "generation %d of member %s of group %s: it is %d", c.Generation, c.MemberID, e.Group, epoch)
	case !c.Transactional && c.Version < EpochVersion:
		return wire.Errorf(kerr.UnsupportedVersion, "OffsetCommit version %d: %s needs %d or above", c.Version, e.Protocol, EpochVersion)
	}
	return wire.Errorf(kerr.StaleMemberEpoch, "epoch %d of member %s of group %s: it is %d", c.Generation, c.MemberID, e.Group, epoch)
}

// CheckFetch tells whether offsets may be read: by anybody without membership, by a member that is at its epoch.
func (e Epochs[M]) CheckFetch(memberID *string, memberEpoch int32) error {
	if memberID == nil && memberEpoch < 0 {
		return nil
	}
	id := ""
	if memberID != nil {
		id = *memberID
	}
	m, err := e.find(id)
	if err != nil {
		return err
	}
	switch epoch, classic := m.Stands(); {
	case epoch == memberEpoch:
		return nil
	case classic:
		return kerr.IllegalGeneration
	}
	return kerr.StaleMemberEpoch
}

// CheckOffsetDelete: the offsets of topics that no member reads may be deleted.
func (e Epochs[M]) CheckOffsetDelete() error {
	if e.Dead {
		return kerr.GroupIDNotFound
	}
	return nil
}

// CheckDelete: only a group without members may be deleted.
func (e Epochs[M]) CheckDelete() error {
	switch {
	case e.Dead:
		return kerr.GroupIDNotFound
	case len(e.Members) == 0:
		return nil
	}
	return wire.Errorf(kerr.NonEmptyGroup, "group %s has %d members: stop them before it is deleted", e.Group, len(e.Members))
}

// Leaving finds the member that says goodbye. A static one is known by its instance id, and must be who it was.
func (e Epochs[M]) Leaving(memberID string, instance *string) (m M, err error) {
	if instance == nil {
		return e.find(memberID)
	}
	id, ok := e.Static[*instance]
	switch {
	case !ok:
		return m, wire.Errorf(kerr.UnknownMemberID, "Instance id %s is unknown.", *instance)
	case id != memberID:
		return m, wire.Errorf(kerr.FencedInstanceID, "Static member %s with instance id %s was fenced by member %s.", memberID, *instance, id)
	}
	return e.find(id)
}

// Aging is how offsets age under these protocols: from their commit; those of topics that a member reads do not.
func Aging() Retention { return Retention{Expires: true, SinceMs: -1, KeepSubscribed: true} }
