package log

import (
	"encoding/binary"
	"sort"
	"sync"
)

// Entry sizes of the index files.
const (
	offsetEntrySize = 8
	timeEntrySize   = 12
)

// indexPending is how many entries an index keeps in memory before they go to its file in one write.
const indexPending = 512

// offsetEntry says that the batch at position ends with the offset base+rel.
type offsetEntry struct{ rel, pos uint32 }

// timeEntry says that no batch up to the one that ends with base+rel has a timestamp above ts.
type timeEntry struct {
	ts  int64
	rel uint32
}

type indexEntry interface{ offsetEntry | timeEntry }

// index is one index file with the newest entries still in memory. Readers and the one writer may run at the same time.
type index[E indexEntry] struct {
	file *file
	size int // of an entry
	dec  func([]byte) E
	enc  func([]byte, E) []byte

	mu     sync.RWMutex
	loaded bool
	n      int // entries in the file
	tail   []E // entries after those
	last   E   // newest entry, if n+len(tail) > 0
	dirty  bool
}

func newOffsetIndex(f *file) *index[offsetEntry] {
	return &index[offsetEntry]{file: f, size: offsetEntrySize,
		dec: func(b []byte) offsetEntry {
			return offsetEntry{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}
		},
		enc: func(b []byte, e offsetEntry) []byte {
			return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, e.rel), e.pos)
		}}
}

func newTimeIndex(f *file) *index[timeEntry] {
	return &index[timeEntry]{file: f, size: timeEntrySize,
		dec: func(b []byte) timeEntry {
			return timeEntry{int64(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint32(b[8:])}
		},
		enc: func(b []byte, e timeEntry) []byte {
			return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, uint64(e.ts)), e.rel)
		}}
}

// load finds how many entries the file holds. Kafka preallocates the file with zeros while the segment is active, so
// trailing zeros are not entries.
func (x *index[E]) load() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.loadLocked()
}

// fresh says that there is no file yet, nor need be: thousands of partitions may get their first record at once, and making a file is
// what that costs.
func (x *index[E]) fresh() {
	x.mu.Lock()
	x.loaded = true
	x.mu.Unlock()
}

func (x *index[E]) loadLocked() error {
	if x.loaded {
		return nil
	}
	f, err := x.file.acquire()
	if err != nil {
		return err
	}
	defer x.file.release()
	size, err := f.Size()
	if err != nil {
		return err
	}
	n := int(size) / x.size
	if n > 0 {
		last, err := x.readAt(f, n-1)
		if err != nil {
			return err
		}
		var zero E
		if last == zero && n > 1 {
			var rerr error
			n = sort.Search(n, func(i int) bool {
				e, err := x.readAt(f, i)
				if err != nil {
					rerr = err
				}
				return e == zero
			})
			if rerr != nil {
				return rerr
			}
			if n > 0 {
				if last, err = x.readAt(f, n-1); err != nil {
					return err
				}
			}
		} else if last == zero {
			n = 0
		}
		x.last = last
	}
	x.n, x.loaded = n, true
	return nil
}

type readerAt interface {
	ReadAt(p []byte, off int64) (int, error)
}

func (x *index[E]) readAt(f readerAt, i int) (E, error) {
	var b [timeEntrySize]byte
	if _, err := f.ReadAt(b[:x.size], int64(i)*int64(x.size)); err != nil {
		var zero E
		return zero, err
	}
	return x.dec(b[:x.size]), nil
}

// len is the number of entries.
func (x *index[E]) len() (int, error) {
	if err := x.load(); err != nil {
		return 0, err
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.n + len(x.tail), nil
}

// lastEntry is the newest entry.
func (x *index[E]) lastEntry() (e E, ok bool, err error) {
	if err := x.load(); err != nil {
		return e, false, err
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.last, x.n+len(x.tail) > 0, nil
}

// append adds an entry in memory; REQUIRES: loaded, and one writer.
func (x *index[E]) append(e E) {
	x.mu.Lock()
	x.tail = append(x.tail, e)
	x.last = e
	x.dirty = true
	x.mu.Unlock()
}

// full says whether pending entries should go to the file.
func (x *index[E]) full() bool { return len(x.tail) >= indexPending }

// flush writes the entries that are only in memory and forgets them there.
func (x *index[E]) flush() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.tail) == 0 {
		return nil
	}
	f, err := x.file.acquire()
	if err != nil {
		return err
	}
	defer x.file.release()
	buf := make([]byte, 0, len(x.tail)*x.size)
	for _, e := range x.tail {
		buf = x.enc(buf, e)
	}
	if _, err := f.WriteAt(buf, int64(x.n)*int64(x.size)); err != nil {
		return err
	}
	x.n += len(x.tail)
	x.tail = nil
	return nil
}

// trim cuts what lies in the file behind the last entry.
func (x *index[E]) trim() error {
	if err := x.flush(); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	f, err := x.file.acquire()
	if err != nil {
		return err
	}
	defer x.file.release()
	size, err := f.Size()
	if err != nil {
		return err
	}
	if want := int64(x.n) * int64(x.size); x.loaded && size != want {
		x.dirty = true
		return f.Truncate(want)
	}
	return nil
}

// search gives the greatest entry for which before holds; before must hold for a prefix of the entries.
func (x *index[E]) search(before func(E) bool) (found E, ok bool, err error) {
	if err := x.load(); err != nil {
		return found, false, err
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if i := sort.Search(len(x.tail), func(i int) bool { return !before(x.tail[i]) }); i > 0 {
		return x.tail[i-1], true, nil
	}
	if x.n == 0 {
		return found, false, nil
	}
	if len(x.tail) == 0 && before(x.last) {
		return x.last, true, nil
	}
	f, err := x.file.acquire()
	if err != nil {
		return found, false, err
	}
	defer x.file.release()
	return x.searchFile(f, before)
}

// searchFile narrows by single reads down to a block, then reads the block.
func (x *index[E]) searchFile(f readerAt, before func(E) bool) (found E, ok bool, err error) {
	const block = 256
	lo, hi := 0, x.n // before holds below lo, not from hi on
	for hi-lo > block {
		mid := (lo + hi) / 2
		e, err := x.readAt(f, mid)
		if err != nil {
			return found, false, err
		}
		if before(e) {
			lo, found, ok = mid+1, e, true
		} else {
			hi = mid
		}
	}
	if hi == lo {
		return found, ok, nil
	}
	var arr [block * timeEntrySize]byte
	buf := arr[:(hi-lo)*x.size]
	if _, err := f.ReadAt(buf, int64(lo)*int64(x.size)); err != nil {
		return found, false, err
	}
	if i := sort.Search(hi-lo, func(i int) bool { return !before(x.dec(buf[i*x.size:])) }); i > 0 {
		return x.dec(buf[(i-1)*x.size:]), true, nil
	}
	return found, ok, nil
}

// truncate keeps the entries for which keep holds, which must be a prefix.
func (x *index[E]) truncate(keep func(E) bool) error {
	if err := x.load(); err != nil {
		return err
	}
	if err := x.flush(); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	f, err := x.file.acquire()
	if err != nil {
		return err
	}
	defer x.file.release()
	var rerr error
	n := sort.Search(x.n, func(i int) bool {
		e, err := x.readAt(f, i)
		if err != nil {
			rerr = err
		}
		return !keep(e)
	})
	if rerr != nil {
		return rerr
	}
	if n > 0 {
		if x.last, err = x.readAt(f, n-1); err != nil {
			return err
		}
	}
	x.n, x.dirty = n, true
	return f.Truncate(int64(n) * int64(x.size))
}

// clear empties the index and its file.
func (x *index[E]) clear() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.tail = nil
	f, err := x.file.acquire()
	if err != nil {
		return err
	}
	defer x.file.release()
	x.n, x.loaded, x.dirty = 0, true, true
	return f.Truncate(0)
}
