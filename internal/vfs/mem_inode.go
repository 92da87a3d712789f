package vfs

import (
	"io/fs"
	"math/bits"
	"sync"
	"time"
)

const (
	sectorBytes = 512 // what a disk writes whole or not at all
	pageBytes   = 64 << 10
	pageSectors = pageBytes / sectorBytes
	// sizesKept is how many sizes between two syncs a file remembers for a crash.
	sizesKept = 8
)

// inode is a file or a directory. A directory's maps are guarded by Mem.world, all else by mu.
type inode struct {
	m    *Mem
	dir  bool
	mode fs.FileMode

	entries map[string]*inode // directories
	durable map[string]*inode // directories of a tracked Mem: the names that survive

	mu       sync.RWMutex
	linked   bool // has a name
	handles  int
	modified time.Time
	size     int64
	pages    map[int64]*page // by number; what is missing is zeros
	taken    int64           // bytes of the disk that the pages take

	// What a crash may take, in a tracked Mem.
	durableSize int64
	sizes       []int64         // sizes there were since the last sync, oldest first; the current one is last
	dirty       map[int64]*page // pages with dirty sectors
}

// page is a stretch of a file. data is as long as was ever written, zeros follow it.
type page struct {
	data  []byte
	dirty [pageSectors / 64]uint64
	// old holds the durable bytes of dirty sectors; a sector that is missing was zeros.
	old map[int]*[sectorBytes]byte
}

func (i *inode) info(name string) fs.FileInfo {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return memInfo{name, i.size, i.mode, i.modified}
}

// release gives one handle back.
func (i *inode) release() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.handles--
	i.dropIfUnused()
}

// unlink takes the inode's name.
func (i *inode) unlink() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.linked = false
	i.dropIfUnused()
}

// dropIfUnused gives the space back. The pages stay: a name that points here may still be durable.
func (i *inode) dropIfUnused() {
	if !i.linked && i.handles == 0 {
		i.m.used.Add(-i.taken)
		i.taken = 0
	}
}

func (i *inode) readAt(b []byte, off int64) int {
	if off >= i.size {
		return 0
	}
	b = b[:min(int64(len(b)), i.size-off)]
	for n := 0; n < len(b); {
		at := off + int64(n)
		from := int(at % pageBytes)
		part := b[n:min(len(b), n+pageBytes-from)]
		copied := 0
		if p := i.pages[at/pageBytes]; p != nil && from < len(p.data) {
			copied = copy(part, p.data[from:])
		}
		clear(part[copied:])
		n += len(part)
	}
	return len(b)
}

// writeAt writes as much of b as the disk has room for.
func (i *inode) writeAt(b []byte, off int64) int {
	n := 0
	for n < len(b) {
		at := off + int64(n)
		from := int(at % pageBytes)
		part := b[n:min(len(b), n+pageBytes-from)]
		p := i.pageAt(at / pageBytes)
		grown := i.grown(p, from+len(part))
		if !i.m.reserve(int64(grown - cap(p.data))) {
			break
		}
		i.taken += int64(grown - cap(p.data))
		i.soil(at/pageBytes, p, from, from+len(part))
		p.grow(from+len(part), grown)
		copy(p.data[from:], part)
		n += len(part)
	}
	if n > 0 {
		i.modified = i.m.stamp()
		if end := off + int64(n); end > i.size {
			i.resize(end)
		}
	}
	return n
}

func (i *inode) pageAt(number int64) *page {
	p := i.pages[number]
	if p == nil {
		p = &page{}
		i.pages[number] = p
	}
	return p
}

// grown is the capacity of p once it holds n bytes.
func (i *inode) grown(p *page, n int) int {
	if n <= cap(p.data) {
		return cap(p.data)
	}
	return max(sectorBytes, 1<<bits.Len(uint(n-1)))
}

func (p *page) grow(n, capacity int) {
	if capacity > cap(p.data) {
		data := make([]byte, len(p.data), capacity)
		copy(data, p.data)
		p.data = data
	}
	if n > len(p.data) {
		old := len(p.data)
		p.data = p.data[:n]
		clear(p.data[old:])
	}
}

// soil marks the sectors of [from, to) of a page as not durable and keeps what they held.
func (i *inode) soil(number int64, p *page, from, to int) {
	if !i.m.tracked {
		return
	}
	for s := from / sectorBytes; s < (to+sectorBytes-1)/sectorBytes; s++ {
		if p.dirty[s/64]&(1<<(s%64)) != 0 {
			continue
		}
		p.dirty[s/64] |= 1 << (s % 64)
		if s*sectorBytes < len(p.data) {
			if p.old == nil {
				p.old = map[int]*[sectorBytes]byte{}
			}
			old := new([sectorBytes]byte)
			copy(old[:], p.data[s*sectorBytes:])
			p.old[s] = old
		}
	}
	if i.dirty == nil {
		i.dirty = map[int64]*page{}
	}
	i.dirty[number] = p
}

func (i *inode) truncate(size int64) {
	if size == i.size {
		return
	}
	i.modified = i.m.stamp()
	if size < i.size {
		i.cut(size)
	}
	i.resize(size)
}

// cut turns everything from size on into zeros.
func (i *inode) cut(size int64) {
	for number, p := range i.pages {
		from := int(min(max(size-number*pageBytes, 0), pageBytes))
		if from >= len(p.data) {
			continue
		}
		i.soil(number, p, from, len(p.data))
		if from > 0 {
			clear(p.data[from:])
			p.data = p.data[:from]
			continue
		}
		i.m.reserve(-int64(cap(p.data)))
		i.taken -= int64(cap(p.data))
		p.data = nil
		if len(p.old) == 0 { // nothing durable to come back to
			delete(i.pages, number)
			delete(i.dirty, number)
		}
	}
}

func (i *inode) resize(size int64) {
	i.size = size
	if !i.m.tracked {
		return
	}
	if len(i.sizes) == sizesKept {
		i.sizes = append(i.sizes[:0], i.sizes[1:]...)
	}
	i.sizes = append(i.sizes, size)
}

// sync makes everything durable.
func (i *inode) sync() {
	for number, p := range i.dirty {
		p.dirty, p.old = [pageSectors / 64]uint64{}, nil
		if len(p.data) == 0 {
			delete(i.pages, number)
		}
	}
	clear(i.dirty)
	i.durableSize, i.sizes = i.size, i.sizes[:0]
}

// syncRange makes the sectors of a range durable, and the size.
func (i *inode) syncRange(off, n int64) {
	for number := off / pageBytes; number*pageBytes < off+n; number++ {
		p := i.dirty[number]
		if p == nil {
			continue
		}
		from, to := max(off-number*pageBytes, 0), min(off+n-number*pageBytes, pageBytes)
		for s := int(from / sectorBytes); s < int(to+sectorBytes-1)/sectorBytes; s++ {
			p.dirty[s/64] &^= 1 << (s % 64)
			delete(p.old, s)
		}
		if p.dirty == [pageSectors / 64]uint64{} {
			delete(i.dirty, number)
		}
	}
	i.durableSize, i.sizes = i.size, i.sizes[:0]
}
