package config

// Streams groups.
var (
	GroupStreamsAssignmentIntervalMs = integer("group.streams.assignment.interval.ms", "1000", atLeast(0), medium, clusterWide,
		"Least time between two assignments of a streams group.")
	GroupStreamsMinAssignmentIntervalMs = integer("group.streams.min.assignment.interval.ms", "0", atLeast(0), medium, readOnly,
		"Smallest value that a group may set for its assignment interval.")
	GroupStreamsMaxAssignmentIntervalMs = integer("group.streams.max.assignment.interval.ms", "15000", atLeast(0), medium, readOnly,
		"Largest value that a group may set for its assignment interval.")
	GroupStreamsAssignors = list("group.streams.assignors", "sticky", anyList(), medium, readOnly,
		"Server-side task assignors of streams groups. There is one: sticky.")
	GroupStreamsHeartbeatIntervalMs = integer("group.streams.heartbeat.interval.ms", "5000", atLeast(1), medium, readOnly,
		"How often members of a streams group are told to send a heartbeat.")
	GroupStreamsMinHeartbeatIntervalMs = integer("group.streams.min.heartbeat.interval.ms", "5000", atLeast(1), medium, readOnly,
		"Smallest value that a group may set for its heartbeat interval.")
	GroupStreamsMaxHeartbeatIntervalMs = integer("group.streams.max.heartbeat.interval.ms", "15000", atLeast(1), medium, readOnly,
		"Largest value that a group may set for its heartbeat interval.")
	GroupStreamsSessionTimeoutMs = integer("group.streams.session.timeout.ms", "45000", atLeast(1), medium, readOnly,
		"Silence after which a member of a streams group is removed.")
	GroupStreamsMinSessionTimeoutMs = integer("group.streams.min.session.timeout.ms", "45000", atLeast(1), medium, readOnly,
		"Smallest value that a group may set for its session timeout.")
	GroupStreamsMaxSessionTimeoutMs = integer("group.streams.max.session.timeout.ms", "60000", atLeast(1), medium, readOnly,
		"Largest value that a group may set for its session timeout.")
	GroupStreamsInitialRebalanceDelayMs = integer("group.streams.initial.rebalance.delay.ms", "3000", atLeast(0), medium, readOnly,
		"How long the first assignment of a streams group waits for more members.")
	GroupStreamsMaxSize = integer("group.streams.max.size", "2147483647", atLeast(1), medium, readOnly,
		"Members of a streams group.")
	GroupStreamsNumStandbyReplicas = integer("group.streams.num.standby.replicas", "0", atLeast(0), medium, readOnly,
		"Copies kept of the state of a task, beside the one in use.")
	GroupStreamsMaxStandbyReplicas = integer("group.streams.max.standby.replicas", "2", atLeast(0), medium, readOnly,
		"Most copies that a group may ask for.")
	GroupStreamsRackAwareAssignmentTags = list("group.streams.rack.aware.assignment.tags", "", anyList(), low, readOnly,
		"Client tags whose values the copies of a task's state are spread over, the most important first.")
	GroupStreamsNumWarmupReplicas = internal(integer("group.streams.num.warmup.replicas", "2", atLeast(0), medium, readOnly,
		"Tasks of a streams group that may restore their state elsewhere at once before they move. 0 moves them at once."))
	GroupStreamsMaxWarmupReplicas = internal(integer("group.streams.max.warmup.replicas", "20", atLeast(0), medium, readOnly,
		"Most warm-up tasks that a group may ask for."))
	GroupStreamsAcceptableRecoveryLag = internal(long("group.streams.acceptable.recovery.lag", "10000", atLeast(0), medium, readOnly,
		"Records of its changelogs that a task may lack and still count as caught up."))
	GroupStreamsTaskOffsetIntervalMs = internal(integer("group.streams.task.offset.interval.ms", "60000", atLeast(1), medium, readOnly,
		"How often members report how far they have come with changelogs."))
	GroupStreamsMinTaskOffsetIntervalMs = internal(integer("group.streams.min.task.offset.interval.ms", "15000", atLeast(1), medium, readOnly,
		"Smallest value that a group may set for its task offset interval."))
)

// What a streams group may set for itself.
var (
	OneGroupStreamsAssignmentIntervalMs = IntKey{def(Group, Int, "streams.assignment.interval.ms", "1000", atLeast(0), medium, clusterWide,
		"Least time between two assignments of the group.")}
	OneGroupStreamsHeartbeatIntervalMs = IntKey{def(Group, Int, "streams.heartbeat.interval.ms", "5000", atLeast(1), medium, clusterWide,
		"How often its members are told to send a heartbeat.")}
	OneGroupStreamsInitialRebalanceDelayMs = IntKey{def(Group, Int, "streams.initial.rebalance.delay.ms", "3000", atLeast(0), medium, clusterWide,
		"How long its first assignment waits for more members.")}
	OneGroupStreamsNumStandbyReplicas = IntKey{def(Group, Int, "streams.num.standby.replicas", "0", atLeast(0), medium, clusterWide,
		"Copies kept of the state of a task, beside the one in use.")}
	OneGroupStreamsSessionTimeoutMs = IntKey{def(Group, Int, "streams.session.timeout.ms", "45000", atLeast(1), medium, clusterWide,
		"Silence after which a member is removed.")}
	OneGroupStreamsAcceptableRecoveryLag = internal(LongKey{def(Group, Long, "streams.acceptable.recovery.lag", "10000", atLeast(0), medium, clusterWide,
		"Records of its changelogs that a task may lack and still count as caught up.")})
	OneGroupStreamsNumWarmupReplicas = internal(IntKey{def(Group, Int, "streams.num.warmup.replicas", "2", atLeast(0), medium, clusterWide,
		"Tasks that may restore their state elsewhere at once before they move. 0 moves them at once.")})
	OneGroupStreamsTaskOffsetIntervalMs = internal(IntKey{def(Group, Int, "streams.task.offset.interval.ms", "60000", atLeast(1), medium, clusterWide,
		"How often members report how far they have come with changelogs.")})
	OneGroupStreamsRackAwareAssignmentTags = ListKey{def(Group, List, "streams.rack.aware.assignment.tags", "", anyList(), low, clusterWide,
		"Client tags whose values the copies of a task's state are spread over, the most important first.")}
)

const streamsAssignor = "there is one assignor, and it runs beside the coordinator's log, not in its way"

var _ = later(streamsAssignor,
	row(Broker, Boolean, "group.streams.assignor.offload.enable", "true", nil, medium, readOnly, hidden),
	row(Group, String, "streams.assignor.name", null, nil, medium, clusterWide),
	row(Group, Boolean, "streams.assignor.offload.enable", "true", nil, medium, clusterWide, hidden),
)
