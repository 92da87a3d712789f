package config

// Settings of clusters of several brokers.
var (
	ControllerQuorumBootstrapServers = list("controller.quorum.bootstrap.servers", "", nonEmptyList(), high, readOnly,
		"Addresses of controllers, host:port, of a cluster that this broker joins. Not set, this broker is its own controller.")
	BrokerHeartbeatIntervalMs = integer("broker.heartbeat.interval.ms", "2000", nil, medium, readOnly,
		"Milliseconds between two heartbeats of a broker to the active controller.")
	BrokerSessionTimeoutMs = integer("broker.session.timeout.ms", "9000", nil, medium, readOnly,
		"Milliseconds of silence after which the active controller takes a broker for dead. A process that ends is noticed at once; this is for machines and networks that fall silent.")
	InterBrokerListenerName = text("inter.broker.listener.name", null, nil, medium, readOnly,
		"Name of the listener on which the nodes of a cluster speak to each other. Not set, it is the one called CLUSTER or, where there is none, the first.")
	ClusterJoin = own(list("ottla.cluster.join", "", anyList(), medium, readOnly,
		"Addresses, host:port, of nodes of a cluster that this node shall be part of, on the listener where the nodes speak to each other. Where the data belongs to a cluster already they only say where to look first."))
	// Kafka knows these as settings of a running broker only, and shows them where they are set.
	LeaderReplicationThrottledRate = internal(long("leader.replication.throttled.rate", "9223372036854775807", atLeast(0), medium, perBroker,
		"Bytes a second that this broker, as a leader, sends to throttled replicas."))
	FollowerReplicationThrottledRate = internal(long("follower.replication.throttled.rate", "9223372036854775807", atLeast(0), medium, perBroker,
		"Bytes a second that this broker, as a follower, fetches of throttled replicas."))
	AlterLogDirsMaxBytesPerSecond = internal(long("replica.alter.log.dirs.io.max.bytes.per.second", "9223372036854775807", atLeast(0), medium, perBroker,
		"Bytes a second that move between the disks of this broker."))
)
