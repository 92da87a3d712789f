package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/wire"
)

// StreamsGroupDescribe: v0-1 (KIP-1071). Topologies and members of streams groups with their tasks, held and to be held. v1: the
// topology's description (KIP-1331) and the assignor's name.

func streamsGroupDescribe(c *Call, q *kmsg.StreamsGroupDescribeRequest) {
	describe(c, describing[kmsg.StreamsGroupDescribeResponseGroup]{
		name: "streams-group-describe", ids: q.Groups, served: c.servesStreams(), include: q.IncludeAuthorizedOperations,
		refused: func(id string, err error) kmsg.StreamsGroupDescribeResponseGroup {
			g := kmsg.NewStreamsGroupDescribeResponseGroup()
			g.Group, g.ErrorCode, g.ErrorMessage = id, wire.CodeOf(err), wire.MessageOf(err)
			return g
		},
		read: func(s *group.Shard, ids []string) []kmsg.StreamsGroupDescribeResponseGroup {
			return s.StreamsGroupDescribe(ids, q.IncludeTopologyDescription)
		},
		operations: func(g *kmsg.StreamsGroupDescribeResponseGroup) (*int32, bool) {
			return &g.AuthorizedOperations, g.ErrorCode != 0
		},
		reply: func(gs []kmsg.StreamsGroupDescribeResponseGroup) {
			resp := kmsg.NewPtrStreamsGroupDescribeResponse()
			resp.Groups = gs
			c.Reply(resp)
		},
	})
}
