package backup

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/record"
)

// reading is the way of one partition into the store.
type reading struct {
	b *creation
	t *Topic
	p *Partition

	buf      []byte
	pending  Chunk
	fetchMax int32
}

// next is the offset to read from.
func (r *reading) next() int64 {
	if n := len(r.p.Chunks); n > 0 {
		return max(r.p.Chunks[n-1].Next, r.p.LogStart)
	}
	return r.p.LogStart
}

// reuse takes over the chunks that the store has: those of the same topic (by id) that are not below the log's start.
//
// A compacted topic is read anew where tombstones written since may be gone already: the old chunks would bring their keys
// back to life.
func (r *reading) reuse() {
	r.p.Since = r.b.m.Started
	for _, base := range r.b.bases {
		t := base.Topic(r.t.Name)
		if t == nil || t.ID != r.t.ID || int(r.p.Number) >= len(t.Partitions) {
			continue
		}
		old := t.Partitions[r.p.Number]
		if keep := r.t.compactedFor(); keep > 0 && r.b.m.Started.Sub(old.Since) >= keep/2 {
			continue
		}
		var chunks []Chunk
		for _, c := range old.Chunks {
			if c.Next > r.p.End {
				break // beyond what is committed now: an unclean election took it back
			}
			if c.Next > r.p.LogStart {
				chunks = append(chunks, c)
			}
		}
		if n, m := len(chunks), len(r.p.Chunks); n > 0 && (m == 0 || chunks[n-1].Next > r.p.Chunks[m-1].Next) {
			r.p.Chunks, r.p.Since = chunks, old.Since
		}
	}
}

// run reads up to the end.
func (r *reading) run(ctx context.Context) error {
	r.fetchMax = fetchBytes
	for at := r.next(); at < r.p.End; {
		batches, err := r.fetch(ctx, at)
		if errors.Is(err, kerr.OffsetOutOfRange) {
			if at, err = r.catchUp(ctx, at); err != nil {
				return err
			}
			continue
		}
		if err == nil && len(batches) == 0 {
			break // nothing up to the end: compaction took it
		}
		var next int64
		if err == nil {
			next, err = r.take(ctx, batches, at)
		}
		if err != nil {
			return fmt.Errorf("%s-%d from offset %d: %w", r.t.Name, r.p.Number, at, err)
		}
		r.b.o.Progress.Add(min(next, r.p.End) - at)
		if next == at {
			break
		}
		at = next
	}
	return r.flush(ctx)
}

// catchUp goes on at the log's start where retention has overtaken the reading.
func (r *reading) catchUp(ctx context.Context, at int64) (int64, error) {
	starts, err := kadm.NewClient(r.b.o.Client).ListStartOffsets(ctx, r.t.Name)
	if err != nil {
		return 0, err
	}
	start, ok := starts.Lookup(r.t.Name, r.p.Number)
	if !ok || start.Err != nil || start.Offset <= at {
		return 0, fmt.Errorf("%s-%d: the broker has no offset %d although its log begins at %d; make the backup again", r.t.Name, r.p.Number, at, start.Offset)
	}
	r.buf = r.buf[:0]
	return start.Offset, r.b.save(ctx, func() {
		r.p.Chunks, r.p.LogStart = nil, start.Offset
		r.p.End = max(r.p.End, start.Offset)
	})
}

// take adds whole batches to the chunk and gives the offset to go on at.
func (r *reading) take(ctx context.Context, batches []byte, at int64) (int64, error) {
	it := record.NewBatchIter(batches)
	for {
		batch, h, ok, err := it.Next()
		if err != nil {
			return 0, err
		}
		if !ok {
			return at, nil
		}
		if h.NextOffset() <= at {
			continue
		}
		if h.BaseOffset >= r.p.End {
			return r.p.End, nil
		}
		if !record.CheckCRC(batch) {
			return 0, fmt.Errorf("the broker gave a batch at offset %d that does not match its checksum", h.BaseOffset)
		}
		if len(r.buf) == 0 {
			r.pending = Chunk{First: h.BaseOffset, Earliest: math.MaxInt64, Latest: math.MinInt64}
		}
		r.buf = append(r.buf, batch...)
		r.pending.Next = h.NextOffset()
		r.pending.Earliest, r.pending.Latest = min(r.pending.Earliest, h.MaxTimestamp), max(r.pending.Latest, h.MaxTimestamp)
		at = h.NextOffset()
		if len(r.buf) >= chunkBytes {
			if err := r.flush(ctx); err != nil {
				return 0, err
			}
		}
	}
}

// flush stores the chunk.
func (r *reading) flush(ctx context.Context) error {
	if len(r.buf) == 0 {
		return nil
	}
	hash, written, err := putObject(ctx, r.b.o.Store, r.buf)
	if err != nil {
		return err
	}
	c := r.pending
	c.Hash, c.Bytes = hash, int64(len(r.buf))
	r.buf = r.buf[:0]
	return r.b.save(ctx, func() {
		r.p.Chunks = append(r.p.Chunks, c)
		if written {
			r.b.m.NewBytes += c.Bytes
		}
	})
}

const fetchTries = 20

// fetch reads raw batches from the partition's leader; none at all where there are none below the partition's end.
func (r *reading) fetch(ctx context.Context, at int64) ([]byte, error) {
	var last error
	for try := range fetchTries {
		if try > 0 {
			if err := pause(ctx, time.Duration(try)*50*time.Millisecond); err != nil {
				return nil, err
			}
			if _, err := r.b.c.refresh(ctx); err != nil {
				return nil, err
			}
		}
		batches, err := r.fetchOnce(ctx, at)
		var k *kerr.Error
		if err == nil || ctx.Err() != nil || errors.As(err, &k) && !k.Retriable {
			return batches, err
		}
		last = err
	}
	return nil, last
}

func (r *reading) fetchOnce(ctx context.Context, at int64) ([]byte, error) {
	leader := r.b.c.leader(r.t.Name, r.p.Number)
	if leader < 0 {
		return nil, kerr.LeaderNotAvailable
	}
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = -1, 500, 1, r.fetchMax, -1
	ft := kmsg.NewFetchRequestTopic()
	ft.Topic, ft.TopicID = r.t.Name, r.t.ID
	fp := kmsg.NewFetchRequestTopicPartition()
	fp.Partition, fp.FetchOffset, fp.PartitionMaxBytes, fp.CurrentLeaderEpoch = r.p.Number, at, r.fetchMax, -1
	ft.Partitions = append(ft.Partitions, fp)
	req.Topics = append(req.Topics, ft)
	kresp, err := r.b.o.Client.Broker(int(leader)).RetriableRequest(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := kresp.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, errors.New("the broker answered for another partition")
	}
	p := &resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return nil, err
	}
	if len(p.RecordBatches) == 0 && p.HighWatermark < r.p.End {
		return nil, kerr.OffsetNotAvailable // a new leader that does not know yet how far it is committed
	}
	return p.RecordBatches, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
