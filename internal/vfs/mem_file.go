package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// memFile is an open file of a Mem.
type memFile struct {
	m                             *Mem
	ino                           *inode
	name                          string
	read, write, appending, dsync bool
	closed                        atomic.Bool
}

func (f *memFile) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: f.name, Err: err}
}

// usable says why an operation cannot be done on this file, if so.
func (f *memFile) usable(allowed bool) error {
	switch {
	case f.closed.Load():
		return fs.ErrClosed
	case f.ino.dir:
		return syscall.EISDIR
	case !allowed:
		return syscall.EBADF
	}
	return nil
}

func (f *memFile) Name() string { return f.name }

func (f *memFile) OSFile() *os.File { return nil }

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	if err := f.usable(f.read); err != nil {
		return 0, f.fail("read", err)
	}
	if off < 0 {
		return 0, f.fail("readat", errors.New("negative offset"))
	}
	f.ino.mu.RLock()
	n := f.ino.readAt(b, off)
	f.ino.mu.RUnlock()
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	if f.appending {
		return 0, errors.New("vfs: WriteAt on a file opened with O_APPEND")
	}
	if off < 0 {
		return 0, f.fail("writeat", errors.New("negative offset"))
	}
	if len(b) == 0 {
		return 0, nil // whatever the file is, as in package os
	}
	if err := f.usable(f.write); err != nil {
		return 0, f.fail("write", err)
	}
	f.m.world.RLock()
	f.ino.mu.Lock()
	n := f.ino.writeAt(b, off)
	f.ino.mu.Unlock()
	f.m.world.RUnlock()
	if n < len(b) {
		return n, f.fail("write", syscall.ENOSPC)
	}
	if f.dsync && f.m.tracked {
		f.m.beforeSync(f.name)
		f.m.world.RLock()
		f.ino.mu.Lock()
		f.ino.syncRange(off, int64(n))
		f.ino.mu.Unlock()
		f.m.world.RUnlock()
	}
	return n, nil
}

func (f *memFile) Truncate(size int64) error {
	if err := f.usable(true); err != nil {
		return f.fail("truncate", err)
	}
	if size < 0 || !f.write {
		return f.fail("truncate", syscall.EINVAL)
	}
	f.m.world.RLock()
	f.ino.mu.Lock()
	f.ino.truncate(size)
	f.ino.mu.Unlock()
	f.m.world.RUnlock()
	return nil
}

// Preallocate does nothing: memory is taken when it is written.
func (f *memFile) Preallocate(off, n int64) error {
	if err := f.usable(f.write); err != nil {
		return f.fail("fallocate", err)
	}
	if off < 0 || n <= 0 {
		return f.fail("fallocate", syscall.EINVAL)
	}
	return nil
}

func (f *memFile) Sync() error {
	if f.closed.Load() {
		return f.fail("fdatasync", fs.ErrClosed)
	}
	f.m.beforeSync(f.name)
	if !f.m.tracked || f.ino.dir {
		return nil
	}
	f.m.world.RLock()
	f.ino.mu.Lock()
	f.ino.sync()
	f.ino.mu.Unlock()
	f.m.world.RUnlock()
	return nil
}

func (f *memFile) Size() (int64, error) {
	if f.closed.Load() {
		return 0, f.fail("stat", fs.ErrClosed)
	}
	f.ino.mu.RLock()
	defer f.ino.mu.RUnlock()
	return f.ino.size, nil
}

func (f *memFile) Close() error {
	if f.closed.Swap(true) {
		return f.fail("close", fs.ErrClosed)
	}
	f.m.world.RLock()
	defer f.m.world.RUnlock()
	f.ino.release()
	return nil
}

// memInfo describes a file of a Mem.
type memInfo struct {
	name     string
	size     int64
	mode     fs.FileMode
	modified time.Time
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) Mode() fs.FileMode  { return i.mode }
func (i memInfo) ModTime() time.Time { return i.modified }
func (i memInfo) IsDir() bool        { return i.mode.IsDir() }
func (i memInfo) Sys() any           { return nil }
