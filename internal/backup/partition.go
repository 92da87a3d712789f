package backup

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire/private"
)

// writer brings one partition back.
type writer struct {
	r    *restoration
	g    *target
	end  int64 // of the log in the cluster
	buf  []byte
	tail tail
}

// partition writes what of a partition is not in the cluster yet, closes what was open at the cut, and sets the log's start.
func (r *restoration) partition(ctx context.Context, g *target) error {
	w := &writer{r: r, g: g, tail: newTail(r, g)}
	if err := w.send(ctx, -1); err != nil {
		return err
	}
	for i := range g.p.Chunks {
		c := &g.p.Chunks[i]
		if c.First >= g.cut {
			break
		}
		b, err := getObject(ctx, r.o.Store, c)
		if err == nil {
			err = w.chunk(ctx, b)
		}
		if err != nil {
			return fmt.Errorf("offsets %d to %d: %w", c.First, c.Next, err)
		}
		r.o.Progress.Add(c.Bytes)
	}
	w.tail.next = max(w.tail.next, g.begin)
	batches, err := w.tail.close()
	if err != nil {
		return err
	}
	for _, b := range batches {
		if err := w.add(ctx, b); err != nil {
			return err
		}
	}
	start := int64(-1)
	if g.p.LogStart > g.begin && g.p.LogStart <= w.tail.next {
		start = g.p.LogStart
	}
	if err := w.send(ctx, start); err != nil {
		return err
	}
	if w.end != w.tail.next {
		return fmt.Errorf("it ends at offset %d and should end at %d: somebody else has written to it", w.end, w.tail.next)
	}
	if !g.t.Internal { // the partitions of committed offsets read this map later, at the same time as others are written
		r.mu.Lock()
		r.ends[key{g.t.Name, g.p.Number}] = w.end
		r.mu.Unlock()
	}
	return nil
}

func (w *writer) chunk(ctx context.Context, b []byte) error {
	it := record.NewBatchIter(b)
	for {
		batch, h, ok, err := it.Next()
		if err != nil {
			return err
		}
		if !ok || h.BaseOffset >= w.g.cut {
			return nil
		}
		if err := w.tail.see(batch, &h); err != nil {
			return err
		}
		if err := w.add(ctx, batch); err != nil {
			return err
		}
	}
}

// add sends a batch, with others, unless the cluster has it.
func (w *writer) add(ctx context.Context, batch []byte) error {
	h, err := record.ParseHeader(batch)
	if err != nil || h.BaseOffset < w.end {
		return err
	}
	if len(w.buf) > 0 && len(w.buf)+len(batch) > appendBytes {
		if err := w.send(ctx, -1); err != nil {
			return err
		}
	}
	w.buf = append(w.buf, batch...)
	return nil
}

// send writes what is gathered, and asks where the log ends.
func (w *writer) send(ctx context.Context, start int64) error {
	req := &private.AppendRestoredRequest{Topic: w.g.name, Partition: w.g.p.Number, Begin: w.g.begin, Batches: w.buf, Start: start}
	err := w.r.insist(ctx, func() error {
		leader := w.r.c.leader(w.g.name, w.g.p.Number)
		if leader < 0 {
			return errors.New("nobody leads it yet")
		}
		resp := &private.AppendRestoredResponse{}
		if err := w.r.c.tool(ctx, leader, w.g.p.Number, req, resp); err != nil {
			return err
		}
		if k := kerr.ErrorForCode(resp.ErrorCode); k != nil && kerr.IsRetriable(k) {
			return fmt.Errorf("%w: %s", k, resp.Message)
		}
		w.end = resp.LogEnd
		return answered(resp.ErrorCode, resp.Message)
	})
	w.buf = w.buf[:0]
	return err
}
