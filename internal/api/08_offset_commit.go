package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// OffsetCommit: v2-10. Topics and partitions that do not exist are answered here; the group's shard gets the rest, names and ids
// resolved. v9: member epochs (KIP-848). v10: topics by id.

func offsetCommit(c *Call, q *kmsg.OffsetCommitRequest) {
	resp := kmsg.NewPtrOffsetCommitResponse()
	known := *q
	known.Topics = nil
	img := c.Image()
	for _, t := range q.Topics {
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		topic, missing := c.named(img, t.Topic, t.TopicID)
		kept := t
		if topic != nil {
			kept.Topic, kept.TopicID = topic.Name, topic.ID
		}
		var refused []refusal
		kept.Partitions, refused = existing(topic, missing, t.Partitions, func(p *kmsg.OffsetCommitRequestTopicPartition) int32 { return p.Partition })
		for _, r := range refused {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = r.partition, r.code
			rt.Partitions = append(rt.Partitions, rp)
		}
		if len(kept.Partitions) > 0 {
			known.Topics = append(known.Topics, kept)
		}
		if len(rt.Partitions) > 0 || len(t.Partitions) == 0 {
			resp.Topics = append(resp.Topics, rt)
		}
	}
	if len(known.Topics) == 0 {
		c.Reply(resp)
		return
	}
	rc := c.client()
	groupWrite(c, "offset-commit", q.Group, func(s *group.Shard, now time.Time, _ coordinator.Token) (coordinator.Result[*kmsg.OffsetCommitResponse], error) {
		return s.OffsetCommit(now, rc, &known)
	}, func(got *kmsg.OffsetCommitResponse, err error) {
		if err != nil {
			got = refusedCommit(&known, err)
		}
		c.Reply(mergeCommit(resp, got))
	})
}

// named finds a topic by name, or by id where the request has no name.
func (c *Call) named(img *metadata.Image, name string, id [16]byte) (*metadata.Topic, error) {
	if id != ([16]byte{}) || name == "" {
		if t := img.TopicByID(id); t != nil {
			return t, nil
		}
		return nil, kerr.UnknownTopicID
	}
	if t := img.Topic(name); t != nil {
		return t, nil
	}
	return nil, kerr.UnknownTopicOrPartition
}

func refusedCommit(q *kmsg.OffsetCommitRequest, err error) *kmsg.OffsetCommitResponse {
	resp := kmsg.NewPtrOffsetCommitResponse()
	for _, t := range q.Topics {
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, wire.CodeOf(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// mergeCommit adds the shard's answer to what was answered without it.
func mergeCommit(resp, got *kmsg.OffsetCommitResponse) *kmsg.OffsetCommitResponse {
next:
	for _, t := range got.Topics {
		for i := range resp.Topics {
			r := &resp.Topics[i]
			if r.Topic != "" && r.Topic == t.Topic || r.TopicID != ([16]byte{}) && r.TopicID == t.TopicID {
				r.Partitions = append(r.Partitions, t.Partitions...)
				continue next
			}
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

// refusal is a partition whose offset cannot be committed.
type refusal struct {
	partition int32
	code      int16
}

// existing splits the partitions of a topic whose offsets are to be committed into those that exist and those that are refused; missing
// says why all are, where there is no such topic.
func existing[P any](topic *metadata.Topic, missing error, partitions []P, number func(*P) int32) (there []P, refused []refusal) {
	for i := range partitions {
		n := number(&partitions[i])
		err := missing
		if topic != nil && topic.Partition(n) == nil {
			err = kerr.UnknownTopicOrPartition
		}
		if err == nil {
			there = append(there, partitions[i])
		} else {
			refused = append(refused, refusal{n, wire.CodeOf(err)})
		}
	}
	return there, refused
}
