package replica

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/replica/core"
	"github.com/ottla/ottla/internal/wire"
)

// isrManager sends the proposals of all partitions to the controller, many in one request and one request at a time, and watches over the
// followers of partitions that have something uncommitted. One goroutine sends; it exists while there is something to send. The wheel
// tells the time; what it finds is looked at on one goroutine too.
type isrManager struct {
	m     *Manager
	alter func(ctx context.Context, req *kmsg.AlterPartitionRequest) (*kmsg.AlterPartitionResponse, error)

	mu      sync.Mutex
	queue   []proposal
	sending bool
	watched []*Partition // something of theirs was not committed when they were last looked at
	ticking bool
	closed  bool
}

type proposal struct {
	p      *Partition
	leader *core.Leader // of the epoch that proposes
	what   *core.Proposal
}

const (
	// watchEvery is how often the followers of busy partitions are looked at.
	watchEvery = 100 * time.Millisecond
	// alterBackoff is the pause after a controller did not answer.
	alterBackoff = 50 * time.Millisecond
	// alterTimeout bounds one request.
	alterTimeout = 10 * time.Second
	// slowShare: where more than one in this many of the busy partitions have a slow follower, the leader itself is the suspect.
	slowShare = 3
	// slowFew is up to how many partitions that is not looked at.
	slowFew = 3
)

// propose queues a proposal. It is called under the partition's lock and takes only its own.
func (i *isrManager) propose(p *Partition, l *core.Leader, what *core.Proposal) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed || i.alter == nil {
		return
	}
	i.queue = append(i.queue, proposal{p, l, what})
	if !i.sending {
		i.sending = true
		i.m.running.Add(1)
		go i.send()
	}
}

func (i *isrManager) close() {
	i.mu.Lock()
	i.closed, i.queue = true, nil
	i.mu.Unlock()
}

// send sends until nothing is left to propose.
func (i *isrManager) send() {
	defer i.m.running.Done()
	for {
		i.mu.Lock()
		batch := i.queue
		i.queue = nil
		i.sending = len(batch) > 0 && !i.closed
		if !i.sending {
			i.mu.Unlock()
			return
		}
		i.mu.Unlock()
		if again := i.ask(batch); len(again) > 0 {
			pause := i.m.clock.NewTimer(alterBackoff)
			select {
			case <-pause.C():
			case <-i.m.ctx.Done():
				pause.Stop()
			}
			i.mu.Lock()
			if !i.closed {
				i.queue = append(again, i.queue...)
			}
			i.mu.Unlock()
		}
	}
}

// ask sends one request, hands the answers to the partitions, and gives back what must be asked again.
func (i *isrManager) ask(batch []proposal) (again []proposal) {
	req := kmsg.NewPtrAlterPartitionRequest()
	req.BrokerID, req.BrokerEpoch = i.m.node, i.m.brokerEpoch()
	at := map[[16]byte]int{}
	byTP := map[topicIDPartition]proposal{}
	for _, b := range batch {
		if l := b.p.leaderNow(); l != b.leader {
			continue
		}
		n, ok := at[b.p.topicID]
		if !ok {
			t := kmsg.NewAlterPartitionRequestTopic()
			t.TopicID = b.p.topicID
			req.Topics = append(req.Topics, t)
			n = len(req.Topics) - 1
			at[b.p.topicID] = n
		}
		rp := kmsg.NewAlterPartitionRequestTopicPartition()
		rp.Partition, rp.LeaderEpoch, rp.PartitionEpoch = b.p.tp.Partition, b.what.LeaderEpoch, b.what.PartitionEpoch
		rp.NewISR = b.what.ISR
		for k, id := range b.what.ISR {
			e := kmsg.NewAlterPartitionRequestTopicPartitionNewEpochISR()
			e.BrokerID, e.BrokerEpoch = id, b.what.BrokerEpochs[k]
			rp.NewEpochISR = append(rp.NewEpochISR, e)
		}
		req.Topics[n].Partitions = append(req.Topics[n].Partitions, rp)
		byTP[topicIDPartition{b.p.topicID, b.p.tp.Partition}] = b
	}
	if len(byTP) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(i.m.ctx, alterTimeout)
	defer cancel()
	resp, err := i.alter(ctx, req)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		i.m.logger.Warn("the controller could not be asked about in-sync replicas; it is asked again", "partitions", len(byTP), "error", err)
		for _, b := range byTP {
			again = append(again, b)
		}
		return again
	}
	for _, t := range resp.Topics {
		for _, rp := range t.Partitions {
			key := topicIDPartition{t.TopidID, rp.Partition}
			if b, ok := byTP[key]; ok {
				delete(byTP, key)
				if b.p.replied(b, &rp) {
					again = append(again, b)
				}
			}
		}
	}
	for _, b := range byTP { // of these it said nothing
		again = append(again, b)
	}
	return again
}

type topicIDPartition struct {
	id        [16]byte
	partition int32
}

func (p *Partition) leaderNow() *core.Leader {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leader
}

// replied hands the controller's answer to the partition; true where it is to be asked again.
func (p *Partition) replied(b proposal, rp *kmsg.AlterPartitionResponseTopicPartition) (again bool) {
	a := core.Accepted
	if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
		p.m.logger.Info("the controller keeps the in-sync replicas of a partition as they are", "topic", p.tp.Topic, "partition", p.tp.Partition, "proposed", b.what.ISR, "reason", err)
		switch {
		case errors.Is(err, kerr.OperationNotAttempted), errors.Is(err, kerr.IneligibleReplica):
			a = core.Refused
		case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.FencedLeaderEpoch),
			errors.Is(err, kerr.InvalidUpdateVersion), errors.Is(err, kerr.InvalidRequest), errors.Is(err, kerr.NewLeaderElected):
			a = core.Outdated
		default:
			a = core.Unanswered
		}
	}
	now := p.m.now()
	p.mu.Lock()
	if p.leader != b.leader {
		p.mu.Unlock()
		return false
	}
	out, again := p.leader.Replied(p.m, b.what, a, rp.ISR, rp.LeaderEpoch, rp.PartitionEpoch, now)
	p.take(p.opened.Load(), out)
	return again
}

// watch begins to look at the followers of a partition.
func (i *isrManager) watch(p *Partition) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.watched = append(i.watched, p)
	if !i.ticking && !i.closed {
		i.ticking = true
		i.m.wheel.AfterFunc(watchEvery, i.tick)
	}
}

// tick looks at the busy partitions. It runs on the wheel's goroutine: memory work only.
func (i *isrManager) tick() {
	i.mu.Lock()
	parts := i.watched
	i.watched = nil
	i.mu.Unlock()
	now := i.m.now()
	keep, slow := parts[:0], 0
	for _, p := range parts {
		busy, isSlow := p.observe(now)
		if isSlow {
			slow++
		}
		if busy {
			keep = append(keep, p)
		} else if p.active.Store(false); p.behind() && p.active.CompareAndSwap(false, true) {
			keep = append(keep, p) // an append came between
		}
	}
	mayShed := slow <= slowFew || slow*slowShare <= len(parts)
	for _, p := range keep {
		p.tick(mayShed, now)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.watched = append(keep, i.watched...)
	if i.ticking = len(i.watched) > 0 && !i.closed; i.ticking {
		i.m.wheel.AfterFunc(watchEvery, i.tick)
	}
}

// behind says whether something is not committed.
func (p *Partition) behind() bool {
	l := p.opened.Load()
	return l != nil && l.HighWatermark().Offset < l.LogEnd().Offset
}

// observe looks who holds the partition up. busy is whether it is to be looked at again.
func (p *Partition) observe(now time.Duration) (busy, slow bool) {
	l := p.opened.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leader == nil || p.leader.Alone() || p.closed != nil {
		return false, false
	}
	p.leader.Observe(now)
	// A follower that lacks something must be looked at even where the high watermark does not wait for it.
	return p.leader.Behind(l.LogEnd().Offset), len(p.leader.Slow(now)) > 0
}

func (p *Partition) tick(mayShed bool, now time.Duration) {
	l := p.opened.Load()
	end := l.LogEnd().Offset
	p.mu.Lock()
	if p.leader == nil || p.closed != nil {
		p.mu.Unlock()
		return
	}
	p.take(l, p.leader.Tick(p.m, end, mayShed, now))
}

// lowWaits are those who wait until no replica has records below an offset (DeleteRecords). Guarded by the partition's mu.
type lowWaits struct{ queue []waiter }

// WaitLow tells w once no live replica has records below upTo.
func (p *Partition) WaitLow(upTo int64, w Waiter, index int) {
	l, err := p.Log()
	if err != nil {
		w.Committed(index, err)
		return
	}
	p.mu.Lock()
	if p.closed != nil || p.leader == nil {
		p.mu.Unlock()
		w.Committed(index, p.notLeader())
		return
	}
	p.low.queue = append(p.low.queue, waiter{upTo, w, index})
	p.checkLow(l)
}

// checkLow answers those whose offset is reached. REQUIRES: mu, which it gives back.
func (p *Partition) checkLow(l *log.Log) {
	low := p.leader.LowWatermark(p.m, l.LogStartOffset())
	var ready []waiter
	n := 0
	for _, w := range p.low.queue {
		if w.upTo <= low {
			ready = append(ready, w)
		} else {
			p.low.queue[n] = w
			n++
		}
	}
	p.low.queue = p.low.queue[:n]
	p.mu.Unlock()
	for _, w := range ready {
		w.w.Committed(w.index, nil)
	}
}

// LowWatermark is the lowest log start of the live replicas.
func (p *Partition) LowWatermark() (int64, error) {
	l, err := p.Log()
	if err != nil {
		return -1, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leader == nil {
		return -1, wire.Errorf(kerr.NotLeaderForPartition, "%s-%d has another leader now", p.tp.Topic, p.tp.Partition)
	}
	return p.leader.LowWatermark(p.m, l.LogStartOffset()), nil
}
