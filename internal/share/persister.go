package share

import "fmt"

// PartitionKey names one share-partition: what one share group knows of one topic partition.
type PartitionKey struct {
	Group     string
	TopicID   [16]byte
	Partition int32
}

// String is for logs and error texts.
func (k PartitionKey) String() string {
	return fmt.Sprintf("%s:%x:%d", k.Group, k.TopicID, k.Partition)
}

// StateBatch is a run of offsets in one state, as the share coordinator keeps it (KIP-932). Both ends belong to it.
type StateBatch struct {
	FirstOffset, LastOffset int64
	DeliveryState           DeliveryState
	DeliveryCount           int16
}

// PersistedState is what the share coordinator knows of a share-partition. StartOffset is -1 where the partition is
// initialised but has no start yet: the group's share.auto.offset.reset then decides. Batches are in offset order, do not
// overlap, and lie at or above StartOffset.
type PersistedState struct {
	StateEpoch  int32
	StartOffset int64
	Batches     []StateBatch
}

// StateWrite is one change of a share-partition. The coordinator merges Batches over what it has; StartOffset -1 leaves the
// start as it is. LeaderEpoch and StateEpoch fence: an older leader or an older state gets FENCED_LEADER_EPOCH or
// FENCED_STATE_EPOCH. DeliveryCompleteCount counts offsets at or above the start that are acknowledged or archived (KIP-1226).
type StateWrite struct {
	StateEpoch, LeaderEpoch int32
	StartOffset             int64
	DeliveryCompleteCount   int32
	Batches                 []StateBatch
}

// Persister keeps the state of share-partitions on stable storage: the share coordinator, wherever it runs. Every call
// returns at once and calls done exactly once, perhaps before it returns, perhaps on another goroutine; done must not block.
// Errors are protocol errors of the share coordinator's APIs (wire.CodeOf): NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE and
// COORDINATOR_LOAD_IN_PROGRESS have been tried again already as far as that makes sense. Writes to one key are kept in the
// order of the calls.
type Persister interface {
	// ReadState reads the state and announces leaderEpoch as the newest leader of the share-partition.
	ReadState(k PartitionKey, leaderEpoch int32, done func(PersistedState, error))
	// WriteState merges a change; done comes after it is committed.
	WriteState(k PartitionKey, w StateWrite, done func(error))
	// InitializeState starts the state anew in stateEpoch, with startOffset (-1: not decided).
	InitializeState(k PartitionKey, stateEpoch int32, startOffset int64, done func(error))
}
