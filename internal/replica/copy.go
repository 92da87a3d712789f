package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/replica/core"
)

// This file is what a follower does with an answer of its leader.

// errDamaged says that what a leader sent is not what was written.
var errDamaged = errors.New("what the leader sent does not have its checksum")

// take appends what came and waits until it is durable.
func (f *fetcher) take(resp *kmsg.FetchResponse) {
	type grown struct {
		d  *followed
		hw int64
	}
	var all []grown
	r := newRound()
	for ti := range resp.Topics {
		t := &resp.Topics[ti]
		for pi := range t.Partitions {
			rp := &t.Partitions[pi]
			d := f.named[topicIDPartition{t.TopicID, rp.Partition}]
			if d == nil {
				continue
			}
			appended, err := f.takeOne(d, rp)
			if err != nil {
				f.complain(d, err)
				f.later(d)
				continue
			}
			d.failures = 0
			if appended {
				f.again(d)
				d.p.awaitDurable(r)
				all = append(all, grown{d, rp.HighWatermark})
			} else {
				d.p.toldHighWatermark(rp.HighWatermark)
			}
		}
	}
	f.wait(r)
	for _, g := range all {
		g.d.p.toldHighWatermark(g.hw)
	}
	if f.session == 0 {
		for _, d := range f.named {
			f.again(d)
		}
	}
}

func (f *fetcher) complain(d *followed, err error) {
	level := f.m.logger.Debug
	if d.failures == 6 || errors.Is(err, errDamaged) { // it is more than metadata on its way
		level = f.m.logger.Warn
	}
	level("a partition could not be copied from its leader; it is tried again", "topic", d.p.tp.Topic, "partition", d.p.tp.Partition,
		"leader", f.key.leader, "leader_epoch", d.epoch, "error", err)
}

// takeOne takes one partition's answer. changed says that the partition is to be named with its new offset.
func (f *fetcher) takeOne(d *followed, rp *kmsg.FetchResponseTopicPartition) (changed bool, err error) {
	l, err := d.p.Log()
	if err != nil {
		return false, err
	}
	if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
		if errors.Is(err, kerr.OffsetOutOfRange) {
			return true, f.outOfRange(d, l)
		}
		return false, err
	}
	if rp.DivergingEpoch.EndOffset >= 0 {
		end := l.LogEnd().Offset
		to := core.Truncation(epochs{l}, rp.DivergingEpoch.Epoch, rp.DivergingEpoch.EndOffset, end)
		f.m.logger.Info("a copy leaves its leader's log and is cut", "topic", d.p.tp.Topic, "partition", d.p.tp.Partition, "from", end, "to", to, "leader_epoch", d.epoch)
		return true, l.TruncateAsFollower(to, d.epoch)
	}
	if len(rp.RecordBatches) > 0 {
		if changed, err = f.append(d, l, rp.RecordBatches); err != nil {
			return false, err
		}
	}
	if rp.LogStartOffset > l.LogStartOffset() && rp.LogStartOffset <= l.LogEnd().Offset {
		return true, l.RaiseStart(rp.LogStartOffset)
	}
	return changed, nil
}

// append appends the whole batches of an answer; the last one may be cut short.
func (f *fetcher) append(d *followed, l *log.Log, b []byte) (bool, error) {
	it := record.NewBatchIter(b)
	for {
		batch, h, ok, err := it.Next()
		if err != nil {
			return false, fmt.Errorf("%w: %w", errDamaged, err)
		}
		if !ok {
			break
		}
		if !record.CheckCRC(batch) {
			return false, fmt.Errorf("%w: offset %d", errDamaged, h.BaseOffset)
		}
	}
	if b = b[:it.Pos()]; len(b) == 0 {
		return false, nil
	}
	_, err := l.AppendAsFollower(b, log.AppendOptions{LeaderEpoch: d.epoch, Now: f.m.clock.Now().UnixMilli()})
	if err == nil {
		f.m.counted(d.p, len(b))
	}
	return err == nil, err
}

// outOfRange makes a copy begin where its leader's log begins, if that is behind its own end, or end where that ends.
func (f *fetcher) outOfRange(d *followed, l *log.Log) error {
	start, err := f.offset(d, -2)
	if err != nil {
		return err
	}
	own := l.LogEnd().Offset
	if own < start {
		f.m.logger.Warn("a copy ends before its leader's log begins, and is begun anew", "topic", d.p.tp.Topic, "partition", d.p.tp.Partition, "end", own, "leader_start", start)
		return l.EmptyAsFollower(start, d.epoch)
	}
	end, err := f.offset(d, -1)
	if err != nil || own <= end {
		return err
	}
	f.m.logger.Warn("a copy is longer than its leader's log, and is cut", "topic", d.p.tp.Topic, "partition", d.p.tp.Partition, "end", own, "leader_end", end)
	return l.TruncateAsFollower(end, d.epoch)
}

// offset asks the leader for the start (-2) or end (-1) of its log.
func (f *fetcher) offset(d *followed, which int64) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = f.m.node
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = d.p.tp.Topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.CurrentLeaderEpoch, rp.Timestamp = d.p.tp.Partition, d.epoch, which
	t.Partitions = append(t.Partitions, rp)
	req.Topics = append(req.Topics, t)
	ctx, cancel := context.WithTimeout(f.m.ctx, 10*time.Second)
	defer cancel()
	r, err := f.m.ask(ctx, f.key.leader, "replica news", req)
	if err != nil {
		return 0, err
	}
	resp, ok := r.(*kmsg.ListOffsetsResponse)
	if !ok || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return 0, errors.New("the leader's answer about its offsets has another form")
	}
	a := &resp.Topics[0].Partitions[0]
	return a.Offset, kerr.ErrorForCode(a.ErrorCode)
}

// epochs shows a log to the core.
type epochs struct{ l *log.Log }

func (e epochs) EpochEnd(epoch int32) (int32, int64) { return e.l.EpochEnd(epoch, e.l.LogEnd()) }

// toldHighWatermark is a follower's leader's word of what is committed; the follower knows no more of it than it has.
func (p *Partition) toldHighWatermark(leader int64) {
	l := p.opened.Load()
	at := core.FollowerHighWatermark(leader, l.DurableEnd().Offset)
	p.mu.Lock()
	follows := p.leader == nil && p.closed == nil
	p.mu.Unlock()
	if follows && at > l.HighWatermark().Offset {
		l.SetFollowerHighWatermark(at)
		p.m.fetches.Touch(p.tp)
	}
}
