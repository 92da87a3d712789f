package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/wire"
)

// DescribeGroups: v0-6. State and members of classic groups. v6: a group that is not there is GROUP_ID_NOT_FOUND, before it is Dead.

func describeGroups(c *Call, q *kmsg.DescribeGroupsRequest) {
	version := c.Version
	describe(c, describing[kmsg.DescribeGroupsResponseGroup]{
		name: "describe-groups", ids: q.Groups, served: true, include: q.IncludeAuthorizedOperations,
		refused: func(id string, err error) kmsg.DescribeGroupsResponseGroup {
			g := kmsg.NewDescribeGroupsResponseGroup()
			g.Group, g.ErrorCode = id, wire.CodeOf(err)
			return g
		},
		read: func(s *group.Shard, ids []string) []kmsg.DescribeGroupsResponseGroup {
			return s.DescribeGroups(version, ids)
		},
		operations: func(g *kmsg.DescribeGroupsResponseGroup) (*int32, bool) {
			return &g.AuthorizedOperations, g.ErrorCode != 0
		},
		reply: func(gs []kmsg.DescribeGroupsResponseGroup) {
			resp := kmsg.NewPtrDescribeGroupsResponse()
			resp.Groups = gs
			c.Reply(resp)
		},
	})
}
