package api

import (
	"cmp"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
	groupshare "github.com/ottla/ottla/internal/group/share"
	"github.com/ottla/ottla/internal/sharecoord"
)

// beginShares begins states of a share group's partitions and tells the group how that went; done gets what could not be begun.
// The coordinator's topic is made by the first of them.
func (c *Call) beginShares(id string, b *groupshare.Begin, done func(failed map[groupshare.Partition]error)) {
	if c.Image().Topic(shareTopic) == nil {
		c.autoCreate([]string{shareTopic}, func() { c.beginInTopic(id, b, done) })
		return
	}
	c.beginInTopic(id, b, done)
}

func (c *Call) beginInTopic(id string, b *groupshare.Begin, done func(failed map[groupshare.Partition]error)) {
	all := newGather(len(b.Partitions), func(errs []error) {
		var ok, bad []groupshare.Partition
		failed := map[groupshare.Partition]error{}
		for i, p := range b.Partitions {
			if errs[i] == nil {
				ok = append(ok, p)
				continue
			}
			bad, failed[p] = append(bad, p), errs[i]
			c.Logger.Warn("the state of a share group's partition could not be begun", "group", id, "partition", p.Index, "error", errs[i])
		}
		groupWrite(c, "share-states-begun", id, func(s *group.Shard, now time.Time, _ coordinator.Token) (coordinator.Result[struct{}], error) {
			return s.ShareBegun(now, id, ok, bad)
		}, func(_ struct{}, err error) {
			for _, p := range ok {
				if err != nil {
					failed[p] = err
				}
			}
			done(failed)
		})
	})
	for i, p := range b.Partitions {
		start := int64(sharecoord.None)
		if at, given := b.Start[p]; given {
			start = at
		}
		c.ShareStates.Begin(sharecoord.Key{Group: id, TopicID: p.Topic, Partition: p.Index}, b.StateEpoch, start, func(err error) { all.put(i, err) })
	}
}

// endShares deletes states of a share group's partitions; done gets the first error.
func (c *Call) endShares(id string, ps []groupshare.Partition, done func(error)) {
	all := newGather(len(ps), func(errs []error) { done(cmp.Or(errs...)) })
	for i, p := range ps {
		c.ShareStates.Delete(sharecoord.Key{Group: id, TopicID: p.Topic, Partition: p.Index}, func(err error) {
			if errors.Is(err, kerr.UnknownTopicOrPartition) {
				err = nil // states of deleted topics go by themselves
			}
			all.put(i, err)
		})
	}
}
