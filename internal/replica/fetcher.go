package replica

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/metadata"
)

// This file is how a broker copies the partitions it follows. All partitions of one leader share a few fetchers, each a goroutine with a
// connection and an incremental fetch session of its own (KIP-227). A fetcher asks, appends what came, waits until it is durable, and asks
// again: the offset in a request is what the disk has, and the leader counts on that (rule R1). A request names only what has
// changed since the last one, so that what is idle costs nothing on this side.

// Fetching are the settings of the fetchers.
type Fetching struct {
	Fetchers         int // goroutines for each leader: num.replica.fetchers
	WaitMax          time.Duration
	MinBytes         int32
	PartitionMaxByte int32 // of one partition in an answer
	ResponseMaxBytes int32
	BackoffMax       time.Duration
}

// DefaultFetching are Kafka's defaults.
func DefaultFetching() Fetching {
	return Fetching{Fetchers: 1, WaitMax: 500 * time.Millisecond, MinBytes: 1, PartitionMaxByte: 1 << 20, ResponseMaxBytes: 10 << 20, BackoffMax: time.Second}
}

// backoffMin is the first pause after an error; each further one is twice as long, up to BackoffMax.
const backoffMin = 10 * time.Millisecond

type fetcherKey struct {
	leader int32
	index  int
}

// fetchers are all fetchers of a broker.
type fetchers struct {
	mu      sync.Mutex // guards what follows, and the assignment of each fetcher
	running map[fetcherKey]*fetcher
}

// fetcher copies the partitions of one leader that fell to it.
type fetcher struct {
	m    *Manager
	key  fetcherKey
	wake chan struct{} // there is something new while the fetcher has nothing to do

	// Guarded by fetchers.mu.
	parts  map[*followed]struct{}
	queue  []*followed // to be named in the next request: new, or moved
	gone   []*followed // to be forgotten by the session
	asking int         // counts requests; odd while one is under way
	kicked bool        // the leader was told that there is more, while it held a request

	// The goroutine's own.
	session, epoch int32
	named          map[topicIDPartition]*followed // what the session knows
	failures       int
}

// followed is a partition in one leader epoch.
type followed struct {
	p        *Partition
	f        *fetcher
	epoch    int32
	queued   bool // guarded by fetchers.mu
	removed  bool // guarded by fetchers.mu: it has another leader or role
	failures int  // the goroutine's own
}

func (d *followed) key() topicIDPartition {
	return topicIDPartition{d.p.topicID, d.p.tp.Partition}
}

var fetcherSeed = maphash.MakeSeed()

// follow moves a partition from the fetcher of its former leader to that of the new one.
func (m *Manager) follow(p *Partition, before, after *metadata.Partition) {
	follows := after != nil && after.Leader >= 0 && after.Leader != m.node && m.ask != nil
	if follows && before != nil && before.Leader == after.Leader && before.LeaderEpoch == after.LeaderEpoch && p.followed.Load() != nil {
		return
	}
	old := p.followed.Load()
	if old == nil && !follows {
		return
	}
	fs := &m.fetchers
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if old != nil {
		old.removed = true
		delete(old.f.parts, old)
		old.f.gone = append(old.f.gone, old)
		old.f.news()
		p.followed.Store(nil)
	}
	if !follows || m.ctx.Err() != nil {
		return
	}
	key := fetcherKey{after.Leader, int(maphash.Comparable(fetcherSeed, p.tp) % uint64(max(m.fetching().Fetchers, 1)))}
	f := fs.running[key]
	if f == nil {
		f = &fetcher{m: m, key: key, wake: make(chan struct{}, 1), parts: map[*followed]struct{}{}, named: map[topicIDPartition]*followed{}}
		fs.running[key] = f
		m.running.Add(1)
		go f.run()
	}
	d := &followed{p: p, f: f, epoch: after.LeaderEpoch}
	p.followed.Store(d)
	f.parts[d] = struct{}{}
	f.enqueue(d)
	f.news()
}

// enqueue has a partition named in the next request. REQUIRES: fetchers.mu.
func (f *fetcher) enqueue(d *followed) {
	if !d.queued && !d.removed {
		d.queued = true
		f.queue = append(f.queue, d)
	}
}

// news wakes the fetcher, or the leader that holds its request. REQUIRES: fetchers.mu.
func (f *fetcher) news() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
	if f.asking&1 == 1 && !f.kicked && len(f.queue) > 0 && f.m.ctx.Err() == nil {
		f.kicked = true
		f.m.running.Add(1)
		go f.kick(f.asking)
	}
}

// later has a partition asked for again after a pause, and not before.
func (f *fetcher) later(d *followed) {
	d.failures++
	f.pause(d, min(backoffMin<<min(d.failures-1, 10), f.m.fetching().BackoffMax))
}

// pause leaves a partition out of the session for a while.
func (f *fetcher) pause(d *followed, pause time.Duration) {
	if f.named[d.key()] == d {
		delete(f.named, d.key())
		f.m.fetchers.mu.Lock()
		f.gone = append(f.gone, d)
		f.m.fetchers.mu.Unlock()
	}
	f.m.wheel.AfterFunc(pause, func() {
		f.m.fetchers.mu.Lock()
		defer f.m.fetchers.mu.Unlock()
		f.enqueue(d)
		f.news()
	})
}

func (f *fetcher) again(d *followed) {
	f.m.fetchers.mu.Lock()
	defer f.m.fetchers.mu.Unlock()
	f.enqueue(d)
}

// kick asks a leader that holds the fetcher's request to answer it now: an empty fetch without a session, which a leader of another make
// answers as what it is. The request may not have arrived yet, so it is looked at again.
func (f *fetcher) kick(asking int) {
	defer f.m.running.Done()
	for range 3 {
		req := f.request()
		req.SessionEpoch, req.MaxWaitMillis, req.MinBytes = -1, 0, 0
		if _, err := f.m.ask(f.m.ctx, f.key.leader, "replica news", req); err != nil {
			return
		}
		if !f.m.sleep(backoffMin) {
			return
		}
		f.m.fetchers.mu.Lock()
		over := f.asking != asking
		f.m.fetchers.mu.Unlock()
		if over {
			return
		}
	}
}

// sleep pauses; false where the manager closes.
func (m *Manager) sleep(d time.Duration) bool {
	t := m.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return true
	case <-m.ctx.Done():
		return false
	}
}

// run fetches until nothing is left to follow.
func (f *fetcher) run() {
	defer f.m.running.Done()
	for {
		queue, gone, ok := f.next()
		if !ok {
			return
		}
		f.round(queue, gone)
	}
}

// next waits until there is something to ask for.
func (f *fetcher) next() (queue, gone []*followed, ok bool) {
	fs := &f.m.fetchers
	for {
		fs.mu.Lock()
		if len(f.parts) == 0 || f.m.ctx.Err() != nil {
			delete(fs.running, f.key)
			fs.mu.Unlock()
			return nil, nil, false
		}
		queue, gone = f.queue, f.gone
		f.queue, f.gone = nil, nil
		for _, d := range queue {
			d.queued = false
		}
		queue = slices.DeleteFunc(queue, func(d *followed) bool { return d.removed })
		fs.mu.Unlock()
		for _, d := range gone {
			if f.named[d.key()] == d {
				delete(f.named, d.key())
			}
		}
		if len(queue)+len(f.named) > 0 {
			return queue, gone, true
		}
		select {
		case <-f.wake:
		case <-f.m.ctx.Done():
		}
	}
}

func (f *fetcher) request() *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version = 0 // the newest that both know
	req.ReplicaID, req.ReplicaState.ID, req.ReplicaState.Epoch = f.m.node, f.m.node, f.m.brokerEpoch()
	return req
}

// round is one fetch and what follows from it.
func (f *fetcher) round(queue, gone []*followed) {
	if f.session == 0 { // without a session everything is named
		for _, d := range f.named {
			if !slices.Contains(queue, d) {
				queue = append(queue, d)
			}
		}
		gone = nil
	}
	f.settle(queue)
	o := f.m.fetching()
	req := f.request()
	req.SessionID, req.SessionEpoch = f.session, f.epoch
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(o.WaitMax.Milliseconds()), o.MinBytes, o.ResponseMaxBytes
	f.name(req, queue, o)
	f.forget(req, gone)
	if len(f.named) == 0 {
		return // none could be opened
	}
	fs := &f.m.fetchers
	fs.mu.Lock()
	f.asking++
	if len(f.queue) > 0 { // it came meanwhile, and goes first
		req.MaxWaitMillis = 0
	}
	fs.mu.Unlock()
	ctx, cancel := context.WithTimeout(f.m.ctx, o.WaitMax+10*time.Second)
	r, err := f.m.ask(ctx, f.key.leader, "replica "+string(rune('0'+f.key.index%10)), req)
	cancel()
	fs.mu.Lock()
	f.asking++
	f.kicked = false
	fs.mu.Unlock()
	resp, ok := r.(*kmsg.FetchResponse)
	if err == nil && ok {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil || !ok {
		f.restart(err)
		return
	}
	f.failures = 0
	f.session = resp.SessionID
	if f.epoch++; f.session == 0 || f.epoch < 0 {
		f.epoch = 0
	}
	f.take(resp)
}

// restart begins a new session after a pause, with everything there is.
func (f *fetcher) restart(err error) {
	if f.m.ctx.Err() != nil {
		return
	}
	f.failures++
	level := f.m.logger.Debug
	if f.failures == 4 { // it is more than a moment
		level = f.m.logger.Warn
	}
	level("a leader could not be fetched from; it is tried again", "leader", f.key.leader, "tries", f.failures, "error", err)
	f.session, f.epoch = 0, 0
	for _, d := range f.named {
		f.again(d)
	}
	clear(f.named)
	if f.failures > 1 {
		f.m.sleep(min(backoffMin<<min(f.failures-2, 10), f.m.fetching().BackoffMax))
	}
}

// name puts partitions into a request, from the end of what is durable here.
func (f *fetcher) name(req *kmsg.FetchRequest, queue []*followed, o Fetching) {
	at := map[[16]byte]int{}
	for _, d := range queue {
		l, err := d.p.Log()
		if err != nil {
			f.later(d)
			continue
		}
		if f.m.waits(d.p) {
			f.pause(d, throttlePause)
			continue
		}
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.CurrentLeaderEpoch, rp.LastFetchedEpoch = d.p.tp.Partition, d.epoch, l.LatestEpoch()
		rp.FetchOffset, rp.LogStartOffset, rp.PartitionMaxBytes = l.DurableEnd().Offset, l.LogStartOffset(), o.PartitionMaxByte
		n, ok := at[d.p.topicID]
		if !ok {
			t := kmsg.NewFetchRequestTopic()
			t.Topic, t.TopicID = d.p.tp.Topic, d.p.topicID
			req.Topics = append(req.Topics, t)
			n = len(req.Topics) - 1
			at[d.p.topicID] = n
		}
		req.Topics[n].Partitions = append(req.Topics[n].Partitions, rp)
		f.named[d.key()] = d
	}
}

// forget tells the session what is fetched no more.
func (f *fetcher) forget(req *kmsg.FetchRequest, gone []*followed) {
	for _, d := range gone {
		if f.named[d.key()] != nil { // it is back, in another epoch
			continue
		}
		t := kmsg.NewFetchRequestForgottenTopic()
		t.Topic, t.TopicID, t.Partitions = d.p.tp.Topic, d.p.topicID, []int32{d.p.tp.Partition}
		req.ForgottenTopics = append(req.ForgottenTopics, t)
	}
}

// round counts what a fetcher waits for on its disks.
type round struct {
	left atomic.Int32
	over chan struct{}
}

func newRound() *round {
	r := &round{over: make(chan struct{})}
	r.left.Store(1)
	return r
}

// done is safe on nil.
func (r *round) done() {
	if r != nil && r.left.Add(-1) == 0 {
		close(r.over)
	}
}

// settle waits until everything in the logs of partitions is durable: what this broker wrote as leader may not be yet.
func (f *fetcher) settle(parts []*followed) {
	r := newRound()
	for _, d := range parts {
		d.p.awaitDurable(r)
	}
	f.wait(r)
}

func (f *fetcher) wait(r *round) {
	r.done()
	select {
	case <-r.over:
	case <-f.m.ctx.Done():
	}
}

// awaitDurable counts the partition in r until all of its log is durable.
func (p *Partition) awaitDurable(r *round) {
	l := p.opened.Load()
	if l == nil {
		return
	}
	end := l.LogEnd().Offset
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed != nil || p.leader != nil || l.DurableEnd().Offset >= end {
		return
	}
	r.left.Add(1)
	p.sync.done() // of a fetcher that had the partition before
	p.sync, p.syncTo = r, end
}
