package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/wire"
)

// DescribeGroups: v0-6. State and members of classic groups. v6: a group that is not there is GROUP_ID_NOT_FOUND, before it is Dead.

func describeGroups(c *Call, q *kmsg.DescribeGroupsRequest) {
	byPartition, left := c.perPartition(q.Groups)
	resp := kmsg.NewPtrDescribeGroupsResponse()
	for _, id := range left {
		g := kmsg.NewDescribeGroupsResponseGroup()
		g.Group, g.ErrorCode, g.AuthorizedOperations = id, kerr.CoordinatorNotAvailable.Code, operationsUnknown
		resp.Groups = append(resp.Groups, g)
	}
	version := c.Version
	all := newGather(len(byPartition), func(parts [][]kmsg.DescribeGroupsResponseGroup) {
		for _, p := range parts {
			resp.Groups = append(resp.Groups, p...)
		}
		for i := range resp.Groups {
			if resp.Groups[i].AuthorizedOperations = operationsUnknown; q.IncludeAuthorizedOperations && resp.Groups[i].ErrorCode == 0 {
				resp.Groups[i].AuthorizedOperations = groupOperations
			}
		}
		c.Reply(resp)
	})
	i := 0
	for _, ids := range byPartition {
		n := i
		groupRead(c, "describe-groups", ids[0], func(s *group.Shard, _ time.Time) ([]kmsg.DescribeGroupsResponseGroup, error) {
			return s.DescribeGroups(version, ids), nil
		}, func(gs []kmsg.DescribeGroupsResponseGroup, err error) {
			if err != nil {
				for _, id := range ids {
					g := kmsg.NewDescribeGroupsResponseGroup()
					g.Group, g.ErrorCode = id, wire.CodeOf(err)
					gs = append(gs, g)
				}
			}
			all.put(n, gs)
		})
		i++
	}
}
