package controller

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// DeleteTopics deletes topics by name or id. Before version 6 the request has names only; its answer then must not
// carry the ids, which the caller's encoding sees to.
func (c *Controller) DeleteTopics(img *metadata.Image, req *kmsg.DeleteTopicsRequest, _ Env) (Records, *kmsg.DeleteTopicsResponse) {
	resp := kmsg.NewPtrDeleteTopicsResponse()
	var names []string
	var ids []metadata.UUID
	answer := func(name *string, id metadata.UUID, err error) {
		t := kmsg.NewDeleteTopicsResponseTopic()
		t.Topic, t.TopicID = name, id
		t.ErrorCode, t.ErrorMessage = status(err)
		resp.Topics = append(resp.Topics, t)
	}
	enabled := config.DeleteTopicEnable.Get(c.Values(img))
	topics := slices.Clip(req.Topics)
	for i := range req.TopicNames {
		topics = append(topics, kmsg.DeleteTopicsRequestTopic{Topic: &req.TopicNames[i]})
	}
	for _, t := range topics {
		hasID := t.TopicID != metadata.UUID{}
		switch {
		case !enabled && req.Version < 3:
			answer(t.Topic, t.TopicID, kerr.InvalidRequest)
		case !enabled:
			answer(t.Topic, t.TopicID, wire.Errorf(kerr.TopicDeletionDisabled, "Topic deletion is disabled."))
		case t.Topic == nil && !hasID:
			answer(nil, metadata.UUID{}, wire.Errorf(kerr.InvalidRequest, "Neither topic name nor id were specified."))
		case t.Topic != nil && hasID:
			answer(t.Topic, t.TopicID, wire.Errorf(kerr.InvalidRequest, "You may not specify both topic name and topic id."))
		case t.Topic != nil:
			names = append(names, *t.Topic)
		default:
			ids = append(ids, t.TopicID)
		}
	}
	var records Records
	gone := map[metadata.UUID]bool{}
	twice := duplicates(names)
	again := setOf(twice)
	for _, name := range twice {
		answer(&name, metadata.UUID{}, wire.Errorf(kerr.InvalidRequest, "Duplicate topic name."))
	}
	for _, id := range duplicateIDs(ids) {
		answer(nil, id, wire.Errorf(kerr.InvalidRequest, "Duplicate topic id."))
		gone[id] = true
	}
	remove := func(t *metadata.Topic) {
		gone[t.ID] = true
		records.add(&schema.RemoveTopicRecord{TopicID: t.ID})
		answer(&t.Name, t.ID, nil)
	}
	for _, id := range ids {
		switch t := img.TopicByID(id); {
		case gone[id]:
		case t == nil:
			answer(nil, id, kerr.UnknownTopicID)
		default:
			remove(t)
		}
	}
	for _, name := range names {
		switch t := img.Topic(name); {
		case again[name]:
		case t == nil:
			answer(&name, metadata.UUID{}, kerr.UnknownTopicOrPartition)
		case gone[t.ID]:
			answer(&name, metadata.UUID{}, wire.Errorf(kerr.InvalidRequest, "The provided topic name maps to an ID that was already supplied."))
		default:
			remove(t)
		}
	}
	return records, resp
}

func duplicateIDs(ids []metadata.UUID) []metadata.UUID {
	count := map[metadata.UUID]int{}
	var out []metadata.UUID
	for _, id := range ids {
		if count[id]++; count[id] == 2 {
			out = append(out, id)
		}
	}
	return out
}

// CreatePartitions adds partitions to topics. Each topic succeeds or fails alone.
func (c *Controller) CreatePartitions(img *metadata.Image, req *kmsg.CreatePartitionsRequest, env Env) (Records, *kmsg.CreatePartitionsResponse) {
	resp := kmsg.NewPtrCreatePartitionsResponse()
	answer := func(name string, err error) {
		t := kmsg.NewCreatePartitionsResponseTopic()
		t.Topic = name
		t.ErrorCode, t.ErrorMessage = status(err)
		resp.Topics = append(resp.Topics, t)
	}
	var names []string
	for _, t := range req.Topics {
		names = append(names, t.Topic)
	}
	twice := duplicates(names)
	for _, name := range twice {
		answer(name, wire.Errorf(kerr.InvalidRequest, "Duplicate topic name."))
	}
	var records Records
	again, total := setOf(twice), 0
	for i := range req.Topics {
		t := &req.Topics[i]
		if again[t.Topic] {
			continue
		}
		if topic := img.Topic(t.Topic); topic != nil && int(t.Count) > len(topic.Partitions) {
			total += int(t.Count) - len(topic.Partitions)
		}
		var recs Records
		err := error(nil)
		if total > maxPartitionsPerRequest {
			err = wire.Errorf(kerr.PolicyViolation, "Excessively large number of partitions per request.")
		} else {
			recs, err = grow(img, t, env)
		}
		env.Random++
		answer(t.Topic, err)
		records = append(records, recs...)
	}
	if req.ValidateOnly {
		records = nil
	}
	return records, resp
}

func grow(img *metadata.Image, t *kmsg.CreatePartitionsRequestTopic, env Env) (Records, error) {
	topic := img.Topic(t.Topic)
	if topic == nil {
		return nil, kerr.UnknownTopicOrPartition
	}
	have := int32(len(topic.Partitions))
	switch {
	case t.Count == have:
		return nil, wire.Errorf(kerr.InvalidPartitions, "Topic already has %d partition(s).", have)
	case t.Count < have:
		return nil, wire.Errorf(kerr.InvalidPartitions, "The topic %s currently has %d partition(s); %d would not be an increase.", t.Topic, have, t.Count)
	}
	more := t.Count - have
	if t.Assignment != nil && len(t.Assignment) != int(more) {
		return nil, wire.Errorf(kerr.InvalidReplicaAssignment, "Attempted to add %d additional partition(s), but only %d assignment(s) were specified.", more, len(t.Assignment))
	}
	copies := 1
	if first := topic.Partition(0); first != nil {
		copies = len(first.Replicas)
	}
	pl := newPlacer(img, env.Random)
	var records Records
	for i := range more {
		var brokers []int32
		var err error
		if t.Assignment != nil {
			brokers = t.Assignment[i].Replicas
			err = checkAssignment(img, brokers, copies)
		} else if brokers, err = pl.place(copies); err != nil {
			err = wire.Errorf(kerr.InvalidReplicationFactor, "Unable to replicate the partition %d time(s): %s", copies, err)
		}
		if err != nil {
			return nil, err
		}
		p := newPartition(img, brokers)
		if p == nil {
			return nil, allFenced(have + i)
		}
		records.add(p.Record(topic.ID, have+i))
	}
	return records, nil
}
