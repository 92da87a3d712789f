package config

// Settings of clusters of several brokers.
var (
	BrokerHeartbeatIntervalMs = integer("broker.heartbeat.interval.ms", "2000", nil, medium, readOnly,
		"Milliseconds between two heartbeats of a broker to the active controller.")
	BrokerSessionTimeoutMs = integer("broker.session.timeout.ms", "9000", nil, medium, readOnly,
		"Milliseconds of silence after which the active controller takes a broker for dead. A process that ends is noticed at once; this is for machines and networks that fall silent.")
)
