package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/group"
)

// describing is how groups of one kind are described; G is a group in the answer.
type describing[G any] struct {
	name   string // of the operation
	ids    []string
	served bool // whether the cluster has the feature
	// refused is the answer for a group that cannot be described.
	refused func(id string, err error) G
	read    func(s *group.Shard, ids []string) []G
	// operations sets what the client may do with a group; failed says that the group's answer is an error.
	operations func(g *G) (field *int32, failed bool)
	include    bool // the client asks for the operations
	reply      func([]G)
}

// describe asks the shards that hold the groups and answers once all have.
func describe[G any](c *Call, d describing[G]) {
	refuse := func(ids []string, err error) (out []G) {
		for _, id := range ids {
			out = append(out, d.refused(id, err))
		}
		return out
	}
	answer := func(gs []G) {
		for i := range gs {
			field, failed := d.operations(&gs[i])
			if *field = operationsUnknown; d.include && !failed {
				*field = groupOperations
			}
		}
		d.reply(gs)
	}
	if !d.served {
		answer(refuse(d.ids, kerr.UnsupportedVersion))
		return
	}
	byPartition, left := c.perPartition(d.ids)
	all := newGather(len(byPartition), func(parts [][]G) {
		gs := refuse(left, kerr.CoordinatorNotAvailable)
		for _, p := range parts {
			gs = append(gs, p...)
		}
		answer(gs)
	})
	i := 0
	for _, ids := range byPartition {
		n := i
		groupRead(c, d.name, ids[0], func(s *group.Shard, _ time.Time) ([]G, error) { return d.read(s, ids), nil }, func(gs []G, err error) {
			if err != nil {
				gs = refuse(ids, err)
			}
			all.put(n, gs)
		})
		i++
	}
}
