package share

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/group/topichash"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Client is who sends a request.
type Client struct{ ID, Host string }

// Begin asks for the states of partitions to begin in an epoch, at Start (-1: where the group's settings say).
type Begin struct {
	StateEpoch int32
	Partitions []Partition
	Start      map[Partition]int64 // nil: -1 for all
}

// Heartbeat is the answer to a heartbeat.
type Heartbeat struct {
	Response *kmsg.ShareGroupHeartbeatResponse
	// Begin has the partitions whose states the caller has to begin; nil for none.
	Begin *Begin
}

// Bounds of what goes into records, whose keys have strings with a 16 bit length, and of what a member may ask.
const (
	maxNameBytes = 32_000
	maxTopics    = 100_000
)

// Admits is the check of a heartbeat that needs no group: the error to refuse it with, or nil.
func Admits(req *kmsg.ShareGroupHeartbeatRequest) error {
	invalid := func(why string) error { return wire.Errorf(kerr.InvalidRequest, "%s", why) }
	switch {
	case strings.TrimSpace(req.MemberID) == "":
		return invalid("MemberId can't be empty.")
	case strings.TrimSpace(req.GroupID) == "":
		return invalid("GroupId can't be empty.")
	case req.RackID != nil && strings.TrimSpace(*req.RackID) == "":
		return invalid("RackId can't be empty.")
	case req.MemberEpoch == joinEpoch && len(req.SubscribedTopicNames) == 0:
		return invalid("SubscribedTopicNames must be set in first request.")
	case req.MemberEpoch < leaveEpoch:
		return invalid("MemberEpoch is invalid.")
	}
	longest := max(len(req.GroupID), len(req.MemberID))
	if req.RackID != nil {
		longest = max(longest, len(*req.RackID))
	}
	for _, t := range req.SubscribedTopicNames {
		longest = max(longest, len(t))
	}
	if longest > maxNameBytes || len(req.SubscribedTopicNames) > maxTopics {
		return invalid("A name of the request is too long, or there are too many topics.")
	}
	return nil
}

// Beat takes one heartbeat, which is also how members join and leave.
func (g *Group) Beat(op *effect.Op, client Client, req *kmsg.ShareGroupHeartbeatRequest) (*Heartbeat, error) {
	old := g.members[req.MemberID]
	if old == nil && req.MemberEpoch != joinEpoch {
		return nil, wire.Errorf(kerr.UnknownMemberID, "Member %s is not a member of group %s.", req.MemberID, g.id)
	}
	resp := kmsg.NewPtrShareGroupHeartbeatResponse()
	resp.MemberID = kmsg.StringPtr(req.MemberID)
	if req.MemberEpoch == leaveEpoch {
		g.env.Log.Info("share group member leaves", "group", g.id, "member", old.ID)
		g.remove(op, old)
		resp.MemberEpoch = leaveEpoch
		return &Heartbeat{Response: resp}, nil
	}
	if g.env.Image == nil {
		return nil, kerr.CoordinatorLoadInProgress
	}
	if err := g.checkEpoch(old, req.MemberEpoch); err != nil {
		return nil, err
	}
	m, changed := updated(old, client, req)
	if old == nil && len(g.members) >= g.env.Config.MaxSize {
		return nil, wire.Errorf(kerr.GroupMaxSizeReached, "The share group has reached its maximum capacity of %d members.", g.env.Config.MaxSize)
	}
	if changed {
		v := &schema.ShareGroupMemberMetadataValue{RackID: m.RackID, ClientID: m.ClientID, ClientHost: m.ClientHost, SubscribedTopicNames: m.Topics}
		op.Write(coordinator.Record{Key: &schema.ShareGroupMemberMetadataKey{GroupID: g.id, MemberID: m.ID}, Value: v})
	}
	n := g.follow(op, old, m)
	op.Arm(g.id, timerSession+m.ID, g.session())
	resp.MemberEpoch, resp.HeartbeatIntervalMillis = n.Epoch, g.heartbeatMs()
	// Who joins, says everything or is an epoch behind has not seen the last answer.
	if req.SubscribedTopicNames != nil || req.MemberEpoch < m.Epoch || !maps.Equal(n.Assigned, m.Assigned) {
		resp.Assignment = assignment(n.Assigned)
	}
	return &Heartbeat{Response: resp, Begin: g.begin(op, g.with(m))}, nil
}

func assignment(ps Partitions) *kmsg.ShareGroupHeartbeatResponseAssignment {
	a := kmsg.NewShareGroupHeartbeatResponseAssignment()
	a.TopicPartitions = []kmsg.ShareGroupHeartbeatResponseAssignmentTopicPartition{}
	ps.byTopic(func(topic schema.UUID, indexes []int32) {
		tp := kmsg.NewShareGroupHeartbeatResponseAssignmentTopicPartition()
		tp.TopicID, tp.Partitions = topic, indexes
		a.TopicPartitions = append(a.TopicPartitions, tp)
	})
	return &a
}

// checkEpoch fences a member that is not where it should be. One that lost the last answer is an epoch behind.
func (g *Group) checkEpoch(m *Member, epoch int32) error {
	switch {
	case m == nil || epoch == joinEpoch || epoch == m.Epoch || epoch == m.Previous:
		return nil
	case epoch > m.Epoch:
		return wire.Errorf(kerr.FencedMemberEpoch, "The share group member has a greater member epoch (%d) than the one known by the group coordinator (%d). The member must abandon all its partitions and rejoin.", epoch, m.Epoch)
	}
	return wire.Errorf(kerr.FencedMemberEpoch, "The share group member has a smaller member epoch (%d) than the one known by the group coordinator (%d). The member must abandon all its partitions and rejoin.", epoch, m.Epoch)
}

// updated is a member with what it says of itself; changed tells whether that is news.
func updated(old *Member, client Client, req *kmsg.ShareGroupHeartbeatRequest) (m *Member, changed bool) {
	if old == nil {
		m, changed = &Member{ID: strings.Clone(req.MemberID), Epoch: joinEpoch, Previous: joinEpoch, Assigned: Partitions{}}, true
	} else {
		m = old.clone()
	}
	if req.RackID != nil && (m.RackID == nil || *m.RackID != *req.RackID) {
		r := strings.Clone(*req.RackID)
		m.RackID, changed = &r, true
	}
	if client.ID != m.ClientID || client.Host != m.ClientHost {
		m.ClientID, m.ClientHost, changed = strings.Clone(client.ID), strings.Clone(client.Host), true
	}
	if req.SubscribedTopicNames != nil {
		topics := make([]string, len(req.SubscribedTopicNames))
		for i, t := range req.SubscribedTopicNames {
			topics[i] = strings.Clone(t)
		}
		slices.Sort(topics)
		if topics = slices.Compact(topics); !slices.Equal(topics, m.Topics) {
			m.Topics, changed = topics, true
		}
	}
	return m, changed
}

// with are the group's members with m in its place.
func (g *Group) with(m *Member) []*Member {
	out := g.Members()
	i, found := slices.BinarySearchFunc(out, m.ID, func(x *Member, id string) int { return strings.Compare(x.ID, id) })
	if found {
		out[i] = m
		return out
	}
	return slices.Insert(out, i, m)
}

// follow begins a new group epoch where anything has changed, makes the target assignment where that is due, and moves the
// member to it: the member that it gives.
func (g *Group) follow(op *effect.Op, old, m *Member) *Member {
	members := g.with(m)
	names := map[string]bool{}
	for _, x := range members {
		for _, t := range x.Topics {
			names[t] = true
		}
	}
	ready := g.ready(names)
	hash := topichash.Group(g.env.Image, slices.Sorted(maps.Keys(names)))
	epoch, targetEpoch := g.epoch, g.targetEpoch
	target := g.target[m.ID]
	if old == nil || !slices.Equal(old.Topics, m.Topics) || hash != g.hash || epoch == targetEpoch && !g.covers(ready) {
		epoch++
		g.writeEpoch(op, epoch, hash)
	}
	if since := time.Duration(op.NowMs()-g.targetMs) * time.Millisecond; epoch > targetEpoch && (since < 0 || since >= g.assignmentInterval()) {
		targets := g.makeTarget(op, epoch, members, ready)
		target, targetEpoch = targets[m.ID], epoch
	}
	if target == nil {
		target = Partitions{}
	}
	n := m.clone()
	if n.Assigned = target; m.Epoch != targetEpoch {
		n.Previous, n.Epoch = m.Epoch, targetEpoch
	}
	if old == nil || n.Epoch != m.Epoch || !maps.Equal(n.Assigned, m.Assigned) {
		v := &schema.ShareGroupCurrentMemberAssignmentValue{MemberEpoch: n.Epoch, PreviousMemberEpoch: n.Previous, AssignedPartitions: []schema.ShareGroupCurrentMemberAssignmentValueTopicPartitions{}}
		n.Assigned.byTopic(func(topic schema.UUID, indexes []int32) {
			v.AssignedPartitions = append(v.AssignedPartitions, schema.ShareGroupCurrentMemberAssignmentValueTopicPartitions{TopicID: topic, Partitions: indexes})
		})
		op.Write(coordinator.Record{Key: &schema.ShareGroupCurrentMemberAssignmentKey{GroupID: g.id, MemberID: m.ID}, Value: v})
	}
	return n
}

// ready are the partitions of topics that have a state, in order.
func (g *Group) ready(names map[string]bool) []Partition {
	out := Partitions{}
	for id, t := range g.states.initialized {
		topic := g.env.Image.TopicByID(id)
		if topic == nil || !names[topic.Name] {
			continue
		}
		for p := range t.partitions {
			out[Partition{id, p}] = true
		}
	}
	return out.sorted()
}

// covers tells whether the target assignment is of exactly these partitions.
func (g *Group) covers(ready []Partition) bool {
	all := Partitions{}
	for _, t := range g.target {
		maps.Copy(all, t)
	}
	return slices.Equal(all.sorted(), ready)
}

func (g *Group) makeTarget(op *effect.Op, epoch int32, members []*Member, ready []Partition) map[string]Partitions {
	reads := map[schema.UUID][]string{}
	for _, m := range members {
		for _, name := range m.Topics {
			if t := g.env.Image.Topic(name); t != nil {
				reads[t.ID] = append(reads[t.ID], m.ID)
			}
		}
	}
	targets := assignSimple(ready, reads, g.target)
	for _, m := range members {
		want := targets[m.ID]
		if old, ok := g.target[m.ID]; ok && maps.Equal(old, want) {
			continue
		}
		v := &schema.ShareGroupTargetAssignmentMemberValue{TopicPartitions: []schema.ShareGroupTargetAssignmentMemberValueTopicPartition{}}
		want.byTopic(func(topic schema.UUID, indexes []int32) {
			v.TopicPartitions = append(v.TopicPartitions, schema.ShareGroupTargetAssignmentMemberValueTopicPartition{TopicID: topic, Partitions: indexes})
		})
		op.Write(coordinator.Record{Key: &schema.ShareGroupTargetAssignmentMemberKey{GroupID: g.id, MemberID: m.ID}, Value: v})
	}
	made := op.NowMs()
	if len(ready) == 0 {
		made = 0 // nothing was handed out: the next one need not wait
	}
	op.Write(coordinator.Record{Key: &schema.ShareGroupTargetAssignmentMetadataKey{GroupID: g.id}, Value: &schema.ShareGroupTargetAssignmentMetadataValue{AssignmentEpoch: epoch, AssignmentTimestamp: made}})
	g.env.Rebalances++
	g.env.Log.Info("share group has a new target assignment", "group", g.id, "epoch", epoch, "members", len(members), "partitions", len(ready))
	return targets
}
