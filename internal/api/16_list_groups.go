package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/wire"
)

// ListGroups: v0-5. All groups this broker coordinates. v4: by state (KIP-518). v5: by type (KIP-848). Groups of partitions that are still
// loading are missing; the answer then carries COORDINATOR_LOAD_IN_PROGRESS.

func listGroups(c *Call, q *kmsg.ListGroupsRequest) {
	partitions := c.Groups.Partitions()
	resp := kmsg.NewPtrListGroupsResponse()
	type part struct {
		groups []kmsg.ListGroupsResponseGroup
		err    error
	}
	all := newGather(len(partitions), func(parts []part) {
		for _, p := range parts {
			if p.err != nil && wire.CodeOf(p.err) != kerr.NotCoordinator.Code {
				resp.ErrorCode = wire.CodeOf(p.err)
			}
			resp.Groups = append(resp.Groups, p.groups...)
		}
		if resp.ErrorCode != 0 {
			resp.Groups = nil
		}
		c.Reply(resp)
	})
	for i, p := range partitions {
		coordinator.Read(c.Groups, p.Partition, "list-groups", func(s *group.Shard, _ time.Time) ([]kmsg.ListGroupsResponseGroup, error) {
			return s.ListGroups(q.StatesFilter, q.TypesFilter), nil
		}, func(gs []kmsg.ListGroupsResponseGroup, err error) { all.put(i, part{gs, err}) })
	}
}
