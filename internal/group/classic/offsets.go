package classic

import (
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/wire"
)

// consumerType is the protocol type of those whose metadata is a consumer subscription.
const consumerType = "consumer"

// CheckCommit tells whether the member may commit offsets: the error to refuse it with. Without generation,
// member and instance it is an operator's commit, or that of a consumer that assigns its partitions itself: only
// while the group has no members.
func (g *Group) CheckCommit(c effect.Commit) error {
	if g.state == Dead {
		return kerr.CoordinatorNotAvailable
	}
	if c.Generation < 0 && g.state == Empty {
		return nil
	}
	if c.Generation >= 0 || c.MemberID != "" || c.InstanceID != nil {
		if _, code := g.validate(c.MemberID, c.InstanceID); code != nil {
			return code
		}
		if c.Generation != g.generation {
			return kerr.IllegalGeneration
		}
	} else if !c.Transactional {
		return kerr.UnknownMemberID
	}
	if !c.Transactional && g.state == CompletingRebalance {
		return kerr.RebalanceInProgress
	}
	return nil
}

// CheckFetch: anybody may read the offsets of a classic group.
func (g *Group) CheckFetch(*string, int32) error {
	if g.state == Dead {
		return kerr.GroupIDNotFound
	}
	return nil
}

// CheckOffsetDelete: of a group with members only those offsets may be deleted that no member reads, which only the
// consumer protocol tells.
func (g *Group) CheckOffsetDelete() error {
	switch {
	case g.state == Dead:
		return kerr.GroupIDNotFound
	case g.state != Empty && g.protocolType != consumerType:
		return wire.Errorf(kerr.NonEmptyGroup, "group %s has %d members of type %q: stop them before its offsets are deleted", g.id, len(g.members), g.protocolType)
	}
	return nil
}

// CheckDelete: only a group without members may be deleted.
func (g *Group) CheckDelete() error {
	switch g.state {
	case Dead:
		return kerr.GroupIDNotFound
	case Empty:
		return nil
	}
	return wire.Errorf(kerr.NonEmptyGroup, "group %s has %d members: stop them before it is deleted", g.id, len(g.members))
}

// Subscribed tells whether a member reads the topic. Of consumers whose subscription cannot be read: yes.
func (g *Group) Subscribed(topic string) bool {
	if !g.subscribedKnown {
		return g.protocolType == consumerType && len(g.members) > 0
	}
	_, ok := g.subscribed[topic]
	return ok
}

// Retention says how the group's offsets age. Those of a simple group, or of one written before state times were
// kept, age from their commit; those of an empty group from when it became empty; those of a live one only where no
// member reads the topic any more.
func (g *Group) Retention() effect.Retention {
	switch {
	case g.protocolType == "":
		return effect.Retention{Expires: true, SinceMs: -1}
	case g.state == Empty:
		return effect.Retention{Expires: true, SinceMs: g.stateMs}
	case g.state == Stable && g.protocolType == consumerType && g.subscribedKnown:
		return effect.Retention{Expires: true, SinceMs: -1, KeepSubscribed: true}
	}
	return effect.Retention{}
}

// resubscribe works out which topics the members read.
func (g *Group) resubscribe() {
	g.subscribed, g.subscribedKnown = nil, false
	if g.protocolType != consumerType {
		return
	}
	topics := map[string]struct{}{}
	for _, m := range g.members {
		s, err := ReadSubscription(m.metadata(g.protocol))
		if err != nil {
			g.env.Log.Warn("member's subscription cannot be read: offsets of the group will not expire while it lives",
				"group", g.id, "member", m.ID, "error", err)
			return
		}
		for _, t := range s.Topics {
			topics[t] = struct{}{}
		}
	}
	g.subscribed, g.subscribedKnown = topics, true
}
