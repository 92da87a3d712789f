package vfs

import (
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Mem is a file system in memory. It is two things: the disk of a broker that lives inside another process, and a disk
// whose power can be cut at any moment (CrashClone). Files are sparse: what was never written takes no memory.
//
// It has one tree of names, absolute and relative names meaning the same, and no permissions, links or umask.
type Mem struct {
	tracked bool // remembers what is not durable yet

	// world is held for reading by whoever changes a file's content and for writing by whoever changes names, so that
	// CrashClone, which holds it for writing, sees one moment of the whole disk. Taken before inode.mu.
	world   sync.RWMutex
	root    *inode
	pending []*nameOp // changes of names that no SyncDir has covered, in order
	locked  map[*inode]bool

	capacity atomic.Uint64
	used     atomic.Int64
	syncHook atomic.Pointer[func(name string)]
	now      atomic.Pointer[func() time.Time]
}

// defaultCapacity is what DiskUsage tells of a Mem whose capacity nobody set: 1 TiB.
const defaultCapacity = 1 << 40

// NewMem makes an empty disk that remembers what is durable, for CrashClone. The price is a copy of the bytes that are
// overwritten between syncs, and the memory of names removed but not synced away.
func NewMem() *Mem { return newMem(true) }

// NewVolatileMem makes an empty disk that does not remember what is durable: faster and smaller, for a broker that may
// forget everything. Its CrashClone is empty.
func NewVolatileMem() *Mem { return newMem(false) }

func newMem(tracked bool) *Mem {
	m := &Mem{tracked: tracked, locked: map[*inode]bool{}}
	m.capacity.Store(defaultCapacity)
	m.root = m.newDir()
	return m
}

// SetCapacity sets the size of the disk in bytes. Writes that need more fail with ENOSPC; what is there stays.
func (m *Mem) SetCapacity(bytes uint64) { m.capacity.Store(bytes) }

// SetClock gives the disk a clock for modification times. Without one they are all the zero time.
func (m *Mem) SetClock(now func() time.Time) { m.now.Store(&now) }

// SetSyncHook has f called, with no lock held, at each point where something is about to become durable but is not yet: in
// Sync, in SyncDir, and in a write to an O_DSYNC file once the bytes are in the cache. It is where a crash tears most. nil
// takes the hook away.
func (m *Mem) SetSyncHook(f func(name string)) {
	if f == nil {
		m.syncHook.Store(nil)
		return
	}
	m.syncHook.Store(&f)
}

func (m *Mem) beforeSync(name string) {
	if f := m.syncHook.Load(); f != nil {
		(*f)(name)
	}
}

func (m *Mem) stamp() time.Time {
	if f := m.now.Load(); f != nil {
		return (*f)()
	}
	return time.Time{}
}

// reserve takes n bytes of the disk, or none.
func (m *Mem) reserve(n int64) bool {
	if m.used.Add(n) > int64(m.capacity.Load()) && n > 0 {
		m.used.Add(-n)
		return false
	}
	return true
}

func (m *Mem) newDir() *inode {
	d := &inode{m: m, dir: true, mode: fs.ModeDir | 0o755, linked: true, entries: map[string]*inode{}, modified: m.stamp()}
	if m.tracked {
		d.durable = map[string]*inode{}
	}
	return d
}

func clean(name string) string { return path.Clean("/" + name) }

// lookup finds an inode; world is held.
func (m *Mem) lookup(name string) (*inode, error) {
	at := m.root
	for part := range strings.SplitSeq(clean(name)[1:], "/") {
		if part == "" {
			continue
		}
		if !at.dir {
			return nil, syscall.ENOTDIR
		}
		next := at.entries[part]
		if next == nil {
			return nil, syscall.ENOENT
		}
		at = next
	}
	return at, nil
}

// parent finds the directory that holds name, and name's last part; world is held.
func (m *Mem) parent(name string) (*inode, string, error) {
	dir, base := path.Split(clean(name))
	if base == "" {
		return nil, "", syscall.EBUSY // the root
	}
	d, err := m.lookup(dir)
	if err != nil {
		return nil, "", err
	}
	if !d.dir {
		return nil, "", syscall.ENOTDIR
	}
	return d, base, nil
}

// OpenFile opens or makes a file, with os.OpenFile's meaning of flag. O_DSYNC makes each write durable on return; O_DIRECT
// is accepted and asks for no alignment.
func (m *Mem) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := m.openFile(name, flag, perm)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return f, nil
}

func (m *Mem) openFile(name string, flag int, perm fs.FileMode) (File, error) {
	f := &memFile{m: m, name: name, read: flag&os.O_WRONLY == 0, write: flag&(os.O_WRONLY|os.O_RDWR) != 0,
		appending: flag&os.O_APPEND != 0, dsync: flag&unix.O_DSYNC != 0}
	if flag&os.O_CREATE == 0 {
		m.world.RLock()
		defer m.world.RUnlock()
	} else {
		m.world.Lock()
		defer m.world.Unlock()
	}
	ino, err := m.lookup(name)
	switch {
	case err == syscall.ENOENT && flag&os.O_CREATE != 0:
		if ino, err = m.create(name, perm); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		return nil, syscall.EEXIST
	case ino.dir && (f.write || flag&os.O_CREATE != 0):
		return nil, syscall.EISDIR
	}
	f.ino = ino
	ino.mu.Lock()
	defer ino.mu.Unlock()
	if flag&os.O_TRUNC != 0 && !ino.dir {
		ino.truncate(0)
	}
	ino.handles++
	return f, nil
}

func (m *Mem) create(name string, perm fs.FileMode) (*inode, error) {
	d, base, err := m.parent(name)
	if err != nil {
		return nil, err
	}
	ino := &inode{m: m, mode: perm.Perm(), linked: true, pages: map[int64]*page{}, modified: m.stamp()}
	m.change(nameChange{d, base, ino})
	return ino, nil
}

// MkdirAll makes a directory and its parents.
func (m *Mem) MkdirAll(name string, perm fs.FileMode) error {
	m.world.Lock()
	defer m.world.Unlock()
	at := m.root
	for part := range strings.SplitSeq(clean(name)[1:], "/") {
		if part == "" {
			continue
		}
		next := at.entries[part]
		if next == nil {
			next = m.newDir()
			next.mode = fs.ModeDir | perm.Perm()
			m.change(nameChange{at, part, next})
		}
		if !next.dir {
			return &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
		}
		at = next
	}
	return nil
}

// Remove removes a file or an empty directory. An open file lives on until it is closed.
func (m *Mem) Remove(name string) error {
	m.world.Lock()
	defer m.world.Unlock()
	d, base, err := m.parent(name)
	if err == nil {
		ino := d.entries[base]
		switch {
		case ino == nil:
			err = syscall.ENOENT
		case ino.dir && len(ino.entries) > 0:
			err = syscall.ENOTEMPTY
		default:
			m.change(nameChange{d, base, nil})
			return nil
		}
	}
	return &fs.PathError{Op: "remove", Path: name, Err: err}
}

// RemoveAll removes name and all below it; it is no error if nothing is there.
func (m *Mem) RemoveAll(name string) error {
	m.world.Lock()
	defer m.world.Unlock()
	d, base, err := m.parent(name)
	if err == syscall.ENOENT {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "unlinkat", Path: name, Err: err}
	}
	if ino := d.entries[base]; ino != nil {
		m.removeBelow(ino)
		m.change(nameChange{d, base, nil})
	}
	return nil
}

func (m *Mem) removeBelow(ino *inode) {
	for _, name := range slices.Sorted(maps.Keys(ino.entries)) {
		m.removeBelow(ino.entries[name])
		m.change(nameChange{ino, name, nil})
	}
}

// Rename gives a file or directory another name, at once and wholly, also for one who looks after a crash. A file
// takes the place of another file; a directory is in the way of everything.
func (m *Mem) Rename(oldName, newName string) error {
	m.world.Lock()
	defer m.world.Unlock()
	if err := m.rename(oldName, newName); err != nil {
		return &os.LinkError{Op: "rename", Old: oldName, New: newName, Err: err}
	}
	return nil
}

func (m *Mem) rename(oldName, newName string) error {
	from, fromBase, err := m.parent(oldName)
	if err != nil {
		return err
	}
	to, toBase, err := m.parent(newName)
	if err != nil {
		return err
	}
	ino := from.entries[fromBase]
	if ino == nil {
		return syscall.ENOENT
	}
	target := to.entries[toBase]
	switch {
	case target != nil && target.dir:
		return syscall.EEXIST
	case target == ino:
		return nil
	case ino.dir && strings.HasPrefix(clean(newName)+"/", clean(oldName)+"/"):
		return syscall.EINVAL
	case target != nil && ino.dir:
		return syscall.ENOTDIR
	}
	m.change(nameChange{from, fromBase, nil}, nameChange{to, toBase, ino})
	return nil
}

// ReadDir lists a directory, sorted by name.
func (m *Mem) ReadDir(name string) ([]fs.DirEntry, error) {
	m.world.RLock()
	defer m.world.RUnlock()
	d, err := m.lookup(name)
	if err == nil && !d.dir {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	out := make([]fs.DirEntry, 0, len(d.entries))
	for _, base := range slices.Sorted(maps.Keys(d.entries)) {
		out = append(out, fs.FileInfoToDirEntry(d.entries[base].info(base)))
	}
	return out, nil
}

// Stat describes a file.
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.world.RLock()
	defer m.world.RUnlock()
	ino, err := m.lookup(name)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return ino.info(path.Base(clean(name))), nil
}

// Lock locks a name until the Closer is closed. A crash unlocks everything.
func (m *Mem) Lock(name string) (io.Closer, error) {
	f, err := m.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ino := f.(*memFile).ino
	m.world.Lock()
	defer m.world.Unlock()
	if m.locked[ino] {
		ino.release()
		return nil, &fs.PathError{Op: "lock", Path: name, Err: syscall.EWOULDBLOCK}
	}
	m.locked[ino] = true
	return &memLock{m: m, ino: ino}, nil
}

type memLock struct {
	m    *Mem
	ino  *inode
	once sync.Once
}

func (l *memLock) Close() error {
	l.once.Do(func() {
		l.m.world.Lock()
		delete(l.m.locked, l.ino)
		l.ino.release()
		l.m.world.Unlock()
	})
	return nil
}

// DiskUsage tells the capacity and what of it no file has taken.
func (m *Mem) DiskUsage(name string) (Usage, error) {
	if _, err := m.Stat(name); err != nil {
		return Usage{}, err
	}
	total, used := m.capacity.Load(), uint64(max(m.used.Load(), 0))
	return Usage{Total: total, Free: total - min(used, total)}, nil
}

var (
	_ FS = OS{}
	_ FS = (*Mem)(nil)
)
