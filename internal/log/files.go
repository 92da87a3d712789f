package log

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/ottla/ottla/internal/vfs"
)

// readFile reads a whole file of at most limit bytes.
func readFile(fsys vfs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d it may have", name, size, limit)
	}
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if err == io.EOF && n == len(b) {
		err = nil
	}
	return b[:n], err
}

// writeFile replaces a file so that a crash leaves the old or the new content, if durable is set. Without it a power
// loss may leave anything, which the reader must be able to tell.
func writeFile(fsys vfs.FS, name string, b []byte, durable bool) (err error) {
	tmp := name + ".tmp"
	f, err := fsys.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if len(b) > 0 {
		_, err = f.WriteAt(b, 0)
	}
	if err == nil && durable {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := fsys.Rename(tmp, name); err != nil {
		return err
	}
	if durable {
		return fsys.SyncDir(path.Dir(name))
	}
	return nil
}

// makeDir makes a directory whose name survives a power cut, and those of its parents that it had to make.
func makeDir(fsys vfs.FS, name string) error {
	made := []string{name} // its name may be a crashed run's, and not durable
	for up := path.Dir(name); up != path.Dir(up) && !exists(fsys, up); up = path.Dir(up) {
		made = append(made, up)
	}
	if err := fsys.MkdirAll(name, 0o755); err != nil {
		return err
	}
	for _, d := range made {
		if err := fsys.SyncDir(path.Dir(d)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

// noSpace says that a volume is full, which is no failure of the disk: what was there is whole, and nothing was promised about what
// was not written.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// noFiles says that this process or the machine has no descriptor left, which is no failure of the disk either.
func noFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

func exists(fsys vfs.FS, name string) bool {
	_, err := fsys.Stat(name)
	return err == nil
}
