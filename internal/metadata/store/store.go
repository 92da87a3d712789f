package store

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/invariant"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/vfs"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Options say where the log is and who keeps it.
type Options struct {
	FS     vfs.FS
	Clock  clock.Clock
	Logger *slog.Logger
	// LogDirs get a meta.properties each; Dir, or else the first of them, holds the metadata log. The caller has
	// locked them.
	LogDirs []string
	Dir     string
	// NodeID is -1 for the id in meta.properties or, in empty directories, 1. ClusterID "" likewise, or a new one.
	NodeID    int32
	ClusterID string
	// Follow says that other nodes decide what is in the log: it is appended to by Append and Install, never by Propose.
	Follow bool
	// NewID makes random ids fit for directories and clusters.
	NewID func() metadata.UUID
	// Endpoints are this node's as a voter.
	Endpoints []metadata.Endpoint
	// Bootstrap are the first records of a new cluster.
	Bootstrap []metadata.Versioned
	// SegmentBytes and SnapshotBytes are sizes of the log after which a segment is closed and a snapshot written.
	SegmentBytes, SnapshotBytes int64
	// SnapshotInterval is the time after which a snapshot is written of whatever came since the last; 0: never.
	SnapshotInterval time.Duration
	// RetentionBytes and RetentionTime bound what is kept of old snapshots and of the log before them, negative: not at all. The
	// newest two snapshots stay.
	RetentionBytes int64
	RetentionTime  time.Duration
}

// Store is the metadata log. Propose and the readers are safe for concurrent use.
type Store struct {
	fs        vfs.FS
	clock     clock.Clock
	log       *slog.Logger
	o         Options
	dir       string
	node      int32
	clusterID string
	dirIDs    map[string]metadata.UUID
	isNew     bool
	epoch     int32
	leader    int32 // of a log that is followed
	epochs    []epochStart
	image     *metadata.Image // as of Open

	// Owned by Open, then by the appender.
	file    vfs.File
	end     int64 // bytes in file
	next    int64 // offset of the next record
	logEnd  int64 // while loading: offset after the last batch that was read
	ballast bool  // there is one
	unsure  bool  // a file, name or batch was written and not made durable yet

	mu        sync.Mutex
	queue     []proposal
	failed    error
	closing   bool
	committed int64 // offset after the last durable record
	segments  []*segment
	since     int64           // bytes since the last snapshot
	snapshot  bool            // one is being written
	snapped   time.Time       // when the last one was begun, or the log opened
	newest    *metadata.Image // what a snapshot by time is made of
	timer     clock.Timer     // for it; nil where none is due
	wake      chan struct{}
	done      sync.WaitGroup
}

type proposal struct {
	records []metadata.Versioned
	done    func(base int64, err error)
}

var _ metadata.Proposer = (*Store)(nil)

// Image is the state as of Open.
func (s *Store) Image() *metadata.Image { return s.image }

// ClusterID is the cluster's id, NodeID this node's.
func (s *Store) ClusterID() string { return s.clusterID }

// NodeID is this node's id.
func (s *Store) NodeID() int32 { return s.node }

// Epoch is the leader epoch of this incarnation, or the newest of a log that is followed.
func (s *Store) Epoch() int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

// Voter is the id of the directory that holds this log.
func (s *Store) Voter() metadata.UUID { return s.dirIDs[s.o.Dir] }

// IsNew says whether Open began a new cluster.
func (s *Store) IsNew() bool { return s.isNew }

// DirectoryID is the id of one of LogDirs.
func (s *Store) DirectoryID(dir string) metadata.UUID { return s.dirIDs[dir] }

// Committed is the offset after the last durable record.
func (s *Store) Committed() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.committed
}

// Propose queues records; those that wait together become one batch and one fsync.
func (s *Store) Propose(records []metadata.Versioned, done func(base int64, err error)) {
	s.mu.Lock()
	err := s.failed
	if s.o.Follow {
		err = errFollowing
	} else if s.closing && err == nil {
		err = errClosed
	}
	if err == nil {
		s.queue = append(s.queue, proposal{records, done})
	}
	s.mu.Unlock()
	if err != nil {
		done(-1, err)
		return
	}
	s.rouse()
}

// rouse wakes the appender. A token that is there already does as well.
func (s *Store) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

var errFollowing = wire.Errorf(kerr.NotController, "This node follows the metadata log of others.")

var errClosed = wire.Errorf(kerr.NotController, "The metadata log of this node is closed.")

// run is the appender: the only goroutine that writes to the log.
func (s *Store) run() {
	defer s.done.Done()
	if err := s.settle(); err != nil {
		s.fail(err)
	} else if err := s.writeSmall(); err != nil {
		s.log.Warn("the files beside the metadata log are out of date", "dir", s.dir, "err", err)
	}
	s.layBallast()
	for range s.wake {
		for {
			s.mu.Lock()
			group := s.queue
			s.queue = nil
			closing := s.closing
			s.mu.Unlock()
			if len(group) == 0 {
				if closing {
					return
				}
				break
			}
			s.commit(group)
		}
	}
}

func (s *Store) fail(err error) {
	s.log.Error("the metadata log failed; this node changes no metadata until it is started again", "dir", s.dir, "err", err)
	s.mu.Lock()
	s.failed = wire.Errorf(kerr.KafkaStorageError, "The metadata log in %s failed: %v", s.dir, err)
	s.mu.Unlock()
}

// commit writes a group of proposals as one batch and answers them. Proposals that cannot be encoded are refused alone.
func (s *Store) commit(group []proposal) {
	s.mu.Lock()
	err := s.failed
	s.mu.Unlock()
	var all []metadata.Versioned
	bases := make([]int64, len(group))
	refused := make([]error, len(group))
	for i, p := range group {
		bases[i] = s.next + int64(len(all))
		for _, r := range p.records {
			if _, e := r.Message.AppendTo(nil, r.Version); e != nil {
				refused[i] = fmt.Errorf("metadata record %s: %w", r.Message.MessageName(), e)
			}
		}
		if refused[i] == nil {
			all = append(all, p.records...)
		}
	}
	if err == nil && len(all) > 0 {
		switch err = s.append(all); {
		case noSpace(err):
			err = s.refused(err)
		case err != nil:
			s.fail(err)
			s.mu.Lock()
			err = s.failed
			s.mu.Unlock()
		case !s.ballast:
			s.layBallast()
		}
	}
	for i, p := range group {
		if e := errors.Join(refused[i], err); e != nil {
			p.done(-1, e)
		} else {
			p.done(bases[i], nil)
		}
	}
}

// append writes one batch and makes it durable.
func (s *Store) append(records []metadata.Versioned) error {
	batch, err := dataBatch(s.next, s.epoch, s.clock.Now().UnixMilli(), records)
	if err != nil {
		return err
	}
	if s.end > 0 && s.end+int64(len(batch)) > s.o.SegmentBytes {
		if err := s.roll(); err != nil {
			return fmt.Errorf("close a segment: %v", err) // for whatever reason: half of it may be done
		}
	}
	if err := s.write(batch, int64(len(records))); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	return nil
}

// write appends a batch that is not durable before settle.
func (s *Store) write(batch []byte, records int64) error {
	s.unsure = true
	if err := s.writeAt(batch); err != nil {
		return fmt.Errorf("append to %s at %d: %w", s.file.Name(), s.end, err)
	}
	s.mu.Lock()
	s.segments[len(s.segments)-1].add(s.next, s.end, int64(len(batch)))
	s.since += int64(len(batch))
	s.mu.Unlock()
	s.end += int64(len(batch))
	s.next += records
	return nil
}

// settle makes everything written durable.
func (s *Store) settle() error {
	if s.unsure {
		if err := s.file.Sync(); err != nil {
			return fmt.Errorf("sync %s: %v", s.file.Name(), err) // for whatever reason: nobody knows what the disk holds
		}
		s.unsure = false
	}
	s.mu.Lock()
	s.committed = s.next
	s.mu.Unlock()
	return nil
}

// MaybeSnapshot starts a snapshot of img in the background when the log has grown enough since the last one. The
// loop calls it with each new image.
func (s *Store) MaybeSnapshot(img *metadata.Image) {
	if !s.snapshotFrom(img, s.o.SnapshotBytes) {
		s.snapshotInTime(img)
	}
}

// snapshotInTime sees to it that a snapshot with img, or what comes after it, is written within the interval.
func (s *Store) snapshotInTime(img *metadata.Image) {
	if s.o.SnapshotInterval <= 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest = img
	if s.timer == nil && !s.closing {
		s.timer = s.clock.AfterFunc(max(0, s.o.SnapshotInterval-s.clock.Since(s.snapped)), func() {
			s.mu.Lock()
			img := s.newest
			s.timer, s.newest = nil, nil
			s.mu.Unlock()
			s.snapshotFrom(img, 1)
		})
	}
}

// Checkpoint is MaybeSnapshot before a planned stop: it takes less growth to make the next start quicker. Close waits for it.
func (s *Store) Checkpoint(img *metadata.Image) {
	s.snapshotFrom(img, min(s.o.SnapshotBytes, closeSnapshotBytes))
}

// closeSnapshotBytes of records take a few milliseconds to replay.
const closeSnapshotBytes = 512 << 10

func (s *Store) snapshotFrom(img *metadata.Image, least int64) (begun bool) {
	s.mu.Lock()
	start := s.since >= least && !s.snapshot && !s.closing && s.failed == nil && img.Offset() >= 0
	if start {
		s.snapped = s.clock.Now()
		invariant.Assert(img.Offset() < s.committed, "snapshot of offset %d, committed are those below %d", img.Offset(), s.committed)
		s.snapshot, s.since = true, 0
		s.done.Add(1)
	}
	s.mu.Unlock()
	if !start {
		return false
	}
	go func() {
		defer s.done.Done()
		cp, err := s.writeSnapshot(img)
		if err == nil {
			err = s.clean(cp)
		}
		if err != nil {
			s.log.Warn("no metadata snapshot; the log is kept and the next one is tried later", "dir", s.dir, "err", err)
		}
		s.mu.Lock()
		s.snapshot = false
		s.mu.Unlock()
	}()
	return true
}

// Close makes what was proposed durable and closes the files. Later proposals are refused.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return nil
	}
	s.closing = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	s.rouse()
	s.done.Wait()
	var err error
	if s.o.Follow {
		err = s.settle()
	}
	err = errors.Join(err, s.file.Close())
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(err, s.failed)
}

func (s *Store) voters() *schema.VotersRecord {
	v := schema.VotersRecordVoter{VoterID: s.node, VoterDirectoryID: s.dirIDs[s.o.Dir]}
	for _, e := range s.o.Endpoints {
		v.Endpoints = append(v.Endpoints, schema.VotersRecordEndpoint{Name: e.Name, Host: e.Host, Port: e.Port})
	}
	v.KRaftVersionFeature.MaxSupportedVersion = 1
	return &schema.VotersRecord{Voters: []schema.VotersRecordVoter{v}}
}
