package log

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ottla/ottla/internal/wire"
)

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String is the name of the partition's directory: topic-partition.
func (tp TopicPartition) String() string { return tp.Topic + "-" + strconv.Itoa(int(tp.Partition)) }

// parseDirName is the inverse of String. Names of other things that live in a log dir give false.
func parseDirName(name string) (TopicPartition, bool) {
	i := strings.LastIndexByte(name, '-')
	if i <= 0 || i == len(name)-1 || len(name) > maxTopicName+11 {
		return TopicPartition{}, false
	}
	p, err := strconv.ParseInt(name[i+1:], 10, 32)
	if err != nil || p < 0 || strconv.FormatInt(p, 10) != name[i+1:] {
		return TopicPartition{}, false
	}
	topic := name[:i]
	if !legalTopic(topic) {
		return TopicPartition{}, false
	}
	return TopicPartition{topic, int32(p)}, true
}

const maxTopicName = 249

func legalTopic(s string) bool {
	if s == "" || s == "." || s == ".." || len(s) > maxTopicName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// OffsetMeta is an offset together with where it lies on disk: the base offset of its segment and the byte position
// there of the batch that holds it, or where the next batch will stand if the offset is the log's end.
type OffsetMeta struct{ Offset, SegmentBase, Position int64 }

// Origin says who appends, which decides what is checked.
type Origin uint8

// The origins of an append.
const (
	// Client is a producer: sequence numbers, epochs and the disk brake are checked.
	Client Origin = iota
	// Coordinator is a group, transaction or share coordinator of this broker: epochs are checked, sequences are not.
	Coordinator
	// Control is a transaction marker or another control batch written by a broker.
	Control
	// Follower is the replication of another broker's log: nothing is judged, offsets and epochs are kept.
	Follower
)

// AppendOptions go with one append.
type AppendOptions struct {
	// LeaderEpoch is written into the batches (not by AppendAsFollower), and must be that of the log's role where it has one.
	LeaderEpoch int32
	Origin      Origin
	// Now is the wall time in milliseconds.
	Now int64
	// Owner is the pooled buffer that holds the batches. The log retains it until they are durable. nil: the log copies.
	Owner *wire.Buffer
	// VerificationGuard is what StartVerification gave for a transactional append by a client; see Log.StartVerification.
	VerificationGuard VerificationGuard
	// CheckVerification refuses a client's transactional batch that neither continues a transaction open in this log nor
	// carries the guard of a verification (KIP-890).
	CheckVerification bool
	// TransactionVersion of the producer whose transaction a marker ends: from 2 on its epoch must be newer than all that is known.
	TransactionVersion int16

	restored bool // a leader's append of batches that keep their offsets
}

// AppendInfo is what became of an append.
type AppendInfo struct {
	FirstOffset, LastOffset int64
	// LogAppendTime is -1 unless the batches are stamped by the broker, or are a duplicate: then the time in the batch
	// appended first.
	LogAppendTime  int64
	LogStartOffset int64
	MaxTimestamp   int64
	NumRecords     int
	// Duplicate says that nothing was appended, because an idempotent producer had sent this batch before; the offsets are
	// those of that time.
	Duplicate bool
}

// Listener is told what happens to a log. The calls come from the committer's goroutine, or that of an append whose
// topic does not wait for the disk; they are ordered and must not block.
type Listener interface {
	// OnDurable says that everything below end is durable, as far as the topic's flush mode asks for.
	OnDurable(l *Log, end OffsetMeta)
	OnLogStart(l *Log, start int64)
	// OnOffline says that the log's disk failed: nothing more becomes durable, and the log answers KAFKA_STORAGE_ERROR.
	OnOffline(l *Log, err error)
}

// AbortedTxn is a transaction whose records a reader of committed records must skip, from FirstOffset to its marker.
type AbortedTxn struct{ ProducerID, FirstOffset int64 }

// TimestampOffset is a record found by its time. LeaderEpoch is -1 where it is not known.
type TimestampOffset struct {
	Timestamp, Offset int64
	LeaderEpoch       int32
}

// ProducerInfo is the state of one idempotent producer, as DescribeProducers tells it.
type ProducerInfo struct {
	ID                    int64
	Epoch                 int16
	LastSequence          int32 // -1: none
	LastTimestamp         int64
	CoordinatorEpoch      int32 // -1: none
	CurrentTxnFirstOffset int64 // -1: no open transaction
}

// CorruptionError says that bytes on disk are not what was written. They are never served.
type CorruptionError struct {
	Dir      string
	Segment  string // file name
	Position int64
	Offset   int64 // the offset looked for
	Reason   string
}

func (e *CorruptionError) Error() string {
	return fmt.Sprintf("corrupt batch in %s/%s at byte %d (offset %d): %s; restore the partition from a replica, or remove it with DeleteRecords up to a later offset",
		e.Dir, e.Segment, e.Position, e.Offset, e.Reason)
}

// OfflineError says that a log dir is out of service since a write or fsync failed there.
type OfflineError struct {
	Dir   string
	Cause error
}

func (e *OfflineError) Error() string {
	return fmt.Sprintf("log dir %s is offline: %v; mend the disk and restart the broker", e.Dir, e.Cause)
}

// Unwrap gives the failure.
func (e *OfflineError) Unwrap() error { return e.Cause }
