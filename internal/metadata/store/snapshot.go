package store

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"time"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/vfs"
	"github.com/ottla/ottla/internal/wire/schema"
)

// snapshotBatchBytes is about the size of a batch in a snapshot.
const snapshotBatchBytes = 1 << 20

// snapshotWriter writes a snapshot file batch by batch.
type snapshotWriter struct {
	f     vfs.File
	pos   int64
	next  int64 // offset within the snapshot
	epoch int32
	now   int64
	b     *record.Builder
	value []byte
	err   error
}

func (w *snapshotWriter) begin(control bool) {
	w.b = record.NewBuilder(record.BuilderOptions{BaseOffset: w.next, LeaderEpoch: w.epoch, Control: control})
}

func (w *snapshotWriter) flush() {
	if w.err != nil || w.b == nil || w.b.Count() == 0 {
		return
	}
	w.next += int64(w.b.Count())
	batch := w.b.Finish()
	w.b = nil
	_, w.err = w.f.WriteAt(batch, w.pos)
	w.pos += int64(len(batch))
}

func (w *snapshotWriter) control(t record.ControlType, m schema.Message) {
	value, err := m.AppendTo(nil, 0)
	w.err = errors.Join(w.err, err)
	w.b.AppendControl(w.now, t, value)
}

func (w *snapshotWriter) record(v metadata.Versioned) bool {
	if w.b == nil {
		w.begin(false)
	}
	var err error
	if w.value, err = schema.AppendMetadataRecord(w.value[:0], v.Message, v.Version); err != nil {
		w.err = err
		return false
	}
	w.b.Append(w.now, nil, w.value, nil)
	if w.b.Size() >= snapshotBatchBytes {
		w.flush()
	}
	return w.err == nil
}

// writeSnapshot writes img as a checkpoint file: under another name first, so that a checkpoint that has its name is whole.
func (s *Store) writeSnapshot(img *metadata.Image) (checkpoint, error) {
	cp := checkpoint{img.Offset() + 1, img.Epoch()}
	name := path.Join(s.dir, checkpointName(cp.end, cp.epoch))
	f, err := s.fs.OpenFile(name+".part", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return cp, err
	}
	w := &snapshotWriter{f: f, epoch: cp.epoch, now: s.clock.Now().UnixMilli()}
	w.begin(true)
	w.control(record.ControlSnapshotHeader, &schema.SnapshotHeaderRecord{LastContainedLogTimestamp: w.now})
	w.control(record.ControlKRaftVersion, &schema.KRaftVersionRecord{KRaftVersion: 1})
	w.control(record.ControlKRaftVoters, s.voters())
	w.flush()
	img.Records(w.record)
	w.flush()
	w.begin(true)
	w.control(record.ControlSnapshotFooter, &schema.SnapshotFooterRecord{})
	w.flush()
	if w.err == nil {
		w.err = f.Sync()
	}
	if err := errors.Join(w.err, f.Close()); err != nil {
		return cp, fmt.Errorf("write snapshot %s: %w", name, err)
	}
	if err := s.fs.Rename(name+".part", name); err != nil {
		return cp, err
	}
	return cp, s.fs.SyncDir(s.dir)
}

// readSnapshot loads a checkpoint file into an empty image.
func readSnapshot(f vfs.File, cp checkpoint, clusterID string) (*metadata.Image, error) {
	sc, err := newScanner(f)
	if err != nil {
		return nil, err
	}
	d := metadata.NewDelta(metadata.Empty(clusterID))
	header, footer := false, false
	for {
		batch, h, err := sc.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("at byte %d: %w", sc.pos, err)
		}
		if footer {
			return nil, fmt.Errorf("at byte %d: goes on after its footer", sc.pos)
		}
		if h.IsControl() {
			err = record.ControlRecords(batch, func(c record.Control) error {
				header = header || c.Type == record.ControlSnapshotHeader
				footer = footer || c.Type == record.ControlSnapshotFooter
				return nil
			})
		} else {
			err = replayBatch(d, batch, h, 0)
		}
		if err != nil {
			return nil, err
		}
	}
	if !header || !footer {
		return nil, errors.New("has no header or no footer: it was not finished")
	}
	d.SetPosition(cp.end-1, cp.epoch)
	return d.Image(), nil
}

// clean removes checkpoints and segments that are not needed any more, oldest first: those that are too old or too many bytes. Two
// checkpoints stay, and every segment with something after the oldest that does.
func (s *Store) clean(newest checkpoint) error {
	segments, checkpoints, _, err := listDir(s.fs, s.dir)
	if err != nil {
		return err
	}
	slices.SortFunc(checkpoints, func(a, b checkpoint) int { return cmp.Compare(a.end, b.end) })
	for len(checkpoints) > 0 && checkpoints[len(checkpoints)-1].end > newest.end {
		checkpoints = checkpoints[:len(checkpoints)-1]
	}
	if len(checkpoints) < 2 {
		return nil // the first one: the log stays whole beside it
	}
	keep := checkpoints[s.outlived(segments, checkpoints)]
	for _, c := range checkpoints {
		if c.end < keep.end {
			err = errors.Join(err, s.fs.Remove(path.Join(s.dir, checkpointName(c.end, c.epoch))))
		}
	}
	for i, base := range segments {
		if i+1 < len(segments) && segments[i+1] <= keep.end {
			s.forget(base)
			err = errors.Join(err, s.fs.Remove(path.Join(s.dir, segmentName(base))))
		}
	}
	return err
}

// outlived is how many of the checkpoints, oldest first, retention takes. All but the last two can go.
func (s *Store) outlived(segments []int64, checkpoints []checkpoint) (n int) {
	size := func(name string) (int64, time.Time) {
		info, err := s.fs.Stat(path.Join(s.dir, name))
		if err != nil {
			return 0, s.clock.Now()
		}
		return info.Size(), info.ModTime()
	}
	total := int64(0)
	for _, base := range segments {
		bytes, _ := size(segmentName(base))
		total += bytes
	}
	for _, c := range checkpoints {
		bytes, _ := size(checkpointName(c.end, c.epoch))
		total += bytes
	}
	for ; n+2 < len(checkpoints); n++ {
		bytes, written := size(checkpointName(checkpoints[n].end, checkpoints[n].epoch))
		tooOld := s.o.RetentionTime >= 0 && s.clock.Since(written) >= s.o.RetentionTime
		tooMany := s.o.RetentionBytes >= 0 && total > s.o.RetentionBytes
		if !tooOld && !tooMany {
			break
		}
		total -= bytes
		for i, base := range segments { // those that go with it
			if i+1 < len(segments) && segments[i+1] <= checkpoints[n+1].end && (n == 0 || segments[i+1] > checkpoints[n].end) {
				bytes, _ := size(segmentName(base))
				total -= bytes
			}
		}
	}
	return n
}
