package consumer

import (
	"maps"
	"regexp"
	"slices"

	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Names of a group's timers; the member id follows.
const (
	timerSession   = "session:"   // the member is silent
	timerRebalance = "rebalance:" // it does not give up what it must
	timerJoin      = "join:"      // a classic member does not join again
	timerSync      = "sync:"      // a classic member has joined and does not ask for its assignment
)

// Group is one consumer group. What the log keeps of it changes by replay only.
type Group struct {
	env *Env
	id  string

	epoch       int32
	hash        int64 // of the topics' metadata at epoch
	targetEpoch int32 // the epoch that target was made for
	targetMs    int64 // and when
	members     map[string]*Member
	static      map[string]string // instance id -> member id
	target      map[string]map[UUID][]int32
	regexes     map[string]*resolved
	owner       map[UUID]map[int32]string // who has a partition, or has yet to give it up
	classics    int                       // members of the classic protocol

	// Not kept: what follows from the above, and what the metadata's changes left to do at the next heartbeat.
	subscribed map[string]struct{} // topics of all members; nil: to be worked out
	compiled   map[string]*regexp.Regexp
	refresh    bool // topics have changed: is the hash still the same?
	recheck    bool // topics have come or gone: do the expressions match others?
	recheckMs  int64
	dead       bool
	rejoining  map[string]struct{} // classic members that have been told to join again
}

// resolved is what a regular expression matches.
type resolved struct {
	topics  []string // in order
	version int64    // of the metadata that it was matched against
	ms      int64
}

// New is a group without members.
func New(env *Env, id string) *Group {
	return &Group{
		env: env, id: id, epoch: firstEpoch, targetEpoch: firstEpoch,
		members: map[string]*Member{}, static: map[string]string{}, target: map[string]map[UUID][]int32{},
		regexes: map[string]*resolved{}, owner: map[UUID]map[int32]string{}, compiled: map[string]*regexp.Regexp{}, rejoining: map[string]struct{}{},
		// Whoever had the group before may have seen other metadata.
		refresh: true, recheck: true,
	}
}

// ID is the group's id.
func (g *Group) ID() string { return g.id }

// Kind is effect.Consumer.
func (g *Group) Kind() effect.Kind { return effect.Consumer }

// StateName is the state as clients see it.
func (g *Group) StateName() string { return g.State().String() }

// ProtocolType is "consumer".
func (g *Group) ProtocolType() string { return consumerType }

const consumerType = "consumer"

// Size is the number of members.
func (g *Group) Size() int { return len(g.members) }

// IsEmpty tells whether the group has no member.
func (g *Group) IsEmpty() bool { return len(g.members) == 0 }

// Epoch is the group epoch.
func (g *Group) Epoch() int32 { return g.epoch }

// Member is the member of that id, nil for none. It must not be changed.
func (g *Group) Member(id string) *Member { return g.members[id] }

// Members are the members by id. They must not be changed.
func (g *Group) Members() []*Member {
	out := make([]*Member, 0, len(g.members))
	for _, id := range slices.Sorted(maps.Keys(g.members)) {
		out = append(out, g.members[id])
	}
	return out
}

// Kill is told that the group is no more.
func (g *Group) Kill(int64) { g.dead = true }

// OnImage is told of a change of the metadata, which the environment has already.
func (g *Group) OnImage(delta *metadata.Delta) {
	for _, c := range delta.Topics() {
		if c.Old == nil || c.New == nil {
			g.recheck = g.recheck || len(g.regexes) > 0
		}
		name := ""
		if c.New != nil {
			name = c.New.Name
		} else {
			name = c.Old.Name
		}
		if !g.refresh && g.Subscribed(name) {
			g.refresh = true
		}
	}
	if len(delta.Brokers()) > 0 { // racks
		g.refresh = true
	}
}

// Subscribed tells whether a member reads the topic.
func (g *Group) Subscribed(topic string) bool {
	if g.subscribed == nil {
		g.subscribed = map[string]struct{}{}
		for _, m := range g.members {
			for _, t := range m.Topics {
				g.subscribed[t] = struct{}{}
			}
		}
		for _, r := range g.regexes {
			for _, t := range r.topics {
				g.subscribed[t] = struct{}{}
			}
		}
	}
	_, ok := g.subscribed[topic]
	return ok
}

// Replay takes a record over, whoever wrote it. A nil value is a tombstone. Records may miss others that compaction
// has taken: what is there counts. gone tells that this was the end of the group.
func (g *Group) Replay(key, value schema.Message) (gone bool) {
	switch k := key.(type) {
	case *schema.ConsumerGroupMetadataKey:
		v, ok := value.(*schema.ConsumerGroupMetadataValue)
		if !ok {
			return true
		}
		g.epoch, g.hash = v.Epoch, v.MetadataHash
	case *schema.ConsumerGroupMemberMetadataKey:
		g.replayMember(k.MemberID, value)
	case *schema.ConsumerGroupTargetAssignmentMetadataKey:
		if v, ok := value.(*schema.ConsumerGroupTargetAssignmentMetadataValue); ok {
			g.targetEpoch, g.targetMs = v.AssignmentEpoch, v.AssignmentTimestamp
		}
	case *schema.ConsumerGroupTargetAssignmentMemberKey:
		v, ok := value.(*schema.ConsumerGroupTargetAssignmentMemberValue)
		if !ok {
			delete(g.target, k.MemberID)
			break
		}
		a := make(map[UUID][]int32, len(v.TopicPartitions))
		for i := range v.TopicPartitions {
			a[v.TopicPartitions[i].TopicID] = slices.Sorted(slices.Values(v.TopicPartitions[i].Partitions))
		}
		g.target[k.MemberID] = a
	case *schema.ConsumerGroupCurrentMemberAssignmentKey:
		g.replayCurrent(k.MemberID, value)
	case *schema.ConsumerGroupRegularExpressionKey:
		g.subscribed = nil
		v, ok := value.(*schema.ConsumerGroupRegularExpressionValue)
		if !ok {
			delete(g.regexes, k.RegularExpression)
			delete(g.compiled, k.RegularExpression)
			break
		}
		g.regexes[k.RegularExpression] = &resolved{topics: slices.Sorted(slices.Values(v.Topics)), version: v.Version, ms: v.Timestamp}
	}
	return false
}

func (g *Group) replayMember(id string, value schema.Message) {
	g.subscribed = nil
	old := g.members[id]
	v, ok := value.(*schema.ConsumerGroupMemberMetadataValue)
	if !ok {
		if old != nil {
			g.disown(old)
			g.unlist(old)
			delete(g.members, id)
		}
		return
	}
	m := newMember(id)
	if old != nil {
		m = old.clone()
		g.unlist(old)
	}
	m.loadMetadata(v)
	g.members[id] = m
	if m.InstanceID != nil {
		g.static[*m.InstanceID] = id
	}
	if m.Classic != nil {
		g.classics++
	}
}

// unlist takes back what replayMember has noted of a member besides itself.
func (g *Group) unlist(m *Member) {
	if m.InstanceID != nil && g.static[*m.InstanceID] == m.ID {
		delete(g.static, *m.InstanceID)
	}
	if m.Classic != nil {
		g.classics--
	}
}

func (g *Group) replayCurrent(id string, value schema.Message) {
	old := g.members[id]
	v, ok := value.(*schema.ConsumerGroupCurrentMemberAssignmentValue)
	if old == nil {
		if !ok {
			return
		}
		old = newMember(id) // its metadata follows
	}
	g.disown(old)
	m := old.clone()
	m.Epoch, m.Previous, m.State, m.Assigned, m.Revoking = leaveEpoch, leaveEpoch, MemberStable, Partitions{}, Partitions{}
	if ok {
		m.Epoch, m.Previous, m.State = v.MemberEpoch, v.PreviousMemberEpoch, MemberState(v.State)
		m.Assigned, m.Revoking = unlisted(v.AssignedPartitions, v.MemberEpoch), unlisted(v.PartitionsPendingRevocation, v.MemberEpoch)
	}
	g.members[id] = m
	g.own(m)
}

func (g *Group) own(m *Member) {
	for _, ps := range []Partitions{m.Assigned, m.Revoking} {
		for t, list := range ps {
			for p := range list {
				if g.owner[t] == nil {
					g.owner[t] = map[int32]string{}
				}
				g.owner[t][p] = m.ID
			}
		}
	}
}

func (g *Group) disown(m *Member) {
	for _, ps := range []Partitions{m.Assigned, m.Revoking} {
		for t, list := range ps {
			for p := range list {
				if g.owner[t][p] == m.ID {
					delete(g.owner[t], p)
				}
			}
			if len(g.owner[t]) == 0 {
				delete(g.owner, t)
			}
		}
	}
}

// Start arms the timers of a group that has just been loaded: every member has a full session, and its full time to
// give up partitions, whoever coordinated before.
func (g *Group) Start(op *effect.Op) {
	for _, m := range g.Members() {
		op.Arm(g.id, timerSession+m.ID, g.session(m))
		if m.State == UnrevokedPartitions {
			op.Arm(g.id, timerRebalance+m.ID, m.rebalanceTimeout())
		}
	}
}
