package api

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/wire"
)

// DeleteGroups: v0-3. Empty groups and their offsets; of share groups the states of their partitions go first.

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
	i := 0
	for _, ids := range byPartition {
		n := i
		drop := func(refused map[string]error) {
			gone := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return refused[id] != nil })
			var failed []kmsg.DeleteGroupsResponseGroup
			for id, err := range refused {
				failed = append(failed, refuse([]string{id}, err)...)
			}
			if len(gone) == 0 {
				all.put(n, failed)
				return
			}
			c.dropGroups(gone, refuse, func(gs []kmsg.DeleteGroupsResponseGroup) { all.put(n, append(gs, failed...)) })
		}
		groupRead(c, "share-groups-among", ids[0], func(s *group.Shard, _ time.Time) ([]string, error) { return s.EmptyShareGroups(ids), nil }, func(shares []string, _ error) {
			c.endShareGroups(shares, drop)
		})
		i++
	}
}

// endShareGroups deletes the states of share groups; done gets those of which that failed.
func (c *Call) endShareGroups(ids []string, done func(refused map[string]error)) {
	all := newGather(len(ids), func(errs []error) {
		refused := map[string]error{}
		for i, err := range errs {
			if err != nil {
				refused[ids[i]] = err
			}
		}
		done(refused)
	})
	for i, id := range ids {
		c.unstateShares(id, nil, func(_ map[[16]byte]bool, err error) { all.put(i, err) })
	}
}

// dropGroups deletes groups of one shard.
func (c *Call) dropGroups(ids []string, refuse func([]string, error) []kmsg.DeleteGroupsResponseGroup, done func([]kmsg.DeleteGroupsResponseGroup)) {
	rc := c.client()
	groupWrite(c, "delete-groups", ids[0], func(s *group.Shard, now time.Time, _ coordinator.Token) (coordinator.Result[[]kmsg.DeleteGroupsResponseGroup], error) {
		return s.DeleteGroups(now, rc, ids)
	}, func(gs []kmsg.DeleteGroupsResponseGroup, err error) {
		if err != nil {
			gs = refuse(ids, err)
		}
		done(gs)
	})
}
