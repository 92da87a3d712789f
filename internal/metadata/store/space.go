package store

import (
	"errors"
	"fmt"
	"os"
	"path"
	"syscall"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// A full disk is no broken disk: what does not fit is refused, nothing was promised about it, and the next batch writes over what a
// short write has left. But space comes back by deleting topics, and a deletion is a record: a small file lies beside the log
// and is given up for the records that have no room any more.
const (
	ballastName  = ".ottla-ballast"
	ballastBytes = 256 << 10
	// ballastFreeBytes must be free besides before the ballast is laid in again.
	ballastFreeBytes = 64 << 20
)

func noSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// layBallast writes the ballast where there is none and room for it. It is not made durable: after a crash it is there or made anew.
func (s *Store) layBallast() {
	name := path.Join(s.dir, ballastName)
	if info, err := s.fs.Stat(name); err == nil && info.Size() >= ballastBytes {
		s.ballast = true
		return
	}
	if u, err := s.fs.DiskUsage(s.dir); err == nil && u.Free < ballastFreeBytes {
		return
	}
	f, err := s.fs.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return
	}
	_, err = f.WriteAt(make([]byte, ballastBytes), 0)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = s.fs.Remove(name)
		return
	}
	s.ballast = true
}

// dropBallast makes room once; false where there was no ballast.
func (s *Store) dropBallast() bool {
	s.ballast = false
	if s.fs.Remove(path.Join(s.dir, ballastName)) != nil {
		return false
	}
	s.log.Error("the disk of the metadata log is full; its last reserve is used, which is enough to delete topics", "dir", s.dir)
	return true
}

// writeAt writes to the end of the log, with the ballast's room where there is no other.
func (s *Store) writeAt(b []byte) error {
	_, err := s.file.WriteAt(b, s.end)
	if noSpace(err) && s.dropBallast() {
		_, err = s.file.WriteAt(b, s.end)
	}
	return err
}

// refused is the answer to a batch that found no room.
func (s *Store) refused(err error) error {
	return fmt.Errorf("%w (%w)", wire.Errorf(kerr.KafkaStorageError, "The disk of the metadata log in %s is full: free some space, then try again: %v", s.dir, err), metadata.ErrNotWritten)
}
