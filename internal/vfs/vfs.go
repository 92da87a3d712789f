// Package vfs is the only room of the house that touches files. It knows bytes, names and what a crash may take
// away; it must never know what the bytes mean.
//
// FS has three implementations: OS (the real one), Mem (in memory, crashable at any moment with a seeded share of
// unsynced data surviving) and Inject (a wrapper that makes chosen operations fail).
package vfs

import (
	"io"
	"io/fs"
	"os"
)

// FS is a file system. Names are slash-separated paths. Methods are safe for concurrent use.
// A created, renamed or removed name survives a crash only after SyncDir of its directory.
type FS interface {
	// OpenFile opens name with the os.O_* flags that os.OpenFile takes. O_DIRECT and O_DSYNC may be refused
	// (an error satisfying errors.Is(err, errors.ErrUnsupported)) or, in Mem, honoured as "durable on return".
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Remove(name string) error
	RemoveAll(name string) error
	Rename(oldName, newName string) error
	MkdirAll(name string, perm fs.FileMode) error
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes the directory's entries durable.
	SyncDir(name string) error
	// Lock takes an exclusive advisory lock on name (created if missing), held until the Closer is closed.
	Lock(name string) (io.Closer, error)
	// DiskUsage tells the space of the volume that holds name.
	DiskUsage(name string) (Usage, error)
}

// Usage is the space of a volume, in bytes. Free is what an unprivileged process may still use.
type Usage struct{ Total, Free uint64 }

// File is an open file. ReadAt and WriteAt are safe for concurrent use on ranges that do not overlap.
// After an error of WriteAt or Sync the content of the file is unknown: the caller must stop using it, never retry.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
	Size() (int64, error)
	Truncate(size int64) error
	// Preallocate reserves space for [off, off+n) without changing the file's size where the platform can; else it does nothing.
	Preallocate(off, n int64) error
	// Sync makes content and size durable (fdatasync).
	Sync() error
	// OSFile is the kernel's file for sendfile and O_DIRECT work, nil where there is none (Mem).
	OSFile() *os.File
}
