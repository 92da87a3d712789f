package classic

import (
	"bytes"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/effect"
)

// SyncError is the answer to a sync that failed.
func SyncError(version int16, code *kerr.Error) *kmsg.SyncGroupResponse {
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.Version = version
	resp.ErrorCode = code.Code
	resp.MemberAssignment = []byte{}
	return resp
}

func (g *Group) synced(m *Member, version int16) *kmsg.SyncGroupResponse {
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.Version = version
	resp.ProtocolType = kmsg.StringPtr(g.protocolType)
	resp.Protocol = kmsg.StringPtr(g.protocol)
	resp.MemberAssignment = m.Assignment
	if resp.MemberAssignment == nil {
		resp.MemberAssignment = []byte{}
	}
	return resp
}

// Sync takes one SyncGroup. Its answer is a delivery for tok: now, or with the leader's sync, whose assignment is
// written first.
func (g *Group) Sync(op *effect.Op, tok coordinator.Token, version int16, req *kmsg.SyncGroupRequest) {
	m, code := g.validateSync(req)
	if code != nil {
		op.Deliver(tok, SyncError(version, code))
		return
	}
	switch g.state {
	case Empty:
		op.Deliver(tok, SyncError(version, kerr.UnknownMemberID))
	case PreparingRebalance:
		op.Deliver(tok, SyncError(version, kerr.RebalanceInProgress))
	case CompletingRebalance:
		g.answerSync(op, m, SyncError(m.sync.version, kerr.RebalanceInProgress)) // given up by its client
		m.sync = parked{waits: true, tok: tok, version: version}
		g.sawSync(op, m)
		if g.leader == m.ID {
			g.assign(op, req.GroupAssignment)
		}
	case Stable:
		g.sawSync(op, m)
		g.touchSession(op, m)
		op.Deliver(tok, g.synced(m, version))
	}
}

func (g *Group) validateSync(req *kmsg.SyncGroupRequest) (*Member, *kerr.Error) {
	if g.state == Dead {
		return nil, kerr.CoordinatorNotAvailable
	}
	m, code := g.validate(req.MemberID, req.InstanceID)
	switch {
	case code != nil:
		return nil, code
	case req.Generation != g.generation:
		return nil, kerr.IllegalGeneration
	case req.ProtocolType != nil && *req.ProtocolType != g.protocolType, req.Protocol != nil && *req.Protocol != g.protocol:
		return nil, kerr.InconsistentGroupProtocol
	}
	return m, nil
}

// sawSync notes that a member has asked for its assignment. The timer is left alone before the group is stable, for
// the assignment may still be refused; it does nothing where nobody is missing.
func (g *Group) sawSync(op *effect.Op, m *Member) {
	if _, ok := g.unsync[m.ID]; !ok {
		return
	}
	delete(g.unsync, m.ID)
	if len(g.unsync) == 0 && g.state == Stable {
		op.Cancel(g.id, timerSync)
	}
}

// assign takes the leader's assignment: the generation is complete and goes to the log. Members that the leader left
// out get nothing, those it does not know are ignored.
func (g *Group) assign(op *effect.Op, given []kmsg.SyncGroupRequestGroupAssignment) {
	for _, m := range g.members {
		m.Assignment = nil
	}
	for i := range given {
		if m := g.byID[given[i].MemberID]; m != nil {
			m.Assignment = bytes.Clone(given[i].MemberAssignment)
		}
	}
	g.transition(Stable, op.NowMs())
	op.Write(g.Record())
	generation := g.generation
	op.Refused = func(err error) { g.unassign(generation, err) }
	g.env.Log.Info("group is stable", "group", g.id, "generation", g.generation, "members", len(g.members), "leader", g.leader)
	for _, m := range g.members {
		if m.sync.waits {
			g.answerSync(op, m, g.synced(m, m.sync.version))
			g.touchSession(op, m)
		}
	}
}

// unassign takes an assignment back that the log does not want, because it is too large, say. Every member has to
// sync again, or is out when the time for syncs is over.
func (g *Group) unassign(generation int32, err error) {
	if g.generation != generation || g.state != Stable {
		return
	}
	g.env.Log.Error("assignment refused by the log: is it larger than the offsets topic takes (max.message.bytes)?", "group", g.id, "generation", generation, "error", err)
	g.state, g.previous = CompletingRebalance, PreparingRebalance // as before the operation, not an edge of the machine
	for _, m := range g.members {
		m.Assignment = nil
		g.unsync[m.ID] = struct{}{}
	}
}

// answerSync answers a parked sync.
func (g *Group) answerSync(op *effect.Op, m *Member, resp *kmsg.SyncGroupResponse) {
	if !m.sync.waits {
		return
	}
	op.Deliver(m.sync.tok, resp)
	m.sync = parked{}
}
