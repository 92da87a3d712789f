package observer

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Node is where requests go: a node whose id is known, or an address from the settings with the id -1.
type Node struct {
	ID   int32
	Addr string
}

// Commit is one committed batch of the log.
type Commit struct {
	Base   int64
	Count  int64 // offsets that it takes
	Epoch  int32 // under which the batch was written
	Leader int32 // who leads the log as far as is known, -1 unknown
	Batch  []byte
	// Records are those of the batch in order; none of a control batch.
	Records []metadata.Versioned
}

// ErrDiverged says that the quorum does not have what it once called committed: it has lost its log, or this node was in another cluster.
var ErrDiverged = errors.New("the quorum does not have what it had committed")

// Bounds of what a leader can make us keep.
const (
	maxBatchBytes    = 256 << 20
	maxPendingBytes  = 512 << 20
	maxSnapshotBytes = 8 << 30
	snapshotChunk    = 1 << 20
	fetchBytes       = 8 << 20
)

const topicName = "__cluster_metadata"

var topicID = [16]byte{15: 1}

// core is the follower without its input and output: it makes requests and takes answers.
type core struct {
	o *Options

	// The leader as far as is known. epoch never goes back.
	epoch  int32
	leader int32
	addr   string

	next      int64 // offset after the last batch handed over
	nextEpoch int32 // epoch of that batch
	pending   []pending
	bytes     int // in pending
	hw        int64
	snapshot  *download
}

// pending is a batch that is not known to be committed.
type pending struct {
	batch []byte
	h     record.Header
}

// outcome says what an answer brought.
type outcome struct {
	commits  []Commit
	image    *metadata.Image // a snapshot that is complete; it comes before the commits
	progress bool            // the next request may go at once
	idle     bool            // there was nothing new
	err      error           // to be told and tried again
}

func newCore(o *Options, next int64, epoch int32) *core {
	return &core{o: o, leader: -1, next: next, nextEpoch: epoch, epoch: max(epoch, 0), hw: next}
}

// end is where the next fetch begins, and the epoch of the batch before.
func (c *core) end() (int64, int32) {
	if n := len(c.pending); n > 0 {
		h := &c.pending[n-1].h
		return h.NextOffset(), h.PartitionLeaderEpoch
	}
	return c.next, c.nextEpoch
}

func (c *core) request() kmsg.Request {
	if c.snapshot != nil {
		return c.snapshotRequest()
	}
	r := kmsg.NewPtrFetchRequest()
	r.SetVersion(18)
	id := c.o.ClusterID
	r.ClusterID = &id
	r.ReplicaState.ID, r.ReplicaState.Epoch = c.o.Node, -1
	r.MaxWaitMillis, r.MinBytes, r.MaxBytes = int32(c.o.MaxWait.Milliseconds()), 0, fetchBytes
	r.SessionEpoch = -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.CurrentLeaderEpoch = c.epoch
	p.FetchOffset, p.LastFetchedEpoch = c.end()
	p.PartitionMaxBytes, p.ReplicaDirectoryID, p.HighWatermark = fetchBytes, c.o.Directory, c.hw
	r.Topics = []kmsg.FetchRequestTopic{{Topic: topicName, TopicID: topicID, Partitions: []kmsg.FetchRequestTopicPartition{p}}}
	return r
}

func (c *core) answer(from Node, resp kmsg.Response) outcome {
	switch r := resp.(type) {
	case *kmsg.FetchResponse:
		return c.fetched(from, r)
	case *kmsg.FetchSnapshotResponse:
		return c.snapshotChunk(from, r)
	}
	return outcome{err: fmt.Errorf("BUG: answer of type %T", resp)}
}

// failed notes that a node did not answer: the leader may be another one by now.
func (c *core) failed(from Node) {
	if from.ID == c.leader || from.Addr == c.addr {
		c.leader, c.addr = -1, ""
	}
}

// follow takes what an answer says about the leader. It says whether that is news.
func (c *core) follow(from Node, leader, epoch int32, endpoints func(id int32) string) bool {
	if epoch < c.epoch {
		return false
	}
	newer := epoch > c.epoch
	if newer {
		c.epoch, c.leader, c.addr, c.snapshot = epoch, -1, "", nil
	}
	if leader < 0 || leader == c.leader && c.addr != "" {
		return newer
	}
	if c.leader = leader; c.addr == "" || newer {
		if c.addr = endpoints(leader); c.addr == "" && from.ID == leader {
			c.addr = from.Addr
		}
		if c.addr == "" {
			c.addr = c.o.Address(leader)
		}
	}
	return true
}

func (c *core) fetched(from Node, r *kmsg.FetchResponse) outcome {
	if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
		return outcome{err: fmt.Errorf("fetch of the metadata log: %w", err)}
	}
	if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return outcome{err: fmt.Errorf("fetch of the metadata log: an answer of %d topics", len(r.Topics))}
	}
	p := &r.Topics[0].Partitions[0]
	news := c.follow(from, p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch, func(id int32) string {
		for _, b := range r.Brokers {
			if b.NodeID == id {
				return net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
			}
		}
		return ""
	})
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		if news && errors.Is(err, kerr.FencedLeaderEpoch) || news && errors.Is(err, kerr.NotLeaderForPartition) {
			return outcome{progress: c.addr != ""}
		}
		return outcome{err: fmt.Errorf("fetch of the metadata log from offset %d: %w", c.next, err)}
	}
	if p.CurrentLeader.LeaderEpoch < c.epoch {
		return outcome{err: fmt.Errorf("node %d answers under the old epoch %d of the metadata log; epoch %d has begun", from.ID, p.CurrentLeader.LeaderEpoch, c.epoch)}
	}
	if c.addr == "" { // who answers so is the leader
		c.leader, c.addr = p.CurrentLeader.LeaderID, from.Addr
	}
	switch {
	case p.SnapshotID.EndOffset >= 0:
		return c.beginSnapshot(p.SnapshotID.EndOffset, p.SnapshotID.Epoch)
	case p.DivergingEpoch.EndOffset >= 0:
		return c.diverged(p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset)
	}
	before := c.hw
	took, err := c.take(p.RecordBatches)
	if err != nil {
		return outcome{err: err}
	}
	c.hw = max(c.hw, p.HighWatermark)
	commits, err := c.commit()
	return outcome{commits: commits, err: err, progress: err == nil, idle: took == 0 && c.hw == before}
}

// take keeps the batches of an answer until they are committed.
func (c *core) take(b []byte) (took int, err error) {
	for len(b) >= record.HeaderSize {
		h, err := record.ParseHeader(b)
		if err != nil {
			return took, fmt.Errorf("metadata log: %w", err)
		}
		if h.Magic != 2 || h.Size() < record.HeaderSize || h.Size() > maxBatchBytes || h.LastOffsetDelta < 0 {
			return took, fmt.Errorf("metadata log: what follows offset %d is no batch", h.BaseOffset)
		}
		if h.Size() > len(b) {
			return took, nil // the rest did not fit into the answer
		}
		batch := b[:h.Size()]
		b = b[h.Size():]
		at, epoch := c.end()
		if h.NextOffset() <= at {
			continue
		}
		if h.BaseOffset != at || h.PartitionLeaderEpoch < epoch {
			return took, fmt.Errorf("metadata log: batch of offset %d and epoch %d where offset %d of epoch %d or later was asked for", h.BaseOffset, h.PartitionLeaderEpoch, at, epoch)
		}
		if !record.CheckCRC(batch) {
			return took, fmt.Errorf("metadata log: the batch of offset %d is damaged", h.BaseOffset)
		}
		if c.bytes+len(batch) > maxPendingBytes && len(c.pending) > 0 {
			return took, nil // asked for again when some of them are committed
		}
		c.pending = append(c.pending, pending{batch, h})
		c.bytes += len(batch)
		took++
	}
	return took, nil
}

// commit gives the batches below the high watermark.
func (c *core) commit() ([]Commit, error) {
	var out []Commit
	for len(c.pending) > 0 && c.pending[0].h.NextOffset() <= c.hw {
		p := c.pending[0]
		records, err := Decode(p.batch, p.h)
		if err != nil {
			return out, err
		}
		// The buffer of the answer holds other batches too.
		out = append(out, Commit{Base: p.h.BaseOffset, Count: p.h.NextOffset() - p.h.BaseOffset, Epoch: p.h.PartitionLeaderEpoch, Leader: c.leader, Batch: p.batch, Records: records})
		c.next, c.nextEpoch = p.h.NextOffset(), p.h.PartitionLeaderEpoch
		c.bytes -= len(p.batch)
		c.pending[0] = pending{}
		c.pending = c.pending[1:]
	}
	return out, nil
}

// diverged drops what the leader does not have: its log has, of epochs up to the one named, only the offsets below end.
func (c *core) diverged(epoch int32, end int64) outcome {
	n := len(c.pending)
	for n > 0 && (c.pending[n-1].h.PartitionLeaderEpoch > epoch || c.pending[n-1].h.NextOffset() > end) {
		n--
		c.bytes -= len(c.pending[n].batch)
		c.pending[n] = pending{}
	}
	if n < len(c.pending) {
		c.pending = c.pending[:n]
		return outcome{progress: true}
	}
	return outcome{err: fmt.Errorf("%w: this node has it up to offset %d of epoch %d; of epochs up to %d the leader has what is below offset %d", ErrDiverged, c.next, c.nextEpoch, epoch, end)}
}

// Decode reads the records of a batch of the log; a control batch has none.
func Decode(batch []byte, h record.Header) ([]metadata.Versioned, error) {
	if h.IsControl() {
		return nil, nil
	}
	out := make([]metadata.Versioned, 0, max(0, min(h.NumRecords, 1<<16)))
	err := record.Records(batch, record.Limits{MaxDecompressedBytes: maxBatchBytes}, func(r *record.Record) error {
		m, version, err := schema.ReadMetadataRecord(r.Value)
		if err != nil {
			return fmt.Errorf("metadata record at offset %d: %w; a newer release wrote it, or it is damaged", r.Offset(&h), err)
		}
		out = append(out, metadata.Versioned{Message: m, Version: version})
		return nil
	})
	return out, err
}
