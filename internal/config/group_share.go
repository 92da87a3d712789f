package config

// Share groups: their members, and the share coordinator, which keeps what became of records.
var (
	GroupShareAssignmentIntervalMs = integer("group.share.assignment.interval.ms", "1000", atLeast(0), medium, clusterWide,
		"Least time between two assignments of a share group.")
	GroupShareMinAssignmentIntervalMs = integer("group.share.min.assignment.interval.ms", "0", atLeast(0), medium, readOnly,
		"Smallest value that a share group may set for its assignment interval.")
	GroupShareMaxAssignmentIntervalMs = integer("group.share.max.assignment.interval.ms", "15000", atLeast(0), medium, readOnly,
		"Largest value that a share group may set for its assignment interval.")
	GroupShareHeartbeatIntervalMs = integer("group.share.heartbeat.interval.ms", "5000", atLeast(1), medium, readOnly,
		"How often members of a share group are told to send a heartbeat.")
	GroupShareMinHeartbeatIntervalMs = integer("group.share.min.heartbeat.interval.ms", "5000", atLeast(1), medium, readOnly,
		"Smallest value that a share group may set for its heartbeat interval.")
	GroupShareMaxHeartbeatIntervalMs = integer("group.share.max.heartbeat.interval.ms", "15000", atLeast(1), medium, readOnly,
		"Largest value that a share group may set for its heartbeat interval.")
	GroupShareSessionTimeoutMs = integer("group.share.session.timeout.ms", "45000", atLeast(1), medium, readOnly,
		"Silence after which a member of a share group is removed.")
	GroupShareMinSessionTimeoutMs = integer("group.share.min.session.timeout.ms", "45000", atLeast(1), medium, readOnly,
		"Smallest value that a share group may set for its session timeout.")
	GroupShareMaxSessionTimeoutMs = integer("group.share.max.session.timeout.ms", "60000", atLeast(1), medium, readOnly,
		"Largest value that a share group may set for its session timeout.")
	GroupShareMaxSize = integer("group.share.max.size", "200", between(1, 1000), medium, readOnly,
		"Members of a share group.")
	GroupShareInitializeRetryIntervalMs = internal(integer("group.share.initialize.retry.interval.ms", "30000", atLeast(1), low, readOnly,
		"How long the beginning of a partition's state is waited for before it is begun again."))

	ShareLoadBufferSize = integer("share.coordinator.load.buffer.size", "5242880", atLeast(1), high, readOnly,
		"Bytes that are read at a time while a share coordinator partition is loaded.")
	ShareUpdatesPerSnapshot = integer("share.coordinator.snapshot.update.records.per.snapshot", "500", between(0, 500), medium, readOnly,
		"Changes of a partition's state after which all of it is written again, so that older records can go.")
	ShareTopicNumPartitions = integer("share.coordinator.state.topic.num.partitions", "50", atLeast(1), high, readOnly,
		"Partitions of __share_group_state when it is created.")
	ShareTopicReplicationFactor = short("share.coordinator.state.topic.replication.factor", "3", atLeast(1), high, readOnly,
		"Copies of __share_group_state when it is created; no more than there are brokers.")
	ShareTopicSegmentBytes = integer("share.coordinator.state.topic.segment.bytes", "104857600", atLeast(1), high, readOnly,
		"Segment size of __share_group_state when it is created.")
	ShareTopicMinISR = short("share.coordinator.state.topic.min.isr", "2", atLeast(1), high, readOnly,
		"Least copies in sync for __share_group_state to be written to (its min.insync.replicas when it is created).")
	ShareTopicCompressionCodec = integer("share.coordinator.state.topic.compression.codec", "0", nil, high, readOnly,
		"Codec number of records in __share_group_state: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.")
	ShareWriteTimeoutMs = integer("share.coordinator.write.timeout.ms", "5000", atLeast(1), high, readOnly,
		"How long a change of a partition's state waits until it is stored.")
	ShareColdSnapshotIntervalMs = internal(integer("share.coordinator.cold.partition.snapshot.interval.ms", "300000", atLeast(1), low, readOnly,
		"Age at which the state of a partition that nobody reads is written again, so that records before it can go."))
	ShareTopicPruneIntervalMs = internal(integer("share.coordinator.state.topic.prune.interval.ms", "300000", atLeast(1), low, readOnly,
		"How often records that no state needs any more are removed from __share_group_state."))

	OneGroupShareAssignmentIntervalMs = IntKey{def(Group, Int, "share.assignment.interval.ms", "1000", atLeast(0), medium, clusterWide,
		"Least time between two assignments of this share group.")}
	OneGroupShareHeartbeatIntervalMs = IntKey{def(Group, Int, "share.heartbeat.interval.ms", "5000", atLeast(1), medium, clusterWide,
		"How often members of this share group are told to send a heartbeat.")}
	OneGroupShareSessionTimeoutMs = IntKey{def(Group, Int, "share.session.timeout.ms", "45000", atLeast(1), medium, clusterWide,
		"Silence after which a member of this share group is removed.")}
)
