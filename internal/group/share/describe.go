package share

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/wire/schema"
)

// assignorName is the only assignor there is.
const assignorName = "simple"

// Describe fills the answer of ShareGroupDescribe.
func (g *Group) Describe(out *kmsg.ShareGroupDescribeResponseGroup) {
	out.GroupState, out.GroupEpoch, out.AssignmentEpoch, out.Assignor = g.StateName(), g.epoch, g.targetEpoch, assignorName
	out.Members = []kmsg.ShareGroupDescribeResponseGroupMember{}
	for _, m := range g.Members() {
		d := kmsg.NewShareGroupDescribeResponseGroupMember()
		d.MemberID, d.RackID, d.MemberEpoch, d.ClientID, d.ClientHost, d.SubscribedTopicNames = m.ID, m.RackID, m.Epoch, m.ClientID, m.ClientHost, m.Topics
		d.Assignment.TopicPartitions = []kmsg.ShareGroupDescribeResponseGroupMemberAssignmentTopicPartition{}
		m.Assigned.byTopic(func(topic schema.UUID, indexes []int32) {
			tp := kmsg.NewShareGroupDescribeResponseGroupMemberAssignmentTopicPartition()
			tp.TopicID, tp.Partitions = topic, indexes
			if g.env.Image != nil {
				if t := g.env.Image.TopicByID(topic); t != nil {
					tp.Topic = t.Name
				}
			}
			d.Assignment.TopicPartitions = append(d.Assignment.TopicPartitions, tp)
		})
		out.Members = append(out.Members, d)
	}
}
