package txn

import (
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Options are what a shard is made of.
type Options struct {
	MaxTimeoutMs   int32         // transaction.max.timeout.ms
	Expiration     time.Duration // transactional.id.expiration.ms
	ExpiryInterval time.Duration // how often ids are looked through
	// Announce is told of a transaction that is decided and whose markers are to be written; it must not block.
	Announce func(id string)
	Log      *slog.Logger
}

// Shard holds the transactional ids of one partition.
type Shard struct {
	o      Options
	txns   map[string]*Txn
	last   map[string]int16 // the epoch before, for a client that asks again; not in the log, as in Kafka
	parked map[string][]parkedAdd
	loaded bool
	// flexible says that the cluster's transaction.version allows the second form of records.
	flexible bool
}

// parkedAdd is an AddPartitions that waits until the transaction before is complete.
type parkedAdd struct {
	tok     coordinator.Token
	p       Producer
	add     []Partition
	version int16
}

var _ coordinator.Shard = (*Shard)(nil)

// New makes an empty shard.
func New(o Options) *Shard {
	return &Shard{o: o, txns: map[string]*Txn{}, last: map[string]int16{}, parked: map[string][]parkedAdd{}, flexible: true}
}

// Replay applies a record.
func (s *Shard) Replay(_, _ int64, _ int16, rec coordinator.Record) error {
	k, ok := rec.Key.(*schema.TransactionLogKey)
	if !ok {
		return fmt.Errorf("a record of %T in the log of transactions", rec.Key)
	}
	if rec.Value == nil {
		delete(s.txns, k.TransactionalID)
		delete(s.last, k.TransactionalID)
		return nil
	}
	v, ok := rec.Value.(*schema.TransactionLogValue)
	if !ok {
		return fmt.Errorf("a value of %T for transactional id %q", rec.Value, k.TransactionalID)
	}
	t := fromRecord(k.TransactionalID, v)
	s.txns[t.ID] = t
	if s.loaded {
		s.announce(t)
	}
	return nil
}

func (s *Shard) announce(t *Txn) {
	if t.State == PrepareCommit || t.State == PrepareAbort {
		s.o.Announce(t.ID)
	}
}

// ReplayEndTxn never comes: nothing in this log is transactional itself.
func (s *Shard) ReplayEndTxn(int64, int16, bool) error { return nil }

const expiryTimer = "expire"

// OnLoaded takes up what was decided before, and the clocks of what is not.
func (s *Shard) OnLoaded(now time.Time, img *metadata.Image) []coordinator.Timer {
	s.loaded = true
	s.see(img)
	timers := []coordinator.Timer{{Key: expiryTimer, After: s.o.ExpiryInterval}}
	for _, t := range s.txns {
		s.announce(t)
		if t.State == Ongoing {
			timers = append(timers, timeout(t, now))
		}
	}
	return timers
}

// OnImage looks at the cluster's transaction.version.
func (s *Shard) OnImage(_ time.Time, img *metadata.Image, _ *metadata.Delta) []coordinator.Timer {
	s.see(img)
	return nil
}

func (s *Shard) see(img *metadata.Image) {
	if img != nil {
		s.flexible = img.Feature("transaction.version") >= 1
	}
}

// OnUnloaded does nothing.
func (s *Shard) OnUnloaded() {}

const txnTimer = "txn:"

func timeout(t *Txn, now time.Time) coordinator.Timer {
	return coordinator.Timer{Key: txnTimer + t.ID, After: max(t.due().Sub(now), time.Millisecond)}
}

// OnTimer aborts a transaction whose time is over, or forgets ids that nobody has used for long.
func (s *Shard) OnTimer(now time.Time, key string) (coordinator.Result[any], error) {
	var r coordinator.Result[any]
	if key == expiryTimer {
		r.NonAtomic = true
		r.Timers = []coordinator.Timer{{Key: expiryTimer, After: s.o.ExpiryInterval}}
		for id, t := range s.txns {
			idle := t.State == Empty || t.State == CompleteCommit || t.State == CompleteAbort
			if idle && now.Sub(time.UnixMilli(t.UpdatedMs)) >= s.o.Expiration {
				r.Records = append(r.Records, coordinator.Record{Key: &schema.TransactionLogKey{TransactionalID: id}})
			}
		}
		return r, nil
	}
	t := s.txns[strings.TrimPrefix(key, txnTimer)]
	if t == nil || t.State != Ongoing {
		return r, nil
	}
	if now.Before(t.due()) {
		r.Timers = []coordinator.Timer{timeout(t, now)}
		return r, nil
	}
	s.o.Log.Info("a transaction is aborted, for its time is over", "transactional_id", t.ID, "producer_id", t.ProducerID, "epoch", t.Epoch, "timeout_ms", t.TimeoutMs)
	r.Records = []coordinator.Record{s.fence(t, now).record(s.flexible)}
	return r, nil
}

// fence aborts a transaction on behalf of nobody: the epoch grows, so that its producer finds out.
func (s *Shard) fence(t *Txn, now time.Time) *Txn {
	n := t.clone()
	n.State, n.UpdatedMs = PrepareAbort, now.UnixMilli()
	n.Epoch = grown(n.Epoch)
	if t.ClientVersion >= Version2 {
		n.Epoch = grown(n.Epoch)
	}
	s.last[t.ID] = NoEpoch
	return n
}

func grown(epoch int16) int16 {
	if epoch == math.MaxInt16 {
		return epoch
	}
	return epoch + 1
}

// Producer names a producer and the epoch that it believes to have.
type Producer struct {
	ID    int64
	Epoch int16
}

// Granted is the answer of InitProducerID and EndTxn. NeedID asks for the same call with a fresh producer id: epochs have run out, or the
// transactional id is new.
type Granted struct {
	Producer
	NeedID bool
	// Aborting says that InitProducerID has begun to abort a transaction: the client is to ask again (CONCURRENT_TRANSACTIONS).
	Aborting bool
}

// InitProducerID gives the owner of a transactional id its epoch, after fencing the one before. have is what the client knows of itself,
// NoProducer for nothing; fresh is a new producer id or NoProducer. Errors: INVALID_TRANSACTION_TIMEOUT, PRODUCER_FENCED,
// CONCURRENT_TRANSACTIONS (an earlier transaction is being ended; ask again).
func (s *Shard) InitProducerID(now time.Time, id string, timeoutMs int32, have Producer, fresh int64) (r coordinator.Result[Granted], err error) {
	if timeoutMs <= 0 || timeoutMs > s.o.MaxTimeoutMs {
		return r, wire.Errorf(kerr.InvalidTransactionTimeout, "a transaction timeout of %d ms; it must be above 0 and at most transaction.max.timeout.ms = %d", timeoutMs, s.o.MaxTimeoutMs)
	}
	t := s.txns[id]
	if t == nil {
		if fresh < 0 {
			r.Reply.NeedID = true
			return r, nil
		}
		t = &Txn{ID: id, ProducerID: fresh, PrevProducerID: NoProducer, NextProducerID: NoProducer, Epoch: NoEpoch, StartedMs: -1, Partitions: map[Partition]bool{}}
	}
	if have.ID >= 0 && t.Epoch != NoEpoch && have.ID != t.ProducerID && !(have.ID == t.PrevProducerID && exhausted(have.Epoch)) {
		return r, wire.Errorf(kerr.ProducerFenced, "producer %d of transactional id %q has been replaced by producer %d", have.ID, id, t.ProducerID)
	}
	switch t.State {
	case PrepareCommit, PrepareAbort:
		return r, kerr.ConcurrentTransactions
	case Ongoing:
		if have.ID >= 0 && have.Epoch != t.Epoch && have.Epoch != s.lastOf(id) {
			return r, fenced(t, have)
		}
		r.Records = []coordinator.Record{s.fence(t, now).record(s.flexible)}
		r.Timers = []coordinator.Timer{{Key: txnTimer + id}}
		r.Reply.Aborting = true
		return r, nil
	}
	n := t.clone()
	n.State, n.TimeoutMs, n.UpdatedMs, n.StartedMs, n.Partitions = Empty, timeoutMs, now.UnixMilli(), -1, map[Partition]bool{}
	n.PrevProducerID, n.NextProducerID = NoProducer, NoProducer
	last := s.lastOf(id)
	switch {
	case t.Epoch == NoEpoch:
		n.Epoch, last = 0, NoEpoch
	case have.ID >= 0 && have.Epoch != t.Epoch && have.Epoch == last && have.ID == t.ProducerID:
		// asked again: the answer of the first time was lost
	case have.ID >= 0 && have.Epoch != t.Epoch && !(have.ID == t.PrevProducerID && exhausted(have.Epoch)):
		return r, fenced(t, have)
	case have.ID >= 0 && have.ID == t.PrevProducerID && have.ID != t.ProducerID:
		n.PrevProducerID = t.PrevProducerID // asked again after the id was replaced
	case exhausted(t.Epoch):
		if fresh < 0 {
			r.Reply.NeedID = true
			return r, nil
		}
		n.PrevProducerID, n.ProducerID, n.Epoch = t.ProducerID, fresh, 0
		if last = NoEpoch; have.ID >= 0 {
			last = t.Epoch
		}
	default:
		n.Epoch = t.Epoch + 1
		if last = NoEpoch; have.ID >= 0 {
			last = t.Epoch
		}
	}
	s.last[id] = last
	r.Records = []coordinator.Record{n.record(s.flexible)}
	r.Reply.Producer = Producer{n.ProducerID, n.Epoch}
	return r, nil
}

func (s *Shard) lastOf(id string) int16 {
	if e, ok := s.last[id]; ok {
		return e
	}
	return NoEpoch
}

func fenced(t *Txn, p Producer) error {
	return wire.Errorf(kerr.ProducerFenced, "producer %d with epoch %d of transactional id %q has been fenced; the epoch is %d now", p.ID, p.Epoch, t.ID, t.Epoch)
}

// owned finds a transactional id that belongs to a producer.
func (s *Shard) owned(id string, p Producer) (*Txn, error) {
	t := s.txns[id]
	if t == nil || t.ProducerID != p.ID {
		return nil, wire.Errorf(kerr.InvalidProducerIDMapping, "transactional id %q does not belong to producer %d", id, p.ID)
	}
	if t.Epoch != p.Epoch {
		return t, fenced(t, p)
	}
	return t, nil
}

// AddPartitions makes partitions part of the transaction, which begins with the first. version is the client's protocol.
func (s *Shard) AddPartitions(now time.Time, id string, p Producer, add []Partition, version int16) (r coordinator.Result[struct{}], err error) {
	t, err := s.owned(id, p)
	if err == nil {
		err = s.knows(version)
	}
	if err != nil {
		return r, err
	}
	switch t.State {
	case PrepareCommit, PrepareAbort:
		return r, kerr.ConcurrentTransactions
	case Ongoing:
		if !slices.ContainsFunc(add, func(p Partition) bool { return !t.Partitions[p] }) {
			return r, nil
		}
	}
	n := t.clone()
	if n.State != Ongoing {
		n.State, n.StartedMs, n.Partitions = Ongoing, now.UnixMilli(), map[Partition]bool{}
		r.Timers = []coordinator.Timer{timeout(n, now)}
	}
	for _, p := range add {
		n.Partitions[p] = true
	}
	n.UpdatedMs, n.ClientVersion = now.UnixMilli(), version
	r.Records = []coordinator.Record{n.record(s.flexible)}
	return r, nil
}

// knows refuses the second version of the protocol while the log has no room for it.
func (s *Shard) knows(version int16) error {
	if version >= Version2 && !s.flexible {
		return wire.Errorf(kerr.UnsupportedVersion, "transaction.version is 0: transactions of version 2 are off in this cluster")
	}
	return nil
}

// AddOrPark is AddPartitions for those whose order must not change: while the transaction before is being ended it waits, and is answered
// when that is done.
func (s *Shard) AddOrPark(now time.Time, tok coordinator.Token, id string, p Producer, add []Partition, version int16) (coordinator.Result[struct{}], error) {
	if t, err := s.owned(id, p); err == nil && (t.State == PrepareCommit || t.State == PrepareAbort) {
		s.parked[id] = append(s.parked[id], parkedAdd{tok, p, add, version})
		return coordinator.Result[struct{}]{Parked: true}, nil
	}
	return s.AddPartitions(now, id, p, add, version)
}

// unpark has those that waited for n, which is complete, begin the next transaction.
func (s *Shard) unpark(now time.Time, n *Txn, r *coordinator.Result[struct{}]) {
	next := n
	for _, w := range s.parked[n.ID] {
		if w.p != (Producer{n.ProducerID, n.Epoch}) {
			r.Deliveries = append(r.Deliveries, coordinator.Delivery{Token: w.tok, Err: fenced(n, w.p)})
			continue
		}
		if next == n {
			next = n.clone()
			next.State, next.StartedMs, next.Partitions = Ongoing, now.UnixMilli(), map[Partition]bool{}
			r.Timers = append(r.Timers, timeout(next, now))
		}
		for _, p := range w.add {
			next.Partitions[p] = true
		}
		next.ClientVersion = w.version
		r.Deliveries = append(r.Deliveries, coordinator.Delivery{Token: w.tok, Reply: struct{}{}})
	}
	delete(s.parked, n.ID)
	if next != n {
		r.Records = append(r.Records, next.record(s.flexible))
	}
}

// Verify says of each partition whether it is part of the producer's transaction.
func (s *Shard) Verify(id string, p Producer, ask []Partition) map[Partition]error {
	t, err := s.owned(id, p)
	if err == nil && (t.State == PrepareCommit || t.State == PrepareAbort) {
		err = kerr.ConcurrentTransactions
	}
	out := make(map[Partition]error, len(ask))
	for _, x := range ask {
		switch {
		case err != nil:
			out[x] = err
		case t.State == Ongoing && t.Partitions[x]:
			out[x] = nil
		default:
			out[x] = kerr.TransactionAbortable
		}
	}
	return out
}

// EndTxn decides a transaction. It is answered when the decision is durable; the markers follow. version is the client's protocol: with
// Version2 the answer holds the epoch of the next transaction. fresh is a new producer id or NoProducer.
func (s *Shard) EndTxn(now time.Time, id string, p Producer, commit bool, version int16, fresh int64) (r coordinator.Result[Granted], err error) {
	t := s.txns[id]
	bumps := version >= Version2
	if err := s.knows(version); err != nil {
		return r, err
	}
	if t == nil {
		return r, wire.Errorf(kerr.InvalidProducerIDMapping, "transactional id %q is not known", id)
	}
	again := bumps && (t.ProducerID == p.ID && t.Epoch == p.Epoch+1 || t.PrevProducerID == p.ID && exhausted(p.Epoch) && t.Epoch == 0)
	if !again {
		if t.ProducerID != p.ID {
			return r, wire.Errorf(kerr.InvalidProducerIDMapping, "transactional id %q does not belong to producer %d", id, p.ID)
		}
		if t.Epoch != p.Epoch {
			return r, fenced(t, p)
		}
	}
	r.Reply.Producer = Producer{t.ProducerID, t.Epoch}
	refused := wire.Errorf(kerr.InvalidTxnState, "a transaction of %q is to be ended with commit=%v in state %v", id, commit, t.State)
	switch t.State {
	case Ongoing:
		if again {
			return r, fenced(t, p)
		}
	case PrepareCommit, PrepareAbort:
		if (t.State == PrepareCommit) != commit {
			return r, refused
		}
		return r, kerr.ConcurrentTransactions
	case CompleteCommit, CompleteAbort:
		same := (t.State == CompleteCommit) == commit
		switch {
		case again && same, !bumps && same:
			return r, nil
		case !bumps, again, commit:
			return r, refused
		}
	default: // Empty
		if !bumps || commit || again {
			return r, refused
		}
	}
	n := t.clone()
	n.State, n.UpdatedMs, n.ClientVersion = PrepareAbort, now.UnixMilli(), version
	if commit {
		n.State = PrepareCommit
	}
	if t.State != Ongoing {
		n.Partitions, n.StartedMs = map[Partition]bool{}, now.UnixMilli()
	}
	if bumps {
		if exhausted(t.Epoch) {
			if fresh < 0 {
				r.Reply.NeedID = true
				return r, nil
			}
			n.NextProducerID = fresh
			r.Reply.Producer = Producer{fresh, 0}
		} else {
			r.Reply.Producer = Producer{t.ProducerID, t.Epoch + 1}
		}
		n.Epoch = grown(t.Epoch)
		s.last[id] = t.Epoch
	}
	r.Records = []coordinator.Record{n.record(s.flexible)}
	r.Timers = []coordinator.Timer{{Key: txnTimer + id}}
	return r, nil
}

// Decision is a transaction whose markers are to be written.
type Decision struct {
	ID         string
	Producer   Producer
	Commit     bool
	Partitions []Partition
	Version    int16 // the client's protocol
}

// Prepared gives a decided transaction, nil where there is none (any more).
func (s *Shard) Prepared(id string) *Decision {
	t := s.txns[id]
	if t == nil || t.State != PrepareCommit && t.State != PrepareAbort {
		return nil
	}
	return &Decision{ID: id, Producer: Producer{t.ProducerID, t.Epoch}, Commit: t.State == PrepareCommit, Partitions: t.Sorted(), Version: t.ClientVersion}
}

// Complete notes that all markers of a decision are written.
func (s *Shard) Complete(now time.Time, d *Decision) (r coordinator.Result[struct{}], err error) {
	t := s.txns[d.ID]
	if t == nil || t.ProducerID != d.Producer.ID || t.Epoch != d.Producer.Epoch || t.State != PrepareCommit && t.State != PrepareAbort {
		return r, nil
	}
	n := t.clone()
	n.State, n.UpdatedMs, n.Partitions = CompleteAbort, now.UnixMilli(), map[Partition]bool{}
	if t.State == PrepareCommit {
		n.State = CompleteCommit
	}
	n.NextProducerID = NoProducer
	if t.ClientVersion >= Version2 && t.NextProducerID >= 0 {
		n.PrevProducerID, n.ProducerID, n.Epoch = t.ProducerID, t.NextProducerID, 0
	}
	r.Records = []coordinator.Record{n.record(s.flexible)}
	s.unpark(now, n, &r)
	return r, nil
}

// Get gives a transactional id; it must not be changed.
func (s *Shard) Get(id string) *Txn { return s.txns[id] }

// All gives all transactional ids, in order; they must not be changed.
func (s *Shard) All() []*Txn {
	out := make([]*Txn, 0, len(s.txns))
	for _, t := range s.txns {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *Txn) int { return strings.Compare(a.ID, b.ID) })
	return out
}
