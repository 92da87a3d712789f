package config

// Listeners, connections and the memory that requests may take.
var (
	Listeners = list("listeners", "PLAINTEXT://:9092", anyList(), high, perBroker,
		"Addresses to listen on, NAME://host:port. An empty host is every interface, port 0 picks a free one.")
	AdvertisedListeners = list("advertised.listeners", null, anyList(), high, readOnly,
		"Addresses that clients are told. Not set, a client is told the address that it dialled.")
	ListenerSecurityProtocolMap = text("listener.security.protocol.map", "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT", nil, low, perBroker,
		"Security protocol of each listener name.")
	SocketRequestMaxBytes = integer("socket.request.max.bytes", "104857600", atLeast(1), high, readOnly,
		"Largest request that is read.")
	SocketReceiveBufferBytes = integer("socket.receive.buffer.bytes", "102400", nil, high, readOnly,
		"Receive buffer of a socket; -1 leaves it to the system.")
	SocketSendBufferBytes = integer("socket.send.buffer.bytes", "102400", nil, high, readOnly,
		"Send buffer of a socket; -1 leaves it to the system.")
	SocketListenBacklogSize = integer("socket.listen.backlog.size", "50", atLeast(1), medium, readOnly,
		"Connections that may wait to be accepted.")
	ConnectionsMaxIdleMs = long("connections.max.idle.ms", "600000", nil, medium, readOnly,
		"Time after which a silent connection is closed.")
	MaxConnections = integer("max.connections", "2147483647", atLeast(0), medium, clusterWide,
		"Connections of this broker, and of one listener with its prefix.")
	MaxConnectionsPerIP = integer("max.connections.per.ip", "2147483647", atLeast(0), medium, clusterWide,
		"Connections from one address.")
	MaxConnectionsPerIPOverrides = text("max.connections.per.ip.overrides", "", nil, medium, clusterWide,
		"Exceptions to max.connections.per.ip: host:count,host:count.")
	MaxConnectionCreationRate = integer("max.connection.creation.rate", "2147483647", atLeast(0), medium, clusterWide,
		"New connections a second.")
	QueuedMaxRequestBytes = long("queued.max.request.bytes", "-1", nil, medium, readOnly,
		"Memory in bytes of requests that are being read or wait. -1 leaves it to ottla.request.memory.bytes.")
	FetchMaxBytes = integer("fetch.max.bytes", "57671680", atLeast(1024), medium, readOnly,
		"Most bytes that one Fetch answer carries.")
	MaxIncrementalFetchSessionCacheSlots = integer("max.incremental.fetch.session.cache.slots", "1000", atLeast(0), medium, readOnly,
		"Fetch sessions that are remembered, so that clients send only what changed.")
	RequestTimeoutMs = integer("request.timeout.ms", "30000", nil, high, readOnly,
		"How long the broker waits for an answer of another one.")
)
