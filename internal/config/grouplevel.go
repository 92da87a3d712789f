package config

// Settings of one group.
var (
	OneGroupConsumerAssignmentIntervalMs = IntKey{def(Group, Int, "consumer.assignment.interval.ms", "1000", atLeast(0), medium, clusterWide,
		"Least time between two assignments of this consumer group.")}
	OneGroupConsumerHeartbeatIntervalMs = IntKey{def(Group, Int, "consumer.heartbeat.interval.ms", "5000", atLeast(1), medium, clusterWide,
		"How often members of this consumer group are told to send a heartbeat.")}
	OneGroupConsumerSessionTimeoutMs = IntKey{def(Group, Int, "consumer.session.timeout.ms", "45000", atLeast(1), medium, clusterWide,
		"Silence after which a member of this consumer group is removed.")}
)
