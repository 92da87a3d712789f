package log

import (
	"math"

	"github.com/ottla/ottla/internal/record"
)

// FlushMode says what durable means for a topic.
type FlushMode uint8

// The flush modes.
const (
	// FlushFsync: an append is durable once it is on stable storage. The default.
	FlushFsync FlushMode = iota
	// FlushInterval: an append counts at once; the files are flushed every FlushMs and before the append that makes
	// FlushMessages records unflushed counts.
	FlushInterval
	// FlushPageCache: an append counts at once, and the kernel writes when it likes.
	FlushPageCache
)

// Config are the settings of one log. Times are milliseconds, sizes bytes; -1 means no limit for retention.
type Config struct {
	SegmentBytes       int64
	SegmentMs          int64
	SegmentJitterMs    int64
	SegmentIndexBytes  int32
	IndexIntervalBytes int32
	RetentionMs        int64
	RetentionBytes     int64
	RetentionExact     bool  // records past RetentionMs are hidden from readers while they are still there
	LocalRetentionMs   int64 // -2: as RetentionMs
	LocalRetentionByte int64 // -2: as RetentionBytes
	Preallocate        bool

	Flush         FlushMode
	FlushMessages int64 // FlushInterval only
	FlushMs       int64 // FlushInterval only

	Compact, Delete        bool
	DeleteRetentionMs      int64
	MinCompactionLagMs     int64
	MaxCompactionLagMs     int64
	MinCleanableDirtyRatio float64
	FileDeleteDelayMs      int64
	MaxMessageBytes        int32

	ProducerIDExpirationMs int64

	// Restoring takes batches from AppendRestored only, and lets nothing age.
	Restoring     bool
	TimestampType record.TimestampType
}

// DefaultConfig has Kafka's defaults.
func DefaultConfig() Config {
	return Config{
		SegmentBytes: 1 << 30, SegmentMs: 7 * 24 * 3600 * 1000, SegmentIndexBytes: 10 << 20, IndexIntervalBytes: 4096,
		RetentionMs: 7 * 24 * 3600 * 1000, RetentionBytes: -1, LocalRetentionMs: -2, LocalRetentionByte: -2,
		FlushMessages: math.MaxInt64, FlushMs: math.MaxInt64,
		Delete: true, DeleteRetentionMs: 24 * 3600 * 1000, MaxCompactionLagMs: math.MaxInt64, MinCleanableDirtyRatio: 0.5,
		FileDeleteDelayMs: 60_000, MaxMessageBytes: 1048588, ProducerIDExpirationMs: 24 * 3600 * 1000,
	}
}

// withDefaults fills the fields whose zero value makes no sense.
func (c Config) withDefaults() Config {
	d := DefaultConfig()
	set(&c.SegmentBytes, d.SegmentBytes)
	c.SegmentBytes = min(c.SegmentBytes, math.MaxInt32)
	set(&c.SegmentMs, d.SegmentMs)
	set(&c.SegmentIndexBytes, d.SegmentIndexBytes)
	set(&c.RetentionMs, d.RetentionMs)
	set(&c.RetentionBytes, d.RetentionBytes)
	set(&c.FlushMessages, d.FlushMessages)
	set(&c.FlushMs, d.FlushMs)
	set(&c.MaxCompactionLagMs, d.MaxCompactionLagMs)
	set(&c.MaxMessageBytes, d.MaxMessageBytes)
	set(&c.ProducerIDExpirationMs, d.ProducerIDExpirationMs)
	if !c.Compact && !c.Delete {
		c.Delete = true
	}
	return c
}

func set[T int32 | int64](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}
