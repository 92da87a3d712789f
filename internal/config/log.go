package config

// The partition logs: where they lie, how long they are kept, how they are flushed and compacted.
var (
	LogDir = list("log.dir", "/tmp/kafka-logs", anyList(), high, readOnly,
		"Folder of the logs when log.dirs is not set.")
	LogDirs = list("log.dirs", null, anyList(), high, readOnly,
		"Folders of the logs, one per disk. New partitions go to the folder with the fewest.")
	LogRetentionBytes = long("log.retention.bytes", "-1", nil, high, clusterWide,
		"Bytes that one partition keeps at least; older segments beyond it are deleted. -1 keeps all.")
	LogRetentionHours = integer("log.retention.hours", "168", nil, high, readOnly,
		"Hours that records are kept, when neither minutes nor milliseconds are set. Negative keeps them for ever.")
	LogRetentionMinutes = integer("log.retention.minutes", null, nil, high, readOnly,
		"Minutes that records are kept, when milliseconds are not set. Negative keeps them for ever.")
	LogRetentionMs = long("log.retention.ms", null, nil, high, clusterWide,
		"Milliseconds that records are kept. Negative keeps them for ever.")
	LogRetentionCheckIntervalMs = long("log.retention.check.interval.ms", "300000", atLeast(1), medium, readOnly,
		"How often logs are looked through for segments that retention lets go.")
	LogRollHours = integer("log.roll.hours", "168", atLeast(1), high, readOnly,
		"Hours after which a segment is closed although it is not full, when milliseconds are not set.")
	LogRollMs = long("log.roll.ms", null, nil, high, clusterWide,
		"Milliseconds after which a segment is closed although it is not full.")
	LogRollJitterHours = integer("log.roll.jitter.hours", "0", atLeast(0), high, readOnly,
		"Random hours by which rolling is spread, when milliseconds are not set.")
	LogRollJitterMs = long("log.roll.jitter.ms", null, nil, high, clusterWide,
		"Random milliseconds by which rolling is spread, so that segments do not all close at once.")
	LogSegmentBytes = integer("log.segment.bytes", "1073741824", atLeast(1048576), high, clusterWide,
		"Size at which a segment is closed and a new one begun.")
	LogSegmentDeleteDelayMs = long("log.segment.delete.delay.ms", "60000", atLeast(0), high, clusterWide,
		"How long a deleted segment's file stays on disk, for readers that still hold it.")
	LogIndexIntervalBytes = integer("log.index.interval.bytes", "4096", atLeast(0), medium, clusterWide,
		"Bytes of records between two entries of the offset index.")
	LogIndexSizeMaxBytes = integer("log.index.size.max.bytes", "10485760", atLeast(4), medium, clusterWide,
		"Upper bound of a segment's index files.")
	LogFlushIntervalMessages = long("log.flush.interval.messages", "9223372036854775807", atLeast(1), high, clusterWide,
		"With flush=interval: records that may wait before they are flushed to disk.")
	LogFlushIntervalMs = long("log.flush.interval.ms", null, nil, high, clusterWide,
		"With flush=interval: longest time that a record may wait before it is flushed to disk.")
	LogFlushSchedulerIntervalMs = long("log.flush.scheduler.interval.ms", "9223372036854775807", nil, high, readOnly,
		"With flush=interval: stands in for log.flush.interval.ms where that is not set.")
	LogFlushOffsetCheckpointIntervalMs = integer("log.flush.offset.checkpoint.interval.ms", "60000", atLeast(0), high, readOnly,
		"How often recovery points are written down. Smaller means less to read after a crash.")
	LogFlushStartOffsetCheckpointIntervalMs = integer("log.flush.start.offset.checkpoint.interval.ms", "60000", atLeast(0), high, readOnly,
		"How often log start offsets are written down.")
	LogInitialTaskDelayMs = long("log.initial.task.delay.ms", "30000", atLeast(0), low, readOnly,
		"Pause after start before retention and compaction look at the logs for the first time.")
	LogCleanupPolicy = list("log.cleanup.policy", "delete", listIn("compact", "delete"), medium, clusterWide,
		"What happens to old records: delete by age and size, compact to the last value of each key, or both.")
	LogCleanerEnable = boolean("log.cleaner.enable", "true", medium, readOnly,
		"Whether compaction runs at all.")
	LogCleanerThreads = integer("log.cleaner.threads", "1", atLeast(0), medium, clusterWide,
		"Partitions that are compacted at the same time.")
	LogCleanerBackoffMs = long("log.cleaner.backoff.ms", "15000", atLeast(0), medium, clusterWide,
		"Pause of the cleaner when nothing is dirty enough.")
	LogCleanerDedupeBufferSize = long("log.cleaner.dedupe.buffer.size", "134217728", nil, medium, clusterWide,
		"Memory in bytes for the key maps of all cleaners together.")
	LogCleanerIOBufferSize = integer("log.cleaner.io.buffer.size", "524288", atLeast(0), medium, clusterWide,
		"Bytes that a cleaner reads and writes at a time.")
	LogCleanerIOBufferLoadFactor = double("log.cleaner.io.buffer.load.factor", "0.9", nil, medium, clusterWide,
		"How full a key map may get, 0 to 1. Fuller cleans more in a pass with more collisions.")
	LogCleanerIOMaxBytesPerSecond = double("log.cleaner.io.max.bytes.per.second", "1.7976931348623157E308", nil, medium, clusterWide,
		"Bytes a second that all cleaners read and write at most.")
	LogCleanerMinCleanableRatio = double("log.cleaner.min.cleanable.ratio", "0.5", between(0, 1), medium, clusterWide,
		"Share of a log that must be uncompacted before it is compacted.")
	LogCleanerMinCompactionLagMs = long("log.cleaner.min.compaction.lag.ms", "0", atLeast(0), medium, clusterWide,
		"Time that a record stays uncompacted at least.")
	LogCleanerMaxCompactionLagMs = long("log.cleaner.max.compaction.lag.ms", "9223372036854775807", atLeast(1), medium, clusterWide,
		"Time after which a record is due for compaction whatever the dirty ratio.")
	LogCleanerDeleteRetentionMs = long("log.cleaner.delete.retention.ms", "86400000", atLeast(0), medium, clusterWide,
		"Time that tombstones stay readable after compaction has seen them.")
	LogMessageTimestampType = text("log.message.timestamp.type", "CreateTime", in("CreateTime", "LogAppendTime"), medium, clusterWide,
		"Whether a record carries the producer's time (CreateTime) or the broker's (LogAppendTime).")
	LogMessageTimestampBeforeMaxMs = long("log.message.timestamp.before.max.ms", "9223372036854775807", atLeast(0), medium, clusterWide,
		"How far in the past a producer's timestamp may lie.")
	LogMessageTimestampAfterMaxMs = long("log.message.timestamp.after.max.ms", "3600000", atLeast(0), medium, clusterWide,
		"How far in the future a producer's timestamp may lie.")
	LogPreallocate = boolean("log.preallocate", "false", medium, clusterWide,
		"Whether a new segment reserves its space on disk at once.")
	MessageMaxBytes = integer("message.max.bytes", "1048588", atLeast(0), high, clusterWide,
		"Largest record batch that is taken, compressed if it is.")
	MaxDecompressedMessageBytes = integer("max.decompressed.message.bytes", "2147483639", between(1, 2147483639), medium, clusterWide,
		"Largest size to which one batch may unpack.")
	CompressionType = text("compression.type", "producer", in("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"), high, clusterWide,
		"Codec in which batches are stored; producer keeps what was sent.")
	CompressionGzipLevel = integer("compression.gzip.level", "-1", gzipLevel{}, medium, clusterWide,
		"Level where the broker itself compresses with gzip.")
	CompressionLZ4Level = integer("compression.lz4.level", "9", between(1, 17), medium, clusterWide,
		"Level where the broker itself compresses with lz4.")
	CompressionZstdLevel = integer("compression.zstd.level", "3", between(-131072, 22), medium, clusterWide,
		"Level where the broker itself compresses with zstd.")
	NumRecoveryThreadsPerDataDir = integer("num.recovery.threads.per.data.dir", "2", atLeast(1), high, clusterWide,
		"Partitions of one folder that are recovered at the same time after a crash.")
	ReplicaHighWatermarkCheckpointIntervalMs = long("replica.high.watermark.checkpoint.interval.ms", "5000", nil, high, readOnly,
		"How often high watermarks are written down.")
	ProducerIDExpirationCheckIntervalMs = internal(integer("producer.id.expiration.check.interval.ms", "600000", atLeast(1), low, readOnly,
		"How often idempotent producers that have gone quiet are looked for."))
	ProducerIDExpirationMs = integer("producer.id.expiration.ms", "86400000", atLeast(1), low, clusterWide,
		"Time after which an idempotent producer that sent nothing is forgotten.")
)
