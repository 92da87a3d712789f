// Package history is the vocabulary of a chaos run: what the clients did and saw, one event each, in the order in which it
// happened. It knows what a record says of itself and how events are written down; it must never know a client, a broker or a
// fault, nor judge what it holds.
package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"
)

// Kind says what an event tells.
type Kind string

// The kinds of events. An operation has an invocation (Sent, TxnBegin) and at most one of the results; without a result its
// outcome is unknown.
const (
	Sent       Kind = "sent"        // Value is about to be produced, N values from it on
	Acked      Kind = "acked"       // Value was acknowledged at Offset, and the N-1 that follow it at the offsets that follow
	Failed     Kind = "failed"      // Value was refused: it is not in the log
	Unknown    Kind = "unknown"     // the producer gave up on Value: it is in the log or not
	TxnCommit  Kind = "txn-commit"  // Txn of Who, with N outputs, was committed
	TxnAbort   Kind = "txn-abort"   // Txn of Who, with N outputs, was aborted
	TxnUnknown Kind = "txn-unknown" // Txn of Who, with N outputs, ended one way or the other
	Read       Kind = "read"        // Who read Value at Offset, and the N-1 that follow it at the offsets that follow
	Seek       Kind = "seek"        // Who goes on reading at Offset
	Truncated  Kind = "truncated"   // Who, who had read up to Offset (exclusive), was told that the log ends at N
	End        Kind = "end"         // the sequential observer Who saw the log end at Offset
	CommitOK   Kind = "commit-ok"   // Who's commit of Offset for Group was acknowledged
	CommitSeen Kind = "commit-seen" // Who saw Offset as the committed offset of Group; -1 is none
	Final      Kind = "final"       // as Read, by the reader of everything after the last fault has healed
	FinalEnd   Kind = "final-end"   // the final reader has reached the end: last stable offset in Offset, high watermark in N
	Replicas   Kind = "replicas"    // the replicas' bytes were compared: Offset is the first that differs, -1 if they agree
	Fault      Kind = "fault"       // a fault begins; Note names it
	Heal       Kind = "heal"        // it is over
	Note       Kind = "note"        // for the reader of the file only
)

// Event is one line of a history.
type Event struct {
	At        time.Duration `json:"t"` // since the start of the run, monotonic
	Kind      Kind          `json:"k"`
	Who       string        `json:"w,omitempty"`
	Topic     string        `json:"topic,omitempty"`
	Partition int32         `json:"p,omitempty"`
	Offset    int64         `json:"o,omitempty"`
	N         int64         `json:"n,omitempty"` // 0 means 1 where N counts values
	Value     *Value        `json:"v,omitempty"`
	Txn       int64         `json:"txn,omitempty"`
	Group     string        `json:"g,omitempty"`
	Committed bool          `json:"rc,omitempty"` // read_committed
	Note      string        `json:"note,omitempty"`
}

// Count is the number of values that an event speaks of.
func (e Event) Count() int64 { return max(e.N, 1) }

// Value is what a record says of itself. A writer numbers its values for each partition from 0 without a gap.
type Value struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"p"`
	Writer    int32  `json:"w"`
	Seq       int64  `json:"s"`
	// Of an output of a transaction: the writer's number of it (from 1, 0 is none) and the input it was made from.
	Txn     int64 `json:"txn,omitempty"`
	InPart  int32 `json:"ip,omitempty"`
	InOwner int32 `json:"iw,omitempty"`
	InSeq   int64 `json:"is,omitempty"`
}

// Next is the value n places later of the same writer; only values without a transaction form runs.
func (v Value) Next(n int64) Value {
	v.Seq += n
	return v
}

// ErrForeign means bytes that no workload of ours has written, or not like that.
var ErrForeign = errors.New("not a value of a chaos run")

const valueFormat = "%s/%d/%d/%d/%d/%d/%d/%d/"

// Bytes is the value as a record's value, padded to at least size bytes, and sealed with a checksum.
func (v Value) Bytes(size int) []byte {
	b := fmt.Appendf(make([]byte, 0, max(size, 64)), valueFormat, v.Topic, v.Partition, v.Writer, v.Seq, v.Txn, v.InPart, v.InOwner, v.InSeq)
	for len(b) < size-9 {
		b = append(b, 'a'+byte(len(b)%23))
	}
	return fmt.Appendf(b, "/%08x", crc32.ChecksumIEEE(b))
}

// Parse reads a value back. Any changed byte is ErrForeign.
func Parse(b []byte) (Value, error) {
	var v Value
	at := len(b) - 9
	if at < 0 || !bytes.Equal(fmt.Appendf(nil, "/%08x", crc32.ChecksumIEEE(b[:at])), b[at:]) {
		return v, ErrForeign
	}
	topic, rest, ok := bytes.Cut(b[:at], []byte{'/'})
	if !ok {
		return v, ErrForeign
	}
	v.Topic = string(topic)
	n, err := fmt.Sscanf(string(rest[:min(len(rest), 160)]), "%d/%d/%d/%d/%d/%d/%d/", &v.Partition, &v.Writer, &v.Seq, &v.Txn, &v.InPart, &v.InOwner, &v.InSeq)
	if err != nil || n != 7 {
		return v, ErrForeign
	}
	return v, nil
}

// Recorder puts events in order, stamps them, hands them to the sinks and writes them down.
type Recorder struct {
	mu    sync.Mutex
	start time.Time
	out   *bufio.Writer
	enc   *json.Encoder
	sinks []func(Event)
	err   error
}

// NewRecorder starts the run's clock. out may be nil. Sinks are called one event at a time, in order; they must not record.
func NewRecorder(out io.Writer, sinks ...func(Event)) *Recorder {
	r := &Recorder{start: time.Now(), sinks: sinks}
	if out != nil {
		r.out = bufio.NewWriterSize(out, 1<<20)
		r.enc = json.NewEncoder(r.out)
	}
	return r
}

// Now is the time since the start of the run.
func (r *Recorder) Now() time.Duration { return time.Since(r.start) }

// Record adds an event; its time is set here.
func (r *Recorder) Record(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.At = time.Since(r.start)
	for _, s := range r.sinks {
		s(e)
	}
	if r.enc != nil && r.err == nil {
		r.err = r.enc.Encode(e)
	}
}

// Flush writes what is buffered and returns the first error of writing.
func (r *Recorder) Flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.out != nil && r.err == nil {
		r.err = r.out.Flush()
	}
	return r.err
}

// Replay reads a written history and hands its events on.
func Replay(in io.Reader, to func(Event)) error {
	d := json.NewDecoder(bufio.NewReaderSize(in, 1<<20))
	for n := 1; ; n++ {
		var e Event
		switch err := d.Decode(&e); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("event %d of the history: %w", n, err)
		}
		to(e)
	}
}
