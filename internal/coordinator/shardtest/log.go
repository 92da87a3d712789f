package shardtest

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire"
)

// Log is a coordinator.Log of one partition in memory whose commits and failures the test decides on. Any partition
// number means the same log.
type Log struct {
	mu      sync.Mutex
	batches [][]byte
	start   int64
	end     int64
	hw      int64
	appends int
	fail    []error // of the next appends; nil entries succeed
	lost    []bool  // whether a failed append has written all the same
	reads   int
	readErr error
	tell    func(hw int64)
}

// NewLog is an empty log.
func NewLog() *Log { return &Log{} }

// OnCommit sets who is told of a new high watermark.
func (l *Log) OnCommit(f func(hw int64)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tell = f
}

// Append implements coordinator.Log.
func (l *Log) Append(_, leaderEpoch int32, batch []byte, o coordinator.AppendOptions) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.appends++
	var err error
	written := true
	if len(l.fail) > 0 {
		if err = l.fail[0]; err != nil {
			written = l.lost[0]
		}
		l.fail, l.lost = l.fail[1:], l.lost[1:]
	}
	if !written {
		return 0, err
	}
	record.SetBaseOffset(batch, l.end)
	record.SetLeaderEpoch(batch, leaderEpoch)
	h, herr := record.ParseHeader(batch)
	if herr != nil {
		return 0, herr
	}
	if int(h.NumRecords) != o.Records || h.IsControl() != o.Marker || h.IsTransactional() != o.Transactional {
		return 0, wire.Errorf(kerr.InvalidRecord, "a batch with header %+v came with options %+v", h, o)
	}
	l.batches = append(l.batches, batch)
	l.end = h.NextOffset()
	return h.LastOffset(), err
}

// Bounds implements coordinator.Log.
func (l *Log) Bounds(int32) (start, end, hw int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.start, l.end, l.hw, l.readErr
}

// Read implements coordinator.Log.
func (l *Log) Read(_ int32, from int64, maxBytes int) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	if l.readErr != nil {
		return nil, l.readErr
	}
	var out []byte
	for _, b := range l.batches {
		h, err := record.ParseHeader(b)
		if err != nil {
			return nil, err
		}
		if h.LastOffset() < from {
			continue
		}
		if len(out) > 0 && len(out)+len(b) > maxBytes {
			break
		}
		out = append(out, b...)
	}
	return out, nil
}

// AppendRaw puts a batch at the end as somebody else's append would.
func (l *Log) AppendRaw(batch []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	record.SetBaseOffset(batch, l.end)
	h, err := record.ParseHeader(batch)
	if err != nil {
		panic(err)
	}
	l.batches = append(l.batches, batch)
	l.end = h.NextOffset()
}

// FailNext makes the next append give err. written says whether its batch gets into the log all the same.
func (l *Log) FailNext(err error, written bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail, l.lost = append(l.fail, err), append(l.lost, written)
}

// FailReads makes all reads give err until it is nil.
func (l *Log) FailReads(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.readErr = err
}

// End is the offset after the last record.
func (l *Log) End() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

// HighWatermark is how far the log is committed.
func (l *Log) HighWatermark() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hw
}

// Commit moves the high watermark up to an offset, at most to the end and never into a batch: replicas fetch whole ones.
func (l *Log) Commit(upTo int64) {
	l.mu.Lock()
	if upTo = l.align(upTo); upTo <= l.hw {
		l.mu.Unlock()
		return
	}
	l.hw = upTo
	tell := l.tell
	l.mu.Unlock()
	if tell != nil {
		tell(upTo)
	}
}

// align: REQUIRES mu.
func (l *Log) align(offset int64) int64 {
	at := l.start
	for _, b := range l.batches {
		h, err := record.ParseHeader(b)
		if err != nil {
			panic(err)
		}
		if h.NextOffset() > offset {
			break
		}
		at = h.NextOffset()
	}
	return at
}

// Truncate cuts the uncommitted batches from the one that holds an offset: a new leader did not have them.
func (l *Log) Truncate(from int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, b := range l.batches {
		h, err := record.ParseHeader(b)
		if err != nil {
			panic(err)
		}
		if h.LastOffset() >= max(from, l.hw) {
			l.batches, l.end = l.batches[:i:i], h.BaseOffset
			return
		}
	}
}

// Counts gives how often the log was appended to and read.
func (l *Log) Counts() (appends, reads int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.appends, l.reads
}
