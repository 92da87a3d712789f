package share

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// begin asks for states of partitions that members read and that have none.
func (g *Group) begin(op *effect.Op, members []*Member) *Begin {
	next := g.states.clone()
	b := &Begin{StateEpoch: g.epoch}
	fresh := false
	for _, m := range members {
		for _, name := range m.Topics {
			t := g.env.Image.Topic(name)
			if t == nil {
				continue
			}
			if _, going := next.deleting[t.ID]; going {
				continue
			}
			for i := range int32(len(t.Partitions)) {
				p := Partition{t.ID, i}
				if next.initialized[t.ID].partitions[i] {
					continue
				}
				if at, ok := g.asked[p]; ok && next.initializing[t.ID].partitions[i] && op.NowMs()-at < g.env.Config.InitializeRetry.Milliseconds() {
					continue
				}
				fresh = fresh || !next.initializing[t.ID].partitions[i]
				put(next.initializing, t.ID, t.Name, i)
				g.asked[p] = op.NowMs()
				b.Partitions = append(b.Partitions, p)
			}
		}
	}
	if len(b.Partitions) == 0 {
		return nil
	}
	if fresh {
		g.writeStates(op, &next)
		asked := b.Partitions
		op.Refused = func(error) {
			for _, p := range asked {
				delete(g.asked, p)
			}
		}
	}
	return b
}

func (g *Group) writeStates(op *effect.Op, s *states) {
	v := schema.NewShareGroupStatePartitionMetadataValue()
	list := func(in map[schema.UUID]topicState) []schema.ShareGroupStatePartitionMetadataValueTopicPartitionsInfo {
		out := make([]schema.ShareGroupStatePartitionMetadataValueTopicPartitionsInfo, 0, len(in))
		for _, id := range sortedIDs(in) {
			out = append(out, schema.ShareGroupStatePartitionMetadataValueTopicPartitionsInfo{TopicID: id, TopicName: in[id].name, Partitions: slices.Sorted(maps.Keys(in[id].partitions))})
		}
		return out
	}
	v.InitializingTopics, v.InitializedTopics = list(s.initializing), list(s.initialized)
	v.DeletingTopics = []schema.ShareGroupStatePartitionMetadataValueTopicInfo{}
	for _, id := range sortedIDs(s.deleting) {
		v.DeletingTopics = append(v.DeletingTopics, schema.ShareGroupStatePartitionMetadataValueTopicInfo{TopicID: id, TopicName: s.deleting[id]})
	}
	op.Write(coordinator.Record{Key: &schema.ShareGroupStatePartitionMetadataKey{GroupID: g.id}, Value: v})
}

func sortedIDs[V any](in map[schema.UUID]V) []schema.UUID {
	return slices.SortedFunc(maps.Keys(in), func(a, b schema.UUID) int { return bytes.Compare(a[:], b[:]) })
}

// Begun is told which states have begun, and which could not and are asked for again at the next heartbeat.
func (g *Group) Begun(op *effect.Op, ok, failed []Partition) {
	next := g.states.clone()
	changed := false
	for _, p := range ok {
		delete(g.asked, p)
		if t := next.initializing[p.Topic]; t.partitions[p.Index] {
			put(next.initialized, p.Topic, t.name, p.Index)
			drop(next.initializing, p.Topic, p.Index)
			changed = true
		}
	}
	for _, p := range failed {
		delete(g.asked, p)
		if next.initializing[p.Topic].partitions[p.Index] {
			drop(next.initializing, p.Topic, p.Index)
			changed = true
		}
	}
	if changed {
		g.writeStates(op, &next)
	}
}

// Forget drops what is known of topics that have been deleted: their states go by themselves.
func (g *Group) Forget(op *effect.Op, lost func(id schema.UUID) bool) {
	next := g.states.clone()
	gone := func(id schema.UUID, _ topicState) bool { return lost(id) }
	maps.DeleteFunc(next.initialized, gone)
	maps.DeleteFunc(next.initializing, gone)
	maps.DeleteFunc(next.deleting, func(id schema.UUID, _ string) bool { return lost(id) })
	if len(next.initialized) != len(g.states.initialized) || len(next.initializing) != len(g.states.initializing) || len(next.deleting) != len(g.states.deleting) {
		g.writeStates(op, &next)
	}
}

var errNotEmpty = wire.Errorf(kerr.NonEmptyGroup, "The group is not empty.")

// Alter begins the states of partitions of an empty group anew, each at the offset given, in a new group epoch.
func (g *Group) Alter(op *effect.Op, starts map[Partition]int64) (*Begin, error) {
	if len(g.members) > 0 {
		return nil, errNotEmpty
	}
	next := g.states.clone()
	b := &Begin{StateEpoch: g.epoch + 1, Start: starts}
	for _, p := range slices.SortedFunc(maps.Keys(starts), Partition.compare) {
		t := g.env.Image.TopicByID(p.Topic)
		if t == nil {
			continue
		}
		delete(next.deleting, p.Topic)
		drop(next.initialized, p.Topic, p.Index)
		put(next.initializing, p.Topic, t.Name, p.Index)
		b.Partitions = append(b.Partitions, p)
	}
	g.writeEpoch(op, g.epoch+1, g.hash)
	g.writeStates(op, &next)
	return b, nil
}

// Unstate begins the deletion of the states of topics of an empty group, of all for nil: the partitions whose states have to go.
func (g *Group) Unstate(op *effect.Op, topics []schema.UUID) ([]Partition, error) {
	if len(g.members) > 0 {
		return nil, errNotEmpty
	}
	next := g.states.clone()
	all := Partitions{}
	asked := func(id schema.UUID) bool { return topics == nil || slices.Contains(topics, id) }
	for _, in := range []map[schema.UUID]topicState{next.initialized, next.initializing} {
		for id, t := range in {
			if !asked(id) {
				continue
			}
			for p := range t.partitions {
				all[Partition{id, p}] = true
			}
			next.deleting[id] = t.name
			delete(in, id)
		}
	}
	for id := range next.deleting {
		for p := range partitionsOf(g.env.Image, id) {
			if asked(id) {
				all[Partition{id, p}] = true
			}
		}
	}
	if len(all) > 0 {
		g.writeStates(op, &next)
	}
	return all.sorted(), nil
}

// Unstated is told of topics whose states are deleted.
func (g *Group) Unstated(op *effect.Op, topics []schema.UUID) {
	next := g.states.clone()
	for _, id := range topics {
		delete(next.deleting, id)
	}
	g.writeStates(op, &next)
}

// Stated are the partitions that have a state, by topic name.
func (g *Group) Stated() map[string][]int32 {
	out := map[string][]int32{}
	for _, t := range g.states.initialized {
		out[t.name] = slices.Sorted(maps.Keys(t.partitions))
	}
	return out
}

// HasState tells whether a topic has states, or had some that are being deleted.
func (g *Group) HasState(id schema.UUID) bool {
	_, a := g.states.initialized[id]
	_, b := g.states.initializing[id]
	_, c := g.states.deleting[id]
	return a || b || c
}

// Replay takes a record over, whoever wrote it. A nil value is a tombstone. Records may miss others that compaction has
// taken: what is there counts. gone tells that this was the end of the group.
func (g *Group) Replay(key, value schema.Message) (gone bool) {
	switch k := key.(type) {
	case *schema.ShareGroupMetadataKey:
		v, ok := value.(*schema.ShareGroupMetadataValue)
		if !ok {
			return true
		}
		g.epoch, g.hash = v.Epoch, v.MetadataHash
	case *schema.ShareGroupMemberMetadataKey:
		v, ok := value.(*schema.ShareGroupMemberMetadataValue)
		if !ok {
			delete(g.members, k.MemberID)
			break
		}
		m := g.memberOf(k.MemberID)
		m.RackID, m.ClientID, m.ClientHost, m.Topics = v.RackID, v.ClientID, v.ClientHost, slices.Sorted(slices.Values(v.SubscribedTopicNames))
		g.members[k.MemberID] = m
	case *schema.ShareGroupTargetAssignmentMetadataKey:
		if v, ok := value.(*schema.ShareGroupTargetAssignmentMetadataValue); ok {
			g.targetEpoch, g.targetMs = v.AssignmentEpoch, v.AssignmentTimestamp
		}
	case *schema.ShareGroupTargetAssignmentMemberKey:
		v, ok := value.(*schema.ShareGroupTargetAssignmentMemberValue)
		if !ok {
			delete(g.target, k.MemberID)
			break
		}
		ps := Partitions{}
		for i := range v.TopicPartitions {
			for _, p := range v.TopicPartitions[i].Partitions {
				ps[Partition{v.TopicPartitions[i].TopicID, p}] = true
			}
		}
		g.target[k.MemberID] = ps
	case *schema.ShareGroupCurrentMemberAssignmentKey:
		g.replayCurrent(k.MemberID, value)
	case *schema.ShareGroupStatePartitionMetadataKey:
		g.states = newStates()
		if v, ok := value.(*schema.ShareGroupStatePartitionMetadataValue); ok {
			g.loadStates(v)
		}
	}
	return false
}

func (g *Group) memberOf(id string) *Member {
	if m := g.members[id]; m != nil {
		return m.clone()
	}
	return &Member{ID: strings.Clone(id), Assigned: Partitions{}}
}

func (g *Group) replayCurrent(id string, value schema.Message) {
	v, ok := value.(*schema.ShareGroupCurrentMemberAssignmentValue)
	if !ok && g.members[id] == nil {
		return
	}
	m := g.memberOf(id)
	m.Epoch, m.Previous, m.Assigned = leaveEpoch, leaveEpoch, Partitions{}
	if ok {
		m.Epoch, m.Previous = v.MemberEpoch, v.PreviousMemberEpoch
		for i := range v.AssignedPartitions {
			for _, p := range v.AssignedPartitions[i].Partitions {
				m.Assigned[Partition{v.AssignedPartitions[i].TopicID, p}] = true
			}
		}
	}
	g.members[id] = m
}

func (g *Group) loadStates(v *schema.ShareGroupStatePartitionMetadataValue) {
	for i := range v.InitializingTopics {
		for _, p := range v.InitializingTopics[i].Partitions {
			put(g.states.initializing, v.InitializingTopics[i].TopicID, v.InitializingTopics[i].TopicName, p)
		}
	}
	for i := range v.InitializedTopics {
		for _, p := range v.InitializedTopics[i].Partitions {
			put(g.states.initialized, v.InitializedTopics[i].TopicID, v.InitializedTopics[i].TopicName, p)
		}
	}
	for i := range v.DeletingTopics {
		g.states.deleting[v.DeletingTopics[i].TopicID] = v.DeletingTopics[i].TopicName
	}
}
