package group

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// OffsetFetch reads the committed offsets of one group: those asked for, or all where the topics are nil. An unknown
// group has none. With requireStable, an offset that an undecided transaction may replace is UNSTABLE_OFFSET_COMMIT.
//
// An offset that was committed for another topic of the same name is not there, where both ids are known. With all
// offsets asked for, topics carry the id they were committed with, possibly zero.
func (s *Shard) OffsetFetch(req *kmsg.OffsetFetchRequestGroup, requireStable bool) kmsg.OffsetFetchResponseGroup {
	resp := kmsg.NewOffsetFetchResponseGroup()
	resp.Group = req.Group
	if g := s.find(req.Group); g != nil {
		if err := g.CheckFetch(req.MemberID, req.MemberEpoch); err != nil {
			resp.ErrorCode = wire.CodeOf(err)
			return resp
		}
	}
	if req.Topics == nil {
		resp.Topics = s.fetchAll(req.Group, requireStable)
		return resp
	}
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rt.Partitions = append(rt.Partitions, s.fetchOne(slot{req.Group, t.Topic, p}, t.TopicID, requireStable))
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (s *Shard) fetchAll(group string, requireStable bool) []kmsg.OffsetFetchResponseGroupTopic {
	topics := []kmsg.OffsetFetchResponseGroupTopic{}
	var names []string
	for name := range s.offsets.byGroup[group] {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic = name
		var parts []int32
		for p, at := range s.offsets.byGroup[group][name] {
			parts = append(parts, p)
			if at.topicID != (schema.UUID{}) {
				rt.TopicID = at.topicID
			}
		}
		slices.Sort(parts)
		for _, p := range parts {
			rt.Partitions = append(rt.Partitions, s.fetchOne(slot{group, name, p}, schema.UUID{}, requireStable))
		}
		topics = append(topics, rt)
	}
	return topics
}

func (s *Shard) fetchOne(k slot, topicID schema.UUID, requireStable bool) kmsg.OffsetFetchResponseGroupTopicPartition {
	rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	rp.Partition = k.partition
	rp.Offset, rp.LeaderEpoch, rp.Metadata = -1, -1, kmsg.StringPtr("")
	at, ok := s.offsets.get(k)
	switch {
	case requireStable && s.offsets.open[k] > 0:
		rp.ErrorCode = kerr.UnstableOffsetCommit.Code
	case !ok, topicID != (schema.UUID{}) && at.topicID != (schema.UUID{}) && topicID != at.topicID:
	default:
		rp.Offset, rp.LeaderEpoch, rp.Metadata = at.offset, at.epoch, kmsg.StringPtr(at.metadata)
	}
	return rp
}

// FetchGroups is what an OffsetFetch request of any version asks for, group by group: before version 8 it had one.
func FetchGroups(req *kmsg.OffsetFetchRequest) []kmsg.OffsetFetchRequestGroup {
	if req.Version >= 8 {
		return req.Groups
	}
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = req.Group
	if req.Topics == nil {
		return []kmsg.OffsetFetchRequestGroup{g}
	}
	g.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
	for i := range req.Topics {
		t := kmsg.NewOffsetFetchRequestGroupTopic()
		t.Topic, t.Partitions = req.Topics[i].Topic, req.Topics[i].Partitions
		g.Topics = append(g.Topics, t)
	}
	return []kmsg.OffsetFetchRequestGroup{g}
}

// FetchAnswer puts the answers for the groups of FetchGroups into the shape of the request's version. Version 1 has
// no error of the whole: there, every partition asked for carries it.
func FetchAnswer(req *kmsg.OffsetFetchRequest, groups []kmsg.OffsetFetchResponseGroup) *kmsg.OffsetFetchResponse {
	resp := kmsg.NewPtrOffsetFetchResponse()
	resp.Version = req.Version
	if req.Version >= 8 {
		resp.Groups = groups
		return resp
	}
	if len(groups) == 0 {
		return resp
	}
	g := &groups[0]
	resp.ErrorCode = g.ErrorCode
	if g.ErrorCode != 0 && req.Version < 2 {
		for i := range req.Topics {
			rt := kmsg.NewOffsetFetchResponseTopic()
			rt.Topic = req.Topics[i].Topic
			for _, p := range req.Topics[i].Partitions {
				rp := kmsg.NewOffsetFetchResponseTopicPartition()
				rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata, rp.ErrorCode = p, -1, -1, kmsg.StringPtr(""), g.ErrorCode
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	}
	for i := range g.Topics {
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = g.Topics[i].Topic
		for _, p := range g.Topics[i].Partitions {
			rp := kmsg.NewOffsetFetchResponseTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata, rp.ErrorCode = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
