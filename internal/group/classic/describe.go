package classic

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Describe fills the answer of DescribeGroups. Metadata and assignments are there only while they belong together,
// in Stable.
func (g *Group) Describe(out *kmsg.DescribeGroupsResponseGroup) {
	out.State = g.state.String()
	out.ProtocolType = g.protocolType
	stable := g.state == Stable
	if stable {
		out.Protocol = g.protocol
	}
	out.Members = make([]kmsg.DescribeGroupsResponseGroupMember, len(g.members))
	for i, m := range g.members {
		d := kmsg.NewDescribeGroupsResponseGroupMember()
		d.MemberID, d.InstanceID, d.ClientID, d.ClientHost = m.ID, m.InstanceID, m.ClientID, m.ClientHost
		d.ProtocolMetadata, d.MemberAssignment = []byte{}, []byte{}
		if stable {
			d.ProtocolMetadata, d.MemberAssignment = notNil(m.metadata(g.protocol)), notNil(m.Assignment)
		}
		out.Members[i] = d
	}
}
