package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
)

// ListConfigResources: v0-1. What has or may have settings. v0 lists client metrics only; v1 any type (KIP-1142).

func listConfigResources(c *Call, q *kmsg.ListConfigResourcesRequest) {
	partitions := c.Groups.Partitions()
	all := newGather(len(partitions), func(parts [][]string) {
		var groups []string
		for _, p := range parts {
			groups = append(groups, p...)
		}
		c.Reply(controller.ListConfigResources(c.Image(), groups, q))
	})
	for i, p := range partitions {
		coordinator.Read(c.Groups, p.Partition, "list-groups", func(s *group.Shard, _ time.Time) ([]string, error) {
			var ids []string
			for _, g := range s.ListGroups(nil, nil) {
				ids = append(ids, g.Group)
			}
			return ids, nil
		}, func(ids []string, _ error) { all.put(i, ids) })
	}
}
