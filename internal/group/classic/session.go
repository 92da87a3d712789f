package classic

import (
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/group/effect"
)

// Heartbeat keeps a member alive and tells it of a rebalance: the code to answer, nil for none.
func (g *Group) Heartbeat(op *effect.Op, req *kmsg.HeartbeatRequest) *kerr.Error {
	if g.state == Dead {
		return kerr.CoordinatorNotAvailable
	}
	m, code := g.validate(req.MemberID, req.InstanceID)
	switch {
	case code != nil:
		return code
	case req.Generation != g.generation:
		return kerr.IllegalGeneration
	}
	g.touchSession(op, m)
	if g.state == PreparingRebalance {
		return kerr.RebalanceInProgress
	}
	return nil
}

// Touch keeps a member alive because it committed offsets, which counts as a heartbeat of the classic protocol. It
// sets no timer, for the commit may still be refused; the one that runs finds the later deadline.
func (g *Group) Touch(op *effect.Op, memberID string) {
	if m := g.byID[memberID]; m != nil && (g.state == Stable || g.state == PreparingRebalance) && !m.armed.IsZero() {
		m.deadline = op.Now.Add(time.Duration(m.SessionMs) * time.Millisecond)
	}
}

// Leave removes members and answers for each. An empty member id with an instance id is an operator's removal of a
// static member, whoever runs it.
func (g *Group) Leave(op *effect.Op, leaving []kmsg.LeaveGroupRequestMember) []kmsg.LeaveGroupResponseMember {
	out := make([]kmsg.LeaveGroupResponseMember, len(leaving))
	var left []string
	for i := range leaving {
		l := &leaving[i]
		out[i] = kmsg.NewLeaveGroupResponseMember()
		out[i].MemberID, out[i].InstanceID = l.MemberID, l.InstanceID
		if code := g.leave(op, l); code != nil {
			out[i].ErrorCode = code.Code
			continue
		}
		reason := "not given"
		if l.Reason != nil && *l.Reason != "" {
			reason = clip(*l.Reason)
		}
		who := l.MemberID
		if who == "" {
			who = "instance " + *l.InstanceID
		}
		if len(left) < 20 {
			left = append(left, who+" (client reason: "+reason+")")
		}
	}
	if len(left) > 0 {
		g.afterRemoval(op, strconv.Itoa(len(left))+" left: "+strings.Join(left, ", "))
	}
	return out
}

func (g *Group) leave(op *effect.Op, l *kmsg.LeaveGroupRequestMember) *kerr.Error {
	id := l.MemberID
	if id == "" {
		if l.InstanceID == nil {
			return kerr.UnknownMemberID
		}
		owner, ok := g.static[*l.InstanceID]
		if !ok {
			return kerr.UnknownMemberID
		}
		id = owner
	}
	if _, ok := g.pending[id]; ok {
		delete(g.pending, id)
		op.Cancel(g.id, timerMember+id)
		return nil
	}
	m, code := g.validate(id, l.InstanceID)
	if code != nil {
		return code
	}
	g.expel(op, m, kerr.UnknownMemberID)
	return nil
}
