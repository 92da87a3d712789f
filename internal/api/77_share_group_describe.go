package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/wire"
)

// ShareGroupDescribe: v1 (KIP-932). Members of share groups with their partitions.

func shareGroupDescribe(c *Call, q *kmsg.ShareGroupDescribeRequest) {
	byPartition, left := c.perPartition(q.GroupIDs)
	resp := kmsg.NewPtrShareGroupDescribeResponse()
	refuse := func(ids []string, err error) (out []kmsg.ShareGroupDescribeResponseGroup) {
		for _, id := range ids {
			g := kmsg.NewShareGroupDescribeResponseGroup()
			g.GroupID, g.ErrorCode, g.ErrorMessage, g.AuthorizedOperations = id, wire.CodeOf(err), wire.MessageOf(err), operationsUnknown
			out = append(out, g)
		}
		return out
	}
	if c.Image().Feature(controller.ShareVersion) == 0 {
		resp.Groups = refuse(q.GroupIDs, kerr.UnsupportedVersion)
		c.Reply(resp)
		return
	}
	resp.Groups = refuse(left, kerr.CoordinatorNotAvailable)
	all := newGather(len(byPartition), func(parts [][]kmsg.ShareGroupDescribeResponseGroup) {
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
		groupRead(c, "share-group-describe", ids[0], func(s *group.Shard, _ time.Time) ([]kmsg.ShareGroupDescribeResponseGroup, error) {
			return s.ShareGroupDescribe(ids), nil
		}, func(gs []kmsg.ShareGroupDescribeResponseGroup, err error) {
			if err != nil {
				gs = refuse(ids, err)
			}
			all.put(n, gs)
		})
		i++
	}
}
