package consumer

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/classic"
	"github.com/ottla/ottla/internal/group/effect"
)

// Members of the classic protocol in a consumer group. Nobody of them leads: a join is answered at once with the
// member's epoch as its generation, and the sync with what the coordinator has assigned. A heartbeat tells a member to
// join again as long as there is something for it to learn.

// knownIDVersion: from this JoinGroup version on a dynamic member joins twice, the second time with its id.
const knownIDVersion = 4

// Join takes one JoinGroup. Its answer is a delivery for tok.
func (g *Group) Join(op *effect.Op, tok coordinator.Token, client classic.Client, req *kmsg.JoinGroupRequest) {
	fail := func(id string, code *kerr.Error) { op.Deliver(tok, classic.JoinError(client.Version, id, code)) }
	ps := classic.CopyProtocols(req.Protocols)
	sub, ok := subscriptionOf(ps)
	if req.ProtocolType != consumerType || !ok || !g.supports(req.MemberID, ps) {
		fail(req.MemberID, kerr.InconsistentGroupProtocol)
		return
	}
	old, from, code := g.joining(req)
	if code != nil {
		fail(req.MemberID, code)
		return
	}
	id := strings.Clone(req.MemberID)
	if id == "" {
		id = strings.Clone(client.ID) + "-" + g.env.NewID()
		if req.InstanceID != nil {
			id = strings.Clone(*req.InstanceID) + "-" + g.env.NewID()
		} else if client.Version >= knownIDVersion {
			fail(id, kerr.MemberIDRequired)
			return
		}
	}
	d := g.draft(op)
	m := old.clone()
	m.ID, m.ClientID, m.ClientHost = id, strings.Clone(client.ID), client.Host
	if req.InstanceID != nil {
		m.InstanceID = clonePtr(req.InstanceID)
	}
	m.RackID, m.Regex, m.Assignor = sub.Rack, "", nil
	m.Topics = slices.Compact(slices.Sorted(slices.Values(sub.Topics)))
	m.RebalanceMs = req.RebalanceTimeoutMillis
	if client.Version == 0 || m.RebalanceMs < 0 {
		m.RebalanceMs = req.SessionTimeoutMillis
	}
	m.Classic = &Classic{SessionMs: req.SessionTimeoutMillis, Protocols: ps}
	d.join(old, from, m, nil, true)
	n := d.moveOn(m, g.heldOf(sub.OwnedPartitions), true)
	delete(g.rejoining, n.ID)
	op.Cancel(g.id, timerJoin+n.ID)
	op.Arm(g.id, timerSync+n.ID, n.rebalanceTimeout())
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Version, resp.MemberID, resp.Generation = client.Version, n.ID, n.Epoch
	resp.ProtocolType, resp.Protocol = kmsg.StringPtr(consumerType), kmsg.StringPtr(ps[0].Name)
	op.Deliver(tok, resp)
}

// joining is the member that joins, an empty one for a new one; from is the static member whose place it takes.
func (g *Group) joining(req *kmsg.JoinGroupRequest) (m, from *Member, code *kerr.Error) {
	if req.InstanceID != nil {
		holder := g.members[g.static[*req.InstanceID]]
		switch {
		case holder != nil && req.MemberID == "":
			return newMember(""), holder, nil
		case holder != nil && holder.ID != req.MemberID:
			return nil, nil, kerr.FencedInstanceID
		case holder == nil && req.MemberID != "":
			return nil, nil, kerr.UnknownMemberID
		}
	}
	if m = g.members[req.MemberID]; m != nil {
		return m, nil, nil
	}
	if len(g.members) >= g.env.Config.MaxSize {
		return nil, nil, kerr.GroupMaxSizeReached
	}
	return newMember(""), nil, nil
}

// supports tells whether a member with these protocols can be in one group with the other classic members, should it
// have to become a classic one.
func (g *Group) supports(id string, ps []classic.Protocol) bool {
	for i := range ps {
		all := true
		for _, m := range g.members {
			all = all && (m.Classic == nil || m.ID == id || m.Classic.supports(ps[i].Name))
		}
		if all {
			return true
		}
	}
	return false
}

func (c *Classic) supports(name string) bool {
	return slices.ContainsFunc(c.Protocols, func(p classic.Protocol) bool { return p.Name == name })
}

// subscriptionOf reads what a member subscribes to: the same in all its protocols, so the first counts.
func subscriptionOf(ps []classic.Protocol) (*kmsg.ConsumerMemberMetadata, bool) {
	if len(ps) == 0 {
		return nil, false
	}
	s, err := classic.ReadSubscription(ps[0].Metadata)
	if err != nil || len(s.Topics) > maxTopics {
		return nil, false
	}
	return s, true
}

// heldOf is what a classic member says it holds, by the ids of topics. It always says: one that does not has given up
// everything before it joined.
func (g *Group) heldOf(list []kmsg.ConsumerMemberMetadataOwnedPartition) owned {
	o := owned{}
	if g.env.Image == nil {
		return o
	}
	for i := range list {
		if t := g.env.Image.Topic(list[i].Topic); t != nil {
			o[t.ID] = append(o[t.ID], list[i].Partitions...)
		}
	}
	return o
}

// classicMember finds the member that a request of the classic protocol names.
func (g *Group) classicMember(id string, instance *string) (*Member, *kerr.Error) {
	if instance != nil {
		holder, ok := g.static[*instance]
		switch {
		case !ok:
			return nil, kerr.UnknownMemberID
		case holder != id:
			return nil, kerr.FencedInstanceID
		}
	}
	if m := g.members[id]; m != nil && m.Classic != nil {
		return m, nil
	}
	return nil, kerr.UnknownMemberID
}

// Heartbeat keeps a classic member alive and tells it to join again: the code to answer, nil for none.
func (g *Group) Heartbeat(op *effect.Op, req *kmsg.HeartbeatRequest) *kerr.Error {
	m, code := g.classicMember(req.MemberID, req.InstanceID)
	switch {
	case code != nil:
		return code
	case req.Generation != m.Epoch:
		return kerr.IllegalGeneration
	}
	op.Arm(g.id, timerSession+m.ID, g.session(m))
	d := g.draft(op)
	if g.refresh || g.recheck {
		d.follow(m, m, nil)
	}
	if m.Epoch < d.epoch || m.State == UnrevokedPartitions || m.State == UnreleasedPartitions && !d.waits(m) {
		g.expectJoin(op, m)
		return kerr.RebalanceInProgress
	}
	return nil
}

// waits tells whether something of the member's target is with others.
func (d *draft) waits(m *Member) bool {
	for t, list := range d.target(m.ID) {
		for _, p := range list {
			if d.taken(m.ID, t, p) {
				return true
			}
		}
	}
	return false
}

// expectJoin gives a member its time to join again, from when it was first told.
func (g *Group) expectJoin(op *effect.Op, m *Member) {
	if _, ok := g.rejoining[m.ID]; !ok {
		g.rejoining[m.ID] = struct{}{}
		op.Arm(g.id, timerJoin+m.ID, m.rebalanceTimeout())
	}
}

// Sync answers a classic member with its assignment, as a delivery for tok.
func (g *Group) Sync(op *effect.Op, tok coordinator.Token, version int16, req *kmsg.SyncGroupRequest) {
	fail := func(code *kerr.Error) { op.Deliver(tok, classic.SyncError(version, code)) }
	m, code := g.classicMember(req.MemberID, req.InstanceID)
	switch {
	case code != nil:
		fail(code)
		return
	case req.Generation != m.Epoch:
		fail(kerr.IllegalGeneration)
		return
	case req.ProtocolType != nil && *req.ProtocolType != consumerType, req.Protocol != nil && !m.Classic.supports(*req.Protocol):
		fail(kerr.InconsistentGroupProtocol)
		return
	case m.Epoch < g.epoch && m.State != UnrevokedPartitions: // it gives up partitions first, and joins again then
		g.expectJoin(op, m)
		fail(kerr.RebalanceInProgress)
		return
	}
	op.Cancel(g.id, timerSync+m.ID)
	op.Arm(g.id, timerSession+m.ID, g.session(m))
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.Version = version
	resp.ProtocolType, resp.Protocol = kmsg.StringPtr(consumerType), kmsg.StringPtr(m.Classic.Protocols[0].Name)
	resp.MemberAssignment = g.encodeAssignment(m)
	op.Deliver(tok, resp)
}

// encodeAssignment is what the member has been given, as consumers of the classic protocol read it, in the version of
// its own subscription.
func (g *Group) encodeAssignment(m *Member) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	if md := m.Classic.Protocols[0].Metadata; len(md) >= 2 {
		a.Version = int16(binary.BigEndian.Uint16(md))
	}
	for _, id := range m.Assigned.topics() {
		if g.env.Image == nil {
			break
		}
		if t := g.env.Image.TopicByID(id); t != nil {
			at := kmsg.NewConsumerMemberAssignmentTopic()
			at.Topic, at.Partitions = t.Name, m.Assigned.of(id)
			a.Topics = append(a.Topics, at)
		}
	}
	return a.AppendTo(nil)
}

// Leave removes members and answers for each. An empty member id with an instance id is an operator's removal of a
// static member of either protocol.
func (g *Group) Leave(op *effect.Op, leaving []kmsg.LeaveGroupRequestMember) []kmsg.LeaveGroupResponseMember {
	out := make([]kmsg.LeaveGroupResponseMember, len(leaving))
	var gone []*Member
	for i := range leaving {
		l := &leaving[i]
		out[i] = kmsg.NewLeaveGroupResponseMember()
		out[i].MemberID, out[i].InstanceID = l.MemberID, l.InstanceID
		var m *Member
		var code *kerr.Error
		if l.MemberID == "" && l.InstanceID != nil {
			if m = g.members[g.static[*l.InstanceID]]; m == nil {
				code = kerr.UnknownMemberID
			}
		} else {
			m, code = g.classicMember(l.MemberID, l.InstanceID)
		}
		if code == nil && slices.Contains(gone, m) {
			code = kerr.UnknownMemberID
		}
		if code != nil {
			out[i].ErrorCode = code.Code
			continue
		}
		gone = append(gone, m)
	}
	g.remove(op, gone...)
	return out
}

// Make is a group of members that another kind of group had: each at the epoch, with what it is assigned as its
// target. env must have its image.
func Make(env *Env, id string, epoch int32, members []*Member) *Group {
	g := New(env, id)
	g.epoch, g.targetEpoch = epoch, epoch
	for _, m := range members {
		g.members[m.ID] = m
		g.own(m)
		if m.InstanceID != nil {
			g.static[*m.InstanceID] = m.ID
		}
		if m.Classic != nil {
			g.classics++
		}
		target := map[UUID][]int32{}
		for t := range m.Assigned {
			target[t] = m.Assigned.of(t)
		}
		g.target[m.ID] = target
	}
	g.hash = g.draft(&effect.Op{}).currentHash()
	return g
}

// FromClassic is a classic member in a consumer group at an epoch; ok is false where its subscription cannot be read.
// given tells of a partition whether it is free to be this member's.
func FromClassic(env *Env, m *classic.Member, epoch int32, given func(t UUID, p int32) bool) (*Member, bool) {
	sub, ok := subscriptionOf(m.Protocols)
	if !ok {
		return nil, false
	}
	n := newMember(m.ID)
	n.InstanceID, n.RackID, n.ClientID, n.ClientHost = m.InstanceID, sub.Rack, m.ClientID, m.ClientHost
	n.RebalanceMs, n.Topics = m.RebalanceMs, slices.Compact(slices.Sorted(slices.Values(sub.Topics)))
	n.Classic = &Classic{SessionMs: m.SessionMs, Protocols: m.Protocols}
	n.Epoch, n.Previous = epoch, epoch
	take := func(topic string, list []int32) {
		if t := env.Image.Topic(topic); t != nil {
			for _, p := range list {
				if p >= 0 && int(p) < len(t.Partitions) && given(t.ID, p) {
					n.Assigned.add(t.ID, p, epoch)
				}
			}
		}
	}
	if len(m.Assignment) == 0 { // between two generations: what it said it held
		for i := range sub.OwnedPartitions {
			take(sub.OwnedPartitions[i].Topic, sub.OwnedPartitions[i].Partitions)
		}
		return n, true
	}
	var a kmsg.ConsumerMemberAssignment
	if err := a.ReadFrom(m.Assignment); err != nil {
		return nil, false
	}
	for i := range a.Topics {
		take(a.Topics[i].Topic, a.Topics[i].Partitions)
	}
	return n, true
}

// ToClassic is the group's classic members for a classic group: the protocol all of them know, and of each what it
// needs to go on.
func (g *Group) ToClassic(without []*Member) (protocol string, members []*classic.Member) {
	votes := map[string]int{}
	var order []string
	for _, m := range g.Members() {
		if m.Classic == nil || slices.Contains(without, m) {
			continue
		}
		cm := &classic.Member{
			ID: m.ID, InstanceID: m.InstanceID, ClientID: m.ClientID, ClientHost: m.ClientHost,
			SessionMs: m.Classic.SessionMs, RebalanceMs: m.RebalanceMs, Protocols: m.Classic.Protocols, Assignment: g.encodeAssignment(m),
		}
		for i := range cm.Protocols {
			if votes[cm.Protocols[i].Name]++; votes[cm.Protocols[i].Name] == 1 {
				order = append(order, cm.Protocols[i].Name)
			}
		}
		members = append(members, cm)
	}
	for _, name := range order {
		if votes[name] == len(members) {
			return name, members
		}
	}
	return "", members
}
