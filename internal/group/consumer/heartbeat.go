package consumer

import (
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/group/classic"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/wire"
)

// idVersion is the first ConsumerGroupHeartbeat whose client makes its own member id (KIP-1082).
const idVersion = 1

// Bounds of what goes into records, whose keys have strings with a 16 bit length, and of what a member may ask.
const (
	maxNameBytes = 32_000
	maxTopics    = 100_000
)

// Admits is the check of a heartbeat that needs no group: the error to refuse it with, or nil.
func (c *Config) Admits(version int16, req *kmsg.ConsumerGroupHeartbeatRequest) error {
	invalid := func(why string) error { return wire.Errorf(kerr.InvalidRequest, "%s", why) }
	empty := func(s *string) bool { return s != nil && strings.TrimSpace(*s) == "" }
	switch {
	case strings.TrimSpace(req.MemberID) == "" && (version >= idVersion || req.MemberEpoch != joinEpoch):
		return invalid("MemberId can't be empty.")
	case strings.TrimSpace(req.Group) == "":
		return invalid("GroupId can't be empty.")
	case empty(req.InstanceID):
		return invalid("InstanceId can't be empty.")
	case empty(req.RackID):
		return invalid("RackId can't be empty.")
	}
	switch {
	case req.MemberEpoch == joinEpoch && req.RebalanceTimeoutMillis == -1:
		return invalid("RebalanceTimeoutMs must be provided in first request.")
	case req.MemberEpoch == joinEpoch && (req.Topics == nil || len(req.Topics) > 0):
		return invalid("TopicPartitions must be empty when (re-)joining.")
	case req.MemberEpoch == joinEpoch && req.SubscribedTopicNames == nil && req.SubscribedTopicRegex == nil:
		return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
	case req.MemberEpoch == leaveStaticEpoch && req.InstanceID == nil:
		return invalid("InstanceId can't be null.")
	case req.MemberEpoch < leaveStaticEpoch:
		return invalid("MemberEpoch is invalid.")
	}
	if req.ServerAssignor != nil && !c.supportsAssignor(*req.ServerAssignor) {
		return wire.Errorf(kerr.UnsupportedAssignor, "ServerAssignor %s is not supported. Supported assignors: %s.", *req.ServerAssignor, strings.Join(c.Assignors, ", "))
	}
	longest := max(len(req.Group), len(req.MemberID))
	for _, s := range []*string{req.InstanceID, req.RackID} {
		if s != nil {
			longest = max(longest, len(*s))
		}
	}
	for _, t := range req.SubscribedTopicNames {
		longest = max(longest, len(t))
	}
	if longest > maxNameBytes || len(req.SubscribedTopicNames) > maxTopics {
		return invalid("A name of the request is too long, or there are too many topics.")
	}
	if req.SubscribedTopicRegex != nil {
		return c.checkRegex(*req.SubscribedTopicRegex)
	}
	return nil
}

// Beat takes one heartbeat of the consumer protocol, which is also how members join and leave. visible tells which
// topics a regular expression may find for this client; nil is all.
func (g *Group) Beat(op *effect.Op, client classic.Client, req *kmsg.ConsumerGroupHeartbeatRequest, visible func(string) bool) (*kmsg.ConsumerGroupHeartbeatResponse, error) {
	switch req.MemberEpoch {
	case leaveEpoch, leaveStaticEpoch:
		return g.leave(op, req)
	}
	d := g.draft(op)
	old, from, err := d.find(req)
	if err != nil {
		return nil, err
	}
	m := updated(old, client, req)
	// A client says everything when it joins and after an error: it has not seen the last answer then, and knows of
	// nothing that it does not say.
	full := req.RebalanceTimeoutMillis != -1 && (req.SubscribedTopicNames != nil || req.SubscribedTopicRegex != nil) && req.Topics != nil
	d.join(old, from, m, visible, false)
	n := d.moveOn(m, holdings(req), full)
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	resp.MemberID, resp.MemberEpoch, resp.HeartbeatIntervalMillis = kmsg.StringPtr(n.ID), n.Epoch, g.heartbeatMs()
	if full || !n.Assigned.samePartitions(m.Assigned) {
		resp.Assignment = assignmentOf(n)
	}
	return resp, nil
}

// join takes what a member says of itself, in place of old, into the group. from is the static member whose place it
// takes.
func (d *draft) join(old, from, m *Member, visible func(string) bool, assignNow bool) {
	if from != nil {
		d.bury(from)
		d.g.disarm(d.op, from)
	}
	if !old.sameMetadata(m) {
		d.put(m)
	}
	if from != nil {
		d.inherit(from, m)
		old = from
	}
	d.follow(old, m, visible)
	d.assign(assignNow)
}

// moveOn moves a member one step on: n is what comes of it.
func (d *draft) moveOn(m *Member, holds owned, certain bool) (n *Member) {
	n = d.reconcile(m, holds, certain)
	d.move(m, n)
	d.op.Arm(d.g.id, timerSession+m.ID, d.g.session(n))
	return n
}

func assignmentOf(m *Member) *kmsg.ConsumerGroupHeartbeatResponseAssignment {
	a := kmsg.NewConsumerGroupHeartbeatResponseAssignment()
	a.Topics = []kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic{}
	for _, t := range m.Assigned.topics() {
		at := kmsg.NewConsumerGroupHeartbeatResponseAssignmentTopic()
		at.TopicID, at.Partitions = t, m.Assigned.of(t)
		a.Topics = append(a.Topics, at)
	}
	return &a
}

func holdings(req *kmsg.ConsumerGroupHeartbeatRequest) owned {
	if req.Topics == nil {
		return nil
	}
	o := owned{}
	for i := range req.Topics {
		o[req.Topics[i].TopicID] = append(o[req.Topics[i].TopicID], req.Topics[i].Partitions...)
	}
	return o
}

// find is the member that a heartbeat is of. For a new one it is an empty member; from is then the static member
// whose place it takes, if any.
func (d *draft) find(req *kmsg.ConsumerGroupHeartbeatRequest) (m, from *Member, err error) {
	g := d.g
	m = g.members[req.MemberID]
	joins := req.MemberEpoch == joinEpoch
	if req.InstanceID != nil {
		holder := g.members[g.static[*req.InstanceID]]
		switch {
		case holder == nil && !joins:
			return nil, nil, wire.Errorf(kerr.UnknownMemberID, "Instance id %s is unknown.", *req.InstanceID)
		case holder != nil && holder.ID != req.MemberID && !joins:
			return nil, nil, wire.Errorf(kerr.FencedInstanceID, "Static member %s with instance id %s was fenced by member %s.", req.MemberID, *req.InstanceID, holder.ID)
		case holder != nil && holder.ID != req.MemberID:
			// A member of the classic protocol does not say that it will be back: its instance id is free for the one
			// who follows it.
			if holder.Epoch != leaveStaticEpoch && holder.Classic == nil {
				return nil, nil, wire.Errorf(kerr.UnreleasedInstanceID, "Static member %s with instance id %s cannot join the group because the instance id is owned by %s member.", req.MemberID, *req.InstanceID, holder.ID)
			}
			if m == nil {
				return newMember(""), holder, nil
			}
			// The id belongs to another member already, which has no business with this instance.
			return nil, nil, wire.Errorf(kerr.InvalidRequest, "Member id %s belongs to another member of group %s.", req.MemberID, g.id)
		}
	}
	switch {
	case m == nil && !joins:
		return nil, nil, wire.Errorf(kerr.UnknownMemberID, "Member %s is not a member of group %s.", req.MemberID, g.id)
	case m == nil:
		if len(g.members) >= g.env.Config.MaxSize {
			return nil, nil, wire.Errorf(kerr.GroupMaxSizeReached, "The consumer group has reached its maximum capacity of %d members.", g.env.Config.MaxSize)
		}
		return newMember(""), nil, nil
	case joins:
		return m, nil, nil
	}
	return m, nil, checkEpoch(m, req.MemberEpoch, holdings(req))
}

// checkEpoch fences a member that is not at the epoch that the coordinator knows. One epoch less is fine where the
// answer that moved it was lost: it holds nothing then that is not its own.
func checkEpoch(m *Member, epoch int32, holds owned) error {
	switch {
	case epoch > m.Epoch:
		return wire.Errorf(kerr.FencedMemberEpoch, "The consumer group member has a greater member epoch (%d) than the one known by the group coordinator (%d). The member must abandon all its partitions and rejoin.", epoch, m.Epoch)
	case epoch < m.Epoch && (epoch != m.Previous || !holds.within(m.Assigned)):
		return wire.Errorf(kerr.FencedMemberEpoch, "The consumer group member has a smaller member epoch (%d) than the one known by the group coordinator (%d). The member must abandon all its partitions and rejoin.", epoch, m.Epoch)
	}
	return nil
}

// updated is the member with what the heartbeat says of it. Strings of the request may share its buffer, so those that
// stay are copied.
func updated(old *Member, client classic.Client, req *kmsg.ConsumerGroupHeartbeatRequest) *Member {
	m := old.clone()
	m.ID, m.ClientID, m.ClientHost, m.Classic = strings.Clone(req.MemberID), strings.Clone(client.ID), client.Host, nil
	if req.InstanceID != nil {
		m.InstanceID = clonePtr(req.InstanceID)
	}
	if req.RackID != nil {
		m.RackID = clonePtr(req.RackID)
	}
	if req.RebalanceTimeoutMillis != -1 {
		m.RebalanceMs = req.RebalanceTimeoutMillis
	}
	if req.ServerAssignor != nil {
		m.Assignor = clonePtr(req.ServerAssignor)
	}
	if req.SubscribedTopicNames != nil {
		m.Topics = make([]string, 0, len(req.SubscribedTopicNames))
		for _, t := range req.SubscribedTopicNames {
			m.Topics = append(m.Topics, strings.Clone(t))
		}
		slices.Sort(m.Topics)
		m.Topics = slices.Compact(m.Topics)
	}
	if req.SubscribedTopicRegex != nil {
		m.Regex = strings.Clone(*req.SubscribedTopicRegex)
	}
	return m
}

func clonePtr(s *string) *string {
	c := strings.Clone(*s)
	return &c
}

// inherit gives a static member the place of the one it follows: its partitions are its own from the start.
func (d *draft) inherit(from, m *Member) {
	target := d.target(from.ID)
	if target != nil {
		d.setTarget(m.ID, target)
	}
	m.Epoch, m.Previous, m.State, m.Assigned, m.Revoking = joinEpoch, joinEpoch, MemberStable, from.Assigned, Partitions{}
}

// follow looks at what the group reads now that m is in it as it is: a new group epoch where that has changed.
func (d *draft) follow(old, m *Member, visible func(string) bool) {
	g := d.g
	found := d.resolve(old, m, visible)
	before := old.Topics
	if old.Regex != "" {
		if r := g.regexes[old.Regex]; r != nil {
			before = union(old.Topics, r.topics)
		}
	}
	changed := found || !slices.Equal(before, d.topics(m))
	if !changed && !g.refresh {
		return
	}
	hash := d.currentHash()
	g.refresh = g.env.Image == nil
	d.op.Refused = func(error) { g.refresh, g.recheck = true, true } // nothing was written: it is to be done yet
	if changed || hash != d.hash && g.env.Image != nil {
		d.bump(hash)
	}
}
