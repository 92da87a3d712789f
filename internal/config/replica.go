package config

// How partitions are copied between brokers.
var (
	NumReplicaFetchers = integer("num.replica.fetchers", "1", atLeast(1), high, clusterWide,
		"Goroutines and connections that copy from one other broker.")
	ReplicaFetchBackoffMs = integer("replica.fetch.backoff.ms", "1000", atLeast(0), medium, readOnly,
		"Longest pause before a partition that could not be copied is tried again; the first pauses are shorter.")
	ReplicaFetchMaxBytes = integer("replica.fetch.max.bytes", "1048576", atLeast(0), medium, readOnly,
		"Bytes of one partition in one answer to a copying broker; a larger batch comes whole.")
	ReplicaFetchMinBytes = integer("replica.fetch.min.bytes", "1", nil, high, readOnly,
		"Bytes for which a leader lets a copying broker wait.")
	ReplicaFetchResponseMaxBytes = integer("replica.fetch.response.max.bytes", "10485760", atLeast(0), medium, readOnly,
		"Bytes of one answer to a copying broker.")
	ReplicaFetchWaitMaxMs = integer("replica.fetch.wait.max.ms", "500", nil, high, readOnly,
		"Longest time that a leader lets a copying broker wait for records.")
	ReplicaLagTimeMaxMs = long("replica.lag.time.max.ms", "30000", nil, high, readOnly,
		"Time after which a replica that has not caught up with its leader is no longer in sync.")
	ReplicaShedMs = own(integer("ottla.replica.shed.ms", "500", atLeast(0), medium, clusterWide,
		"Time for which one slow replica may hold up what all others have on disk, before its leader goes on without it; 0 lets replica.lag.time.max.ms decide alone. At least two replicas, and as many as min.insync.replicas, stay."))
	TopicLeaderThrottledReplicas = ListKey{def(Topic, List, "leader.replication.throttled.replicas", "", throttled{}, medium, clusterWide,
		"Replicas, partition:broker or *, whose broker sends no more than leader.replication.throttled.rate to replicas that are not in sync.")}
	TopicFollowerThrottledReplicas = ListKey{def(Topic, List, "follower.replication.throttled.replicas", "", throttled{}, medium, clusterWide,
		"Replicas, partition:broker or *, whose broker fetches no more than follower.replication.throttled.rate while they are not in sync.")}
	ReplicaSelectorClass = text("replica.selector.class", null, nil, medium, readOnly,
		"org.apache.kafka.common.replica.RackAwareReplicaSelector sends consumers to an in-sync replica in their own rack (client.rack); unset, they read from the leader.")
)
