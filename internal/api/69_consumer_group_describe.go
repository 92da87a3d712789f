package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/wire"
)

// ConsumerGroupDescribe: v0-1 (KIP-848). Members of consumer groups with their assignments, held and to be held. v1: which protocol a
// member speaks.

func consumerGroupDescribe(c *Call, q *kmsg.ConsumerGroupDescribeRequest) {
	describe(c, describing[kmsg.ConsumerGroupDescribeResponseGroup]{
		name: "consumer-group-describe", ids: q.Groups, served: c.Image().Feature(controller.GroupVersion) > 0, include: q.IncludeAuthorizedOperations,
		refused: func(id string, err error) kmsg.ConsumerGroupDescribeResponseGroup {
			g := kmsg.NewConsumerGroupDescribeResponseGroup()
			g.Group, g.ErrorCode, g.ErrorMessage = id, wire.CodeOf(err), wire.MessageOf(err)
			return g
		},
		read: func(s *group.Shard, ids []string) []kmsg.ConsumerGroupDescribeResponseGroup {
			return s.ConsumerGroupDescribe(ids)
		},
		operations: func(g *kmsg.ConsumerGroupDescribeResponseGroup) (*int32, bool) {
			return &g.AuthorizedOperations, g.ErrorCode != 0
		},
		reply: func(gs []kmsg.ConsumerGroupDescribeResponseGroup) {
			resp := kmsg.NewPtrConsumerGroupDescribeResponse()
			resp.Groups = gs
			c.Reply(resp)
		},
	})
}
