package vfs

import (
	"io/fs"
	"maps"
	"math/rand"
	"slices"
	"syscall"
)

// nameOp is one change of names: it survives a crash wholly or not at all.
type nameOp struct{ changes []nameChange }

// nameChange gives a name of a directory to an inode, or to none.
type nameChange struct {
	dir  *inode
	name string
	to   *inode
}

type nameKey struct {
	dir  *inode
	name string
}

// change changes names; world is held for writing. A rename is two changes, the new name last.
func (m *Mem) change(changes ...nameChange) {
	moved := changes[len(changes)-1].to
	for _, c := range changes {
		was := c.dir.entries[c.name]
		if c.to == nil {
			delete(c.dir.entries, c.name)
		} else {
			c.dir.entries[c.name] = c.to
		}
		if was != nil && was != moved {
			was.unlink()
		}
		c.dir.modified = m.stamp()
	}
	if m.tracked {
		m.pending = append(m.pending, &nameOp{changes})
	}
}

// SyncDir makes the directory's entries durable; with them the other half of a rename, and what it depends on.
func (m *Mem) SyncDir(name string) error {
	m.beforeSync(name)
	m.world.Lock()
	defer m.world.Unlock()
	d, err := m.lookup(name)
	if err != nil {
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	if !d.dir {
		return &fs.PathError{Op: "fsync", Path: name, Err: syscall.ENOTDIR}
	}
	needed := make([]bool, len(m.pending))
	keys := map[nameKey]bool{}
	for i, op := range slices.Backward(m.pending) {
		for _, c := range op.changes {
			needed[i] = needed[i] || c.dir == d || keys[nameKey{c.dir, c.name}]
		}
		if needed[i] {
			for _, c := range op.changes {
				keys[nameKey{c.dir, c.name}] = true
			}
		}
	}
	var still []*nameOp
	for i, op := range m.pending {
		if !needed[i] {
			still = append(still, op)
			continue
		}
		for _, c := range op.changes {
			assign(c.dir.durable, c.name, c.to)
		}
	}
	m.pending = still
	return nil
}

func assign(entries map[string]*inode, name string, to *inode) {
	if to == nil {
		delete(entries, name)
	} else {
		entries[name] = to
	}
}

// CrashOptions say how much of what was not durable survives a loss of power, as probabilities. The zero value: nothing.
type CrashOptions struct {
	// Data is for each 512-byte sector written since its file's last sync, and for each change of a file's size.
	Data float64
	// Names is for each change of a name since its directory's last sync.
	Names float64
	// Uneven draws for each file a Data of its own from [0, 1): the kernel writes back file by file.
	Uneven bool
}

// CrashClone is the disk as it is found after the power failed at this moment; the Mem itself goes on unharmed.
//
// What Sync has made durable is there. Every sector written since survives or is what it was, independently: writes
// are torn and reordered. The size is the durable one, one there was since, or the file was cut while growing. A name
// created, removed or renamed since its directory's SyncDir is as before or as after; changes of one name survive in their
// order; a rename is never half done, and a file that replaces another comes with the name, not with the content: that is
// what syncing the file before the rename is for. Locks are gone, and on the clone all is durable.
//
// The result depends only on the state of the disk, rng and o.
func (m *Mem) CrashClone(rng *rand.Rand, o CrashOptions) *Mem {
	c := newMem(true)
	c.capacity.Store(m.capacity.Load())
	c.now.Store(m.now.Load())
	if !m.tracked {
		return c
	}
	m.world.Lock()
	defer m.world.Unlock()
	survivors := m.survivingNames(rng, o.Names)
	var copyDir func(from, to *inode)
	copyDir = func(from, to *inode) {
		entries := from.durable
		if changed := survivors[from]; changed != nil {
			entries = changed
		}
		for _, name := range slices.Sorted(maps.Keys(entries)) {
			ino := entries[name]
			var n *inode
			if ino.dir {
				n = c.newDir()
				n.mode = ino.mode
				copyDir(ino, n)
			} else {
				n = ino.crash(c, rng, o)
			}
			to.entries[name], to.durable[name] = n, n
		}
	}
	copyDir(m.root, c.root)
	return c
}

// survivingNames decides over the pending changes: one that does not survive keeps later ones of its names from
// surviving. It gives the entries of the directories that have pending changes.
func (m *Mem) survivingNames(rng *rand.Rand, p float64) map[*inode]map[string]*inode {
	out := map[*inode]map[string]*inode{}
	lost := map[nameKey]bool{}
	for _, op := range m.pending {
		survives := rng.Float64() < p
		for _, c := range op.changes {
			survives = survives && !lost[nameKey{c.dir, c.name}]
		}
		for _, c := range op.changes {
			if !survives {
				lost[nameKey{c.dir, c.name}] = true
				continue
			}
			if out[c.dir] == nil {
				out[c.dir] = maps.Clone(c.dir.durable)
			}
			assign(out[c.dir], c.name, c.to)
		}
	}
	return out
}

// crash is the file on the clone.
func (i *inode) crash(c *Mem, rng *rand.Rand, o CrashOptions) *inode {
	i.mu.Lock()
	defer i.mu.Unlock()
	p := o.Data
	if o.Uneven {
		p = rng.Float64()
	}
	n := &inode{m: c, mode: i.mode, linked: true, modified: i.modified, pages: make(map[int64]*page, len(i.pages))}
	n.size = i.survivingSize(rng, p)
	n.durableSize = n.size
	for _, number := range slices.Sorted(maps.Keys(i.pages)) {
		q := i.pages[number].crash(rng, p)
		if limit := int(min(max(n.size-number*pageBytes, 0), pageBytes)); limit < len(q.data) {
			clear(q.data[limit:])
			q.data = q.data[:limit]
		}
		if len(q.data) > 0 {
			n.pages[number] = q
			n.taken += int64(cap(q.data))
		}
	}
	c.used.Add(n.taken)
	return n
}

func (i *inode) survivingSize(rng *rand.Rand, p float64) int64 {
	for _, size := range slices.Backward(i.sizes) {
		if rng.Float64() < p {
			return size
		}
	}
	if grown := i.size - i.durableSize; grown > 0 && rng.Float64() < p {
		return i.durableSize + rng.Int63n(grown)
	}
	return i.durableSize
}

func (p *page) crash(rng *rand.Rand, survive float64) *page {
	q := &page{data: make([]byte, len(p.data), max(cap(p.data), sectorBytes))}
	copy(q.data, p.data)
	for s := range pageSectors {
		if p.dirty[s/64]&(1<<(s%64)) == 0 || rng.Float64() < survive {
			continue
		}
		from, to := s*sectorBytes, (s+1)*sectorBytes
		if old := p.old[s]; old != nil {
			if to > len(q.data) {
				q.grow(to, max(cap(q.data), to))
			}
			copy(q.data[from:to], old[:])
		} else if from < len(q.data) {
			clear(q.data[from:min(to, len(q.data))])
		}
	}
	return q
}
