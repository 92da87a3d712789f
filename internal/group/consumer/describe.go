package consumer

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Member types as ConsumerGroupDescribe shows them.
const (
	typeClassic  = 0
	typeConsumer = 1
)

// Describe fills the answer of ConsumerGroupDescribe. A member's assignment is all that it may hold.
func (g *Group) Describe(out *kmsg.ConsumerGroupDescribeResponseGroup) {
	members := g.Members()
	out.State, out.Epoch, out.AssignmentEpoch, out.AssignorName = g.StateName(), g.epoch, g.targetEpoch, g.assignorName(members)
	out.Members = make([]kmsg.ConsumerGroupDescribeResponseGroupMember, len(members))
	for i, m := range members {
		d := kmsg.NewConsumerGroupDescribeResponseGroupMember()
		d.MemberID, d.InstanceID, d.RackID, d.MemberEpoch, d.ClientID, d.ClientHost = m.ID, m.InstanceID, m.RackID, m.Epoch, m.ClientID, m.ClientHost
		d.SubscribedTopics, d.SubscribedTopicRegex = m.Topics, kmsg.StringPtr(m.Regex)
		if d.SubscribedTopics == nil {
			d.SubscribedTopics = []string{}
		}
		holds := map[UUID][]int32{}
		all := m.Assigned.plus(m.Revoking)
		for t := range all {
			holds[t] = all.of(t)
		}
		d.Assignment.TopicPartitions = g.named(holds)
		d.TargetAssignment.TopicPartitions = g.named(g.target[m.ID])
		d.MemberType = typeConsumer
		if m.Classic != nil {
			d.MemberType = typeClassic
		}
		out.Members[i] = d
	}
}

// named lists partitions with the names of their topics. Topics that are gone are left out.
func (g *Group) named(a map[UUID][]int32) []kmsg.AssignmentTopicPartition {
	out := []kmsg.AssignmentTopicPartition{}
	if g.env.Image == nil {
		return out
	}
	for _, id := range sortedIDs(a) {
		if t := g.env.Image.TopicByID(id); t != nil {
			out = append(out, kmsg.AssignmentTopicPartition{TopicID: id, Topic: t.Name, Partitions: a[id]})
		}
	}
	return out
}
