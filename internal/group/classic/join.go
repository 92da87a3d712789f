package classic

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/effect"
)

// Client is who sent a request.
type Client struct {
	ID, Host string
	Version  int16 // of the request
}

// knownIDVersion: from this JoinGroup version on a dynamic member joins twice, the second time with its id.
// skipVersion: from this one on a leader can be told to leave the assignment as it is.
const (
	knownIDVersion = 4
	skipVersion    = 9
)

// maxNameBytes bounds what goes into the group's record, whose strings have a 16 bit length: a member id is its
// client's id and the text of Env.NewID.
const maxNameBytes = 32_000

// joining is one JoinGroup under way.
type joining struct {
	op     *effect.Op
	tok    coordinator.Token
	client Client
	req    *kmsg.JoinGroupRequest
	ps     []Protocol
}

// JoinError is the answer to a join that failed.
func JoinError(version int16, memberID string, code *kerr.Error) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Version = version
	resp.Generation = -1
	resp.MemberID = memberID
	resp.ErrorCode = code.Code
	return resp
}

func (j *joining) fail(memberID string, code *kerr.Error) {
	j.op.Deliver(j.tok, JoinError(j.client.Version, memberID, code))
}

func (j *joining) park() parked {
	return parked{waits: true, tok: j.tok, version: j.client.Version}
}

func (j *joining) reason() string {
	if j.req.Reason == nil || *j.req.Reason == "" {
		return "not given"
	}
	return clip(*j.req.Reason)
}

// clip bounds what a client says of itself in our log lines, as clients do themselves (KIP-800).
func clip(reason string) string { return reason[:min(len(reason), 255)] }

func (j *joining) rebalanceMs() int32 {
	if j.client.Version == 0 || j.req.RebalanceTimeoutMillis < 0 {
		return j.req.SessionTimeoutMillis // before version 1 there was one timeout for both
	}
	return j.req.RebalanceTimeoutMillis
}

// Admits is the check of a join that needs no group: the code to refuse it with, or nil.
func (c Config) Admits(client Client, req *kmsg.JoinGroupRequest) *kerr.Error {
	if req.Group == "" || len(req.Group) > maxNameBytes {
		return kerr.InvalidGroupID
	}
	longest := max(len(client.ID), len(req.ProtocolType), len(req.MemberID))
	if req.InstanceID != nil {
		longest = max(longest, len(*req.InstanceID))
	}
	for i := range req.Protocols {
		longest = max(longest, len(req.Protocols[i].Name))
	}
	if longest > maxNameBytes {
		return kerr.InvalidRequest
	}
	session := time.Duration(req.SessionTimeoutMillis) * time.Millisecond
	if session < c.MinSession || session > c.MaxSession {
		return kerr.InvalidSessionTimeout
	}
	return nil
}

// Join takes one JoinGroup. Its answer is a delivery for tok: now, or when the rebalance is through. A request that
// is refused leaves the group as it was.
func (g *Group) Join(op *effect.Op, tok coordinator.Token, client Client, req *kmsg.JoinGroupRequest) {
	j := &joining{op: op, tok: tok, client: client, req: req, ps: copyProtocols(req.Protocols)}
	switch {
	case g.state == Dead:
		j.fail(req.MemberID, kerr.CoordinatorNotAvailable)
	case !g.hasRoom(req.MemberID):
		j.fail("", kerr.GroupMaxSizeReached)
		g.shutOut(op, req.MemberID)
	case !g.supports(req.ProtocolType, j.ps):
		j.fail(req.MemberID, kerr.InconsistentGroupProtocol)
	case req.MemberID == "":
		g.joinNew(j)
	default:
		g.joinKnown(j)
	}
}

// hasRoom holds the group to group.max.size. During a rebalance those count who have joined it, so that the last to
// rejoin are left out where the limit has been lowered; otherwise a member that is in stays in.
func (g *Group) hasRoom(memberID string) bool {
	limit := g.env.Config.MaxSize
	m := g.byID[memberID]
	switch g.state {
	case PreparingRebalance:
		return m != nil && m.join.waits || g.joining < limit
	case CompletingRebalance, Stable:
		return m != nil || len(g.members) < limit
	}
	return true
}

// shutOut removes who has found no room.
func (g *Group) shutOut(op *effect.Op, memberID string) {
	if _, ok := g.pending[memberID]; ok {
		delete(g.pending, memberID)
		op.Cancel(g.id, timerMember+memberID)
	}
	if m := g.byID[memberID]; m != nil {
		g.expel(op, m, kerr.GroupMaxSizeReached)
	}
	g.completeIfAllJoined(op)
}

// supports tells whether a member with these protocols can be in one group with those that are here.
func (g *Group) supports(protocolType string, ps []Protocol) bool {
	if len(ps) == 0 || protocolType == "" {
		return false
	}
	if g.state == Empty || len(g.members) == 0 {
		return true
	}
	if protocolType != g.protocolType {
		return false
	}
	for i := range ps {
		if g.votes[ps[i].Name] == len(g.members) {
			return true
		}
	}
	return false
}

func (g *Group) joinNew(j *joining) {
	if inst := j.req.InstanceID; inst != nil {
		id := *inst + "-" + g.env.NewID()
		if old, ok := g.static[*inst]; ok {
			g.replaceStatic(j, old, id)
			return
		}
		g.admit(j, id)
		return
	}
	id := j.client.ID + "-" + g.env.NewID()
	if j.client.Version < knownIDVersion {
		g.admit(j, id)
		return
	}
	if len(g.pending) >= g.env.Config.MaxPending {
		j.fail("", kerr.GroupMaxSizeReached)
		return
	}
	g.pending[id] = struct{}{}
	j.op.Arm(g.id, timerMember+id, time.Duration(j.req.SessionTimeoutMillis)*time.Millisecond)
	j.fail(id, kerr.MemberIDRequired)
}

func (g *Group) joinKnown(j *joining) {
	id := j.req.MemberID
	if _, ok := g.pending[id]; ok {
		if j.req.InstanceID != nil { // an id given to a dynamic member
			j.fail(id, kerr.UnknownMemberID)
			return
		}
		g.admit(j, id)
		return
	}
	m, code := g.validate(id, j.req.InstanceID)
	if code != nil {
		j.fail(id, code)
		return
	}
	switch g.state {
	case PreparingRebalance:
		g.rejoin(j, m, "member "+id+" joins; client reason: "+j.reason())
	case CompletingRebalance:
		if m.matches(j.ps) { // it may not have seen the answer to its first join
			g.answerCurrent(j, m)
			return
		}
		g.rejoin(j, m, "member "+id+" changed its metadata; client reason: "+j.reason())
	case Stable:
		switch {
		case g.leader == id: // something outside its metadata may have changed: partitions of a topic, say
			g.rejoin(j, m, "leader "+id+" joins again; client reason: "+j.reason())
		case !m.matches(j.ps):
			g.rejoin(j, m, "member "+id+" changed its metadata; client reason: "+j.reason())
		default:
			g.answerCurrent(j, m)
		}
	default:
		j.fail(id, kerr.UnknownMemberID)
	}
}

// admit adds a new member and rebalances.
func (g *Group) admit(j *joining, id string) {
	m := &Member{
		ID: id, InstanceID: j.req.InstanceID, ClientID: j.client.ID, ClientHost: j.client.Host,
		SessionMs: j.req.SessionTimeoutMillis, RebalanceMs: j.rebalanceMs(), Protocols: j.ps,
		fresh: true, join: j.park(),
	}
	g.grew = true
	g.add(m, j.req.ProtocolType)
	g.touch(j.op, m, g.env.Config.FreshJoin)
	kind := "dynamic"
	if m.InstanceID != nil {
		kind = "static"
	}
	g.rebalanceOrComplete(j.op, "new "+kind+" member "+id+"; client reason: "+j.reason())
}

// rejoin lets a member join the next generation, with what it brings now.
func (g *Group) rejoin(j *joining, m *Member, reason string) {
	g.update(j, m)
	g.rebalanceOrComplete(j.op, reason)
}

// update takes over what a join says about a member and parks it. An earlier join of the same member, given up by
// its client, is told to come again, so that its connection is not stuck.
func (g *Group) update(j *joining, m *Member) {
	if m.join.waits {
		j.op.Deliver(m.join.tok, JoinError(m.join.version, m.ID, kerr.RebalanceInProgress))
		g.joining--
	}
	m.join = j.park()
	g.joining++
	m.SessionMs, m.RebalanceMs = j.req.SessionTimeoutMillis, j.rebalanceMs()
	m.ClientID, m.ClientHost = j.client.ID, j.client.Host
	g.setProtocols(m, j.ps)
}

// joined is the answer to a member's join of the current generation.
func (g *Group) joined(m *Member, version int16) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Version = version
	resp.Generation = g.generation
	resp.Protocol = kmsg.StringPtr(g.protocol)
	resp.ProtocolType = kmsg.StringPtr(g.protocolType)
	resp.LeaderID = g.leader
	resp.MemberID = m.ID
	if g.leader == m.ID {
		resp.Members = g.metadataForLeader()
	}
	return resp
}

func (g *Group) metadataForLeader() []kmsg.JoinGroupResponseMember {
	ms := make([]kmsg.JoinGroupResponseMember, len(g.members))
	for i, m := range g.members {
		ms[i] = kmsg.NewJoinGroupResponseMember()
		ms[i].MemberID, ms[i].InstanceID, ms[i].ProtocolMetadata = m.ID, m.InstanceID, m.metadata(g.protocol)
	}
	return ms
}

// answerCurrent answers a join that changes nothing with the generation that is.
func (g *Group) answerCurrent(j *joining, m *Member) {
	g.touchSession(j.op, m)
	j.op.Deliver(j.tok, g.joined(m, j.client.Version))
}

// answerJoin answers a parked join.
func (g *Group) answerJoin(op *effect.Op, m *Member, resp *kmsg.JoinGroupResponse) {
	if !m.join.waits {
		return
	}
	op.Deliver(m.join.tok, resp)
	m.join = parked{}
	g.joining--
}

// validate finds the member that a request names. A member id that is not (any more) the one behind its instance id
// belongs to a process that another has replaced.
func (g *Group) validate(memberID string, instanceID *string) (*Member, *kerr.Error) {
	if instanceID != nil {
		owner, ok := g.static[*instanceID]
		switch {
		case !ok:
			return nil, kerr.UnknownMemberID
		case owner != memberID:
			return nil, kerr.FencedInstanceID
		}
	}
	if m := g.byID[memberID]; m != nil {
		return m, nil
	}
	return nil, kerr.UnknownMemberID
}
