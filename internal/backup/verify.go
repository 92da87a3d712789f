package backup

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ottla/ottla/internal/record"
)

// Report is what a verification found.
type Report struct {
	Objects  int      `json:"objects"`
	Bytes    int64    `json:"bytes"`
	Batches  int64    `json:"batches"`
	Problems []string `json:"problems,omitempty"`
}

const problemsMax = 100

// Verify reads everything that a backup consists of: the hashes of its objects, the checksums of their batches, and that the
// batches of a partition follow each other.
func Verify(ctx context.Context, s Store, m *Manifest, p Progress, parallel int) (*Report, error) {
	if p == nil {
		p = quiet{}
	}
	m.sum()
	p.Start("verifying", "bytes", m.Bytes)
	defer p.Done()
	r := &Report{}
	var mu sync.Mutex
	problem := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if len(r.Problems) < problemsMax {
			r.Problems = append(r.Problems, err.Error())
		}
	}
	if m.Cluster != nil {
		b, err := getObject(ctx, s, m.Cluster)
		if err == nil {
			_, err = readFrames(b)
		}
		if err != nil {
			problem(fmt.Errorf("the cluster's records: %w", err))
		}
		r.Objects++
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(parallel, 1))
	for _, t := range m.Topics {
		for _, part := range t.Partitions {
			g.Go(func() error {
				for i := range part.Chunks {
					c := &part.Chunks[i]
					if err := ctx.Err(); err != nil {
						return err
					}
					var n int64
					b, err := getObject(ctx, s, c)
					if err == nil {
						n, err = checkChunk(b, c)
					}
					if err == nil && i > 0 && part.Chunks[i-1].Next > c.First {
						err = fmt.Errorf("it begins at offset %d, and the one before ends at %d", c.First, part.Chunks[i-1].Next)
					}
					if err != nil {
						problem(fmt.Errorf("%s-%d, offsets %d to %d: %w", t.Name, part.Number, c.First, c.Next, err))
					}
					p.Add(c.Bytes)
					mu.Lock()
					r.Objects++
					r.Bytes += c.Bytes
					r.Batches += n
					mu.Unlock()
				}
				return nil
			})
		}
	}
	return r, g.Wait()
}

// checkChunk checks the batches of a chunk and counts them.
func checkChunk(b []byte, c *Chunk) (n int64, err error) {
	next := c.First
	it := record.NewBatchIter(b)
	for {
		batch, h, ok, err := it.Next()
		if err != nil {
			return n, err
		}
		if !ok {
			break
		}
		if n == 0 && h.BaseOffset != c.First || h.BaseOffset < next {
			return n, fmt.Errorf("a batch at offset %d stands out of order", h.BaseOffset)
		}
		if !record.CheckCRC(batch) {
			return n, fmt.Errorf("the batch at offset %d does not match its checksum", h.BaseOffset)
		}
		next = h.NextOffset()
		n++
	}
	if it.Pos() != len(b) || next != c.Next {
		return n, fmt.Errorf("it ends at offset %d with %d bytes left over, and should end at %d", next, len(b)-it.Pos(), c.Next)
	}
	return n, nil
}
