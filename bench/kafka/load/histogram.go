package load

import (
	"math/bits"
	"time"
)

// Histogram counts durations in buckets of about 3 % width. The zero value is empty and ready.
type Histogram struct {
	counts [64 * 32]int64
	n      int64
}

func bucket(us int64) int {
	if us < 32 {
		return int(max(us, 0))
	}
	e := bits.Len64(uint64(us)) - 6
	return e*32 + int(us>>e)
}

func lowest(b int) int64 {
	if b < 64 {
		return int64(b)
	}
	e := b/32 - 1
	return int64(b-e*32) << e
}

// Add counts one duration.
func (h *Histogram) Add(d time.Duration) {
	h.counts[bucket(d.Microseconds())]++
	h.n++
}

// Merge adds what o has counted.
func (h *Histogram) Merge(o *Histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
}

// Quantile q (0..1) in milliseconds; 0 of an empty histogram.
func (h *Histogram) Quantile(q float64) float64 {
	want := int64(q * float64(h.n))
	for i, c := range h.counts {
		if want -= c; want < 0 {
			return float64(lowest(i)) / 1000
		}
	}
	return 0
}

// Count of durations.
func (h *Histogram) Count() int64 { return h.n }
