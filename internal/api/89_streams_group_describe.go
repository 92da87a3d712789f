package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/wire"
)

// StreamsGroupDescribe: v0-1 (KIP-1071). Topologies and members of streams groups with their tasks, held and to be held. v1: the
// topology's description (KIP-1331) and the assignor's name.

func streamsGroupDescribe(c *Call, q *kmsg.StreamsGroupDescribeRequest) {
	byPartition, left := c.perPartition(q.Groups)
	resp := kmsg.NewPtrStreamsGroupDescribeResponse()
	refuse := func(ids []string, err error) (out []kmsg.StreamsGroupDescribeResponseGroup) {
		for _, id := range ids {
			g := kmsg.NewStreamsGroupDescribeResponseGroup()
			g.Group, g.ErrorCode, g.ErrorMessage, g.AuthorizedOperations = id, wire.CodeOf(err), wire.MessageOf(err), operationsUnknown
			out = append(out, g)
		}
		return out
	}
	if !c.servesStreams() {
		resp.Groups = refuse(q.Groups, kerr.UnsupportedVersion)
		c.Reply(resp)
		return
	}
	resp.Groups = refuse(left, kerr.CoordinatorNotAvailable)
	all := newGather(len(byPartition), func(parts [][]kmsg.StreamsGroupDescribeResponseGroup) {
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
		groupRead(c, "streams-group-describe", ids[0], func(s *group.Shard, _ time.Time) ([]kmsg.StreamsGroupDescribeResponseGroup, error) {
			return s.StreamsGroupDescribe(ids, q.IncludeTopologyDescription), nil
		}, func(gs []kmsg.StreamsGroupDescribeResponseGroup, err error) {
			if err != nil {
				gs = refuse(ids, err)
			}
			all.put(n, gs)
		})
		i++
	}
}
