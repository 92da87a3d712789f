package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/wire"
)

// ListOffsets: v1-11.
//
// Offsets by time: a time gives the first record at or after it; -1 the end a consumer may read to, -2 the log start, -3 the
// record with the largest time (v7, KIP-734), -4 the local log start (v8, KIP-405), -5 the last offset in remote storage
// (v9), -6 the earliest offset not yet in remote storage (v11). Nothing is tiered here: -4 is -2, -5 and -6 find nothing.

// Timestamps with a meaning of their own.
const (
	latestTimestamp        = -1
	earliestTimestamp      = -2
	maxTimestamp           = -3
	earliestLocalTimestamp = -4
	latestTieredTimestamp  = -5
	earliestPendingUpload  = -6
)

func listOffsets(c *Call, q *kmsg.ListOffsetsRequest) {
	resp := kmsg.NewPtrListOffsetsResponse()
	seen := map[log.TopicPartition]int{}
	for _, t := range q.Topics {
		for _, p := range t.Partitions {
			seen[log.TopicPartition{Topic: t.Topic, Partition: p.Partition}]++
		}
	}
	for _, t := range q.Topics {
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition, rp.Timestamp, rp.Offset, rp.LeaderEpoch = p.Partition, -1, -1, -1
			tp := log.TopicPartition{Topic: t.Topic, Partition: p.Partition}
			var err error
			if seen[tp] == 0 {
				continue // answered already
			}
			if seen[tp] > 1 {
				seen[tp] = 0
				err = wire.Errorf(kerr.InvalidRequest, "%s stands in the request more than once", tp)
			} else {
				err = c.listOffset(tp, &p, q, &rp)
			}
			rp.ErrorCode = wire.CodeOf(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	c.Reply(resp)
}

// oldestVersion is the first version of the request that may ask for a timestamp.
func oldestVersion(ts int64) int16 {
	switch ts {
	case maxTimestamp:
		return 7
	case earliestLocalTimestamp:
		return 8
	case latestTieredTimestamp:
		return 9
	case earliestPendingUpload:
		return 11
	}
	return 0
}

func (c *Call) listOffset(tp log.TopicPartition, p *kmsg.ListOffsetsRequestTopicPartition, q *kmsg.ListOffsetsRequest, out *kmsg.ListOffsetsResponseTopicPartition) error {
	if p.Timestamp < 0 && c.Version < oldestVersion(p.Timestamp) {
		return wire.Errorf(kerr.UnsupportedVersion, "timestamp %d needs a later version of ListOffsets than %d", p.Timestamp, c.Version)
	}
	if topic := c.Image().Topic(tp.Topic); topic == nil || topic.Partition(tp.Partition) == nil {
		return kerr.UnknownTopicOrPartition
	}
	part, err := c.Replicas.Get(tp)
	if err != nil {
		return err
	}
	if err := part.CheckEpoch(p.CurrentLeaderEpoch); err != nil {
		return err
	}
	l, err := part.Log()
	if err != nil {
		return err
	}
	bound := l.HighWatermark()
	switch {
	case q.ReplicaID >= 0 && c.ofCluster(c.Req.Conn): // a follower asks what there is, not what is committed
		bound = l.LogEnd()
	case p.Timestamp == earliestTimestamp || p.Timestamp == earliestLocalTimestamp:
	default:
		if err := part.CaughtUp(); err != nil {
			return oldOffsetError(c.Version, err)
		}
		if q.IsolationLevel == 1 {
			bound = l.LastStable()
		}
	}
	switch p.Timestamp {
	case latestTimestamp:
		out.Offset, out.LeaderEpoch = bound.Offset, part.LeaderEpoch()
	case earliestTimestamp, earliestLocalTimestamp:
		if out.Offset, err = l.Visible(l.LogStartOffset(), bound); err != nil {
			return err
		}
		out.LeaderEpoch = l.EpochOf(out.Offset)
	case latestTieredTimestamp, earliestPendingUpload:
	default:
		return c.byTime(l, p.Timestamp, bound, out)
	}
	return nil
}

// oldOffsetError is the error for clients that do not know OFFSET_NOT_AVAILABLE.
func oldOffsetError(version int16, err error) error {
	if version < 5 {
		return kerr.LeaderNotAvailable
	}
	return err
}

func (c *Call) byTime(l *log.Log, ts int64, bound log.OffsetMeta, out *kmsg.ListOffsetsResponseTopicPartition) error {
	var found log.TimestampOffset
	var ok bool
	var err error
	if ts == maxTimestamp {
		found, ok, err = l.MaxTimestampOffset()
	} else {
		found, ok, err = l.OffsetForTimestamp(max(ts, l.ExpiredBefore()), bound)
	}
	if err != nil {
		return err
	}
	if ok && found.Offset < bound.Offset {
		out.Timestamp, out.Offset, out.LeaderEpoch = found.Timestamp, found.Offset, found.LeaderEpoch
	}
	return nil
}
