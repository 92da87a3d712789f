package store

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"slices"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/vfs"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Open reads the log, begins a new cluster in empty directories, and takes the leadership under a new epoch. It
// returns when the image is known; what it wrote becomes durable before the first proposal is answered.
func Open(o Options) (*Store, error) {
	if len(o.LogDirs) == 0 {
		return nil, errors.New("no log directory")
	}
	if o.Dir == "" {
		o.Dir = o.LogDirs[0]
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = math.MaxInt64
	}
	if o.SnapshotBytes <= 0 {
		o.SnapshotBytes = 20 << 20
	}
	s := &Store{leader: -1, fs: o.FS, clock: o.Clock, log: o.Logger, o: o, dir: path.Join(o.Dir, LogDir), dirIDs: map[string]metadata.UUID{}, wake: make(chan struct{}, 1)}
	if err := s.identify(); err != nil {
		return nil, err
	}
	if err := makeDir(s.fs, s.dir); err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		if s.file != nil {
			err = errors.Join(err, s.file.Close())
		}
		return nil, err
	}
	s.snapped = s.clock.Now()
	if !o.Follow {
		s.done.Add(1)
		go s.run()
	}
	return s, nil
}

// identify reads or writes the meta.properties of every directory and checks that they belong together.
func (s *Store) identify() error {
	dirs := s.o.LogDirs
	if !slices.Contains(dirs, s.o.Dir) {
		dirs = append(slices.Clone(dirs), s.o.Dir)
	}
	s.node, s.clusterID = s.o.NodeID, s.o.ClusterID
	whose := "the settings"
	var fresh []string
	for _, dir := range dirs {
		if err := makeDir(s.fs, dir); err != nil {
			return fmt.Errorf("log directory %s: %w", dir, err)
		}
		m, ok, err := ReadMeta(s.fs, dir)
		if err != nil {
			return err
		}
		if !ok || m.DirectoryID == (metadata.UUID{}) && m.ClusterID == "" {
			fresh = append(fresh, dir)
			continue
		}
		if s.clusterID != "" && m.ClusterID != s.clusterID {
			return fmt.Errorf("%s belongs to cluster %s, but %s to cluster %s: give each cluster its own directories", dir, m.ClusterID, whose, s.clusterID)
		}
		if s.node >= 0 && m.NodeID >= 0 && m.NodeID != s.node {
			return fmt.Errorf("%s belongs to node %d, but %s to node %d: set node.id to the number in %s, or use another directory", dir, m.NodeID, whose, s.node, MetaFile)
		}
		s.clusterID, whose = m.ClusterID, dir
		s.node = max(s.node, m.NodeID)
		if m.DirectoryID == (metadata.UUID{}) {
			fresh = append(fresh, dir)
			continue
		}
		if slices.ContainsFunc(dirs, func(d string) bool { return d != dir && s.dirIDs[d] == m.DirectoryID }) {
			return fmt.Errorf("%s has the directory id %s of another directory: it is a copy; remove the copy", dir, IDText(m.DirectoryID))
		}
		s.dirIDs[dir] = m.DirectoryID
	}
	if s.clusterID == "" {
		s.clusterID = IDText(s.o.NewID())
	}
	if s.node < 0 {
		s.node = 1
	}
	for _, dir := range fresh {
		s.dirIDs[dir] = s.o.NewID()
		m := Meta{ClusterID: s.clusterID, NodeID: s.node, DirectoryID: s.dirIDs[dir]}
		if err := replaceFile(s.fs, path.Join(dir, MetaFile), m.Append(nil), true); err != nil {
			return fmt.Errorf("log directory %s: %w", dir, err)
		}
	}
	return nil
}

// load makes the image, opens the last segment and writes the change of leadership.
func (s *Store) load() error {
	q, err := s.readQuorumState()
	if err != nil {
		return err
	}
	segments, checkpoints, parts, err := listDir(s.fs, s.dir)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if err := s.fs.Remove(path.Join(s.dir, p)); err != nil {
			return err
		}
	}
	img, err := s.loadSnapshot(checkpoints)
	if err != nil {
		return err
	}
	d := metadata.NewDelta(img)
	s.next = img.Offset() + 1
	lastEpoch := max(q.LeaderEpoch, img.Epoch())
	if len(segments) > 0 && segments[0] > s.next {
		return fmt.Errorf("%s: the log begins at offset %d and no snapshot reaches it (%d): restore the missing files", s.dir, segments[0], s.next)
	}
	for i, base := range segments {
		if s.o.Follow && base > s.next {
			break // after damage: these are gone
		}
		if err := s.loadSegment(d, base, i == len(segments)-1); err != nil {
			return err
		}
	}
	if s.file == nil || s.logEnd < s.next { // no log, or one that ends before the snapshot does
		old := s.file
		if err := s.openSegment(s.next); err != nil {
			return err
		}
		if old != nil {
			if err := old.Close(); err != nil {
				return err
			}
		}
	}
	if len(s.epochs) > 0 {
		lastEpoch = max(lastEpoch, s.epochs[len(s.epochs)-1].epoch)
	}
	if s.o.Follow {
		return s.startFollowing(d, img, lastEpoch)
	}
	s.isNew = s.next == 0
	s.epoch = lastEpoch + 1
	if s.epoch < 1 {
		s.epoch = 1
	}
	s.epochs = append(s.epochs, epochStart{s.epoch, s.next})
	if err := s.takeLeadership(d); err != nil {
		return err
	}
	d.SetController(s.node)
	s.image = d.Image()
	return nil
}

// loadSnapshot loads the newest checkpoint that is whole.
func (s *Store) loadSnapshot(all []checkpoint) (*metadata.Image, error) {
	slices.SortFunc(all, func(a, b checkpoint) int {
		switch {
		case a.end != b.end && a.end > b.end:
			return -1
		case a.end != b.end:
			return 1
		}
		return int(b.epoch) - int(a.epoch)
	})
	for _, cp := range all {
		name := path.Join(s.dir, checkpointName(cp.end, cp.epoch))
		f, err := s.fs.OpenFile(name, os.O_RDONLY, 0)
		if err != nil {
			return nil, err
		}
		img, err := readSnapshot(f, cp, s.clusterID)
		if err = errors.Join(err, f.Close()); err == nil {
			return img, nil
		}
		s.log.Warn("a metadata snapshot cannot be used; an older one and the log are", "file", name, "err", err)
	}
	return metadata.Empty(s.clusterID), nil
}

// loadSegment replays a segment. The last one stays open, and a torn batch at its end is cut off.
func (s *Store) loadSegment(d *metadata.Delta, base int64, last bool) error {
	name := path.Join(s.dir, segmentName(base))
	flag := os.O_RDONLY
	if last || s.o.Follow {
		flag = os.O_RDWR
	}
	f, err := s.fs.OpenFile(name, flag, 0)
	if err != nil {
		return err
	}
	if last {
		s.file = f
	} else {
		defer f.Close()
	}
	sc, err := newScanner(f)
	if err != nil {
		return err
	}
	g := &segment{base: base}
	s.segments = append(s.segments, g)
	for {
		pos := sc.pos
		batch, h, err := sc.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, errTorn) {
			if err := s.cut(sc, f, last); err != nil {
				return err
			}
			break
		}
		if err != nil {
			return err
		}
		if h.BaseOffset > s.next {
			return fmt.Errorf("%s at byte %d: batch of offset %d where %d was expected: records are missing", name, pos, h.BaseOffset, s.next)
		}
		g.add(h.BaseOffset, pos, int64(len(batch)))
		if n := len(s.epochs); n == 0 || s.epochs[n-1].epoch < h.PartitionLeaderEpoch {
			s.epochs = append(s.epochs, epochStart{h.PartitionLeaderEpoch, h.BaseOffset})
		}
		if h.NextOffset() <= s.next {
			s.logEnd = h.NextOffset()
			continue // in the snapshot
		}
		if err := replayBatch(d, batch, h, s.next); err != nil {
			return fmt.Errorf("%s at byte %d: %w", name, pos, err)
		}
		s.next, s.logEnd = h.NextOffset(), h.NextOffset()
		s.since += int64(len(batch))
	}
	s.end = g.size
	return nil
}

// cut removes what a crash left of the last write. The appender never has two writes unsynced, so a whole batch
// behind a damaged one means that something else damaged the file.
func (s *Store) cut(sc *scanner, f vfs.File, last bool) error {
	at := sc.pos
	if s.o.Follow {
		return s.truncateDamage(f, at)
	}
	if later, ok := sc.anyAfter(s.next); ok || !last {
		where := "in a later file"
		if ok {
			where = fmt.Sprintf("at byte %d", later)
		}
		return fmt.Errorf("%s is damaged at byte %d (offset %d) although more follows %s: restore the file from a copy, or remove it and what follows to fall back to the state before that offset", f.Name(), at, s.next, where)
	}
	s.log.Warn("cut the unfinished end of the metadata log", "file", f.Name(), "offset", s.next, "bytes", sc.size-at)
	s.unsure = true
	return f.Truncate(at)
}

// openSegment begins a segment file.
func (s *Store) openSegment(base int64) error {
	f, err := s.fs.OpenFile(path.Join(s.dir, segmentName(base)), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	s.file, s.end = f, 0
	s.mu.Lock()
	if n := len(s.segments); n > 0 && s.segments[n-1].base == base { // it was empty
		s.segments = s.segments[:n-1]
	}
	s.segments = append(s.segments, &segment{base: base})
	s.mu.Unlock()
	return s.fs.SyncDir(s.dir)
}

// roll closes the current segment and begins the next.
func (s *Store) roll() error {
	if err := s.settle(); err != nil {
		return err
	}
	old := s.file
	if err := s.openSegment(s.next); err != nil {
		return err
	}
	return old.Close()
}

// takeLeadership writes the control records of a new epoch and, in a new cluster, its first records.
func (s *Store) takeLeadership(d *metadata.Delta) error {
	now := s.clock.Now().UnixMilli()
	b := record.NewBuilder(record.BuilderOptions{BaseOffset: s.next, LeaderEpoch: s.epoch, Control: true})
	put := func(t record.ControlType, m schema.Message) error {
		value, err := m.AppendTo(nil, 0)
		if err == nil {
			b.AppendControl(now, t, value)
		}
		return err
	}
	change := &schema.LeaderChangeMessage{LeaderID: s.node, Voters: []schema.LeaderChangeMessageVoter{{VoterID: s.node}}, GrantingVoters: []schema.LeaderChangeMessageVoter{{VoterID: s.node}}}
	if err := put(record.ControlLeaderChange, change); err != nil {
		return err
	}
	if s.isNew {
		if err := errors.Join(put(record.ControlKRaftVersion, &schema.KRaftVersionRecord{KRaftVersion: 1}), put(record.ControlKRaftVoters, s.voters())); err != nil {
			return err
		}
	}
	n := int64(b.Count())
	if err := s.write(b.Finish(), n); err != nil {
		return err
	}
	d.SetPosition(s.next-1, s.epoch)
	if d.InTransaction() { // its writer is gone and will not end it
		if err := s.settle(); err != nil {
			return err
		}
		return s.first(d, []metadata.Versioned{metadata.Newest(&schema.AbortTransactionRecord{})}, now)
	}
	if !s.isNew || len(s.o.Bootstrap) == 0 {
		return nil
	}
	if err := s.settle(); err != nil { // never two batches unsynced: see cut
		return err
	}
	return s.first(d, s.o.Bootstrap, now)
}

// first writes records before there is an appender. They are durable with the first settle.
func (s *Store) first(d *metadata.Delta, records []metadata.Versioned, now int64) error {
	batch, err := dataBatch(s.next, s.epoch, now, records)
	if err != nil {
		return err
	}
	for i, r := range records {
		if err := d.Replay(s.next+int64(i), s.epoch, r.Message); err != nil {
			return err
		}
	}
	return s.write(batch, int64(len(records)))
}
