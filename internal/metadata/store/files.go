package store

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/vfs"
)

// TopicName and TopicID name the metadata log; LogDir is its directory below the metadata log dir.
const (
	TopicName = "__cluster_metadata"
	LogDir    = TopicName + "-0"
)

// TopicID is the fixed id of the metadata log.
var TopicID = metadata.UUID{15: 1}

// QuorumState is the content of the quorum-state file.
type QuorumState struct {
	LeaderID         int32  `json:"leaderId"`
	LeaderEpoch      int32  `json:"leaderEpoch"`
	VotedID          int32  `json:"votedId"`
	VotedDirectoryID string `json:"votedDirectoryId"`
	DataVersion      int16  `json:"data_version"`
}

// ParseQuorumState reads a quorum-state file, data version 0 or 1.
func ParseQuorumState(content []byte) (QuorumState, error) {
	q := QuorumState{VotedID: -1, LeaderID: -1}
	if err := json.Unmarshal(content, &q); err != nil {
		return q, err
	}
	if q.DataVersion < 0 || q.DataVersion > 1 {
		return q, fmt.Errorf("data_version %d, expected 0 or 1", q.DataVersion)
	}
	if q.LeaderEpoch < 0 {
		return q, fmt.Errorf("leaderEpoch %d", q.LeaderEpoch)
	}
	return q, nil
}

func (s *Store) readQuorumState() (QuorumState, error) {
	name := path.Join(s.dir, "quorum-state")
	content, err := readFile(s.fs, name, maxSmallFile)
	if err != nil {
		return QuorumState{}, nil // the epochs in the log itself count
	}
	q, err := ParseQuorumState(content)
	if err != nil {
		// The log holds every epoch that anything was written under, so a torn file loses nothing.
		s.log.Warn("quorum-state cannot be read; the epochs of the log are used", "file", name, "err", err)
		return QuorumState{}, nil
	}
	if q.LeaderID >= 0 && q.LeaderID != s.node && !s.o.Follow {
		return q, fmt.Errorf("%s names node %d as leader and this is node %d: the directory belongs to a cluster with other voters, which this node cannot continue alone", name, q.LeaderID, s.node)
	}
	return q, nil
}

// epochStart is where an epoch's first record is.
type epochStart struct {
	epoch int32
	start int64
}

func appendEpochs(dst []byte, epochs []epochStart) []byte {
	dst = fmt.Appendf(dst, "0\n%d\n", len(epochs))
	for _, e := range epochs {
		dst = fmt.Appendf(dst, "%d %d\n", e.epoch, e.start)
	}
	return dst
}

// writeSmall refreshes the files that tools look at. They repeat what the log says, so nothing waits for the disk.
func (s *Store) writeSmall() error {
	leader := s.node
	if s.o.Follow {
		leader = s.leader
	}
	state, err := json.Marshal(QuorumState{LeaderID: leader, LeaderEpoch: s.epoch, VotedID: -1, VotedDirectoryID: IDText(metadata.UUID{}), DataVersion: 1})
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"quorum-state":            state,
		"leader-epoch-checkpoint": appendEpochs(nil, s.epochs),
		"partition.metadata":      fmt.Appendf(nil, "version: 0\ntopic_id: %s", IDText(TopicID)),
	} {
		if err := replaceFile(s.fs, path.Join(s.dir, name), content, false); err != nil {
			return err
		}
	}
	return nil
}

func segmentName(base int64) string { return fmt.Sprintf("%020d.log", base) }

func checkpointName(end int64, epoch int32) string {
	return fmt.Sprintf("%020d-%010d.checkpoint", end, epoch)
}

// parseSegmentName and parseCheckpointName read the numbers in a file's name.
func parseSegmentName(name string) (base int64, ok bool) {
	digits, ok := strings.CutSuffix(name, ".log")
	if !ok || len(digits) != 20 {
		return 0, false
	}
	base, err := strconv.ParseInt(digits, 10, 64)
	return base, err == nil && base >= 0
}

func parseCheckpointName(name string) (end int64, epoch int32, ok bool) {
	rest, ok := strings.CutSuffix(name, ".checkpoint")
	if !ok || len(rest) != 31 || rest[20] != '-' {
		return 0, 0, false
	}
	end, err1 := strconv.ParseInt(rest[:20], 10, 64)
	e, err2 := strconv.ParseInt(rest[21:], 10, 32)
	return end, int32(e), err1 == nil && err2 == nil && end >= 0 && e >= 0
}

func listDir(f vfs.FS, dir string) (segments []int64, checkpoints []checkpoint, parts []string, err error) {
	entries, err := f.ReadDir(dir)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, e := range entries {
		if base, ok := parseSegmentName(e.Name()); ok {
			segments = append(segments, base)
		} else if end, epoch, ok := parseCheckpointName(e.Name()); ok {
			checkpoints = append(checkpoints, checkpoint{end, epoch})
		} else if strings.HasSuffix(e.Name(), ".part") || strings.HasSuffix(e.Name(), ".tmp") {
			parts = append(parts, e.Name())
		}
	}
	slices.Sort(segments)
	return segments, checkpoints, parts, nil
}

// checkpoint names a snapshot: the offset after its last record and that record's epoch.
type checkpoint struct {
	end   int64
	epoch int32
}
