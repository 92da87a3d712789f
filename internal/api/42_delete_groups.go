package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/wire"
)

// DeleteGroups: v0-3. Empty groups and their offsets.

func deleteGroups(c *Call, q *kmsg.DeleteGroupsRequest) {
	byPartition, left := c.perPartition(q.Groups)
	resp := kmsg.NewPtrDeleteGroupsResponse()
	refuse := func(ids []string, err error) (out []kmsg.DeleteGroupsResponseGroup) {
		for _, id := range ids {
			g := kmsg.NewDeleteGroupsResponseGroup()
			g.Group, g.ErrorCode = id, wire.CodeOf(err)
			out = append(out, g)
		}
		return out
	}
	resp.Groups = refuse(left, kerr.CoordinatorNotAvailable)
	all := newGather(len(byPartition), func(parts [][]kmsg.DeleteGroupsResponseGroup) {
		for _, p := range parts {
			resp.Groups = append(resp.Groups, p...)
		}
		c.Reply(resp)
	})
	rc := c.client()
	i := 0
	for _, ids := range byPartition {
		n := i
		groupWrite(c, "delete-groups", ids[0], func(s *group.Shard, now time.Time, _ coordinator.Token) (coordinator.Result[[]kmsg.DeleteGroupsResponseGroup], error) {
			return s.DeleteGroups(now, rc, ids)
		}, func(gs []kmsg.DeleteGroupsResponseGroup, err error) {
			if err != nil {
				gs = refuse(ids, err)
			}
			all.put(n, gs)
		})
		i++
	}
}
