package streams

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/wire"
)

// assignorName is the only assignor there is.
const assignorName = "sticky"

// What became of the topology's description, as StreamsGroupDescribe shows it (KIP-1331).
const (
	descriptionNotAsked  = 0
	descriptionNotStored = 1
	descriptionAvailable = 3
)

// Describe fills the answer of StreamsGroupDescribe.
func (g *Group) Describe(out *kmsg.StreamsGroupDescribeResponseGroup, withDescription bool) {
	out.State, out.Epoch, out.AssignmentEpoch, out.AssignorName = g.StateName(), g.epoch, g.targetEpoch, kmsg.StringPtr(assignorName)
	out.Topology = g.describeTopology()
	members := g.Members()
	out.Members = make([]kmsg.StreamsGroupDescribeResponseGroupMember, len(members))
	for i, m := range members {
		out.Members[i] = g.describeMember(m)
	}
	out.TopologyDescriptionStatus = descriptionNotAsked
	switch {
	case !withDescription:
	case g.description == nil:
		out.TopologyDescriptionStatus = descriptionNotStored
	default:
		out.TopologyDescriptionStatus = descriptionAvailable
		d := kmsg.NewStreamsGroupDescribeResponseGroupTopologyDescription()
		d.Subtopologies, d.GlobalStores = g.description.Subtopologies, g.description.GlobalStores
		out.TopologyDescription = &d
	}
}

func (g *Group) describeTopology() *kmsg.StreamsGroupDescribeResponseGroupTopology {
	if g.topology == nil {
		return nil
	}
	t := kmsg.NewStreamsGroupDescribeResponseGroupTopology()
	t.Epoch = g.topology.Epoch
	info := func(list []topicInfo) []kmsg.TopicInfo {
		out := []kmsg.TopicInfo{}
		for i := range list {
			ti := kmsg.NewTopicInfo()
			ti.Topic, ti.NumPartitions, ti.ReplicationFactor, ti.Configs = list[i].Name, list[i].Partitions, list[i].ReplicationFactor, []kmsg.TopicInfoConfig{}
			for j := range list[i].TopicConfigs {
				tc := kmsg.NewTopicInfoConfig()
				tc.Key, tc.Value = list[i].TopicConfigs[j].Key, list[i].TopicConfigs[j].Value
				ti.Configs = append(ti.Configs, tc)
			}
			out = append(out, ti)
		}
		return out
	}
	t.Subtopologies = []kmsg.StreamsGroupDescribeResponseGroupTopologySubtopology{}
	for i := range g.topology.Subtopologies {
		s := &g.topology.Subtopologies[i]
		d := kmsg.NewStreamsGroupDescribeResponseGroupTopologySubtopology()
		d.SubtopologyID, d.SourceTopics, d.RepartitionSinkTopics = s.SubtopologyID, s.SourceTopics, s.RepartitionSinkTopics
		d.StateChangelogTopics, d.RepartitionSourceTopics = info(s.StateChangelogTopics), info(s.RepartitionSourceTopics)
		t.Subtopologies = append(t.Subtopologies, d)
	}
	return &t
}

func (g *Group) describeMember(m *Member) kmsg.StreamsGroupDescribeResponseGroupMember {
	d := kmsg.NewStreamsGroupDescribeResponseGroupMember()
	d.MemberID, d.MemberEpoch, d.InstanceID, d.RackID, d.ClientID, d.ClientHost = m.ID, m.Epoch, m.InstanceID, m.RackID, m.ClientID, m.ClientHost
	d.TopologyEpoch, d.ProcessID = m.TopologyEpoch, m.ProcessID
	if m.Endpoint != nil {
		e := kmsg.NewStreamsGroupDescribeResponseGroupMemberUserEndpoint()
		e.Host, e.Port = m.Endpoint.Host, m.Endpoint.Port
		d.UserEndpoint = &e
	}
	for _, t := range m.Tags {
		tag := kmsg.NewStreamsGroupDescribeResponseGroupMemberClientTag()
		tag.Key, tag.Value = t.Key, t.Value
		d.ClientTags = append(d.ClientTags, tag)
	}
	if p := g.offsets[m.ID]; p != nil {
		d.TaskOffsets, d.TaskEndOffsets = offsetsOf(p.at), offsetsOf(p.end)
	}
	assignment := func(r *Roles) kmsg.StreamsAssignment {
		a := kmsg.NewStreamsAssignment()
		a.ActiveTasks, a.StandbyTasks, a.WarmupTasks = r[Active].wire(), r[Standby].wire(), r[Warmup].wire()
		return a
	}
	d.Assignment = assignment(&m.Assigned)
	target, ok := g.target[m.ID]
	if !ok {
		target = noRoles()
	}
	d.TargetAssignment = assignment(&target)
	return d
}

func offsetsOf(at map[Task]int64) []kmsg.TaskOffset {
	out := make([]kmsg.TaskOffset, 0, len(at))
	for _, t := range slices.SortedFunc(maps.Keys(at), func(a, b Task) int {
		return cmp.Or(strings.Compare(a.Subtopology, b.Subtopology), cmp.Compare(a.Partition, b.Partition))
	}) {
		o := kmsg.NewTaskOffset()
		o.SubtopologyID, o.Partition, o.Offset = t.Subtopology, t.Partition, at[t]
		out = append(out, o)
	}
	return out
}

// maxDescriptionBytes bounds a topology's description, which is kept in memory.
const maxDescriptionBytes = 1 << 20

// SetDescription takes a topology's description from a member (KIP-1331). It is kept in memory: a group that is loaded
// asks its members for it again.
func (g *Group) SetDescription(req *kmsg.StreamsGroupTopologyDescriptionUpdateRequest) error {
	m := g.members[req.MemberID]
	switch {
	case m == nil:
		return wire.Errorf(kerr.UnknownMemberID, "Member %s is not a member of group %s.", req.MemberID, g.id)
	case g.topology == nil || req.TopologyEpoch != g.topology.Epoch:
		return wire.Errorf(kerr.InvalidRequest, "Topology epoch %d is not that of group %s.", req.TopologyEpoch, g.id)
	}
	raw := req.AppendTo(nil)
	if len(raw) > maxDescriptionBytes {
		return wire.Errorf(kerr.StreamsTopologyDescriptionUpdateFailed, "The description has %d bytes: at most %d.", len(raw), maxDescriptionBytes)
	}
	own := kmsg.NewPtrStreamsGroupTopologyDescriptionUpdateRequest() // the request's strings share its buffer
	own.SetVersion(req.GetVersion())
	if err := own.ReadFrom(raw); err != nil {
		return wire.Errorf(kerr.InvalidRequest, "The description cannot be read: %v", err)
	}
	g.description, g.descEpoch = &own.TopologyDescription, req.TopologyEpoch
	return nil
}

// CreateFailed notes why internal topics could not be made; members are told with their next answers.
func (g *Group) CreateFailed(why string) { g.createFault = why }
