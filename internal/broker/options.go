package broker

import (
	"math"
	"strconv"
	"time"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/group/consumer"
	"github.com/ottla/ottla/internal/group/share"
	"github.com/ottla/ottla/internal/group/streams"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/network"
)

func itoa(n int32) string { return strconv.Itoa(int(n)) }

// logOptions are the settings of the logs; live are those that may change while they run.
func logOptions(o Options, live func() *config.Values) log.ManagerOptions {
	v := o.Values
	return log.ManagerOptions{
		FS: o.FS, Clock: o.Clock, Logger: o.Logger, Registerer: o.Registerer, Dirs: o.LogDirs,
		OpenFilesMax: int(config.LogOpenFilesMax.Get(v)), JournalFiles: int(config.JournalFiles.Get(v)), JournalFileBytes: config.JournalFileBytes.Get(v),
		DirectThresholdBytes: int(config.JournalDirectBytes.Get(v)), DiskReserveBytes: max(1, config.DiskReserveBytes.Get(v)),
		RetentionInterval: ms(config.LogRetentionCheckIntervalMs.Get(v)), RetentionDelay: ms(config.LogInitialTaskDelayMs.Get(v)),
		Cleaner: cleanerOptions(v), CleanerNow: func() log.CleanerOptions { return cleanerOptions(live()) },
		Scrub: log.ScrubOptions{
			Interval:       func() time.Duration { return ms(config.ScrubIntervalMs.Get(live())) },
			BytesPerSecond: func() int64 { return config.ScrubBytesPerSecond.Get(live()) },
		},
	}
}

func cleanerOptions(v *config.Values) log.CleanerOptions {
	return log.CleanerOptions{
		Disabled: !config.LogCleanerEnable.Get(v), Backoff: ms(config.LogCleanerBackoffMs.Get(v)), MapBytes: config.LogCleanerDedupeBufferSize.Get(v),
		BytesPerSecond: unbounded(config.LogCleanerIOMaxBytesPerSecond.Get(v)),
	}
}

// unbounded reads a rate whose largest value means that there is no bound.
func unbounded(rate float64) float64 {
	if rate >= math.MaxFloat64 {
		return 0
	}
	return rate
}

func groupConfig(v *config.Values) group.Config {
	c := group.DefaultConfig()
	c.Classic.InitialDelay = ms(int64(config.GroupInitialRebalanceDelayMs.Get(v)))
	c.Classic.MinSession = ms(int64(config.GroupMinSessionTimeoutMs.Get(v)))
	c.Classic.MaxSession = ms(int64(config.GroupMaxSessionTimeoutMs.Get(v)))
	c.Classic.MaxSize = int(config.GroupMaxSize.Get(v))
	c.Consumer = consumerConfig(c.Consumer, v)
	c.Streams = streamsConfig(c.Streams, v)
	c.Share = shareConfig(v)
	c.MaxMetadataBytes = int(config.OffsetMetadataMaxBytes.Get(v))
	c.ExpiryInterval = ms(config.OffsetsRetentionCheckIntervalMs.Get(v))
	if minutes := config.OffsetsRetentionMinutes.Get(v); minutes < math.MaxInt32 {
		c.OffsetsRetention = time.Duration(minutes) * time.Minute
	}
	return c
}

// endpoints are the addresses that the broker registers: the advertised ones, or where it listens.
func endpoints(o Options) []metadata.Endpoint {
	byName := advertised(o)
	var out []metadata.Endpoint
	for _, l := range o.Listeners {
		e := l.Endpoint
		if a, ok := byName[e.Name]; ok {
			e = a
		}
		host := e.Host
		if host == "" {
			host = "localhost"
		}
		out = append(out, metadata.Endpoint{Name: e.Name, Host: host, Port: uint16(e.Port)})
	}
	return out
}

func advertised(o Options) map[string]network.Endpoint {
	m := map[string]network.Endpoint{}
	for _, e := range o.Advertised {
		m[e.Name] = e
	}
	return m
}

// consumerConfig is what the settings say about groups of the consumer protocol.
func consumerConfig(c consumer.Config, v *config.Values) consumer.Config {
	span := func(def, low, high config.IntKey) consumer.Range {
		return consumer.Range{Default: ms(int64(def.Get(v))), Min: ms(int64(low.Get(v))), Max: ms(int64(high.Get(v)))}
	}
	c.Session = span(config.GroupConsumerSessionTimeoutMs, config.GroupConsumerMinSessionTimeoutMs, config.GroupConsumerMaxSessionTimeoutMs)
	c.Heartbeat = span(config.GroupConsumerHeartbeatIntervalMs, config.GroupConsumerMinHeartbeatIntervalMs, config.GroupConsumerMaxHeartbeatIntervalMs)
	c.AssignmentInterval = span(config.GroupConsumerAssignmentIntervalMs, config.GroupConsumerMinAssignmentIntervalMs, config.GroupConsumerMaxAssignmentIntervalMs)
	c.Assignors = config.GroupConsumerAssignors.Get(v)
	c.MaxSize, c.ClassicMaxSize = int(config.GroupConsumerMaxSize.Get(v)), int(config.GroupMaxSize.Get(v))
	if p, ok := consumer.ParsePolicy(config.GroupConsumerMigrationPolicy.Get(v)); ok {
		c.Migration = p
	}
	return c
}

// streamsConfig is what the settings say about streams groups.
func streamsConfig(c streams.Config, v *config.Values) streams.Config {
	span := func(def, low, high config.IntKey) streams.Range {
		return streams.Range{Default: ms(int64(def.Get(v))), Min: ms(int64(low.Get(v))), Max: ms(int64(high.Get(v)))}
	}
	c.Session = span(config.GroupStreamsSessionTimeoutMs, config.GroupStreamsMinSessionTimeoutMs, config.GroupStreamsMaxSessionTimeoutMs)
	c.Heartbeat = span(config.GroupStreamsHeartbeatIntervalMs, config.GroupStreamsMinHeartbeatIntervalMs, config.GroupStreamsMaxHeartbeatIntervalMs)
	c.AssignmentInterval = span(config.GroupStreamsAssignmentIntervalMs, config.GroupStreamsMinAssignmentIntervalMs, config.GroupStreamsMaxAssignmentIntervalMs)
	c.InitialDelay = ms(int64(config.GroupStreamsInitialRebalanceDelayMs.Get(v)))
	c.TaskOffsetInterval.Default = ms(int64(config.GroupStreamsTaskOffsetIntervalMs.Get(v)))
	c.TaskOffsetInterval.Min = ms(int64(config.GroupStreamsMinTaskOffsetIntervalMs.Get(v)))
	c.MaxSize = int(config.GroupStreamsMaxSize.Get(v))
	c.Standbys, c.MaxStandbys = int(config.GroupStreamsNumStandbyReplicas.Get(v)), int(config.GroupStreamsMaxStandbyReplicas.Get(v))
	c.Warmups, c.MaxWarmups = int(config.GroupStreamsNumWarmupReplicas.Get(v)), int(config.GroupStreamsMaxWarmupReplicas.Get(v))
	c.AcceptableLag, c.RackTags = config.GroupStreamsAcceptableRecoveryLag.Get(v), config.GroupStreamsRackAwareAssignmentTags.Get(v)
	return c
}

func shareConfig(v *config.Values) share.Config {
	span := func(def, low, high config.IntKey) share.Range {
		return share.Range{Default: ms(int64(def.Get(v))), Min: ms(int64(low.Get(v))), Max: ms(int64(high.Get(v)))}
	}
	return share.Config{
		Session:            span(config.GroupShareSessionTimeoutMs, config.GroupShareMinSessionTimeoutMs, config.GroupShareMaxSessionTimeoutMs),
		Heartbeat:          span(config.GroupShareHeartbeatIntervalMs, config.GroupShareMinHeartbeatIntervalMs, config.GroupShareMaxHeartbeatIntervalMs),
		AssignmentInterval: span(config.GroupShareAssignmentIntervalMs, config.GroupShareMinAssignmentIntervalMs, config.GroupShareMaxAssignmentIntervalMs),
		MaxSize:            int(config.GroupShareMaxSize.Get(v)), InitializeRetry: ms(int64(config.GroupShareInitializeRetryIntervalMs.Get(v))),
	}
}

// metadataSegmentBytes is the size of the files of the metadata log.
func metadataSegmentBytes(v *config.Values) int64 {
	if n := config.MetadataLogTestSegmentBytes.Get(v); n > 0 {
		return int64(n)
	}
	return int64(config.MetadataLogSegmentBytes.Get(v))
}
