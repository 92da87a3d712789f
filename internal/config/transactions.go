package config

// The transaction coordinator.
var (
	AddPartitionsRetryBackoffMs = integer("add.partitions.to.txn.retry.backoff.ms", "20", atLeast(1), high, readOnly,
		"First pause before the transaction coordinator on another broker is asked again, in milliseconds; doubled from one to the next.")
	AddPartitionsRetryBackoffMaxMs = integer("add.partitions.to.txn.retry.backoff.max.ms", "100", atLeast(0), high, readOnly,
		"Longest pause before the transaction coordinator on another broker is asked again, in milliseconds.")
	TransactionMaxTimeoutMs = integer("transaction.max.timeout.ms", "900000", atLeast(1), high, readOnly,
		"Longest transaction.timeout.ms that a producer may ask for, in milliseconds.")
	TransactionPartitionVerificationEnable = boolean("transaction.partition.verification.enable", "true", low, clusterWide,
		"Whether a partition asks the coordinator before it takes the first batch of a transaction.")
	TransactionExpiredCleanupIntervalMs = integer("transaction.remove.expired.transaction.cleanup.interval.ms", "3600000", atLeast(1), low, readOnly,
		"How often transactional ids that nobody uses any more are looked for, in milliseconds.")
	TransactionLogLoadBufferSize = integer("transaction.state.log.load.buffer.size", "5242880", atLeast(1), high, readOnly,
		"Bytes read at a time while the log of transactions is loaded.")
	TransactionLogMinISR = integer("transaction.state.log.min.isr", "2", atLeast(1), high, readOnly,
		"Least copies in sync for __transaction_state to be written to (its min.insync.replicas when it is made).")
	TransactionLogNumPartitions = integer("transaction.state.log.num.partitions", "50", atLeast(1), high, readOnly,
		"Partitions of __transaction_state when it is made.")
	TransactionLogReplicationFactor = short("transaction.state.log.replication.factor", "3", atLeast(1), high, readOnly,
		"Replicas of __transaction_state when it is made; at most as many as there are brokers.")
	TransactionLogSegmentBytes = integer("transaction.state.log.segment.bytes", "104857600", atLeast(1), high, readOnly,
		"Segment size of __transaction_state.")
	TransactionalIDExpirationMs = integer("transactional.id.expiration.ms", "604800000", atLeast(1), high, readOnly,
		"Time after which a transactional id that was not used is forgotten, in milliseconds.")
)
