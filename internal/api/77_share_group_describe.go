package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/wire"
)

// ShareGroupDescribe: v1 (KIP-932). Members of share groups with their partitions.

func shareGroupDescribe(c *Call, q *kmsg.ShareGroupDescribeRequest) {
	describe(c, describing[kmsg.ShareGroupDescribeResponseGroup]{
		name: "share-group-describe", ids: q.GroupIDs, served: c.Image().Feature(controller.ShareVersion) > 0, include: q.IncludeAuthorizedOperations,
		refused: func(id string, err error) kmsg.ShareGroupDescribeResponseGroup {
			g := kmsg.NewShareGroupDescribeResponseGroup()
			g.GroupID, g.ErrorCode, g.ErrorMessage = id, wire.CodeOf(err), wire.MessageOf(err)
			return g
		},
		read: func(s *group.Shard, ids []string) []kmsg.ShareGroupDescribeResponseGroup {
			return s.ShareGroupDescribe(ids)
		},
		operations: func(g *kmsg.ShareGroupDescribeResponseGroup) (*int32, bool) {
			return &g.AuthorizedOperations, g.ErrorCode != 0
		},
		reply: func(gs []kmsg.ShareGroupDescribeResponseGroup) {
			resp := kmsg.NewPtrShareGroupDescribeResponse()
			resp.Groups = gs
			c.Reply(resp)
		},
	})
}
