package config

// The names in this file are Kafka's and have no effect yet: each is accepted, checked and described as Kafka does.
// When a feature arrives its names move to the file of their area, with a typed key and a sentence.

// Kafka's names of clusters of several brokers.
var _ = later(replication,
	row(Broker, Boolean, "auto.leader.rebalance.enable", "true", nil, high, readOnly),
	row(Broker, Boolean, "controlled.shutdown.enable", "true", nil, medium, readOnly),
	row(Broker, List, "controller.listener.names", null, anyList(), high, readOnly),
	row(Broker, Int, "controller.quorum.append.linger.ms", "25", atLeast(0), medium, readOnly),
	row(Broker, Boolean, "controller.quorum.auto.join.enable", "false", nil, low, readOnly),
	row(Broker, Int, "controller.quorum.election.backoff.max.ms", "1000", atLeast(0), high, readOnly),
	row(Broker, Int, "controller.quorum.election.timeout.ms", "1000", atLeast(0), high, readOnly),
	row(Broker, Int, "controller.quorum.fetch.max.bytes", "1048576", atLeast(1), low, readOnly),
	row(Broker, Int, "controller.quorum.fetch.snapshot.max.bytes", "1048576", atLeast(1), low, readOnly),
	row(Broker, Int, "controller.quorum.fetch.timeout.ms", "2000", atLeast(0), high, readOnly),
	row(Broker, Int, "controller.quorum.request.timeout.ms", "2000", atLeast(0), medium, readOnly),
	row(Broker, Int, "controller.quorum.retry.backoff.ms", "20", atLeast(0), low, readOnly),
	row(Broker, List, "controller.quorum.voters", "", nonEmptyList(), high, readOnly),
	row(Broker, Int, "controller.socket.timeout.ms", "30000", nil, medium, readOnly),
	row(Broker, List, "cordoned.log.dirs", "", anyList(), medium, perBroker),
	row(Broker, List, "early.start.listeners", null, anyList(), high, readOnly),
	row(Broker, Int, "initial.broker.registration.timeout.ms", "60000", nil, medium, readOnly),
	row(Broker, Long, "leader.imbalance.check.interval.seconds", "300", atLeast(1), high, readOnly),
	row(Broker, Long, "log.dir.failure.timeout.ms", "30000", atLeast(1), low, readOnly),
	row(Broker, Int, "metadata.max.idle.interval.ms", "500", atLeast(0), low, readOnly),
	row(Broker, Int, "num.replica.alter.log.dirs.threads", null, nil, high, readOnly),
	row(Broker, Int, "replica.socket.receive.buffer.bytes", "65536", nil, high, readOnly),
	row(Broker, Int, "replica.socket.timeout.ms", "30000", nil, high, readOnly),
	row(Broker, Long, "socket.connection.setup.timeout.max.ms", "30000", nil, medium, readOnly),
	row(Broker, Long, "socket.connection.setup.timeout.ms", "10000", nil, medium, readOnly),
	row(Broker, Boolean, "unclean.leader.election.enable", "false", nil, high, clusterWide),
	row(Broker, Long, "controller.performance.always.log.threshold.ms", "2000", atLeast(0), medium, readOnly, hidden),
	row(Broker, Long, "controller.performance.sample.period.ms", "60000", atLeast(100), medium, readOnly, hidden),
	row(Broker, Long, "unclean.leader.election.interval.ms", "300000", atLeast(1), medium, readOnly, hidden),
	row(Topic, Boolean, "unclean.leader.election.enable", "false", nil, medium, clusterWide),
)

// Transactions over two phases come later. Timeouts end transactions to the millisecond, and nothing has to look for them.
var (
	_ = later(transactions, row(Broker, Boolean, "transaction.two.phase.commit.enable", "false", nil, low, readOnly))
	_ = later(notNeeded, row(Broker, Int, "transaction.abort.timed.out.transaction.cleanup.interval.ms", "10000", atLeast(1), low, readOnly))
)

// Kafka's names of share groups.
var _ = later(shareGroups,
	row(Broker, List, "group.share.assignors", "simple", anyList(), medium, readOnly),
	row(Broker, Int, "share.coordinator.cached.buffer.max.bytes", "1048588", atLeast(524288), medium, clusterWide),
	row(Broker, Int, "share.coordinator.threads", "1", atLeast(1), medium, readOnly),
	row(Broker, Int, "share.fetch.purgatory.purge.interval.requests", "1000", nil, medium, readOnly),
	row(Broker, Boolean, "group.share.assignor.offload.enable", "true", nil, medium, readOnly, hidden),
	row(Group, Boolean, "share.assignor.offload.enable", "true", nil, medium, clusterWide, hidden),
)

// What is written at once to a journal that gathers the writes of all partitions has nothing to linger for.
var _ = later(notNeeded, row(Broker, Int, "share.coordinator.append.linger.ms", "-1", atLeast(-1), medium, readOnly))
