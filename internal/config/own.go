package config

// The settings that Kafka does not have.
var (
	LogFlush = own(text("log.flush", FlushFsync, in(FlushFsync, FlushInterval, FlushPageCache), high, clusterWide,
		"When a record counts as stored, for topics that do not say: fsync waits for the disk, interval flushes as log.flush.interval.* say, page-cache leaves it to the system as Kafka does and may lose acknowledged records when power fails."))
	TopicFlush = own(StringKey{def(Topic, String, "flush", FlushFsync, in(FlushFsync, FlushInterval, FlushPageCache), high, clusterWide,
		"When a record counts as stored: fsync waits for the disk, interval flushes as flush.messages and flush.ms say, page-cache leaves it to the system as Kafka does and may lose acknowledged records when power fails.")})
	TopicRecordValidation = own(StringKey{def(Topic, String, "ottla.record.validation", "header", in("header", "full"), low, clusterWide,
		"How far a batch is checked before it is stored: header and checksum, or every record inside (which unpacks compressed batches). Compacted topics always get full.")})

	TopicRetentionExact = own(BoolKey{def(Topic, Boolean, "ottla.retention.exact", "false", nil, low, clusterWide,
		"Whether consumers stop seeing a record the millisecond that retention.ms has passed since its timestamp, although its segment is still there. Consumers skip such records as they skip compacted ones. A batch is seen until its newest record is too old.")})

	// TopicRestoring is set by a restore and taken away by its end.
	TopicRestoring = internal(own(StringKey{def(Topic, String, "ottla.restoring", "", nil, low, clusterWide,
		"Name of the restore that is writing this topic. While it is set nobody else writes to it. Set and taken away by `ottla restore`.")}))

	ClusterID = own(text("ottla.cluster.id", null, nil, low, readOnly,
		"Cluster id of a new cluster; not set, one is made at the first start. A folder that belongs to another cluster is refused."))
	HTTPListen = own(text("ottla.http.listen", "", nil, medium, readOnly,
		"Address of the HTTP listener for health and metrics, host:port. Empty has none."))

	JournalFiles = own(integer("ottla.journal.files", "4", between(2, 64), low, readOnly,
		"Files in the journal ring of each folder of log.dirs."))
	JournalFileBytes = own(long("ottla.journal.file.bytes", "67108864", between(1<<20, 1<<30), low, readOnly,
		"Size of one journal file."))
	JournalDirectBytes = own(integer("ottla.journal.direct.bytes", "131072", atLeast(0), low, readOnly,
		"Bytes waiting for one partition from which its segment is flushed directly instead of going through the journal."))
	LogOpenFilesMax = own(integer("ottla.log.open.files.max", "4096", atLeast(64), low, readOnly,
		"Segment and index files that are held open; others are opened when they are read."))
	DiskReserveBytes = own(long("ottla.disk.reserve.bytes", "67108864", atLeast(0), medium, readOnly,
		"Free bytes of a folder's disk below which producing to it is refused with a retriable error, so that deleting, fetching and recovery keep working."))
	ScrubIntervalMs = own(long("ottla.scrub.interval.ms", "604800000", atLeast(0), low, clusterWide,
		"Time in which every stored byte is read and its checksum verified once. 0 is never."))
	ScrubBytesPerSecond = own(long("ottla.scrub.bytes.per.second", "4194304", atLeast(1), low, clusterWide,
		"Bytes a second that verifying reads at most."))

	RequestMemoryBytes = own(long("ottla.request.memory.bytes", "134217728", atLeast(1<<20), medium, readOnly,
		"Memory in bytes that requests may take together while they are read, wait and are answered; connections wait when it is used up. A single larger request is still taken when it is alone."))
	ConnectionRequestsMax = own(integer("ottla.connection.requests.max", "64", atLeast(1), low, readOnly,
		"Requests of one connection that are worked on at the same time; further ones stay unread."))
	RequestReadTimeoutMs = own(integer("ottla.request.read.timeout.ms", "30000", atLeast(100), low, readOnly,
		"Time in which a request that has begun must arrive; a slower connection is closed."))
)

// The values of flush.
const (
	FlushFsync     = "fsync"
	FlushInterval  = "interval"
	FlushPageCache = "page-cache"
)
