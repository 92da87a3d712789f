// Package log knows one partition's log on a disk: offsets, segments, indexes, producer state, leader epochs, recovery,
// retention, and the manager of the log dirs that owns their background work. It must never know leaders, replicas, the
// rules by which a high watermark moves (it is told), what a topic means, or a network.
//
// # Files of a partition
//
// The formats are Kafka's own, so that a Kafka data directory opens here and Kafka's dump tool reads ours: segments
// (<base>.log), sparse indexes by offset and time, the index of aborted transactions, producer snapshots,
// leader-epoch-checkpoint and partition.metadata. Correctness never rests on an index file: an entry is believed only
// after the batch it points to has been looked at, and a wrong index is built again.
//
// # Locks
//
// Log.mu guards everything an append changes: memory work and one write into the page cache, never an fsync.
// Log.opMu serialises what blocks (checkpoint, truncation, deletion of segments, moves) and is taken before mu.
// Log.posMu guards the published offsets and is a leaf. Log.notifyMu orders the calls of the listener; it is taken
// alone. Readers take none of the first two: the list of segments is replaced, never changed.
package log
