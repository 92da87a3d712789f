package classic

import (
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/group/effect"
)

// rebalanceOrComplete starts a rebalance, or ends the one under way if that was the last it waited for.
func (g *Group) rebalanceOrComplete(op *effect.Op, reason string) {
	if g.state.CanGo(PreparingRebalance) {
		g.prepare(op, reason)
		return
	}
	g.completeIfAllJoined(op)
}

// prepare starts a rebalance: every member has until the rebalance timeout to join.
func (g *Group) prepare(op *effect.Op, reason string) {
	if g.state == CompletingRebalance { // the followers wait for an assignment that will never come
		for _, m := range g.members {
			m.Assignment = nil
			if m.sync.waits {
				g.answerSync(op, m, SyncError(m.sync.version, kerr.RebalanceInProgress))
				g.touchSession(op, m)
			}
		}
	}
	g.forgetSyncs(op)
	g.env.Log.Info("group prepares to rebalance", "group", g.id, "state", g.state.String(), "generation", g.generation, "members", len(g.members), "reason", reason)
	first := g.state == Empty
	g.transition(PreparingRebalance, op.NowMs())
	if !first {
		op.Arm(g.id, timerJoin, g.rebalanceTimeout())
		g.completeIfAllJoined(op)
		return
	}
	if g.env.Config.InitialDelay <= 0 {
		g.complete(op)
		return
	}
	g.grew = false
	g.initialLeft = max(g.rebalanceTimeout()-g.env.Config.InitialDelay, 0)
	op.Arm(g.id, timerJoin, g.env.Config.InitialDelay)
}

// onJoinTimer: the time to join is over, or the delay of a first rebalance, which is prolonged while members come.
func (g *Group) onJoinTimer(op *effect.Op) {
	if g.state != PreparingRebalance {
		return
	}
	if g.previous == Empty && g.grew && g.initialLeft > 0 {
		g.grew = false
		delay := min(g.env.Config.InitialDelay, g.initialLeft)
		g.initialLeft -= delay
		op.Arm(g.id, timerJoin, delay)
		return
	}
	g.complete(op)
}

// completeIfAllJoined ends the phase when nobody is missing. A first rebalance ends by its timer only.
func (g *Group) completeIfAllJoined(op *effect.Op) {
	if g.state == PreparingRebalance && g.previous != Empty && g.joining == len(g.members) && len(g.pending) == 0 {
		g.complete(op)
	}
}

// complete ends the join phase: dynamic members that did not join are out; a new generation begins with the others.
func (g *Group) complete(op *effect.Op) {
	op.Cancel(g.id, timerJoin)
	var late []*Member
	for _, m := range g.members {
		if !m.join.waits && m.InstanceID == nil {
			late = append(late, m)
		}
	}
	for _, m := range late {
		g.remove(op, m)
	}
	if len(late) > 0 {
		g.env.Log.Info("members did not rejoin in time and are out", "group", g.id, "generation", g.generation, "members", ids(late))
	}
	if len(g.members) > 0 && !g.electJoined() {
		// Only static members are left and none is back: wait until one comes or its session ends.
		op.Arm(g.id, timerJoin, g.rebalanceTimeout())
		return
	}
	g.generation++
	g.env.Rebalances++
	clear(g.unsync)
	if len(g.members) == 0 {
		g.protocol = ""
		g.transition(Empty, op.NowMs())
		g.resubscribe()
		op.Write(g.Record())
		g.env.Log.Info("group is empty", "group", g.id, "generation", g.generation)
		return
	}
	g.protocol = g.selectProtocol()
	g.transition(CompletingRebalance, op.NowMs())
	g.resubscribe()
	g.env.Log.Info("group begins a generation", "group", g.id, "generation", g.generation, "members", len(g.members), "leader", g.leader, "protocol", g.protocol)
	for _, m := range g.members {
		g.answerJoin(op, m, g.joined(m, m.join.version))
		m.fresh = false
		g.touchSession(op, m)
		g.unsync[m.ID] = struct{}{}
	}
	op.Arm(g.id, timerSync, g.rebalanceTimeout())
}

// onSyncTimer: members that joined this generation and never asked for their assignment are out.
func (g *Group) onSyncTimer(op *effect.Op) {
	if (g.state != CompletingRebalance && g.state != Stable) || len(g.unsync) == 0 {
		return
	}
	var silent []*Member
	for _, m := range g.members {
		if _, ok := g.unsync[m.ID]; ok {
			silent = append(silent, m)
		}
	}
	for _, m := range silent {
		g.expel(op, m, kerr.UnknownMemberID)
	}
	g.prepare(op, "members without sync are out: "+ids(silent))
}

// forgetSyncs ends the wait for the syncs of this generation.
func (g *Group) forgetSyncs(op *effect.Op) {
	if g.state == CompletingRebalance || g.state == Stable {
		op.Cancel(g.id, timerSync)
	}
	clear(g.unsync)
}

// expel removes a member and answers what it waits for.
func (g *Group) expel(op *effect.Op, m *Member, code *kerr.Error) {
	g.answerJoin(op, m, JoinError(m.join.version, "", code))
	g.answerSync(op, m, SyncError(m.sync.version, code))
	g.remove(op, m)
}

// afterRemoval goes on once members have left: the others share anew, or the rebalance waits for fewer.
func (g *Group) afterRemoval(op *effect.Op, reason string) {
	switch g.state {
	case Stable, CompletingRebalance:
		g.prepare(op, reason)
	case PreparingRebalance:
		g.completeIfAllJoined(op)
	}
}

// onMemberTimer: a member has been silent for its session, or a member id has not been used. id is the first one that
// the member had.
func (g *Group) onMemberTimer(op *effect.Op, id string) {
	if _, ok := g.pending[id]; ok {
		delete(g.pending, id)
		g.completeIfAllJoined(op)
		return
	}
	m := g.byTimer[id]
	if m == nil || m.armed.IsZero() {
		return
	}
	m.armed = time.Time{}
	if left := m.deadline.Sub(op.Now); left > 0 {
		op.Arm(g.id, m.timerName(), left)
		m.armed = m.deadline
		return
	}
	if !m.fresh && (m.join.waits || m.sync.waits) { // it waits for us; its answer gives it new time
		return
	}
	g.env.Log.Info("member is silent and out", "group", g.id, "generation", g.generation, "member", m.ID, "session_ms", m.SessionMs)
	g.expel(op, m, kerr.UnknownMemberID)
	g.afterRemoval(op, "member "+m.ID+" was silent for its session timeout")
}

// OnTimer is told of a timer by its name. One that has lost its meaning meanwhile is ignored.
func (g *Group) OnTimer(op *effect.Op, name string) {
	switch {
	case name == timerJoin:
		g.onJoinTimer(op)
	case name == timerSync:
		g.onSyncTimer(op)
	case strings.HasPrefix(name, timerMember):
		g.onMemberTimer(op, name[len(timerMember):])
	}
}

func ids(ms []*Member) string {
	var b strings.Builder
	for i, m := range ms {
		if i > 0 {
			b.WriteString(", ")
		}
		if i == 20 {
			b.WriteString("...")
			break
		}
		b.WriteString(m.ID)
	}
	return b.String()
}
