package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/log"
)

const (
	// mendPause is the least time between two tries to repair a partition.
	mendPause = 10 * time.Second
	// mendFetchBytes is what is asked of another copy at a time.
	mendFetchBytes = 1 << 20
)

// OnDamage is the log's word that bytes of it are not what was written: they are fetched from another copy, in the background.
func (p *Partition) OnDamage(l *log.Log, segmentBase int64) {
	m := p.m
	now := m.now()
	if before := p.mended.Load(); m.ask == nil || before != 0 && now-time.Duration(before) < mendPause || !p.mended.CompareAndSwap(before, int64(now)) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.running.Add(1)
	go func() {
		defer m.running.Done()
		p.mend(l, segmentBase)
	}()
}

// mend repairs a segment from the first other copy that can help: the leader, or an in-sync follower.
func (p *Partition) mend(l *log.Log, segmentBase int64) {
	s := p.state.Load()
	from := slices.DeleteFunc(slices.Clone(s.ISR), func(id int32) bool { return id == p.m.node || id == s.Leader })
	if s.Leader >= 0 && s.Leader != p.m.node {
		from = slices.Insert(from, 0, s.Leader)
	}
	err := errors.New("there is no other copy in sync")
	for _, node := range from {
		var n int
		n, err = l.Mend(segmentBase, func(offset int64) ([]byte, error) { return p.read(node, offset) })
		if err == nil {
			p.m.logger.Warn("damaged records were repaired from another broker's copy", "topic", p.tp.Topic, "partition", p.tp.Partition, "segment", segmentBase, "bytes", n, "from_broker", node)
			p.m.fetches.Touch(p.tp)
			p.m.copies.Touch(p.tp)
			return
		}
	}
	p.m.logger.Error("damaged records could not be repaired", "topic", p.tp.Topic, "partition", p.tp.Partition, "segment", segmentBase, "error", err)
}

// read gives records of another broker's copy, as a consumer that may read from any.
func (p *Partition) read(node int32, offset int64) ([]byte, error) {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.SessionEpoch, req.MaxBytes = -1, -1, mendFetchBytes
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = p.tp.Topic, p.topicID
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = p.tp.Partition, offset, mendFetchBytes
	t.Partitions = append(t.Partitions, rp)
	req.Topics = append(req.Topics, t)
	ctx, cancel := context.WithTimeout(p.m.ctx, 10*time.Second)
	defer cancel()
	r, err := p.m.ask(ctx, node, "replica news", req)
	if err != nil {
		return nil, err
	}
	resp, ok := r.(*kmsg.FetchResponse)
	if !ok || resp.ErrorCode != 0 || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, fmt.Errorf("broker %d answers a fetch of offset %d in another form", node, offset)
	}
	a := &resp.Topics[0].Partitions[0]
	return a.RecordBatches, kerr.ErrorForCode(a.ErrorCode)
}
