package log

import (
	"os"
	"sync"

	"github.com/ottla/ottla/internal/invariant"
	"github.com/ottla/ottla/internal/vfs"
)

// fileCache bounds the descriptors that all logs of a manager hold. Files open at first use and are closed again when
// others need the room, least recently used first (second chance). A file in use is never closed; when everything is in
// use the bound is exceeded rather than a request refused.
type fileCache struct {
	fs  vfs.FS
	max int

	mu   sync.Mutex
	ring []*file
	hand int
}

func newFileCache(fs vfs.FS, limit int) *fileCache { return &fileCache{fs: fs, max: max(limit, 8)} }

func (c *fileCache) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ring)
}

// admit makes room for f, which has just been opened and whose mutex the caller holds.
func (c *fileCache) admit(f *file) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for tries := 2 * len(c.ring); len(c.ring) >= c.max && tries > 0; tries-- {
		if c.hand >= len(c.ring) {
			c.hand = 0
		}
		v := c.ring[c.hand]
		if !v.mu.TryLock() {
			c.hand++
			continue
		}
		switch {
		case v.refs > 0:
			c.hand++
		case v.f == nil:
			c.removeLocked(v) // retired, and about to leave the ring by itself
		case v.used:
			v.used = false
			c.hand++
		default:
			_ = v.f.Close() // nothing was written that a close could lose: durability is Sync's
			v.f = nil
			c.removeLocked(v)
		}
		v.mu.Unlock()
	}
	f.slot = len(c.ring)
	c.ring = append(c.ring, f)
}

func (c *fileCache) removeLocked(f *file) {
	last := len(c.ring) - 1
	if f.slot > last || c.ring[f.slot] != f {
		return
	}
	c.ring[f.slot] = c.ring[last]
	c.ring[f.slot].slot = f.slot
	c.ring[last] = nil
	c.ring = c.ring[:last]
}

// file is a path that is opened when somebody needs it.
type file struct {
	cache *fileCache

	mu   sync.Mutex
	path string
	f    vfs.File
	refs int
	used bool
	gone bool // close at the last release, open no more
	slot int  // guarded by cache.mu
}

func (c *fileCache) file(path string) *file { return &file{cache: c, path: path} }

// rename gives the file another name.
func (f *file) rename(to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.cache.fs.Rename(f.path, to); err != nil {
		return err
	}
	f.path = to
	return nil
}

func (f *file) setPath(p string) {
	f.mu.Lock()
	f.path = p
	f.mu.Unlock()
}

// acquire gives the open file, created if missing; release must follow.
func (f *file) acquire() (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f == nil {
		if f.gone {
			return nil, os.ErrClosed
		}
		h, err := f.cache.fs.OpenFile(f.path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		f.f = h
		f.cache.admit(f)
	}
	f.refs++
	f.used = true
	return f.f, nil
}

func (f *file) release() {
	f.mu.Lock()
	f.refs--
	invariant.Assert(f.refs >= 0, "file %s released too often", f.path)
	var h vfs.File
	if f.gone && f.refs == 0 {
		h, f.f = f.f, nil
	}
	f.mu.Unlock()
	if h != nil {
		_ = h.Close()
	}
}

// retire closes the file once nobody uses it. It opens no more.
func (f *file) retire() {
	f.mu.Lock()
	wasOpen := f.f != nil
	f.gone = true
	var h vfs.File
	if f.refs == 0 {
		h, f.f = f.f, nil
	}
	f.mu.Unlock()
	if wasOpen {
		f.cache.mu.Lock()
		f.cache.removeLocked(f)
		f.cache.mu.Unlock()
	}
	if h != nil {
		_ = h.Close()
	}
}
