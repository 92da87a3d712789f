package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// OS is the machine's own file system. The zero value works; NewOS makes one that waits for the disk without blocking threads.
type OS struct{ ring *ring }

// NewOS is an OS whose direct writes and syncs go through the kernel's asynchronous I/O, where there is one. Close it after its files.
func NewOS() OS {
	r, err := newRing()
	if err != nil {
		return OS{} // every operation has its plain way
	}
	return OS{ring: r}
}

// Close gives back what NewOS took.
func (o OS) Close() error {
	if o.ring == nil {
		return nil
	}
	return o.ring.close()
}

// OpenFile opens a file of the kernel.
func (o OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		if flag&unix.O_DIRECT != 0 && errors.Is(err, unix.EINVAL) {
			return nil, fmt.Errorf("%s: O_DIRECT: %w", name, errors.ErrUnsupported)
		}
		return nil, err
	}
	return osFile{f, o.ring, flag&unix.O_DIRECT != 0}, nil
}

// Remove removes a file or an empty directory.
func (OS) Remove(name string) error { return os.Remove(name) }

// RemoveAll removes name and all below it.
func (OS) RemoveAll(name string) error { return os.RemoveAll(name) }

// Rename puts a file in another's place.
func (OS) Rename(oldName, newName string) error { return os.Rename(oldName, newName) }

// MkdirAll makes a directory and its parents.
func (OS) MkdirAll(name string, perm fs.FileMode) error { return os.MkdirAll(name, perm) }

// ReadDir lists a directory by name.
func (OS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// Stat describes a file.
func (OS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// SyncDir makes the entries of a directory durable.
func (OS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Lock takes flock on a file.
func (OS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s is locked by another process: %w", name, err)
	}
	return f, nil
}

// DiskUsage asks the kernel for the space of a volume.
func (OS) DiskUsage(name string) (Usage, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(name, &st); err != nil {
		return Usage{}, fmt.Errorf("statfs %s: %w", name, err)
	}
	return Usage{Total: st.Blocks * uint64(st.Bsize), Free: st.Bavail * uint64(st.Bsize)}, nil
}

type osFile struct {
	*os.File
	ring   *ring // may be nil
	direct bool
}

func (f osFile) OSFile() *os.File { return f.File }

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Preallocate reserves space beyond the file's size; a file system that cannot is left alone.
func (f osFile) Preallocate(off, n int64) error {
	err := ignoringEINTR(func() error { return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, off, n) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

// WriteAt is pwrite.
func (f osFile) WriteAt(b []byte, off int64) (int, error) {
	if f.ring == nil || !f.direct {
		return f.File.WriteAt(b, off)
	}
	n, err := f.ring.writeAt(f.File, b, off)
	switch {
	case errors.Is(err, errNoRing):
		return f.File.WriteAt(b, off)
	case err != nil:
		return n, &fs.PathError{Op: "write", Path: f.Name(), Err: err}
	case n < len(b):
		m, err := f.File.WriteAt(b[n:], off+int64(n))
		return n + m, err
	}
	return n, nil
}

// Sync is fdatasync.
func (f osFile) Sync() error {
	if f.ring != nil {
		err := f.ring.fdatasync(f.File)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errNoRing) {
			return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
	if err := ignoringEINTR(func() error { return unix.Fdatasync(int(f.Fd())) }); err != nil {
		return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
