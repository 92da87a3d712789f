package sharecoord

import (
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/wire"
)

// Batch is a run of offsets in one state; both ends belong to it. The states' numbers are KIP-932's.
type Batch struct {
	First, Last int64
	State       int8
	Count       int16
}

func (b Batch) like(o Batch) bool { return b.State == o.State && b.Count == o.Count }

// checked gives batches in the order of their offsets, and refuses those that overlap or run backwards.
func checked(in []Batch) ([]Batch, error) {
	out := slices.Clone(in)
	slices.SortFunc(out, func(a, b Batch) int {
		if a.First < b.First {
			return -1
		}
		return 1
	})
	for i, b := range out {
		if b.First < 0 || b.Last < b.First || i > 0 && b.First <= out[i-1].Last {
			return nil, wire.Errorf(kerr.InvalidRequest, "The state batches overlap, or one ends before it begins.")
		}
	}
	return out, nil
}

// merge lays newer batches over older ones and drops what lies below start. Both lists are in order without overlap, and so
// is the result; neighbours that say the same are one.
func merge(old, newer []Batch, start int64) []Batch {
	out := make([]Batch, 0, len(old)+len(newer))
	put := func(b Batch) {
		if b.First = max(b.First, start); b.First > b.Last {
			return
		}
		if n := len(out); n > 0 && out[n-1].Last+1 == b.First && out[n-1].like(b) {
			out[n-1].Last = b.Last
			return
		}
		out = append(out, b)
	}
	i, from := 0, int64(-1) // what is left of old[i] begins at from, where that is above its first offset
	until := func(end int64) {
		for ; i < len(old) && old[i].First < end; i++ {
			b := old[i]
			b.First = max(b.First, from)
			if b.Last < end {
				put(b)
				continue
			}
			b.Last = end - 1
			put(b)
			return
		}
	}
	for _, n := range newer {
		until(n.First)
		put(n)
		from = n.Last + 1
		for i < len(old) && old[i].Last < from {
			i++
		}
	}
	until(math.MaxInt64)
	return out
}
