package api

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
)

// groupWrite runs an operation of the shard that owns a group; done gets the reply once it is committed.
func groupWrite[T any](c *Call, name, groupID string, op func(s *group.Shard, now time.Time, tok coordinator.Token) (coordinator.Result[T], error), done func(T, error)) {
	p, ok := groupPartition(c.Image(), groupID)
	if !ok {
		var zero T
		done(zero, kerr.CoordinatorNotAvailable)
		return
	}
	coordinator.WriteContext(c.Context(), c.Groups, p, name, op, done)
}

// groupRead is groupWrite for operations that only look.
func groupRead[T any](c *Call, name, groupID string, op func(s *group.Shard, now time.Time) (T, error), done func(T, error)) {
	p, ok := groupPartition(c.Image(), groupID)
	if !ok {
		var zero T
		done(zero, kerr.CoordinatorNotAvailable)
		return
	}
	coordinator.Read(c.Groups, p, name, op, done)
}

// gone says that the client has closed the connection its parked request came by: nobody waits for the answer.
func gone(err error) bool { return err == context.Canceled }

// perPartition splits ids by the partition that owns them. Ids of an offsets topic that is not there yet come back as left.
func (c *Call) perPartition(ids []string) (byPartition map[int32][]string, left []string) {
	byPartition = map[int32][]string{}
	asked := make(map[string]bool, len(ids))
	for _, id := range ids {
		if asked[id] {
			continue // once is enough: an answer is far larger than the question
		}
		asked[id] = true
		p, ok := groupPartition(c.Image(), id)
		if !ok {
			left = append(left, id)
			continue
		}
		byPartition[p] = append(byPartition[p], id)
	}
	return byPartition, left
}
