package broker

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/replica"
	"github.com/ottla/ottla/internal/share"
	"github.com/ottla/ottla/internal/sharefetch"
	"github.com/ottla/ottla/internal/wire"
)

// shareSource gives share-partitions the partitions that this broker leads.
type shareSource struct {
	image    func() *metadata.Image
	replicas *replica.Manager
}

func (s *shareSource) Resolve(topicID [16]byte, partition int32) (log.TopicPartition, error) {
	t := s.image().TopicByID(topicID)
	switch {
	case t == nil:
		return log.TopicPartition{}, kerr.UnknownTopicID
	case t.Partition(partition) == nil:
		return log.TopicPartition{}, kerr.UnknownTopicOrPartition
	}
	return log.TopicPartition{Topic: t.Name, Partition: partition}, nil
}

func (s *shareSource) Open(tp log.TopicPartition, topicID [16]byte) (sharefetch.View, error) {
	p, err := s.replicas.Get(tp)
	if err != nil || p.TopicID() != topicID {
		return sharefetch.View{}, kerr.NotLeaderForPartition
	}
	if err := p.Closed(); err != nil {
		return sharefetch.View{}, err
	}
	l, err := p.Log()
	return sharefetch.View{TP: tp, Log: l, LeaderEpoch: p.LeaderEpoch()}, err
}

// shareGroup is what a group's settings mean to its share-partitions.
func (s *settings) shareGroup(id string) sharefetch.GroupSettings {
	m := s.groups.Load()
	if g, ok := m.Load(id); ok {
		return g.(sharefetch.GroupSettings)
	}
	v := s.broker().Group(s.image().Config(metadata.GroupConfig, id))
	reset := config.OneGroupShareAutoOffsetReset.Get(v)
	ago, byDuration := config.DurationReset(reset)
	b := s.broker()
	g := sharefetch.GroupSettings{
		Settings: share.Settings{
			MaxLocks:        int(bounded(config.OneGroupSharePartitionMaxRecordLocks.Get(v), config.GroupShareMinPartitionMaxRecordLocks.Get(b), config.GroupShareMaxPartitionMaxRecordLocks.Get(b))),
			DeliveryLimit:   int16(bounded(config.OneGroupShareDeliveryCountLimit.Get(v), config.GroupShareMinDeliveryCountLimit.Get(b), config.GroupShareMaxDeliveryCountLimit.Get(b))),
			LockMs:          int64(bounded(config.OneGroupShareRecordLockDurationMs.Get(v), config.GroupShareMinRecordLockDurationMs.Get(b), config.GroupShareMaxRecordLockDurationMs.Get(b))),
			Renew:           config.OneGroupShareRenew.Get(v),
			RedeliveryMs:    int64(config.OneGroupShareRedeliveryDelayMs.Get(v)),
			KeyOrder:        config.OneGroupShareOrder.Get(v) == config.ShareOrderKey,
			DeadLetters:     config.OneGroupDeadLetterTopic.Get(v) != "",
			RedeliveryMaxMs: int64(config.OneGroupShareRedeliveryDelayMaxMs.Get(v)),
		},
		ReadCommitted:   config.OneGroupShareIsolationLevel.Get(v) == "read_committed",
		Reset:           sharefetch.Reset{Earliest: reset == "earliest", ByDuration: byDuration, Ago: ago},
		DeadLetterTopic: config.OneGroupDeadLetterTopic.Get(v), CopyRecords: config.OneGroupDeadLetterCopy.Get(v),
	}
	m.Store(id, g)
	return g
}

// bounded keeps a group's value within what the broker allows now.
func bounded[T int | int32 | int64](n, low, high T) T { return min(max(n, low), high) }

// deadLetters writes to dead-letter topics through the broker's own partitions.
type deadLetters struct {
	settings *settings
	image    func() *metadata.Image
	replicas *replica.Manager
	ctl      *brain
	nodes    *nodes
	clock    clock.Clock
}

// Prepare checks a dead-letter topic as KIP-1191 has it, and makes it where the cluster allows that.
func (d *deadLetters) Prepare(group, topic string, done func(partitions int32, maxBatchBytes int, err error)) {
	prefix := config.DeadLetterTopicPrefix.Get(d.settings.broker())
	switch {
	case strings.HasPrefix(topic, "__"):
		done(0, 0, fmt.Errorf("a dead-letter topic cannot be an internal one, and %s begins with __", topic))
		return
	case !strings.HasPrefix(topic, prefix):
		done(0, 0, fmt.Errorf("names of dead-letter topics begin with %q (errors.deadletterqueue.topic.name.prefix) and %s does not", prefix, topic))
		return
	}
	if t := d.image().Topic(topic); t != nil {
		done(d.existing(t))
		return
	}
	if !config.DeadLetterAutoCreate.Get(d.settings.broker()) {
		done(0, 0, fmt.Errorf("the topic %s does not exist and errors.deadletterqueue.auto.create.topics.enable is off; create it with errors.deadletterqueue.group.enable=true", topic))
		return
	}
	d.create(topic, done)
}

func (d *deadLetters) existing(t *metadata.Topic) (int32, int, error) {
	v := d.settings.topic(t.Name)
	if !config.TopicDeadLetterEnable.Get(v) {
		return 0, 0, fmt.Errorf("the topic %s takes no dead letters: set errors.deadletterqueue.group.enable=true on it", t.Name)
	}
	return int32(len(t.Partitions)), int(config.TopicMaxMessageBytes.Get(v)), nil
}

func (d *deadLetters) create(topic string, done func(int32, int, error)) {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.SetVersion(7)
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, -1, -1
	for _, c := range [][2]string{{"errors.deadletterqueue.group.enable", "true"}, {"message.timestamp.type", "LogAppendTime"}} {
		cfg := kmsg.NewCreateTopicsRequestTopicConfig()
		cfg.Name, cfg.Value = c[0], &c[1]
		t.Configs = append(t.Configs, cfg)
	}
	req.Topics = append(req.Topics, t)
	d.ctl.CreateTopics("create-dead-letter-topic", req, func(resp *kmsg.CreateTopicsResponse, err error) {
		t := d.image().Topic(topic)
		switch {
		case err != nil:
			done(0, 0, wire.Errorf(kerr.UnknownTopicOrPartition, "the topic %s could not be made: %v", topic, err))
		case t == nil:
			done(0, 0, wire.Errorf(kerr.UnknownTopicOrPartition, "the topic %s could not be made", topic))
		default:
			done(d.existing(t))
		}
	})
}

// Append appends a batch to a dead-letter topic and waits for it to be committed.
func (d *deadLetters) Append(topic string, partition int32, batch []byte, done func(error)) {
	if at := d.image().Partition(topic, partition); at != nil && at.Leader >= 0 && at.Leader != d.nodes.self {
		d.nodes.Produce(at.Leader, topic, partition, batch, done)
		return
	}
	p, err := d.replicas.Get(log.TopicPartition{Topic: topic, Partition: partition})
	if err != nil {
		done(err)
		return
	}
	now := d.clock.Now().UnixMilli()
	if config.TopicMessageTimestampType.Get(d.settings.topic(topic)) == "LogAppendTime" {
		record.SetMaxTimestamp(batch, record.LogAppendTime, now)
	}
	info, err := p.Append(batch, log.AppendOptions{Origin: log.Coordinator, Now: now})
	if err != nil {
		done(err)
		return
	}
	p.Wait(info.LastOffset+1, committed(done), 0)
}

// committed makes a Waiter of a function.
type committed func(error)

func (f committed) Committed(_ int, err error) { f(err) }

// sharePublisher tells share-partitions of topics and settings that changed.
type sharePublisher struct {
	node   int32
	shares *sharefetch.Manager
}

func (p *sharePublisher) Name() string { return "shares" }

func (p *sharePublisher) OnMetadata(delta *metadata.Delta, _ *metadata.Image) {
	for _, c := range delta.Local(p.node) {
		// In a new epoch somebody else may have led meanwhile, even where this broker leads before and after: the state is read anew.
		if c.New == nil || c.New.Leader != p.node || c.Old == nil || c.Old.LeaderEpoch != c.New.LeaderEpoch {
			p.shares.Drop(c.Topic.ID, c.Partition)
		}
	}
}
