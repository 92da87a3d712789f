package broker

import (
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/replica"
	"github.com/ottla/ottla/internal/replica/core"
)

// settings are the broker's values under the newest metadata, and those of every topic, worked out at first use.
type settings struct {
	static *config.Values
	node   string // set before the first refresh
	image  func() *metadata.Image
	values atomic.Pointer[config.Values]
	topics atomic.Pointer[sync.Map] // name -> *config.Values; replaced when the broker's own values change
	groups atomic.Pointer[sync.Map] // id -> sharefetch.GroupSettings; likewise
}

func newSettings(static *config.Values, image func() *metadata.Image) *settings {
	s := &settings{static: static, image: image}
	s.values.Store(static)
	s.topics.Store(new(sync.Map))
	s.groups.Store(new(sync.Map))
	return s
}

// refresh takes the dynamic values of an image over.
func (s *settings) refresh(img *metadata.Image) (refused []error) {
	v, refused := s.static.WithDynamic(img.Config(metadata.BrokerConfig, ""), img.Config(metadata.BrokerConfig, s.node))
	s.values.Store(v)
	s.topics.Store(new(sync.Map))
	s.groups.Store(new(sync.Map))
	return refused
}

// forgetGroup drops what is known of a group whose settings changed.
func (s *settings) forgetGroup(id string) { s.groups.Load().Delete(id) }

// forget drops what is known of a topic whose settings changed.
func (s *settings) forget(topic string) { s.topics.Load().Delete(topic) }

func (s *settings) broker() *config.Values { return s.values.Load() }

func (s *settings) topic(name string) *config.Values {
	m := s.topics.Load()
	if v, ok := m.Load(name); ok {
		return v.(*config.Values)
	}
	v := s.broker().Topic(s.image().Config(metadata.TopicConfig, name))
	m.Store(name, v)
	return v
}

// logConfig is what a topic's settings mean to its logs.
func (s *settings) logConfig(topic string) log.Config {
	v := s.topic(topic)
	policy := config.TopicCleanupPolicy.Get(v)
	c := log.Config{
		SegmentBytes: int64(config.TopicSegmentBytes.Get(v)), SegmentMs: config.TopicSegmentMs.Get(v), SegmentJitterMs: config.TopicSegmentJitterMs.Get(v),
		SegmentIndexBytes: int32(config.TopicSegmentIndexBytes.Get(v)), IndexIntervalBytes: int32(config.TopicIndexIntervalBytes.Get(v)),
		RetentionMs: config.TopicRetentionMs.Get(v), RetentionBytes: config.TopicRetentionBytes.Get(v), RetentionExact: config.TopicRetentionExact.Get(v), LocalRetentionMs: -2, LocalRetentionByte: -2,
		Preallocate:   config.TopicPreallocate.Get(v),
		FlushMessages: config.TopicFlushMessages.Get(v), FlushMs: config.TopicFlushMs.Get(v),
		Compact: slices.Contains(policy, "compact"), Delete: slices.Contains(policy, "delete"),
		DeleteRetentionMs: config.TopicDeleteRetentionMs.Get(v), MinCompactionLagMs: config.TopicMinCompactionLagMs.Get(v), MaxCompactionLagMs: config.TopicMaxCompactionLagMs.Get(v),
		MinCleanableDirtyRatio: config.TopicMinCleanableDirtyRatio.Get(v), FileDeleteDelayMs: config.TopicFileDeleteDelayMs.Get(v),
		MaxMessageBytes: int32(config.TopicMaxMessageBytes.Get(v)), ProducerIDExpirationMs: int64(config.ProducerIDExpirationMs.Get(s.broker())),
	}
	if config.TopicRestoring.Get(v) != "" {
		c.Restoring, c.RetentionMs, c.RetentionBytes, c.RetentionExact, c.Compact, c.ProducerIDExpirationMs = true, -1, -1, false, false, math.MaxInt64/2
	}
	switch config.TopicFlush.Get(v) {
	case config.FlushInterval:
		c.Flush = log.FlushInterval
	case config.FlushPageCache:
		c.Flush = log.FlushPageCache
	}
	if config.TopicMessageTimestampType.Get(v) == "LogAppendTime" {
		c.TimestampType = record.LogAppendTime
	}
	return c
}

// replication is what a topic's settings mean to its in-sync replicas.
func (s *settings) replication(topic string) core.Settings {
	v := s.broker()
	return core.Settings{
		MinISR: int(config.TopicMinInsyncReplicas.Get(s.topic(topic))), LagMax: ms(config.ReplicaLagTimeMaxMs.Get(v)), ShedAfter: ms(int64(config.ReplicaShedMs.Get(v))),
	}
}

// fetching is how this broker copies from others.
func (s *settings) fetching() replica.Fetching {
	v := s.broker()
	return replica.Fetching{
		Fetchers: int(config.NumReplicaFetchers.Get(v)), WaitMax: ms(int64(config.ReplicaFetchWaitMaxMs.Get(v))), MinBytes: int32(config.ReplicaFetchMinBytes.Get(v)),
		PartitionMaxByte: int32(config.ReplicaFetchMaxBytes.Get(v)), ResponseMaxBytes: int32(config.ReplicaFetchResponseMaxBytes.Get(v)),
		BackoffMax: ms(int64(config.ReplicaFetchBackoffMs.Get(v))),
	}
}

// throttles are the rates of throttled replicas.
func (s *settings) throttles() (leader, follower int64) {
	v := s.broker()
	return config.LeaderReplicationThrottledRate.Get(v), config.FollowerReplicationThrottledRate.Get(v)
}

// throttled says whether this broker's replica of a partition is throttled as a leader's and as a follower's.
func (s *settings) throttled(tp log.TopicPartition) (leader, follower bool) {
	v := s.topic(tp.Topic)
	name := itoa(tp.Partition) + ":" + s.node
	in := func(list []string) bool { return slices.Contains(list, name) || slices.Contains(list, "*") }
	return in(config.TopicLeaderThrottledReplicas.Get(v)), in(config.TopicFollowerThrottledReplicas.Get(v))
}

// rackAware says whether readers are sent to replicas of their rack.
func (s *settings) rackAware() bool {
	return strings.HasSuffix(config.ReplicaSelectorClass.Get(s.broker()), "RackAwareReplicaSelector")
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
