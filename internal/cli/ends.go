package cli

import (
	"fmt"
	"sort"
	"strings"
	"sync"
)

// ends remembers the last offset acknowledged in each partition.
type ends struct {
	mu sync.Mutex
	m  map[int32]int64
}

type partitionOffset struct {
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
}

func newEnds() *ends { return &ends{m: map[int32]int64{}} }

func (e *ends) note(p int32, offset int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if last, ok := e.m[p]; !ok || offset > last {
		e.m[p] = offset
	}
}

func (e *ends) sorted() []partitionOffset {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]partitionOffset, 0, len(e.m))
	for p, o := range e.m {
		out = append(out, partitionOffset{p, o})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Partition < out[j].Partition })
	return out
}

// String is "p0 @12, p1 @40": the last offsets, at most eight of them.
func (e *ends) String() string {
	var parts []string
	for i, po := range e.sorted() {
		if i == 8 {
			parts = append(parts, "…")
			break
		}
		parts = append(parts, fmt.Sprintf("p%d @%d", po.Partition, po.Offset))
	}
	return strings.Join(parts, ", ")
}
