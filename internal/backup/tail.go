package backup

import (
	"cmp"
	"context"
	"encoding/binary"
	"math"
	"slices"
	"sync"

	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire/schema"
)

// States of a transaction in the transaction log, by Kafka's numbers.
const (
	txnOngoing          int8 = 1
	txnPrepareCommit    int8 = 2
	txnPrepareAbort     int8 = 3
	txnCompleteCommit   int8 = 4
	txnCompleteAbort    int8 = 5
	txnPrepareEpochLock int8 = 7
)

// producer is one transaction: a producer id in one epoch.
type producer struct {
	id    int64
	epoch int16
}

// txnState is what the saved transaction log says of decisions.
type txnState struct {
	mu        sync.Mutex
	committed map[producer]bool
}

// readTxns finds the transactions that were decided to commit before the cut.
func (r *restoration) readTxns(ctx context.Context) error {
	r.txns = &txnState{committed: map[producer]bool{}}
	t := r.o.Manifest.Topic(txnTopic)
	if t == nil {
		return nil
	}
	for _, p := range t.Partitions {
		cut, err := r.cut(ctx, p)
		if err != nil {
			return err
		}
		for i := range p.Chunks {
			if p.Chunks[i].First >= cut {
				break
			}
			b, err := getObject(ctx, r.o.Store, &p.Chunks[i])
			if err != nil {
				return err
			}
			err = eachRecord(b, cut, func(_ *record.Header, rec *record.Record) error {
				_, v, err := schema.ReadTxnRecord(rec.Key, rec.Value)
				if v, ok := v.(*schema.TransactionLogValue); err == nil && ok && (v.TransactionStatus == txnPrepareCommit || v.TransactionStatus == txnCompleteCommit) {
					r.txns.commit(v)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// commit notes a decision. In the second version of transactions the decision is written in the epoch after the transaction's.
func (s *txnState) commit(v *schema.TransactionLogValue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	epoch := v.ProducerEpoch
	if v.ClientTransactionVersion >= 2 {
		epoch--
	}
	s.committed[producer{v.ProducerID, epoch}] = true
}

func (s *txnState) isCommitted(p producer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.committed[p]
}

var recordLimits = record.Limits{}

// eachRecord walks the records of the data batches below cut.
func eachRecord(batches []byte, cut int64, f func(h *record.Header, rec *record.Record) error) error {
	it := record.NewBatchIter(batches)
	for {
		batch, h, ok, err := it.Next()
		if err != nil {
			return err
		}
		if !ok || h.BaseOffset >= cut {
			return nil
		}
		if h.IsControl() {
			continue
		}
		if err := record.Records(batch, recordLimits, func(rec *record.Record) error { return f(&h, rec) }); err != nil {
			return err
		}
	}
}

// tail is what a partition needs at its end so that nothing hangs: it follows the batches as they go by.
type tail struct {
	r      *restoration
	g      *target
	next   int64
	epoch  int32
	ts     int64
	open   map[int64]int16 // producers with a transaction open, and their epochs
	groups *groupState     // __consumer_offsets only
	ids    map[string]*schema.TransactionLogValue
}

func newTail(r *restoration, g *target) tail {
	t := tail{r: r, g: g, open: map[int64]int16{}, ts: record.NoTimestamp}
	switch g.t.Name {
	case offsetsTopic:
		t.groups = &groupState{at: map[groupKey]*groupOffset{}, pending: map[int64]map[groupKey]*groupOffset{}}
	case txnTopic:
		t.ids = map[string]*schema.TransactionLogValue{}
	}
	return t
}

// see takes a batch into account.
func (t *tail) see(batch []byte, h *record.Header) error {
	t.next, t.epoch, t.ts = h.NextOffset(), h.PartitionLeaderEpoch, max(t.ts, h.MaxTimestamp)
	switch {
	case h.IsControl():
		c, err := record.ParseControl(batch)
		if err != nil {
			return err
		}
		e, ok, err := record.ParseEndTxn(c)
		if err != nil || !ok {
			return err
		}
		delete(t.open, h.ProducerID)
		if t.groups != nil {
			t.groups.end(h.ProducerID, e.Commit)
		}
		return nil
	case h.IsTransactional():
		t.open[h.ProducerID] = h.ProducerEpoch
	}
	if t.groups == nil && t.ids == nil {
		return nil
	}
	return record.Records(batch, recordLimits, func(rec *record.Record) error {
		if t.groups != nil {
			t.groups.see(h, rec)
			return nil
		}
		k, v, err := schema.ReadTxnRecord(rec.Key, rec.Value)
		if key, ok := k.(*schema.TransactionLogKey); err == nil && ok {
			t.ids[key.TransactionalID], _ = v.(*schema.TransactionLogValue)
		}
		return nil
	})
}

// close makes the batches that close the partition; the same ones each time.
func (t *tail) close() ([][]byte, error) {
	var out [][]byte
	add := func(b []byte) {
		record.SetBaseOffset(b, t.next)
		record.SetLeaderEpoch(b, t.epoch)
		h, _ := record.ParseHeader(b)
		t.next = h.NextOffset()
		out = append(out, b)
	}
	aborted, committed := 0, 0
	ids := make([]int64, 0, len(t.open))
	for id := range t.open {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		p := producer{id, t.open[id]}
		commit := t.r.txns.isCommitted(p)
		epoch := p.epoch
		if commit {
			committed++
		} else {
			aborted++
			epoch = after(epoch) // what its producer still sends to this transaction is refused
		}
		add(record.EndTxnMarker(commit, 0, id, epoch, t.next, t.ts))
		if t.groups != nil {
			t.groups.end(id, commit)
		}
	}
	b, moved := record.NewBuilder(record.BuilderOptions{}), 0
	if t.groups != nil {
		var err error
		if moved, err = t.groups.moveBack(b, t.r.ends, t.ts); err != nil {
			return nil, err
		}
	}
	if err := t.endTxns(b); err != nil {
		return nil, err
	}
	if b.Count() > 0 {
		add(b.Finish())
	}
	t.r.mu.Lock()
	t.r.out.Aborted += aborted
	t.r.out.Committed += committed
	t.r.out.Offsets += moved
	t.r.mu.Unlock()
	return out, nil
}

// after is the epoch that fences another.
func after(epoch int16) int16 {
	if epoch >= math.MaxInt16-1 {
		return epoch
	}
	return epoch + 1
}

// endTxns writes the end of every transaction that the transaction log has under way: its markers are there already.
func (t *tail) endTxns(b *record.Builder) error {
	names := make([]string, 0, len(t.ids))
	for id := range t.ids {
		names = append(names, id)
	}
	slices.Sort(names)
	for _, id := range names {
		v := t.ids[id]
		if v == nil {
			continue
		}
		n := *v
		switch v.TransactionStatus {
		case txnOngoing:
			n.TransactionStatus, n.ProducerEpoch = txnCompleteAbort, after(v.ProducerEpoch)
		case txnPrepareAbort, txnPrepareEpochLock:
			n.TransactionStatus = txnCompleteAbort
		case txnPrepareCommit:
			n.TransactionStatus = txnCompleteCommit
		default:
			continue
		}
		if v.NextProducerID >= 0 && v.TransactionStatus != txnOngoing {
			n.PreviousProducerID, n.ProducerID, n.ProducerEpoch = v.ProducerID, v.NextProducerID, 0
		}
		n.NextProducerID, n.NextProducerEpoch, n.TransactionPartitions = -1, -1, []schema.TransactionLogValuePartitionsSchema{}
		version := int16(0)
		if v.ClientTransactionVersion > 0 {
			version = 1
		}
		value, err := schema.AppendCoordinatorValue(nil, &n, version)
		if err != nil {
			return err
		}
		b.Append(t.ts, schema.AppendCoordinatorKey(nil, &schema.TransactionLogKey{TransactionalID: id}), value, nil)
	}
	return nil
}

type groupKey struct {
	group, topic string
	partition    int32
}

type groupOffset struct {
	v       *schema.OffsetCommitValue // nil for a tombstone
	version int16
}

// groupState is the committed offsets of one partition of __consumer_offsets.
type groupState struct {
	at      map[groupKey]*groupOffset
	pending map[int64]map[groupKey]*groupOffset
}

func (s *groupState) see(h *record.Header, rec *record.Record) {
	k, v, err := schema.ReadGroupRecord(rec.Key, rec.Value)
	key, ok := k.(*schema.OffsetCommitKey)
	if err != nil || !ok {
		return
	}
	at := groupKey{key.Group, key.Topic, key.Partition}
	o := &groupOffset{}
	if o.v, ok = v.(*schema.OffsetCommitValue); ok && len(rec.Value) >= 2 {
		o.version = int16(binary.BigEndian.Uint16(rec.Value))
	}
	if !h.IsTransactional() {
		s.at[at] = o
		return
	}
	if s.pending[h.ProducerID] == nil {
		s.pending[h.ProducerID] = map[groupKey]*groupOffset{}
	}
	s.pending[h.ProducerID][at] = o
}

func (s *groupState) end(producerID int64, commit bool) {
	if commit {
		for k, o := range s.pending[producerID] {
			s.at[k] = o
		}
	}
	delete(s.pending, producerID)
}

// moveBack writes the offsets that lie beyond the end of their partition anew.
func (s *groupState) moveBack(b *record.Builder, ends map[key]int64, ts int64) (int, error) {
	var beyond []groupKey
	for k, o := range s.at {
		if end, ok := ends[key{k.topic, k.partition}]; ok && o.v != nil && o.v.Offset > end {
			beyond = append(beyond, k)
		}
	}
	slices.SortFunc(beyond, func(x, y groupKey) int {
		return cmp.Or(cmp.Compare(x.group, y.group), cmp.Compare(x.topic, y.topic), cmp.Compare(x.partition, y.partition))
	})
	for _, k := range beyond {
		o := s.at[k]
		v := *o.v
		v.Offset, v.LeaderEpoch = ends[key{k.topic, k.partition}], -1
		value, err := schema.AppendCoordinatorValue(nil, &v, o.version)
		if err != nil {
			return 0, err
		}
		b.Append(ts, schema.AppendCoordinatorKey(nil, &schema.OffsetCommitKey{Group: k.group, Topic: k.topic, Partition: k.partition}), value, nil)
	}
	return len(beyond), nil
}
