package store

import (
	"cmp"
	"errors"
	"io"
	"os"
	"path"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/wire"
)

// SnapshotID names a snapshot: the offset after its last record, and that record's epoch.
type SnapshotID struct {
	End   int64
	Epoch int32
}

// Start is the first offset that the log still has.
func (s *Store) Start() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.segments) == 0 {
		return s.committed
	}
	return s.segments[0].base
}

// EpochEnd gives the largest epoch of the log up to the one asked for, and the offset after its last committed record. Where the log
// has none so early, it is that epoch with the start of the log.
func (s *Store) EpochEnd(epoch int32) (int32, int64) {
	start := s.Start()
	s.mu.Lock()
	defer s.mu.Unlock()
	end := s.committed
	for i := len(s.epochs) - 1; i >= 0; i-- {
		e := s.epochs[i]
		if e.epoch <= epoch {
			return e.epoch, max(min(end, s.committed), start)
		}
		end = e.start
	}
	return epoch, start
}

// Snapshots lists the snapshots that are whole, oldest first.
func (s *Store) Snapshots() ([]SnapshotID, error) {
	_, checkpoints, _, err := listDir(s.fs, s.dir)
	if err != nil {
		return nil, err
	}
	out := make([]SnapshotID, len(checkpoints))
	for i, c := range checkpoints {
		out[i] = SnapshotID{c.end, c.epoch}
	}
	slices.SortFunc(out, func(a, b SnapshotID) int { return cmp.Or(cmp.Compare(a.End, b.End), cmp.Compare(a.Epoch, b.Epoch)) })
	return out, nil
}

// ReadSnapshot gives up to maxBytes of a snapshot's file from a position on, and the file's size. A snapshot that is gone is
// SNAPSHOT_NOT_FOUND, a position outside of it POSITION_OUT_OF_RANGE.
func (s *Store) ReadSnapshot(id SnapshotID, pos int64, maxBytes int) (b []byte, size int64, err error) {
	f, err := s.fs.OpenFile(path.Join(s.dir, checkpointName(id.End, id.Epoch)), os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, wire.Errorf(kerr.SnapshotNotFound, "there is no snapshot of offset %d and epoch %d", id.End, id.Epoch)
	}
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	if size, err = f.Size(); err != nil {
		return nil, 0, err
	}
	if pos < 0 || pos >= size {
		return nil, size, wire.Errorf(kerr.PositionOutOfRange, "byte %d of a snapshot of %d", pos, size)
	}
	b = make([]byte, min(int64(max(maxBytes, 1)), size-pos))
	if n, err := f.ReadAt(b, pos); err != nil && !(errors.Is(err, io.EOF) && n == len(b)) {
		return nil, size, err
	}
	return b, size, nil
}
