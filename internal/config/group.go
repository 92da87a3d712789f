package config

// Consumer groups and their offsets.
var (
	GroupInitialRebalanceDelayMs = integer("group.initial.rebalance.delay.ms", "3000", nil, medium, readOnly,
		"How long the first join of an empty classic group waits for more members.")
	GroupMinSessionTimeoutMs = integer("group.min.session.timeout.ms", "6000", nil, medium, readOnly,
		"Smallest session timeout that a member of a classic group may ask for.")
	GroupMaxSessionTimeoutMs = integer("group.max.session.timeout.ms", "1800000", nil, medium, readOnly,
		"Largest session timeout that a member of a classic group may ask for.")
	GroupMaxSize = integer("group.max.size", "2147483647", atLeast(1), medium, readOnly,
		"Members of a classic group.")
	GroupConsumerAssignmentIntervalMs = integer("group.consumer.assignment.interval.ms", "1000", atLeast(0), medium, clusterWide,
		"Least time between two assignments of a consumer group.")
	GroupConsumerMinAssignmentIntervalMs = integer("group.consumer.min.assignment.interval.ms", "0", atLeast(0), medium, readOnly,
		"Smallest value that a group may set for its assignment interval.")
	GroupConsumerMaxAssignmentIntervalMs = integer("group.consumer.max.assignment.interval.ms", "15000", atLeast(0), medium, readOnly,
		"Largest value that a group may set for its assignment interval.")
	GroupConsumerAssignors = list("group.consumer.assignors", "uniform,range", anyList(), medium, readOnly,
		"Server-side assignors of consumer groups; the first is the default.")
	GroupConsumerHeartbeatIntervalMs = integer("group.consumer.heartbeat.interval.ms", "5000", atLeast(1), medium, readOnly,
		"How often members of a consumer group are told to send a heartbeat.")
	GroupConsumerMinHeartbeatIntervalMs = integer("group.consumer.min.heartbeat.interval.ms", "5000", atLeast(1), medium, readOnly,
		"Smallest value that a group may set for its heartbeat interval.")
	GroupConsumerMaxHeartbeatIntervalMs = integer("group.consumer.max.heartbeat.interval.ms", "15000", atLeast(1), medium, readOnly,
		"Largest value that a group may set for its heartbeat interval.")
	GroupConsumerRegexRefreshIntervalMs = internal(integer("group.consumer.regex.refresh.interval.ms", "600000", atLeast(10000), medium, readOnly,
		"How often a regular expression subscription is matched against the topics again."))
	GroupConsumerSessionTimeoutMs = integer("group.consumer.session.timeout.ms", "45000", atLeast(1), medium, readOnly,
		"Silence after which a member of a consumer group is removed.")
	GroupConsumerMinSessionTimeoutMs = integer("group.consumer.min.session.timeout.ms", "45000", atLeast(1), medium, readOnly,
		"Smallest value that a group may set for its session timeout.")
	GroupConsumerMaxSessionTimeoutMs = integer("group.consumer.max.session.timeout.ms", "60000", atLeast(1), medium, readOnly,
		"Largest value that a group may set for its session timeout.")
	GroupConsumerMaxSize = integer("group.consumer.max.size", "2147483647", atLeast(1), medium, readOnly,
		"Members of a consumer group.")
	GroupConsumerMigrationPolicy = text("group.consumer.migration.policy", "bidirectional", inFold("DISABLED", "DOWNGRADE", "UPGRADE", "BIDIRECTIONAL"), medium, readOnly,
		"Whether groups may change between the classic and the consumer protocol while in use, and in which direction.")
	GroupCoordinatorAppendLingerMs = integer("group.coordinator.append.linger.ms", "-1", atLeast(-1), medium, readOnly,
		"How long a coordinator gathers records before it writes them. -1 adapts, 0 writes at once.")
	GroupCoordinatorRebalanceProtocols = list("group.coordinator.rebalance.protocols", "classic,consumer,streams", listIn("consumer", "classic", "share", "streams"), medium, readOnly,
		"Group protocols that are served.")
	GroupCoordinatorCachedBufferMaxBytes = integer("group.coordinator.cached.buffer.max.bytes", "1048588", atLeast(524288), medium, clusterWide,
		"Largest write buffer that a coordinator keeps for reuse.")
	OffsetMetadataMaxBytes = integer("offset.metadata.max.bytes", "4096", nil, high, readOnly,
		"Longest note that may be committed with an offset.")
	OffsetsCommitTimeoutMs = integer("offsets.commit.timeout.ms", "5000", atLeast(1), high, readOnly,
		"How long a commit waits until it is stored.")
	OffsetsLoadBufferSize = integer("offsets.load.buffer.size", "5242880", atLeast(1), high, readOnly,
		"Bytes that are read at a time while a group partition is loaded.")
	OffsetsRetentionCheckIntervalMs = long("offsets.retention.check.interval.ms", "600000", atLeast(1), high, readOnly,
		"How often expired offsets are looked for.")
	OffsetsRetentionMinutes = integer("offsets.retention.minutes", "10080", atLeast(1), high, readOnly,
		"Minutes that offsets are kept after their group has become empty, or after the last commit of a consumer without group.")
	OffsetsTopicNumPartitions = integer("offsets.topic.num.partitions", "50", atLeast(1), high, readOnly,
		"Partitions of __consumer_offsets when it is created.")
	OffsetsTopicReplicationFactor = short("offsets.topic.replication.factor", "3", atLeast(1), high, readOnly,
		"Copies of __consumer_offsets when it is created; no more than there are brokers.")
	OffsetsTopicSegmentBytes = integer("offsets.topic.segment.bytes", "104857600", atLeast(1), high, readOnly,
		"Segment size of __consumer_offsets when it is created.")
	OffsetsTopicCompressionCodec = integer("offsets.topic.compression.codec", "0", nil, high, readOnly,
		"Codec number of records in __consumer_offsets: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.")
)
