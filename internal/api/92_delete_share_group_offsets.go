package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
	groupshare "github.com/ottla/ottla/internal/group/share"
	"github.com/ottla/ottla/internal/wire"
)

// DeleteShareGroupOffsets: v0.
//
// Forgets what a share group without members has decided in topics, as if it had never read them.

func deleteShareGroupOffsets(c *Call, q *kmsg.DeleteShareGroupOffsetsRequest) {
	resp := kmsg.NewPtrDeleteShareGroupOffsetsResponse()
	refuse := func(err error) {
		resp.ErrorCode, resp.ErrorMessage, resp.Topics = wire.CodeOf(err), wire.MessageOf(err), []kmsg.DeleteShareGroupOffsetsResponseTopic{}
		c.Reply(resp)
	}
	if err := c.mayKeepShares(q.GroupID); err != nil {
		refuse(err)
		return
	}
	ids := [][16]byte{}
	var absent []kmsg.DeleteShareGroupOffsetsResponseTopic
	for i := range q.Topics {
		rt := kmsg.NewDeleteShareGroupOffsetsResponseTopic()
		rt.Topic = q.Topics[i].Topic
		if t := c.Image().Topic(rt.Topic); t != nil {
			rt.TopicID = t.ID
			ids = append(ids, t.ID)
			resp.Topics = append(resp.Topics, rt)
			continue
		}
		rt.ErrorCode, rt.ErrorMessage = kerr.UnknownTopicOrPartition.Code, wire.MessageOf(kerr.UnknownTopicOrPartition)
		absent = append(absent, rt)
	}
	resp.Topics = append(resp.Topics, absent...)
	c.unstateShares(q.GroupID, ids, func(had map[[16]byte]bool, err error) {
		if err != nil {
			refuse(err)
			return
		}
		for i := range ids {
			if !had[ids[i]] {
				resp.Topics[i].ErrorCode, resp.Topics[i].ErrorMessage = kerr.UnknownTopicOrPartition.Code, kmsg.StringPtr("There is no offset information to delete.")
			}
		}
		c.Reply(resp)
	})
}

// unstateShares deletes the states of topics of an empty share group, of all for nil; done gets the topics that had any.
func (c *Call) unstateShares(id string, topics [][16]byte, done func(had map[[16]byte]bool, err error)) {
	groupWrite(c, "share-group-unstate", id, func(s *group.Shard, now time.Time, _ coordinator.Token) (coordinator.Result[[]groupshare.Partition], error) {
		return s.ShareUnstate(now, id, topics)
	}, func(ps []groupshare.Partition, err error) {
		if err != nil {
			done(nil, err)
			return
		}
		had := map[[16]byte]bool{}
		for _, p := range ps {
			had[p.Topic] = true
		}
		if len(ps) == 0 {
			done(had, nil)
			return
		}
		c.endShares(id, ps, func(err error) {
			if err != nil {
				done(nil, err)
				return
			}
			gone := make([][16]byte, 0, len(had))
			for t := range had {
				gone = append(gone, t)
			}
			groupWrite(c, "share-group-unstated", id, func(s *group.Shard, now time.Time, _ coordinator.Token) (coordinator.Result[struct{}], error) {
				return s.ShareUnstated(now, id, gone)
			}, func(_ struct{}, err error) { done(had, err) })
		})
	})
}
