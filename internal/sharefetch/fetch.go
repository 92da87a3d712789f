package sharefetch

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/share"
)

// Named is a partition that a request names, with what the member acknowledges of it.
type Named struct {
	ID   PartitionID
	Acks []share.Ack
	// Err is what is wrong with the acknowledgements; decided by who decoded the request.
	Err error
}

// Request is one ShareFetch or ShareAcknowledge.
type Request struct {
	Group, Member      string
	Epoch              int32 // of the share session
	Conn               context.Context
	Partitions         []Named
	Forgotten          []PartitionID
	AcknowledgeOnly    bool
	MaxWait            time.Duration
	MinBytes, MaxBytes int
	MaxRecords         int
	BatchSize          int
	Strict             bool // never more than MaxRecords (KIP-1206)
}

// Result is the answer for one partition. Slice is to be released by whoever takes it.
type Result struct {
	ID     PartitionID
	Err    error // of the fetch
	Acked  bool  // the request acknowledged something of it
	AckErr error
	Slice  log.Slice
	Leases []share.Lease
}

// Do serves a request: acknowledgements first, then the fetch, which waits until there is something or MaxWait has passed. done
// comes once, with the length of a lease in milliseconds, or with what is wrong with the request as a whole.
func (m *Manager) Do(r *Request, done func(lockMs int64, results []Result, err error)) {
	ids, err := m.begin(r)
	if err != nil {
		done(0, nil, err)
		return
	}
	settings := m.o.Settings(r.Group)
	c := &call{m: m, r: r, done: done, lockMs: settings.LockMs, order: make([]PartitionID, 0, len(ids)), byID: map[PartitionID]*Result{}}
	c.left.Store(1) // until the fetch is through
	parts := c.resolve(ids)
	c.acknowledge()
	if r.AcknowledgeOnly || r.Epoch == EpochFinal || r.MaxRecords <= 0 || r.MaxBytes <= 0 || len(parts) == 0 {
		c.finish(nil)
		return
	}
	f := &fetch{c: c, committed: settings.ReadCommitted, byKey: settings.KeyOrder}
	f.leave = context.AfterFunc(r.Conn, func() { f.gone.Store(true) })
	turn := int(uint32(r.Epoch)) % len(parts) // every partition comes first in its turn
	keys := make([]waitKey, 0, 2*len(parts))
	for i := range parts {
		p := &parts[(turn+i)%len(parts)]
		f.parts = append(f.parts, fetchPart{id: p.id, p: m.partition(r.Group, p.id.TopicID, p.tp)})
		keys = append(keys, waitKey{"", p.tp.Topic, p.tp.Partition}, waitKey{r.Group, p.tp.Topic, p.tp.Partition})
	}
	if m.draining.Load() {
		f.Expire()
		return
	}
	m.fetches.TryCompleteElseWatch(f, min(r.MaxWait, 24*time.Hour), keys...)
}

// resolve names the partitions to read. What is not here is answered as such; the answer that opens a session has all partitions.
func (c *call) resolve(ids []PartitionID) (parts []sessionPart) {
	for _, id := range ids {
		tp, err := c.m.o.Source.Resolve(id.TopicID, id.Partition)
		switch {
		case c.r.AcknowledgeOnly:
		case err != nil:
			c.result(id).Err = err
		case c.r.Epoch == EpochInitial:
			c.result(id)
			fallthrough
		default:
			parts = append(parts, sessionPart{id, tp})
		}
	}
	return parts
}

// sessionPart is a partition to read and its name.
type sessionPart struct {
	id PartitionID
	tp log.TopicPartition
}

// call is one request under way: its acknowledgements and its fetch.
type call struct {
	m      *Manager
	r      *Request
	lockMs int64
	order  []PartitionID
	byID   map[PartitionID]*Result // complete before anything is started; each result then has one writer at a time
	left   atomic.Int32
	done   func(lockMs int64, results []Result, err error)
	got    []Result
}

func (c *call) result(id PartitionID) *Result {
	x := c.byID[id]
	if x == nil {
		x = &Result{ID: id}
		c.byID[id] = x
		c.order = append(c.order, id)
	}
	return x
}

// acknowledge starts the acknowledgements.
func (c *call) acknowledge() {
	for i := range c.r.Partitions {
		n := &c.r.Partitions[i]
		if len(n.Acks) == 0 && n.Err == nil {
			continue
		}
		x := c.result(n.ID)
		x.Acked = true
		if _, x.AckErr = c.m.o.Source.Resolve(n.ID.TopicID, n.ID.Partition); x.AckErr == nil {
			x.AckErr = n.Err
		}
	}
	for i := range c.r.Partitions {
		n := &c.r.Partitions[i]
		x := c.byID[n.ID]
		if len(n.Acks) == 0 || x.AckErr != nil {
			continue
		}
		p := c.m.known(c.r.Group, n.ID.TopicID, n.ID.Partition)
		if p == nil {
			x.AckErr = kerr.UnknownTopicOrPartition
			continue
		}
		c.left.Add(1)
		p.acknowledge(c.r.Member, n.Acks, func(err error) {
			if err == nil {
				c.m.count1(n.Acks)
			}
			x.AckErr = err
			c.part()
		})
		c.m.fetches.TouchLater(p.wait)
	}
}

// finish takes what the fetch has got.
func (c *call) finish(got []Result) {
	c.got = got
	c.part()
}

// part ends one part of the call; the last one answers.
func (c *call) part() {
	if c.left.Add(-1) > 0 {
		return
	}
	if c.r.Epoch == EpochFinal {
		c.m.leave(c.r.Group, c.r.Member, nil)
	}
	for i := range c.got {
		g := &c.got[i]
		x := c.result(g.ID)
		x.Err, x.Slice, x.Leases = g.Err, g.Slice, g.Leases
	}
	out := make([]Result, len(c.order))
	for i, id := range c.order {
		out[i] = *c.byID[id]
	}
	c.done(c.lockMs, out, nil)
}

// fetch is the reading half of a request; it waits in the purgatory.
type fetch struct {
	c         *call
	parts     []fetchPart
	committed bool
	byKey     bool
	got       []Result
	gone      atomic.Bool // the client closed its connection
	leave     func() bool
}

type fetchPart struct {
	id PartitionID
	p  *partition
}

// TryComplete leases what there is; with nothing, the fetch goes on waiting.
func (f *fetch) TryComplete() bool {
	if !f.gone.Load() && !f.try() && !f.c.m.draining.Load() {
		return false
	}
	f.end()
	return true
}

// Expire answers with what there is.
func (f *fetch) Expire() {
	if !f.gone.Load() {
		f.try()
	}
	f.end()
}

func (f *fetch) end() {
	f.leave()
	if f.c.r.Conn.Err() != nil {
		f.giveBack()
	}
	f.c.finish(f.got)
}

// giveBack returns what was leased for a connection that closed before: what closing gives back may have come earlier.
func (f *fetch) giveBack() {
	for i := range f.got {
		x := &f.got[i]
		p := f.c.m.known(f.c.r.Group, x.ID.TopicID, x.ID.Partition)
		if p == nil {
			continue
		}
		for _, l := range x.Leases {
			p.acknowledge(f.c.r.Member, []share.Ack{{First: l.First, Last: l.Last, Types: []share.AckType{share.Release}}}, func(error) {}) // an error: closing was later
		}
		f.c.m.fetches.TouchLater(p.wait)
	}
}

// try goes through the partitions once. True: there is something to say.
func (f *fetch) try() bool {
	records, bytes := f.c.r.MaxRecords, f.c.r.MaxBytes
	for i := range f.parts {
		x := &f.parts[i]
		if records <= 0 || bytes <= 0 {
			break
		}
		res, ok := x.p.lease(f, records, bytes)
		if !ok {
			continue
		}
		res.ID = x.id
		for _, l := range res.Leases {
			records -= int(l.Last - l.First + 1)
		}
		bytes -= res.Slice.Len()
		f.got = append(f.got, res)
	}
	return len(f.got) > 0
}

// lease leases records to the member of f, at most so many, in about so many bytes. ok is false where there is nothing now.
func (p *partition) lease(f *fetch, records, bytes int) (res Result, ok bool) {
	for range leaseTries {
		res, ok, again := p.leaseOnce(f, records, bytes)
		if !again {
			return res, ok
		}
	}
	p.m.fetches.TouchLater(p.wait) // go on later: others wait for this goroutine
	return Result{}, false
}

// leaseTries bounds how many stretches without a record for anybody (markers, aborted transactions) are passed over at a time.
const leaseTries = 64

func (p *partition) leaseOnce(f *fetch, records, bytes int) (res Result, ok, again bool) {
	now := p.m.now()
	settings := p.m.o.Settings(p.key.Group)
	p.mu.Lock()
	switch {
	case p.err != nil:
		err := p.err
		p.mu.Unlock()
		if errors.Is(err, kerr.CoordinatorNotAvailable) {
			return res, false, false // the next fetch loads it again
		}
		return Result{Err: err}, true, false
	case p.state == nil:
		p.mu.Unlock()
		return res, false, false
	case p.fetching:
		p.contended = true
		p.mu.Unlock()
		return res, false, false
	}
	l := p.view.Log
	p.idle = false
	p.state.SetSettings(settings.Settings)
	p.state.MoveStart(l.LogStartOffset())
	from, upTo, ok := p.state.Next(now, records)
	bound := l.HighWatermark()
	if f.committed {
		bound = l.LastStable()
	}
	if !ok || from >= bound.Offset {
		p.unlock(nil)
		return res, false, false
	}
	p.fetching, p.contended = true, false
	p.mu.Unlock()

	got, err := p.m.look(l, from, upTo, bytes, f.committed, settings.KeyOrder)
	if err != nil && errors.Is(err, kerr.OffsetOutOfRange) { // the log's start moved meanwhile
		got, err = found{upTo: from - 1}, nil
	}

	p.mu.Lock()
	contended := p.contended
	p.fetching, p.contended = false, false
	var leases []share.Lease
	if err == nil && p.err == nil {
		req := share.Request{Member: f.c.r.Member, Now: now, From: from, UpTo: got.upTo, Batches: got.batches,
			MaxRecords: records, BatchSize: f.c.r.BatchSize, Strict: f.c.r.Strict}
		leases = p.state.Acquire(&req)
		next, _, more := p.state.Next(now, records)
		again = len(leases) == 0 && got.upTo >= from && more && next != from
	}
	p.unlock(nil)
	if contended {
		p.m.fetches.TouchLater(p.wait)
	}
	if err != nil {
		return Result{Err: err}, true, false
	}
	s := got.cut(leases)
	p.m.metrics.leased.Add(float64(count(leases)))
	return Result{Slice: s, Leases: leases}, len(leases) > 0, again
}

func count(leases []share.Lease) (n int64) {
	for _, l := range leases {
		n += l.Last - l.First + 1
	}
	return n
}

var ackNames = [...]string{share.Gap: "Gap", share.Accept: "Accept", share.Release: "Release", share.Reject: "Reject", share.Renew: "Renew"}

// count1 counts acknowledgements.
func (m *Manager) count1(acks []share.Ack) {
	for i := range acks {
		a := &acks[i]
		if len(a.Types) == 1 {
			m.metrics.acknowledged.WithLabelValues(ackNames[a.Types[0]]).Add(float64(a.Last - a.First + 1))
			continue
		}
		for _, t := range a.Types {
			m.metrics.acknowledged.WithLabelValues(ackNames[t]).Inc()
		}
	}
}
