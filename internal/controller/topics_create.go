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

// maxPartitionsPerRequest bounds what one request may create.
const maxPartitionsPerRequest = 10_000

// CreateTopics creates the topics of a request from which those that the client may not create were taken out. Each
// topic succeeds or fails alone. On success the answer's configs are those that the topic has; the caller blanks
// them, the counts and sets ConfigErrorCode where the client may not describe the topic.
func (c *Controller) CreateTopics(img *metadata.Image, req *kmsg.CreateTopicsRequest, env Env) (Records, *kmsg.CreateTopicsResponse) {
	resp := kmsg.NewPtrCreateTopicsResponse()
	v := c.Values(img)
	var names []string
	for _, t := range req.Topics {
		names = append(names, t.Topic)
	}
	twice := duplicates(names)
	for _, name := range twice {
		resp.Topics = append(resp.Topics, notCreated(name, wire.Errorf(kerr.InvalidRequest, "Duplicate topic name.")))
	}
	again, total := setOf(twice), 0
	for _, t := range req.Topics {
		total += wanted(&t, v)
	}
	var records Records
	taken := &collisions{img: img}
	for i := range req.Topics {
		t := &req.Topics[i]
		if again[t.Topic] {
			continue
		}
		err := error(nil)
		var recs Records
		var answer kmsg.CreateTopicsResponseTopic
		if total > maxPartitionsPerRequest {
			err = wire.Errorf(kerr.PolicyViolation, "Excessively large number of partitions per request.")
		} else {
			recs, answer, err = c.createTopic(img, v, t, taken, env)
		}
		if err != nil {
			answer, recs = notCreated(t.Topic, err), nil
		}
		env.Random++
		resp.Topics = append(resp.Topics, answer)
		records = append(records, recs...)
	}
	if req.ValidateOnly {
		records = nil
	}
	return records, resp
}

// wanted is the number of partitions that a topic of a request asks for.
func wanted(t *kmsg.CreateTopicsRequestTopic, v *config.Values) int {
	switch {
	case len(t.ReplicaAssignment) > 0:
		return len(t.ReplicaAssignment)
	case t.NumPartitions == -1:
		return int(config.NumPartitions.Get(v))
	}
	return int(max(t.NumPartitions, 0))
}

func notCreated(name string, err error) kmsg.CreateTopicsResponseTopic {
	t := kmsg.NewCreateTopicsResponseTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, -1, -1
	t.Configs = []kmsg.CreateTopicsResponseTopicConfig{}
	t.ErrorCode, t.ErrorMessage = status(err)
	return t
}

func (c *Controller) createTopic(img *metadata.Image, v *config.Values, t *kmsg.CreateTopicsRequestTopic, taken *collisions, env Env) (Records, kmsg.CreateTopicsResponseTopic, error) {
	answer := kmsg.NewCreateTopicsResponseTopic()
	if t.Topic == MetadataTopic {
		return nil, answer, wire.Errorf(kerr.InvalidRequest, "Creation of internal topic %s is prohibited.", MetadataTopic)
	}
	if err := CheckTopicName(t.Topic); err != nil {
		return nil, answer, err
	}
	if other, ok := taken.with(t.Topic); ok {
		return nil, answer, wire.Errorf(kerr.InvalidTopicException, "Topic '%s' collides with existing topic: %s", t.Topic, other)
	}
	if img.Topic(t.Topic) != nil {
		return nil, answer, wire.Errorf(kerr.TopicAlreadyExists, "Topic '%s' already exists.", t.Topic)
	}
	set := map[string]string{}
	for _, s := range t.Configs {
		if s.Value == nil {
			return nil, answer, wire.Errorf(kerr.InvalidConfig, "Null value not supported for topic configs: %s", s.Name)
		}
		set[s.Name] = *s.Value
	}
	if err := config.ValidateTopic(v, set); err != nil {
		return nil, answer, configError(err)
	}
	parts, err := partitionsOf(img, v, t, env)
	if err != nil {
		return nil, answer, err
	}
	if t.ReplicationFactor == -1 && len(t.ReplicaAssignment) == 0 && len(parts[0].Replicas) >= safeCopies && set[minISR] == "" && config.MinInsyncReplicas.Get(v) == 1 {
		set[minISR] = "2" // who chose nothing gets what survives the loss of any one broker
	}
	id := env.NewID()
	var records Records
	records.add(&schema.TopicRecord{Name: t.Topic, TopicID: id})
	for _, s := range sorted(set) {
		value := set[s]
		records.add(&schema.ConfigRecord{ResourceType: metadata.TopicConfig, ResourceName: t.Topic, Name: s, Value: &value})
	}
	for n, p := range parts {
		records.add(p.Record(id, int32(n)))
	}
	answer.Topic, answer.TopicID = t.Topic, id
	answer.NumPartitions, answer.ReplicationFactor = int32(len(parts)), int16(len(parts[0].Replicas))
	for _, e := range v.Topic(set).CreatedTopic() {
		a := kmsg.NewCreateTopicsResponseTopicConfig()
		a.Name, a.Value, a.ReadOnly, a.Source, a.IsSensitive = e.Name, e.Value, e.ReadOnly, int8(e.Source), e.Sensitive
		answer.Configs = append(answer.Configs, a)
	}
	return records, answer, nil
}

// safeCopies is from how many copies on a topic of nobody's particular wishes asks for two that are in sync.
const safeCopies = 3

// partitionsOf chooses where the partitions of a new topic go, or takes the client's word for it.
func partitionsOf(img *metadata.Image, v *config.Values, t *kmsg.CreateTopicsRequestTopic, env Env) ([]*metadata.Partition, error) {
	if len(t.ReplicaAssignment) > 0 {
		return assigned(img, t)
	}
	count, copies := t.NumPartitions, t.ReplicationFactor
	if copies < -1 || copies == 0 {
		return nil, wire.Errorf(kerr.InvalidReplicationFactor, "Replication factor must be larger than 0, or -1 to use the default value.")
	}
	if count < -1 || count == 0 {
		return nil, wire.Errorf(kerr.InvalidPartitions, "Number of partitions was set to an invalid non-positive value.")
	}
	if count == -1 {
		count = config.NumPartitions.Get(v)
	}
	pl := newPlacer(img, env.Random)
	if copies == -1 { // as many copies as there are brokers, until there are enough
		copies = int16(max(1, min(int(config.DefaultReplicationFactor.Get(v)), len(pl.order))))
	}
	parts := make([]*metadata.Partition, count)
	for n := range parts {
		brokers, err := pl.place(int(copies))
		if err != nil {
			return nil, wire.Errorf(kerr.InvalidReplicationFactor, "Unable to replicate the partition %d time(s): %s", copies, err)
		}
		parts[n] = newPartition(img, brokers)
	}
	return parts, nil
}

func assigned(img *metadata.Image, t *kmsg.CreateTopicsRequestTopic) ([]*metadata.Partition, error) {
	if t.ReplicationFactor != -1 {
		return nil, wire.Errorf(kerr.InvalidRequest, "A manual partition assignment was specified, but replication factor was not set to -1.")
	}
	if t.NumPartitions != -1 {
		return nil, wire.Errorf(kerr.InvalidRequest, "A manual partition assignment was specified, but numPartitions was not set to -1.")
	}
	parts := map[int32]*metadata.Partition{}
	copies := 0
	for _, a := range t.ReplicaAssignment {
		if parts[a.Partition] != nil {
			return nil, wire.Errorf(kerr.InvalidReplicaAssignment, "Found multiple manual partition assignments for partition %d", a.Partition)
		}
		if err := checkAssignment(img, a.Replicas, copies); err != nil {
			return nil, err
		}
		copies = len(a.Replicas)
		p := newPartition(img, a.Replicas)
		if p == nil {
			return nil, allFenced(a.Partition)
		}
		parts[a.Partition] = p
	}
	out := make([]*metadata.Partition, len(parts))
	for n := range out {
		if out[n] = parts[int32(n)]; out[n] == nil {
			return nil, wire.Errorf(kerr.InvalidReplicaAssignment, "partitions should be a consecutive 0-based integer sequence")
		}
	}
	return out, nil
}

func allFenced(partition int32) error {
	return wire.Errorf(kerr.InvalidReplicaAssignment, "All brokers specified in the manual partition assignment for partition %d are fenced or in controlled shutdown.", partition)
}

func sorted(set map[string]string) []string {
	out := make([]string, 0, len(set))
	for n := range set {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}
