package coordinator

import (
	"errors"
	"fmt"
)

// Log is the frame's way to a coordinator topic: the replicated log of each partition. Its methods are called from the
// frame's workers, never two at once for one partition. They must not wait for commits.
type Log interface {
	// Append puts one record batch at the end of a partition as its leader in leaderEpoch and gives the offset of the
	// batch's last record. It returns when the batch has its offset, not when it is durable; Runtime.OnHighWatermark
	// tells of that. The batch is the Log's from now on. An error that ErrRefused wraps says that nothing was written
	// and that the log goes on as before (a fenced producer, too few
	// replicas in sync): the shard stays. After any other error the end of the log is uncertain.
	Append(partition, leaderEpoch int32, batch []byte, o AppendOptions) (lastOffset int64, err error)
	// Bounds gives where the log starts and ends and how far it is committed (the high watermark).
	Bounds(partition int32) (start, end, highWatermark int64, err error)
	// Read gives whole batches from the batch that holds offset from (or the next one, where that is gone), about
	// maxBytes of them but at least one, up to the log's end, committed or not. No bytes: there is nothing up to the
	// end. They stay valid until the next Read of the partition.
	Read(partition int32, from int64, maxBytes int) ([]byte, error)
}

// AppendOptions go with a batch to the log.
type AppendOptions struct {
	Records int
	// Transactional batches and the markers that end a transaction carry a producer.
	Transactional bool
	Marker        bool
	Guard         any // of Producer
	// CoordinatorEpoch of the transaction coordinator that sends a marker.
	CoordinatorEpoch   int32
	TransactionVersion int16
}

// ErrRefused marks an append that wrote nothing, after which the next one may succeed; see Refused.
var ErrRefused = errors.New("append refused")

// Refused makes err one that ErrRefused wraps, beside all that it is already.
func Refused(err error) error { return fmt.Errorf("%w: %w", ErrRefused, err) }
