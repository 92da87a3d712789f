package store

import (
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/ottla/ottla/internal/invariant"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/vfs"
	"github.com/ottla/ottla/internal/wire/schema"
)

// A node that is no voter keeps the log too, to start from it and to serve what follows it. Others have it durably, so nothing here waits
// for the disk: what a crash takes is fetched again.

// Followed says whether a directory holds the log of a cluster that another node leads, as far as its files tell.
func Followed(f vfs.FS, dir string, node int32) bool {
	content, err := readFile(f, path.Join(dir, LogDir, "quorum-state"), maxSmallFile)
	if err != nil {
		return false
	}
	q, err := ParseQuorumState(content)
	return err == nil && q.LeaderID >= 0 && q.LeaderID != node
}

// startFollowing makes the image of a node that has no part in the quorum.
func (s *Store) startFollowing(d *metadata.Delta, snapshot *metadata.Image, lastEpoch int32) error {
	if d.InTransaction() { // its begin is fetched again together with its end
		if err := s.restartLog(snapshot.Offset() + 1); err != nil {
			return err
		}
		d = metadata.NewDelta(snapshot)
	}
	s.epoch = lastEpoch
	s.committed = s.next
	s.image = d.Image()
	return nil
}

// restartLog throws the log away and begins it anew at an offset.
func (s *Store) restartLog(at int64) error {
	old, segments := s.file, s.segments
	s.mu.Lock()
	s.segments = nil
	s.mu.Unlock()
	err := old.Close()
	for _, g := range segments {
		err = errors.Join(err, s.fs.Remove(path.Join(s.dir, segmentName(g.base))))
	}
	for len(s.epochs) > 0 && s.epochs[len(s.epochs)-1].start >= at {
		s.epochs = s.epochs[:len(s.epochs)-1]
	}
	s.next, s.logEnd = at, at
	return errors.Join(err, s.openSegment(at))
}

// Append takes the batch that follows the log's end, as the quorum committed it. After an error the same batch may be given again.
// REQUIRES: Options.Follow; one caller at a time.
func (s *Store) Append(batch []byte, leader int32) error {
	invariant.Assert(s.o.Follow, "a batch of others for a log that this node leads")
	h, err := record.ParseHeader(batch)
	if err != nil {
		return err
	}
	if h.BaseOffset != s.next {
		return fmt.Errorf("a batch at offset %d of the metadata log, which ends at %d", h.BaseOffset, s.next)
	}
	if s.end > 0 && s.end+int64(len(batch)) > s.o.SegmentBytes {
		if err := s.roll(); err != nil {
			return err
		}
	}
	if err := s.write(batch, h.NextOffset()-h.BaseOffset); err != nil {
		return err
	}
	s.mu.Lock()
	s.committed = s.next
	fresh := len(s.epochs) == 0 || s.epochs[len(s.epochs)-1].epoch < h.PartitionLeaderEpoch
	if fresh {
		s.epochs = append(s.epochs, epochStart{h.PartitionLeaderEpoch, h.BaseOffset})
		s.epoch = h.PartitionLeaderEpoch
	}
	s.mu.Unlock()
	if fresh || leader != s.leader {
		s.leader = leader
		if err := s.writeSmall(); err != nil {
			s.log.Warn("the files beside the metadata log are out of date", "dir", s.dir, "err", err)
		}
	}
	return nil
}

// Install replaces the log by a snapshot that was read from the quorum. REQUIRES: as Append.
func (s *Store) Install(img *metadata.Image) error {
	invariant.Assert(s.o.Follow, "a snapshot of others for a log that this node leads")
	cp, err := s.writeSnapshot(img)
	if err != nil {
		return err
	}
	if err := s.restartLog(cp.end); err != nil {
		return err
	}
	s.mu.Lock()
	s.committed, s.since = cp.end, 0
	s.epoch = max(s.epoch, cp.epoch)
	if len(s.epochs) == 0 || s.epochs[len(s.epochs)-1].epoch < cp.epoch {
		s.epochs = append(s.epochs, epochStart{cp.epoch, cp.end})
	}
	s.mu.Unlock()
	return nil
}

// truncateDamage cuts a followed log at its first damage, whatever comes after: the quorum has it.
func (s *Store) truncateDamage(f vfs.File, at int64) error {
	s.log.Warn("cut the metadata log at its first damage; what comes after is fetched again", "file", f.Name(), "offset", s.next, "byte", at)
	if err := f.Truncate(at); err != nil {
		return err
	}
	segments, _, _, err := listDir(s.fs, s.dir)
	if err != nil {
		return err
	}
	for _, base := range segments {
		if base >= s.next && path.Join(s.dir, segmentName(base)) != f.Name() {
			if err := s.fs.Remove(path.Join(s.dir, segmentName(base))); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// Sync makes what was appended durable. REQUIRES: as Append.
func (s *Store) Sync() error { return s.settle() }

// Encode makes a batch of records, its base offset and epoch open.
func (s *Store) Encode(records []metadata.Versioned) ([]byte, error) {
	return dataBatch(0, 0, s.clock.Now().UnixMilli(), records)
}

// LeadBatch makes the control batch with which a node begins to lead the log: who leads, and who votes. Its base offset and epoch are open.
func (s *Store) LeadBatch(voters []schema.VotersRecordVoter) ([]byte, error) {
	now := s.clock.Now().UnixMilli()
	b := record.NewBuilder(record.BuilderOptions{Control: true})
	change := &schema.LeaderChangeMessage{LeaderID: s.node}
	for _, v := range voters {
		change.Voters = append(change.Voters, schema.LeaderChangeMessageVoter{VoterID: v.VoterID})
		change.GrantingVoters = append(change.GrantingVoters, schema.LeaderChangeMessageVoter{VoterID: v.VoterID})
	}
	for _, c := range []struct {
		t record.ControlType
		m schema.Message
	}{{record.ControlLeaderChange, change}, {record.ControlKRaftVersion, &schema.KRaftVersionRecord{KRaftVersion: 1}}, {record.ControlKRaftVoters, &schema.VotersRecord{Voters: voters}}} {
		value, err := c.m.AppendTo(nil, 0)
		if err != nil {
			return nil, err
		}
		b.AppendControl(now, c.t, value)
	}
	return b.Finish(), nil
}
