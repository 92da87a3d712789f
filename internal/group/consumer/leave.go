package consumer

import (
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/wire/schema"
)

// leave takes a member out, or, of a static one that will be back, notes that it is away: it keeps its partitions
// until its session is over.
func (g *Group) leave(op *effect.Op, req *kmsg.ConsumerGroupHeartbeatRequest) (*kmsg.ConsumerGroupHeartbeatResponse, error) {
	m, err := g.epochs().Leaving(req.MemberID, req.InstanceID)
	if err != nil {
		return nil, err
	}
	if req.MemberEpoch == leaveStaticEpoch {
		d := g.draft(op)
		away := m.clone()
		if m.Epoch != leaveStaticEpoch {
			away.Previous = m.Epoch
		}
		away.Epoch, away.State, away.Revoking = leaveStaticEpoch, MemberStable, Partitions{}
		d.move(m, away)
		g.env.Log.Info("static member is away", "group", g.id, "member", m.ID, "instance", *m.InstanceID)
	} else {
		g.env.Log.Info("member leaves", "group", g.id, "member", m.ID)
		g.remove(op, m)
	}
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	resp.MemberID, resp.MemberEpoch = kmsg.StringPtr(m.ID), req.MemberEpoch
	return resp, nil
}

// remove takes members out. Where only members of the classic protocol remain, the group becomes a classic one.
func (g *Group) remove(op *effect.Op, gone ...*Member) {
	if len(gone) == 0 {
		return
	}
	for _, m := range gone {
		g.disarm(op, m)
	}
	if g.leavesClassic(gone) {
		g.env.Downgrade(op, g, gone)
		return
	}
	d := g.draft(op)
	for _, m := range gone {
		d.bury(m)
	}
	for _, m := range gone {
		if m.Regex != "" {
			d.forgetRegex(m.Regex)
		}
	}
	d.bump(d.currentHash())
	if len(d.members()) == 0 {
		d.targetEpoch = d.epoch
		d.writeTargetEpoch(0)
	}
}

func (g *Group) disarm(op *effect.Op, m *Member) {
	op.Cancel(g.id, timerSession+m.ID)
	if m.State == UnrevokedPartitions {
		op.Cancel(g.id, timerRebalance+m.ID)
	}
	if m.Classic != nil {
		delete(g.rejoining, m.ID)
		op.Cancel(g.id, timerJoin+m.ID)
		op.Cancel(g.id, timerSync+m.ID)
	}
}

// leavesClassic tells whether the group has to become a classic one when members go: only members of the classic
// protocol remain, and the broker allows it.
func (g *Group) leavesClassic(gone []*Member) bool {
	left := g.classics
	for _, m := range gone {
		if m.Classic != nil {
			left--
		}
	}
	return left > 0 && left == len(g.members)-len(gone) && left <= g.env.Config.ClassicMaxSize &&
		g.env.Config.Migration.MayDowngrade() && g.env.Downgrade != nil
}

// bury writes the end of a member.
func (d *draft) bury(m *Member) {
	id := d.g.id
	d.changed[m.ID] = nil
	d.op.Write(coordinator.Record{Key: &schema.ConsumerGroupCurrentMemberAssignmentKey{GroupID: id, MemberID: m.ID}})
	d.op.Write(coordinator.Record{Key: &schema.ConsumerGroupTargetAssignmentMemberKey{GroupID: id, MemberID: m.ID}})
	d.op.Write(coordinator.Record{Key: &schema.ConsumerGroupMemberMetadataKey{GroupID: id, MemberID: m.ID}})
	for _, ps := range []Partitions{m.Assigned, m.Revoking} {
		for t, list := range ps {
			for p := range list {
				if d.freed[t] == nil {
					d.freed[t] = map[int32]bool{}
				}
				d.freed[t][p] = true
			}
		}
	}
}

// Tombstones writes what ends the group in the log, whatever is left of it. Kafka before 4.1 kept a record more.
func (g *Group) Tombstones(op *effect.Op) {
	d := g.draft(op)
	for _, m := range g.Members() {
		d.bury(m)
		g.disarm(op, m)
	}
	for _, id := range slices.Sorted(maps.Keys(g.target)) {
		if g.members[id] == nil {
			op.Write(coordinator.Record{Key: &schema.ConsumerGroupTargetAssignmentMemberKey{GroupID: g.id, MemberID: id}})
		}
	}
	for _, expr := range sortedKeys(g.regexes) {
		op.Write(coordinator.Record{Key: &schema.ConsumerGroupRegularExpressionKey{GroupID: g.id, RegularExpression: expr}})
	}
	op.Write(coordinator.Record{Key: &schema.ConsumerGroupTargetAssignmentMetadataKey{GroupID: g.id}})
	op.Write(coordinator.Record{Key: &schema.ConsumerGroupPartitionMetadataKey{GroupID: g.id}})
	op.Write(coordinator.Record{Key: &schema.ConsumerGroupMetadataKey{GroupID: g.id}})
}

// OnTimer is told of a timer by its name. One that has lost its meaning meanwhile is ignored.
func (g *Group) OnTimer(op *effect.Op, name string) {
	kind, id, _ := strings.Cut(name, ":")
	m := g.members[id]
	if m == nil {
		return
	}
	why := ""
	switch kind + ":" {
	case timerSession:
		why = "it was silent for its session timeout"
	case timerRebalance:
		if m.State != UnrevokedPartitions {
			return
		}
		why = "it did not give up its partitions within its rebalance timeout"
	case timerJoin:
		if m.Classic == nil {
			return
		}
		why = "it did not join again within its rebalance timeout"
	case timerSync:
		if m.Classic == nil {
			return
		}
		why = "it joined and did not ask for its assignment"
	default:
		return
	}
	g.env.Log.Info("member is out", "group", g.id, "member", id, "epoch", m.Epoch, "reason", why)
	g.remove(op, m)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
