package streams

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Names of a group's timers; the member id follows but for the last.
const (
	timerSession   = "session:"   // the member is silent
	timerRebalance = "rebalance:" // it does not give up what it must
	timerInitial   = "initial:"   // the first assignment has waited for members long enough
)

// Group is one streams group. What the log keeps of it changes by replay only.
type Group struct {
	env *Env
	id  string

	epoch       int32
	hash        int64             // of the topics' metadata at epoch
	validated   int32             // the epoch of the topology whose topics were all in place; noEpoch
	configs     map[string]string // that the assignment of epoch was to be made with
	described   int32             // kept for Kafka: the topology epoch its plug-in holds a description of
	failed      int32             // and the one it has refused
	targetEpoch int32             // the epoch that target was made for
	targetMs    int64             // and when
	members     map[string]*Member
	static      map[string]string // instance id -> member id
	target      map[string]Roles
	topology    *topology
	holders     [numRoles]map[Task]map[string]string // who has a task or has yet to give it up: member id -> process id

	// Not kept: what follows from the above, and what the group learns anew when it is loaded.
	configured  *configured
	refresh     bool // topics have changed: does the topology still fit?
	dead        bool
	waiting     bool // for members, before the first assignment
	endpoints   int32
	offsets     map[string]*progress
	shutdown    string // the member that has asked all to stop
	createFault string // why internal topics could not be made
	description *kmsg.TopologyDescription
	descEpoch   int32
}

// progress is how far a member has come with the changelogs of its tasks, as it says.
type progress struct{ at, end map[Task]int64 }

// New is a group without members.
func New(env *Env, id string) *Group {
	g := &Group{
		env: env, id: id, epoch: firstEpoch, targetEpoch: firstEpoch, validated: noEpoch, described: noEpoch, failed: noEpoch, descEpoch: noEpoch,
		members: map[string]*Member{}, static: map[string]string{}, target: map[string]Roles{}, offsets: map[string]*progress{}, refresh: true,
	}
	for i := range g.holders {
		g.holders[i] = map[Task]map[string]string{}
	}
	return g
}

// ID is the group's id.
func (g *Group) ID() string { return g.id }

// Kind is effect.Streams.
func (g *Group) Kind() effect.Kind { return effect.Streams }

// StateName is the state as clients see it.
func (g *Group) StateName() string { return g.State().String() }

// ProtocolType is "streams".
func (g *Group) ProtocolType() string { return "streams" }

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
	if g.refresh || g.topology == nil {
		return
	}
	if len(delta.Brokers()) > 0 { // racks
		g.refresh = true
		return
	}
	names := topicNames(g.topology)
	for _, c := range delta.Topics() {
		t := c.New
		if t == nil {
			t = c.Old
		}
		if _, ours := slices.BinarySearch(names, t.Name); ours {
			g.refresh = true
			return
		}
	}
}

// Subscribed tells whether a member reads the topic.
func (g *Group) Subscribed(topic string) bool {
	return len(g.members) > 0 && g.reader(topic) != ""
}

// reader is the subtopology that reads a topic, "" for none.
func (g *Group) reader(topic string) string {
	if g.topology == nil {
		return ""
	}
	for i := range g.topology.Subtopologies {
		s := &g.topology.Subtopologies[i]
		if slices.Contains(s.SourceTopics, topic) || slices.ContainsFunc(s.RepartitionSourceTopics, func(t topicInfo) bool { return t.Name == topic }) {
			return s.SubtopologyID
		}
	}
	return ""
}

// Replay takes a record over, whoever wrote it. A nil value is a tombstone. Records may miss others that compaction
// has taken: what is there counts. gone tells that this was the end of the group.
func (g *Group) Replay(key, value schema.Message) (gone bool) {
	switch k := key.(type) {
	case *schema.StreamsGroupMetadataKey:
		v, ok := value.(*schema.StreamsGroupMetadataValue)
		if !ok {
			return true
		}
		g.epoch, g.hash, g.validated = v.Epoch, v.MetadataHash, v.ValidatedTopologyEpoch
		g.described, g.failed = v.StoredDescriptionTopologyEpoch, v.FailedDescriptionTopologyEpoch
		g.configs = map[string]string{}
		for i := range v.LastAssignmentConfigs {
			g.configs[v.LastAssignmentConfigs[i].Key] = v.LastAssignmentConfigs[i].Value
		}
	case *schema.StreamsGroupTopologyKey:
		g.topology, g.configured, g.refresh = nil, nil, true
		if v, ok := value.(*schema.StreamsGroupTopologyValue); ok {
			g.topology = v
		}
	case *schema.StreamsGroupMemberMetadataKey:
		g.replayMember(k.MemberID, value)
	case *schema.StreamsGroupTargetAssignmentMetadataKey:
		if v, ok := value.(*schema.StreamsGroupTargetAssignmentMetadataValue); ok {
			g.targetEpoch, g.targetMs = v.AssignmentEpoch, v.AssignmentTimestamp
		}
	case *schema.StreamsGroupTargetAssignmentMemberKey:
		v, ok := value.(*schema.StreamsGroupTargetAssignmentMemberValue)
		if !ok {
			delete(g.target, k.MemberID)
			break
		}
		g.target[k.MemberID] = Roles{targeted(v.ActiveTasks), targeted(v.StandbyTasks), targeted(v.WarmupTasks)}
	case *schema.StreamsGroupCurrentMemberAssignmentKey:
		g.replayCurrent(k.MemberID, value)
	}
	return false
}

func targeted(list []schema.StreamsGroupTargetAssignmentMemberValueTaskIDs) Tasks {
	ts := Tasks{}
	for i := range list {
		for _, p := range list[i].Partitions {
			ts.add(Task{list[i].SubtopologyID, p}, 0)
		}
	}
	return ts
}

func (g *Group) replayMember(id string, value schema.Message) {
	old := g.members[id]
	if old != nil {
		g.disown(old)
		if old.InstanceID != nil && g.static[*old.InstanceID] == id {
			delete(g.static, *old.InstanceID)
		}
	}
	v, ok := value.(*schema.StreamsGroupMemberMetadataValue)
	if !ok {
		delete(g.members, id)
		delete(g.offsets, id)
		if len(g.members) == 0 {
			g.shutdown = ""
		}
		return
	}
	m := newMember(id)
	if old != nil {
		m = old.clone()
	}
	m.loadMetadata(v)
	g.members[id] = m
	if m.InstanceID != nil {
		g.static[*m.InstanceID] = id
	}
	g.hold(m)
}

func (g *Group) replayCurrent(id string, value schema.Message) {
	old := g.members[id]
	v, ok := value.(*schema.StreamsGroupCurrentMemberAssignmentValue)
	if old == nil {
		if !ok {
			return
		}
		old = newMember(id) // its metadata follows
	}
	g.disown(old)
	m := old.clone()
	m.Epoch, m.Previous, m.State, m.Assigned, m.Revoking = leaveEpoch, leaveEpoch, MemberStable, noRoles(), noRoles()
	if ok {
		m.loadCurrent(v)
	}
	g.members[id] = m
	g.hold(m)
}

func (g *Group) hold(m *Member) {
	for _, roles := range []*Roles{&m.Assigned, &m.Revoking} {
		for r := range roles {
			for t := range roles[r].all() {
				if g.holders[r][t] == nil {
					g.holders[r][t] = map[string]string{}
				}
				g.holders[r][t][m.ID] = m.ProcessID
			}
		}
	}
}

func (g *Group) disown(m *Member) {
	for _, roles := range []*Roles{&m.Assigned, &m.Revoking} {
		for r := range roles {
			for t := range roles[r].all() {
				delete(g.holders[r][t], m.ID)
				if len(g.holders[r][t]) == 0 {
					delete(g.holders[r], t)
				}
			}
		}
	}
}

// Start arms the timers of a group that has just been loaded: every member has a full session, and its full time to
// give up tasks, whoever coordinated before.
func (g *Group) Start(op *effect.Op) {
	for _, m := range g.Members() {
		op.Arm(g.id, timerSession+m.ID, g.session())
		if m.State == UnrevokedTasks {
			op.Arm(g.id, timerRebalance+m.ID, m.rebalanceTimeout())
		}
	}
}
