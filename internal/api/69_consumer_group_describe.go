package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/wire"
)

// ConsumerGroupDescribe: v0-1 (KIP-848). Members of consumer groups with their assignments, held and to be held. v1: which protocol a
// member speaks.

func consumerGroupDescribe(c *Call, q *kmsg.ConsumerGroupDescribeRequest) {
	byPartition, left := c.perPartition(q.Groups)
	resp := kmsg.NewPtrConsumerGroupDescribeResponse()
	refuse := func(ids []string, err error) (out []kmsg.ConsumerGroupDescribeResponseGroup) {
		for _, id := range ids {
			g := kmsg.NewConsumerGroupDescribeResponseGroup()
			g.Group, g.ErrorCode, g.ErrorMessage, g.AuthorizedOperations = id, wire.CodeOf(err), wire.MessageOf(err), operationsUnknown
			out = append(out, g)
		}
		return out
	}
	if c.Image().Feature(controller.GroupVersion) == 0 {
		resp.Groups = refuse(q.Groups, kerr.UnsupportedVersion)
		c.Reply(resp)
		return
	}
	resp.Groups = refuse(left, kerr.CoordinatorNotAvailable)
	all := newGather(len(byPartition), func(parts [][]kmsg.ConsumerGroupDescribeResponseGroup) {
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
		groupRead(c, "consumer-group-describe", ids[0], func(s *group.Shard, _ time.Time) ([]kmsg.ConsumerGroupDescribeResponseGroup, error) {
			return s.ConsumerGroupDescribe(ids), nil
		}, func(gs []kmsg.ConsumerGroupDescribeResponseGroup, err error) {
			if err != nil {
				gs = refuse(ids, err)
			}
			all.put(n, gs)
		})
		i++
	}
}
