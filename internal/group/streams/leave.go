package streams

import (
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/wire/schema"
)

// leave takes a member out, or, of a static one that will be back, notes that it is away: it keeps its tasks until its
// session is over.
func (g *Group) leave(op *effect.Op, req *kmsg.StreamsGroupHeartbeatRequest) (*Heartbeat, error) {
	m, err := g.epochs().Leaving(req.MemberID, req.InstanceID)
	if err != nil {
		return nil, err
	}
	if req.ShutdownApplication {
		g.shutdown = m.ID
	}
	if req.MemberEpoch == leaveStaticEpoch {
		d := g.draft(op)
		away := m.clone()
		if m.Epoch != leaveStaticEpoch {
			away.Previous = m.Epoch
		}
		away.Epoch, away.State, away.Revoking = leaveStaticEpoch, MemberStable, noRoles()
		d.move(m, away)
		g.env.Log.Info("static streams member is away", "group", g.id, "member", m.ID, "instance", *m.InstanceID)
	} else {
		g.env.Log.Info("streams member leaves", "group", g.id, "member", m.ID)
		g.remove(op, m)
	}
	resp := kmsg.NewPtrStreamsGroupHeartbeatResponse()
	resp.MemberID, resp.MemberEpoch, resp.Status, resp.AcceptableRecoveryLag = m.ID, req.MemberEpoch, []kmsg.StreamsGroupHeartbeatResponseStatus{}, -1
	return &Heartbeat{Response: resp}, nil
}

// remove takes a member out.
func (g *Group) remove(op *effect.Op, m *Member) {
	d := g.draft(op)
	g.disarm(op, m)
	d.bury(m)
	d.epoch++
	d.writeEpoch()
	if m.Endpoint != nil {
		g.endpoints++
	}
	if len(d.members()) == 0 {
		d.targetEpoch = d.epoch
		d.writeTargetEpoch(0)
		if g.waiting {
			g.waiting = false
			op.Cancel(g.id, timerInitial)
		}
	}
}

func (g *Group) disarm(op *effect.Op, m *Member) {
	op.Cancel(g.id, timerSession+m.ID)
	if m.State == UnrevokedTasks {
		op.Cancel(g.id, timerRebalance+m.ID)
	}
}

// bury writes the end of a member.
func (d *draft) bury(m *Member) {
	id := d.g.id
	d.changed[m.ID] = nil
	d.op.Write(coordinator.Record{Key: &schema.StreamsGroupCurrentMemberAssignmentKey{GroupID: id, MemberID: m.ID}})
	d.op.Write(coordinator.Record{Key: &schema.StreamsGroupTargetAssignmentMemberKey{GroupID: id, MemberID: m.ID}})
	d.op.Write(coordinator.Record{Key: &schema.StreamsGroupMemberMetadataKey{GroupID: id, MemberID: m.ID}})
}

// Tombstones writes what ends the group in the log, whatever is left of it.
func (g *Group) Tombstones(op *effect.Op) {
	d := g.draft(op)
	for _, m := range g.Members() {
		d.bury(m)
		g.disarm(op, m)
	}
	for _, id := range slices.Sorted(maps.Keys(g.target)) {
		if g.members[id] == nil {
			op.Write(coordinator.Record{Key: &schema.StreamsGroupTargetAssignmentMemberKey{GroupID: g.id, MemberID: id}})
		}
	}
	if g.waiting {
		op.Cancel(g.id, timerInitial)
	}
	op.Write(coordinator.Record{Key: &schema.StreamsGroupTargetAssignmentMetadataKey{GroupID: g.id}})
	op.Write(coordinator.Record{Key: &schema.StreamsGroupTopologyKey{GroupID: g.id}})
	op.Write(coordinator.Record{Key: &schema.StreamsGroupMetadataKey{GroupID: g.id}})
}

// OnTimer is told of a timer by its name. One that has lost its meaning meanwhile is ignored.
func (g *Group) OnTimer(op *effect.Op, name string) {
	if name == timerInitial {
		g.begin(op)
		return
	}
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
		if m.State != UnrevokedTasks {
			return
		}
		why = "it did not give up its tasks within its rebalance timeout"
	default:
		return
	}
	g.env.Log.Info("streams member is out", "group", g.id, "member", id, "epoch", m.Epoch, "reason", why)
	g.remove(op, m)
}

// begin ends the wait for members: those who have come are assigned to.
func (g *Group) begin(op *effect.Op) {
	if !g.waiting {
		return
	}
	g.waiting = false
	if len(g.members) == 0 || g.epoch <= g.targetEpoch || g.env.Image == nil || g.topology == nil {
		return
	}
	d := g.draft(op)
	if d.configured == nil || g.refresh {
		c, err := configure(g.topology, g.env.Image) // the next heartbeat finds what it means
		if err != nil {
			return
		}
		d.configured = c
	}
	d.makeTarget()
}

// Records are the group as the log keeps it, all of it: replayed on nothing they make the group.
func (g *Group) Records() []coordinator.Record {
	op := &effect.Op{}
	d := g.draft(op)
	members := g.Members()
	for _, m := range members {
		op.Write(m.record(g.id))
	}
	if g.topology != nil {
		op.Write(coordinator.Record{Key: &schema.StreamsGroupTopologyKey{GroupID: g.id}, Value: g.topology})
	}
	d.writeEpoch()
	for _, id := range slices.Sorted(maps.Keys(g.target)) {
		d.setTarget(id, g.target[id])
	}
	d.writeTargetEpoch(g.targetMs)
	for _, m := range members {
		op.Write(m.current(g.id))
	}
	return op.Records
}
