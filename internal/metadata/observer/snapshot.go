package observer

import (
	"fmt"
	"net"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
)

// download is a snapshot that is on its way.
type download struct {
	end   int64
	epoch int32
	pos   int64
	rest  []byte // of a batch that is not complete
	delta *metadata.Delta
	head  bool
	foot  bool
}

func (c *core) beginSnapshot(end int64, epoch int32) outcome {
	if end <= c.next {
		return outcome{err: fmt.Errorf("%w: the leader offers a snapshot up to offset %d, and this node has the log up to %d", ErrDiverged, end, c.next)}
	}
	c.pending, c.bytes = nil, 0
	c.snapshot = &download{end: end, epoch: epoch, delta: metadata.NewDelta(metadata.Empty(c.o.ClusterID))}
	return outcome{progress: true}
}

func (c *core) snapshotRequest() kmsg.Request {
	r := kmsg.NewPtrFetchSnapshotRequest()
	r.SetVersion(1)
	id := c.o.ClusterID
	r.ClusterID, r.ReplicaID, r.MaxBytes = &id, c.o.Node, snapshotChunk
	p := kmsg.NewFetchSnapshotRequestTopicPartition()
	p.CurrentLeaderEpoch, p.Position, p.ReplicaDirectoryID = c.epoch, c.snapshot.pos, c.o.Directory
	p.SnapshotID.EndOffset, p.SnapshotID.Epoch = c.snapshot.end, c.snapshot.epoch
	r.Topics = []kmsg.FetchSnapshotRequestTopic{{Topic: topicName, Partitions: []kmsg.FetchSnapshotRequestTopicPartition{p}}}
	return r
}

func (c *core) snapshotChunk(from Node, r *kmsg.FetchSnapshotResponse) outcome {
	d := c.snapshot
	if d == nil {
		return outcome{progress: true}
	}
	fail := func(err error) outcome {
		c.snapshot = nil
		return outcome{err: fmt.Errorf("metadata snapshot of offset %d, epoch %d: %w", d.end, d.epoch, err)}
	}
	if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
		return fail(err)
	}
	if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return fail(fmt.Errorf("an answer of %d topics", len(r.Topics)))
	}
	p := &r.Topics[0].Partitions[0]
	news := c.follow(from, p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch, func(id int32) string {
		for _, e := range r.NodeEndpoints {
			if e.NodeID == id {
				return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
			}
		}
		return ""
	})
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		if news {
			c.snapshot = nil
			return outcome{progress: c.addr != ""}
		}
		return fail(err)
	}
	if c.snapshot == nil { // a new epoch has begun
		return outcome{progress: true}
	}
	if p.SnapshotID.EndOffset != d.end || p.SnapshotID.Epoch != d.epoch || p.Position != d.pos || p.Size < 0 || p.Size > maxSnapshotBytes || d.pos+int64(len(p.Bytes)) > p.Size {
		return fail(fmt.Errorf("bytes %d to %d of %d of another snapshot (%d, epoch %d) where byte %d was asked for", p.Position, p.Position+int64(len(p.Bytes)), p.Size, p.SnapshotID.EndOffset, p.SnapshotID.Epoch, d.pos))
	}
	d.pos += int64(len(p.Bytes))
	if err := d.add(p.Bytes); err != nil {
		return fail(err)
	}
	if d.pos < p.Size {
		if len(p.Bytes) == 0 {
			return fail(fmt.Errorf("no byte of the %d from %d on", p.Size, d.pos))
		}
		return outcome{progress: true}
	}
	if !d.head || !d.foot || len(d.rest) > 0 {
		return fail(fmt.Errorf("it has no header or no footer, or ends within a batch, at byte %d", d.pos))
	}
	d.delta.SetPosition(d.end-1, d.epoch)
	d.delta.SetController(c.leader)
	c.snapshot = nil
	c.next, c.nextEpoch, c.hw = d.end, d.epoch, max(c.hw, d.end)
	return outcome{image: d.delta.Image(), progress: true}
}

// add replays the batches that are complete.
func (d *download) add(b []byte) error {
	d.rest = append(d.rest, b...)
	b = d.rest
	for len(b) >= record.HeaderSize {
		h, err := record.ParseHeader(b)
		if err != nil {
			return err
		}
		if h.Magic != 2 || h.Size() < record.HeaderSize || h.Size() > maxBatchBytes || h.LastOffsetDelta < 0 {
			return fmt.Errorf("before byte %d: no batch", d.pos)
		}
		if h.Size() > len(b) {
			break
		}
		if err := d.batch(b[:h.Size()], h); err != nil {
			return err
		}
		b = b[h.Size():]
	}
	d.rest = append(d.rest[:0], b...)
	return nil
}

func (d *download) batch(b []byte, h record.Header) error {
	if d.foot || !record.CheckCRC(b) {
		return fmt.Errorf("before byte %d: a damaged batch, or one behind the footer", d.pos)
	}
	if h.IsControl() {
		return record.ControlRecords(b, func(c record.Control) error {
			d.head = d.head || c.Type == record.ControlSnapshotHeader
			d.foot = d.foot || c.Type == record.ControlSnapshotFooter
			return nil
		})
	}
	records, err := Decode(b, h)
	for i := range records {
		if err == nil {
			err = d.delta.Replay(-1, 0, records[i].Message)
		}
	}
	return err
}
