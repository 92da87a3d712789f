package api

import "github.com/ottla/ottla/internal/wire/private"

// What one request may take in memory while it is handled: most decode into a few times their frame, Produce not at all,
// Fetch and those that list everything answer with more than they were asked with.
var (
	once    = Memory{Times: 1}
	decoded = Memory{Times: 4, Bytes: 1 << 10}
	listing = Memory{Times: 4, Bytes: 64 << 10}
	pushed  = Memory{Times: 40, Bytes: 64 << 10} // metrics are unpacked twice, from compression and from protobuf
)

// The table of APIs is dispatch, ApiVersions, authorisation, memory estimate and metric labels at once. A row is all there is to
// serving an API, beside its file.
var table = []row{
	{0, 3, 13, "Produce", Parked, Access{"WRITE", "TOPIC"}, once, produce},
	{1, 4, 18, "Fetch", Parked, Access{"READ", "TOPIC"}, listing, fetch},
	{2, 1, 11, "ListOffsets", Inline, Access{"DESCRIBE", "TOPIC"}, decoded, typed(listOffsets)},
	{3, 0, 13, "Metadata", Inline, Access{"DESCRIBE", "TOPIC"}, listing, typed(describeMetadata)},
	{8, 2, 10, "OffsetCommit", Parked, Access{"READ", "GROUP"}, decoded, typed(offsetCommit)},
	{9, 1, 10, "OffsetFetch", Parked, Access{"DESCRIBE", "GROUP"}, decoded, typed(offsetFetch)},
	{10, 0, 6, "FindCoordinator", Parked, Access{"DESCRIBE", "GROUP"}, decoded, typed(findCoordinator)},
	{11, 0, 9, "JoinGroup", Parked, Access{"READ", "GROUP"}, decoded, typed(joinGroup)},
	{12, 0, 4, "Heartbeat", Parked, Access{"READ", "GROUP"}, decoded, typed(heartbeat)},
	{13, 0, 5, "LeaveGroup", Parked, Access{"READ", "GROUP"}, decoded, typed(leaveGroup)},
	{14, 0, 5, "SyncGroup", Parked, Access{"READ", "GROUP"}, decoded, typed(syncGroup)},
	{15, 0, 6, "DescribeGroups", Parked, Access{"DESCRIBE", "GROUP"}, listing, typed(describeGroups)},
	{16, 0, 5, "ListGroups", Parked, Access{"DESCRIBE", "CLUSTER"}, listing, typed(listGroups)},
	{18, 0, 5, "ApiVersions", Inline, Access{}, decoded, typed(apiVersions)},
	{19, 2, 7, "CreateTopics", Parked, Access{"CREATE", "TOPIC"}, decoded, typed(createTopics)},
	{20, 1, 6, "DeleteTopics", Parked, Access{"DELETE", "TOPIC"}, decoded, typed(deleteTopics)},
	{21, 0, 2, "DeleteRecords", Parked, Access{"DELETE", "TOPIC"}, decoded, typed(deleteRecords)},
	{22, 0, 5, "InitProducerId", Parked, Access{"IDEMPOTENT_WRITE", "CLUSTER"}, decoded, typed(initProducerID)},
	{23, 2, 4, "OffsetForLeaderEpoch", Inline, Access{"DESCRIBE", "TOPIC"}, decoded, typed(offsetForLeaderEpoch)},
	{24, 0, 5, "AddPartitionsToTxn", Parked, Access{"WRITE", "TRANSACTIONAL_ID"}, decoded, typed(addPartitionsToTxn)},
	{25, 0, 4, "AddOffsetsToTxn", Parked, Access{"WRITE", "TRANSACTIONAL_ID"}, decoded, typed(addOffsetsToTxn)},
	{26, 0, 5, "EndTxn", Parked, Access{"WRITE", "TRANSACTIONAL_ID"}, decoded, typed(endTxn)},
	{27, 1, 2, "WriteTxnMarkers", Parked, Access{"CLUSTER_ACTION", "CLUSTER"}, decoded, typed(writeTxnMarkers)},
	{28, 0, 6, "TxnOffsetCommit", Parked, Access{"WRITE", "TRANSACTIONAL_ID"}, decoded, typed(txnOffsetCommit)},
	{32, 1, 4, "DescribeConfigs", Inline, Access{"DESCRIBE_CONFIGS", "TOPIC"}, listing, typed(describeConfigs)},
	{33, 0, 2, "AlterConfigs", Parked, Access{"ALTER_CONFIGS", "TOPIC"}, decoded, typed(alterConfigs)},
	{34, 1, 2, "AlterReplicaLogDirs", Inline, Access{"ALTER", "CLUSTER"}, decoded, typed(alterReplicaLogDirs)},
	{35, 1, 5, "DescribeLogDirs", Inline, Access{"DESCRIBE", "CLUSTER"}, listing, typed(describeLogDirs)},
	{37, 0, 3, "CreatePartitions", Parked, Access{"ALTER", "TOPIC"}, decoded, typed(createPartitions)},
	{42, 0, 3, "DeleteGroups", Parked, Access{"DELETE", "GROUP"}, decoded, typed(deleteGroups)},
	{43, 0, 2, "ElectLeaders", Parked, Access{"ALTER", "CLUSTER"}, listing, typed(electLeaders)},
	{44, 0, 1, "IncrementalAlterConfigs", Parked, Access{"ALTER_CONFIGS", "TOPIC"}, decoded, typed(incrementalAlterConfigs)},
	{45, 0, 1, "AlterPartitionReassignments", Parked, Access{"ALTER", "CLUSTER"}, decoded, typed(alterPartitionReassignments)},
	{46, 0, 0, "ListPartitionReassignments", Inline, Access{"DESCRIBE", "CLUSTER"}, listing, typed(listPartitionReassignments)},
	{47, 0, 0, "OffsetDelete", Parked, Access{"DELETE", "GROUP"}, decoded, typed(offsetDelete)},
	{48, 0, 1, "DescribeClientQuotas", Inline, Access{"DESCRIBE_CONFIGS", "CLUSTER"}, listing, typed(describeClientQuotas)},
	{50, 0, 0, "DescribeUserScramCredentials", Inline, Access{"DESCRIBE", "CLUSTER"}, listing, typed(describeUserScramCredentials)},
	{55, 0, 2, "DescribeQuorum", Parked, Access{"DESCRIBE", "CLUSTER"}, decoded, typed(describeQuorum)},
	{56, 2, 3, "AlterPartition", Parked, Access{"CLUSTER_ACTION", "CLUSTER"}, decoded, typed(alterPartition)},
	{57, 0, 2, "UpdateFeatures", Parked, Access{"ALTER", "CLUSTER"}, decoded, typed(updateFeatures)},
	{59, 0, 1, "FetchSnapshot", Inline, Access{"CLUSTER_ACTION", "CLUSTER"}, Memory{Times: 4, Bytes: 1 << 20}, typed(fetchSnapshot)},
	{60, 0, 2, "DescribeCluster", Inline, Access{"DESCRIBE", "CLUSTER"}, decoded, typed(describeCluster)},
	{61, 0, 0, "DescribeProducers", Inline, Access{"READ", "TOPIC"}, listing, typed(describeProducers)},
	{62, 0, 4, "BrokerRegistration", Parked, Access{"CLUSTER_ACTION", "CLUSTER"}, decoded, typed(brokerRegistration)},
	{63, 0, 2, "BrokerHeartbeat", Parked, Access{"CLUSTER_ACTION", "CLUSTER"}, decoded, typed(brokerHeartbeat)},
	{64, 0, 0, "UnregisterBroker", Parked, Access{"ALTER", "CLUSTER"}, decoded, typed(unregisterBroker)},
	{65, 0, 0, "DescribeTransactions", Parked, Access{"DESCRIBE", "TRANSACTIONAL_ID"}, listing, typed(describeTransactions)},
	{66, 0, 2, "ListTransactions", Parked, Access{"DESCRIBE", "TRANSACTIONAL_ID"}, listing, typed(listTransactions)},
	{67, 0, 0, "AllocateProducerIds", Parked, Access{"CLUSTER_ACTION", "CLUSTER"}, decoded, typed(allocateProducerIds)},
	{68, 0, 1, "ConsumerGroupHeartbeat", Parked, Access{"READ", "GROUP"}, decoded, typed(consumerGroupHeartbeat)},
	{69, 0, 1, "ConsumerGroupDescribe", Parked, Access{"DESCRIBE", "GROUP"}, listing, typed(consumerGroupDescribe)},
	{71, 0, 0, "GetTelemetrySubscriptions", Inline, Access{}, decoded, typed(getTelemetrySubscriptions)},
	{72, 0, 0, "PushTelemetry", Inline, Access{}, pushed, typed(pushTelemetry)},
	{73, 0, 0, "AssignReplicasToDirs", Parked, Access{"CLUSTER_ACTION", "CLUSTER"}, decoded, typed(assignReplicasToDirs)},
	{74, 0, 1, "ListConfigResources", Parked, Access{"DESCRIBE_CONFIGS", "CLUSTER"}, listing, typed(listConfigResources)},
	{75, 0, 0, "DescribeTopicPartitions", Inline, Access{"DESCRIBE", "TOPIC"}, listing, typed(describeTopicPartitions)},
	{76, 1, 1, "ShareGroupHeartbeat", Parked, Access{"READ", "GROUP"}, decoded, typed(shareGroupHeartbeat)},
	{77, 1, 1, "ShareGroupDescribe", Parked, Access{"DESCRIBE", "GROUP"}, listing, typed(shareGroupDescribe)},
	{78, 1, 2, "ShareFetch", Parked, Access{"READ", "GROUP"}, listing, typed(shareFetch)},
	{79, 1, 2, "ShareAcknowledge", Parked, Access{"READ", "GROUP"}, decoded, typed(shareAcknowledge)},
	{80, 0, 1, "AddRaftVoter", Parked, Access{"ALTER", "CLUSTER"}, decoded, typed(addRaftVoter)},
	{81, 0, 0, "RemoveRaftVoter", Parked, Access{"ALTER", "CLUSTER"}, decoded, typed(removeRaftVoter)},
	{83, 0, 0, "InitializeShareGroupState", Parked, Access{"CLUSTER_ACTION", "CLUSTER"}, decoded, typed(initializeShareGroupState)},
	{84, 0, 0, "ReadShareGroupState", Parked, Access{"CLUSTER_ACTION", "CLUSTER"}, listing, typed(readShareGroupState)},
	{85, 0, 1, "WriteShareGroupState", Parked, Access{"CLUSTER_ACTION", "CLUSTER"}, decoded, typed(writeShareGroupState)},
	{86, 0, 0, "DeleteShareGroupState", Parked, Access{"CLUSTER_ACTION", "CLUSTER"}, decoded, typed(deleteShareGroupState)},
	{87, 0, 1, "ReadShareGroupStateSummary", Parked, Access{"CLUSTER_ACTION", "CLUSTER"}, decoded, typed(readShareGroupStateSummary)},
	{88, 0, 1, "StreamsGroupHeartbeat", Parked, Access{"READ", "GROUP"}, decoded, typed(streamsGroupHeartbeat)},
	{89, 0, 1, "StreamsGroupDescribe", Parked, Access{"DESCRIBE", "GROUP"}, listing, typed(streamsGroupDescribe)},
	{90, 0, 1, "DescribeShareGroupOffsets", Parked, Access{"DESCRIBE", "GROUP"}, listing, typed(describeShareGroupOffsets)},
	{91, 0, 0, "AlterShareGroupOffsets", Parked, Access{"READ", "GROUP"}, decoded, typed(alterShareGroupOffsets)},
	{92, 0, 0, "DeleteShareGroupOffsets", Parked, Access{"DELETE", "GROUP"}, decoded, typed(deleteShareGroupOffsets)},
	{93, 0, 0, "StreamsGroupTopologyDescriptionUpdate", Parked, Access{"READ", "GROUP"}, decoded, typed(streamsGroupTopologyDescriptionUpdate)},
	{94, 0, 0, "UnregisterController", Parked, Access{"ALTER", "CLUSTER"}, decoded, typed(unregisterController)},
}

// toolTable is what Ottla's own tools ask beside Kafka's APIs. No ApiVersions answer names it.
var toolTable = []row{
	{private.ExportMetadataKey, 0, 0, "ExportMetadata", Inline, Access{"CLUSTER_ACTION", "CLUSTER"}, listing, tool(exportMetadata)},
	{private.RestoreMetadataKey, 0, 0, "RestoreMetadata", Parked, Access{"CLUSTER_ACTION", "CLUSTER"}, decoded, tool(restoreMetadata)},
	{private.AppendRestoredKey, 0, 0, "AppendRestored", Parked, Access{"CLUSTER_ACTION", "CLUSTER"}, once, tool(appendRestored)},
}
