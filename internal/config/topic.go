package config

// Settings of a topic.
var (
	TopicCleanupPolicy = ListKey{def(Topic, List, "cleanup.policy", "delete", listIn("compact", "delete"), medium, clusterWide,
		"What happens to old records: delete by age and size, compact to the last value of each key, or both. Empty keeps everything.")}
	TopicCompressionType = StringKey{def(Topic, String, "compression.type", "producer", in("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"), medium, clusterWide,
		"Codec in which batches are stored; producer keeps what was sent.")}
	TopicCompressionGzipLevel = IntKey{def(Topic, Int, "compression.gzip.level", "-1", gzipLevel{}, medium, clusterWide,
		"Level where the broker itself compresses with gzip.")}
	TopicCompressionLZ4Level = IntKey{def(Topic, Int, "compression.lz4.level", "9", between(1, 17), medium, clusterWide,
		"Level where the broker itself compresses with lz4.")}
	TopicCompressionZstdLevel = IntKey{def(Topic, Int, "compression.zstd.level", "3", between(-131072, 22), medium, clusterWide,
		"Level where the broker itself compresses with zstd.")}
	TopicDeleteRetentionMs = LongKey{def(Topic, Long, "delete.retention.ms", "86400000", atLeast(0), medium, clusterWide,
		"Time that tombstones stay readable after compaction has seen them.")}
	TopicFileDeleteDelayMs = LongKey{def(Topic, Long, "file.delete.delay.ms", "60000", atLeast(0), medium, clusterWide,
		"How long a deleted segment's file stays on disk, for readers that still hold it.")}
	TopicFlushMessages = LongKey{def(Topic, Long, "flush.messages", "9223372036854775807", atLeast(1), medium, clusterWide,
		"With flush=interval: records that may wait before they are flushed to disk.")}
	TopicFlushMs = LongKey{def(Topic, Long, "flush.ms", "9223372036854775807", atLeast(0), medium, clusterWide,
		"With flush=interval: longest time that a record may wait before it is flushed to disk.")}
	TopicIndexIntervalBytes = IntKey{def(Topic, Int, "index.interval.bytes", "4096", atLeast(0), medium, clusterWide,
		"Bytes of records between two entries of the offset index.")}
	TopicMaxCompactionLagMs = LongKey{def(Topic, Long, "max.compaction.lag.ms", "9223372036854775807", atLeast(1), medium, clusterWide,
		"Time after which a record is due for compaction whatever the dirty ratio.")}
	TopicMaxDecompressedMessageBytes = IntKey{def(Topic, Int, "max.decompressed.message.bytes", "2147483639", between(1, 2147483639), medium, clusterWide,
		"Largest size to which one batch may unpack.")}
	TopicMaxMessageBytes = IntKey{def(Topic, Int, "max.message.bytes", "1048588", atLeast(0), medium, clusterWide,
		"Largest record batch that is taken, compressed if it is.")}
	TopicMessageTimestampAfterMaxMs = LongKey{def(Topic, Long, "message.timestamp.after.max.ms", "3600000", atLeast(0), medium, clusterWide,
		"How far in the future a producer's timestamp may lie.")}
	TopicMessageTimestampBeforeMaxMs = LongKey{def(Topic, Long, "message.timestamp.before.max.ms", "9223372036854775807", atLeast(0), medium, clusterWide,
		"How far in the past a producer's timestamp may lie.")}
	TopicMessageTimestampType = StringKey{def(Topic, String, "message.timestamp.type", "CreateTime", in("CreateTime", "LogAppendTime"), medium, clusterWide,
		"Whether a record carries the producer's time (CreateTime) or the broker's (LogAppendTime).")}
	TopicMinCleanableDirtyRatio = DoubleKey{def(Topic, Double, "min.cleanable.dirty.ratio", "0.5", between(0, 1), medium, clusterWide,
		"Share of the log that must be uncompacted before it is compacted.")}
	TopicMinCompactionLagMs = LongKey{def(Topic, Long, "min.compaction.lag.ms", "0", atLeast(0), medium, clusterWide,
		"Time that a record stays uncompacted at least.")}
	TopicMinInsyncReplicas = IntKey{def(Topic, Int, "min.insync.replicas", "1", atLeast(1), medium, clusterWide,
		"Copies that must hold a record before acks=all is answered.")}
	TopicPreallocate = BoolKey{def(Topic, Boolean, "preallocate", "false", nil, medium, clusterWide,
		"Whether a new segment reserves its space on disk at once.")}
	TopicRetentionBytes = LongKey{def(Topic, Long, "retention.bytes", "-1", nil, medium, clusterWide,
		"Bytes that one partition keeps at least; older segments beyond it are deleted. -1 keeps all.")}
	TopicRetentionMs = LongKey{def(Topic, Long, "retention.ms", "604800000", atLeast(-1), medium, clusterWide,
		"Milliseconds that records are kept. -1 keeps them for ever.")}
	TopicSegmentBytes = IntKey{def(Topic, Int, "segment.bytes", "1073741824", atLeast(1048576), medium, clusterWide,
		"Size at which a segment is closed and a new one begun.")}
	TopicInternalSegmentBytes = internal(IntKey{def(Topic, Int, "internal.segment.bytes", null, nil, medium, clusterWide,
		"Segment size below the least of segment.bytes, for tests.")})
	TopicSegmentIndexBytes = IntKey{def(Topic, Int, "segment.index.bytes", "10485760", atLeast(4), medium, clusterWide,
		"Upper bound of a segment's index files.")}
	TopicSegmentJitterMs = LongKey{def(Topic, Long, "segment.jitter.ms", "0", atLeast(0), medium, clusterWide,
		"Random milliseconds by which rolling is spread, so that segments do not all close at once.")}
	TopicSegmentMs = LongKey{def(Topic, Long, "segment.ms", "604800000", atLeast(1), medium, clusterWide,
		"Time after which a segment is closed although it is not full.")}
)
