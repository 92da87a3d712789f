package config

// Creating and deleting topics, and who keeps the cluster's metadata.
var (
	AutoCreateTopicsEnable = boolean("auto.create.topics.enable", "true", high, readOnly,
		"Whether a client that asks for an unknown topic creates it.")
	NumPartitions = integer("num.partitions", "1", atLeast(1), medium, readOnly,
		"Partitions of a topic that is created without a count.")
	DefaultReplicationFactor = integer("default.replication.factor", "1", nil, medium, readOnly,
		"Copies of a topic that is created without a count.")
	DeleteTopicEnable = boolean("delete.topic.enable", "true", high, readOnly,
		"Whether topics may be deleted.")
	MinInsyncReplicas = integer("min.insync.replicas", "1", atLeast(1), high, clusterWide,
		"Copies that must hold a record before acks=all is answered.")
	MaxRequestPartitionSizeLimit = integer("max.request.partition.size.limit", "2000", atLeast(1), medium, readOnly,
		"Partitions that one DescribeTopicPartitions answer holds at most.")
	NodeID = integer("node.id", null, atLeast(0), high, readOnly,
		"Number of this node in its cluster.")
	BrokerID = integer("broker.id", "-1", nil, high, readOnly,
		"Older name of node.id.")
	BrokerRack = text("broker.rack", null, nil, medium, readOnly,
		"Rack or zone of this broker, told to clients and used to spread copies.")
	ProcessRoles = list("process.roles", null, listIn("broker", "controller"), high, readOnly,
		"Whether this process is a broker, a controller or both.")
	MetadataLogDir = text("metadata.log.dir", null, nil, high, readOnly,
		"Folder of the metadata log when it is not the first of log.dirs.")
	MetadataLogMaxRecordBytesBetweenSnapshots = long("metadata.log.max.record.bytes.between.snapshots", "20971520", atLeast(1), high, readOnly,
		"Bytes of metadata records after which a snapshot is written.")
	MetadataLogMaxSnapshotIntervalMs = long("metadata.log.max.snapshot.interval.ms", "3600000", atLeast(0), high, readOnly,
		"Time after which a snapshot is written although few records came. 0 is never.")
	MetadataLogTestSegmentBytes = internal(integer("internal.metadata.log.segment.bytes", null, nil, low, readOnly,
		"Size of the files of the metadata log, below the smallest that is allowed else; for tests."))
	MetadataLogSegmentBytes = integer("metadata.log.segment.bytes", "1073741824", atLeast(8388608), high, readOnly,
		"Size at which a segment of the metadata log is closed.")
	MetadataMaxRetentionBytes = long("metadata.max.retention.bytes", "104857600", nil, high, readOnly,
		"Bytes of old metadata snapshots and segments that are kept.")
	MetadataMaxRetentionMs = long("metadata.max.retention.ms", "604800000", nil, high, readOnly,
		"Time that old metadata snapshots and segments are kept.")
)
