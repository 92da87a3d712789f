package share

import (
	"fmt"
	"maps"
	"slices"
	"strings"

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

// String renders what the log keeps of the group, for tests and for people.
func (g *Group) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s epoch %d hash %x target epoch %d made %d\n", g.id, g.epoch, g.hash, g.targetEpoch, g.targetMs)
	for _, m := range g.Members() {
		fmt.Fprintf(&b, "  member %s epoch %d previous %d topics %v has %v\n", m.ID, m.Epoch, m.Previous, m.Topics, m.Assigned.sorted())
	}
	for _, id := range slices.Sorted(maps.Keys(g.target)) {
		fmt.Fprintf(&b, "  target %s %v\n", id, g.target[id].sorted())
	}
	fmt.Fprintf(&b, "  beginning %v begun %v ending %v\n", g.states.initializing, g.states.initialized, g.states.deleting)
	return b.String()
}
