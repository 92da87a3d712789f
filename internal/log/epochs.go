package log

import (
	"slices"
	"sort"
	"sync"
)

// epochEntry says that a leader's epoch began at an offset.
type epochEntry struct {
	epoch int32
	start int64
}

// epochCache knows which leader epoch wrote which offsets (KIP-101, KIP-279). Both columns rise.
type epochCache struct {
	mu      sync.RWMutex
	entries []epochEntry
	dirty   bool
}

// assign notes that epoch begins at start. Entries that contradict it, because their epoch is not lower or they start
// where or after it does, go. A repetition changes nothing.
func (c *epochCache) assign(epoch int32, start int64) (changed bool) {
	if epoch < 0 || start < 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.entries)
	if n > 0 && c.entries[n-1].epoch == epoch && c.entries[n-1].start <= start {
		return false
	}
	for n > 0 && (c.entries[n-1].epoch >= epoch || c.entries[n-1].start >= start) {
		n--
	}
	// A new slice: copies handed out must not change.
	c.entries = append(c.entries[:n:n], epochEntry{epoch, start})
	c.dirty = true
	return true
}

// latest is the newest epoch, -1 where there is none.
func (c *epochCache) latest() int32 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if len(c.entries) == 0 {
		return -1
	}
	return c.entries[len(c.entries)-1].epoch
}

// end answers OffsetForLeaderEpoch: the greatest known epoch not above the one asked for, and where it ends. (-1, -1)
// where the epoch is undefined or above all. Below all known epochs, the answer is the one asked for and the first start.
func (c *epochCache) end(epoch int32, logEnd int64) (int32, int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	n := len(c.entries)
	if epoch < 0 || n == 0 || epoch > c.entries[n-1].epoch {
		return -1, -1
	}
	i := sort.Search(n, func(i int) bool { return c.entries[i].epoch > epoch }) // first above
	end := logEnd
	if i < n {
		end = c.entries[i].start
	}
	if i == 0 {
		return epoch, end
	}
	return c.entries[i-1].epoch, end
}

// of is the epoch that wrote offset, -1 where that is not known.
func (c *epochCache) of(offset int64) int32 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	i := sort.Search(len(c.entries), func(i int) bool { return c.entries[i].start > offset })
	if i == 0 {
		return -1
	}
	return c.entries[i-1].epoch
}

// truncateEnd drops epochs that start at or after end.
func (c *epochCache) truncateEnd(end int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.entries)
	for n > 0 && c.entries[n-1].start >= end {
		n--
	}
	if n < len(c.entries) {
		c.entries, c.dirty = c.entries[:n:n], true
	}
}

// truncateStart drops epochs that end at or before start; the one that holds start begins there from now on.
func (c *epochCache) truncateStart(start int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := sort.Search(len(c.entries), func(i int) bool { return c.entries[i].start > start })
	if i == 0 || (i == 1 && c.entries[0].start == start) {
		return
	}
	c.entries = slices.Clone(c.entries[i-1:])
	c.entries[0].start = start
	c.dirty = true
}

// reset replaces everything.
func (c *epochCache) reset(entries []epochEntry) {
	c.mu.Lock()
	c.entries, c.dirty = entries, true
	c.mu.Unlock()
}

// again makes the next take give the entries whether or not they change until then.
func (c *epochCache) again() {
	c.mu.Lock()
	c.dirty = true
	c.mu.Unlock()
}

// take gives the entries if they have changed since the last call. again makes up for a failed write.
func (c *epochCache) take() (entries []epochEntry, changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed, c.dirty = c.dirty, false
	return c.entries, changed
}
