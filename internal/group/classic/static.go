package classic

import (
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/group/effect"
)

// replaceStatic gives the place of a static member to the process that came back under its instance id (KIP-345).
// Where the group is stable and would choose the same protocol again, nothing else changes: the new member id is
// written and the join answered with the generation that is; otherwise the group rebalances.
func (g *Group) replaceStatic(j *joining, oldID, newID string) {
	formerLeader := g.leader
	before := *g.byID[oldID]
	m := g.rename(j.op, g.byID[oldID], newID)
	g.update(j, m)
	g.touchSession(j.op, m)
	switch g.state {
	case Stable:
		if next := g.selectProtocol(); next != g.protocol {
			g.rebalanceOrComplete(j.op, "static member "+newID+" changes the choice of protocol to "+next+"; client reason: "+j.reason())
			return
		}
		j.op.Write(g.Record())
		j.op.Refused = func(error) { g.restore(m, before) }
		resp := g.joined(m, j.client.Version)
		if j.client.Version >= skipVersion {
			resp.SkipAssignment = g.leader == newID
		} else {
			// A client that cannot be told to skip the assignment must not take itself for the leader, or it
			// would hand out an assignment that the coordinator will not take: it is shown the former one.
			resp.LeaderID, resp.Members = formerLeader, nil
		}
		g.answerJoin(j.op, m, resp)
	case CompletingRebalance:
		// The leader may already have been given the old member id: its assignment would miss the new one.
		g.rebalanceOrComplete(j.op, "static member "+newID+" replaces "+oldID+"; client reason: "+j.reason())
	default:
		g.completeIfAllJoined(j.op)
	}
}

// restore gives a stable member back its old id and what it brought, where the log refuses the new.
func (g *Group) restore(m *Member, before Member) {
	g.setID(m, before.ID)
	g.setProtocols(m, before.Protocols)
	m.SessionMs, m.RebalanceMs, m.ClientID, m.ClientHost = before.SessionMs, before.RebalanceMs, before.ClientID, before.ClientHost
}

// rename gives a member a new id and fences the old one.
func (g *Group) rename(op *effect.Op, m *Member, newID string) *Member {
	g.answerJoin(op, m, JoinError(m.join.version, m.ID, kerr.FencedInstanceID))
	g.answerSync(op, m, SyncError(m.sync.version, kerr.FencedInstanceID))
	m.fresh = false
	g.setID(m, newID)
	return m
}

func (g *Group) setID(m *Member, newID string) {
	oldID := m.ID
	delete(g.byID, oldID)
	m.ID = newID
	g.byID[newID] = m
	g.static[*m.InstanceID] = newID
	if g.leader == oldID {
		g.leader = newID
	}
	if _, ok := g.unsync[oldID]; ok {
		delete(g.unsync, oldID)
		g.unsync[newID] = struct{}{}
	}
}
