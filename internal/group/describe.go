package group

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/group/classic"
)

// describeErrorVersion is the first DescribeGroups that says that a group is not there (KIP-1043).
const describeErrorVersion = 6

// ListGroups lists the shard's groups by id, those of the asked for states and types. Names of states and types
// compare without case; unknown ones match nothing.
func (s *Shard) ListGroups(states, types []string) []kmsg.ListGroupsResponseGroup {
	var out []kmsg.ListGroupsResponseGroup
	for _, g := range s.sorted() {
		if !asked(states, g.StateName()) || !asked(types, g.Kind().String()) {
			continue
		}
		l := kmsg.NewListGroupsResponseGroup()
		l.Group, l.ProtocolType, l.GroupState, l.GroupType = g.ID(), g.ProtocolType(), g.StateName(), g.Kind().String()
		out = append(out, l)
	}
	return out
}

func asked(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return len(names) == 0
}

// DescribeGroups describes classic groups, one answer per id in their order. Before version 6 a group that is not
// there, or of another kind, is a dead one; from there on it is GROUP_ID_NOT_FOUND.
func (s *Shard) DescribeGroups(version int16, ids []string) []kmsg.DescribeGroupsResponseGroup {
	out := make([]kmsg.DescribeGroupsResponseGroup, len(ids))
	for i, id := range ids {
		d := kmsg.NewDescribeGroupsResponseGroup()
		d.Group = id
		switch g := s.find(id).(type) {
		case *classic.Group:
			g.Describe(&d)
		case nil:
			missing(&d, version, "Group "+id+" not found.")
		default:
			missing(&d, version, "Group "+id+" is not a classic group.")
		}
		out[i] = d
	}
	return out
}

func missing(d *kmsg.DescribeGroupsResponseGroup, version int16, why string) {
	d.State = classic.Dead.String()
	if version >= describeErrorVersion {
		d.ErrorCode, d.ErrorMessage = kerr.GroupIDNotFound.Code, &why
	}
}
