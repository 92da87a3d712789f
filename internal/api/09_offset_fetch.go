package api

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/wire"
)

// OffsetFetch: v1-10. v2: null topics ask for all. v7: requireStable (KIP-447). v8: several groups. v9: member epochs (KIP-848). v10:
// topics by id; ids that are not known are answered here.

func offsetFetch(c *Call, q *kmsg.OffsetFetchRequest) {
	groups := q.Groups
	if c.Version < 8 {
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group, g.MemberEpoch = q.Group, -1
		if q.Topics != nil {
			g.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
		}
		for _, t := range q.Topics {
			gt := kmsg.NewOffsetFetchRequestGroupTopic()
			gt.Topic, gt.Partitions = t.Topic, t.Partitions
			g.Topics = append(g.Topics, gt)
		}
		groups = []kmsg.OffsetFetchRequestGroup{g}
	}
	whole := map[string]bool{}
	groups = slices.DeleteFunc(groups, func(g kmsg.OffsetFetchRequestGroup) bool { // all offsets of a group are given once
		again := g.Topics == nil && whole[g.Group]
		whole[g.Group] = whole[g.Group] || g.Topics == nil
		return again
	})
	all := newGather(len(groups), func(answers []kmsg.OffsetFetchResponseGroup) { c.replyOffsets(answers) })
	for i := range groups {
		c.fetchGroup(&groups[i], q.RequireStable, func(a kmsg.OffsetFetchResponseGroup) { all.put(i, a) })
	}
}

func (c *Call) fetchGroup(g *kmsg.OffsetFetchRequestGroup, requireStable bool, done func(kmsg.OffsetFetchResponseGroup)) {
	img := c.Image()
	asked := *g
	var unknown []kmsg.OffsetFetchResponseGroupTopic
	if g.Topics != nil {
		asked.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
		for _, t := range g.Topics {
			topic, err := c.named(img, t.Topic, t.TopicID)
			switch {
			case topic != nil:
				t.Topic, t.TopicID = topic.Name, topic.ID
			case c.Version >= 10:
				unknown = append(unknown, unknownOffsets(t, err))
				continue
			}
			asked.Topics = append(asked.Topics, t)
		}
	}
	groupRead(c, "offset-fetch", g.Group, func(s *group.Shard, _ time.Time) (kmsg.OffsetFetchResponseGroup, error) {
		return s.OffsetFetch(&asked, requireStable), nil
	}, func(a kmsg.OffsetFetchResponseGroup, err error) {
		if err != nil {
			a = kmsg.NewOffsetFetchResponseGroup()
			a.Group, a.ErrorCode = g.Group, wire.CodeOf(err)
		} else {
			if c.Version >= 10 && g.Topics == nil {
				a.Topics = c.withIDs(a.Topics)
			}
			a.Topics = append(a.Topics, unknown...)
		}
		done(a)
	})
}

func unknownOffsets(t kmsg.OffsetFetchRequestGroupTopic, err error) kmsg.OffsetFetchResponseGroupTopic {
	rt := kmsg.NewOffsetFetchResponseGroupTopic()
	rt.Topic, rt.TopicID = t.Topic, t.TopicID
	for _, p := range t.Partitions {
		rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
		empty := ""
		rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata, rp.ErrorCode = p, -1, -1, &empty, wire.CodeOf(err)
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt
}

// withIDs gives topics their ids; those that are gone cannot be told by id and are left out.
func (c *Call) withIDs(topics []kmsg.OffsetFetchResponseGroupTopic) []kmsg.OffsetFetchResponseGroupTopic {
	out := topics[:0]
	for _, t := range topics {
		if topic := c.Image().Topic(t.Topic); topic != nil {
			t.TopicID = topic.ID
			out = append(out, t)
		}
	}
	return out
}

func (c *Call) replyOffsets(answers []kmsg.OffsetFetchResponseGroup) {
	resp := kmsg.NewPtrOffsetFetchResponse()
	if c.Version >= 8 {
		resp.Groups = answers
		c.Reply(resp)
		return
	}
	a := answers[0]
	resp.ErrorCode = a.ErrorCode
	for _, t := range a.Topics {
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rt.Partitions = append(rt.Partitions, kmsg.OffsetFetchResponseTopicPartition{Partition: p.Partition, Offset: p.Offset, LeaderEpoch: p.LeaderEpoch, Metadata: p.Metadata, ErrorCode: p.ErrorCode})
		}
		resp.Topics = append(resp.Topics, rt)
	}
	c.Reply(resp)
}
