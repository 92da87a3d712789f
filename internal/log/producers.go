package log

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// batchMeta is what is remembered of a producer's batch.
type batchMeta struct {
	firstSeq, lastSeq int32
	lastOffset        int64
	offsetDelta       int32
	timestamp         int64
}

func (b batchMeta) firstOffset() int64 { return b.lastOffset - int64(b.offsetDelta) }

// duplicateWindow is how many batches of a producer are remembered, as many as an idempotent producer has under way.
const duplicateWindow = 5

// producer is the state of one idempotent or transactional producer in one partition.
type producer struct {
	epoch            int16
	batches          []batchMeta // oldest first, at most duplicateWindow
	lastTimestamp    int64
	coordinatorEpoch int32
	txnFirst         OffsetMeta // with Offset -1 where no transaction is open
}

// producers is the state of all producers of a log. It belongs to whoever holds Log.mu.
type producers struct {
	byID  map[int64]*producer
	dirty bool // changed since the last snapshot

	// verifying are the producers whose coordinator is being asked about their transaction; not in snapshots.
	verifying map[int64]verification
	guards    VerificationGuard // the last one given out
}

// verification is one question to a coordinator.
type verification struct {
	guard VerificationGuard
	epoch int16
	bumps bool // the producer's epoch grows with every transaction, and so does that of the marker that ends it
	asked int  // requests that wait for the answer
}

// endedBy says whether a marker ends the transaction that was asked about, and not the one before, whose marker may still be on its way.
func (v verification) endedBy(epoch int16) bool {
	return epoch > v.epoch || epoch == v.epoch && !v.bumps
}

func newProducers() producers {
	return producers{byID: map[int64]*producer{}, verifying: map[int64]verification{}}
}

func (p *producers) get(id int64) *producer {
	s := p.byID[id]
	if s == nil {
		s = &producer{epoch: record.NoProducerEpoch, coordinatorEpoch: -1, lastTimestamp: -1, txnFirst: OffsetMeta{Offset: -1}}
		p.byID[id] = s
	}
	return s
}

// check says whether a batch of a client may be appended: dup is the earlier batch where it is a duplicate.
func (p *producers) check(tp TopicPartition, h *record.Header, origin Origin) (dup *batchMeta, err error) {
	s := p.byID[h.ProducerID]
	if h.IsControl() {
		return nil, nil
	}
	if s == nil || s.epoch == record.NoProducerEpoch {
		return nil, nil // an unknown producer may start anywhere: its state may have expired
	}
	if h.ProducerEpoch < s.epoch {
		return nil, wire.Errorf(kerr.InvalidProducerEpoch, "producer %d of %s came with epoch %d, and epoch %d is known; another instance has taken over", h.ProducerID, tp, h.ProducerEpoch, s.epoch)
	}
	if origin != Client {
		return nil, nil
	}
	if h.ProducerEpoch == s.epoch {
		for i := range s.batches {
			if s.batches[i].firstSeq == h.BaseSequence && s.batches[i].lastSeq == h.LastSequence() {
				return &s.batches[i], nil
			}
		}
	}
	if h.ProducerEpoch != s.epoch {
		if h.BaseSequence != 0 && len(s.batches) > 0 {
			return nil, wire.Errorf(kerr.OutOfOrderSequenceNumber, "producer %d of %s began epoch %d with sequence %d, not 0", h.ProducerID, tp, h.ProducerEpoch, h.BaseSequence)
		}
		return nil, nil
	}
	if n := len(s.batches); n > 0 {
		if want := record.AddSequence(s.batches[n-1].lastSeq, 1); h.BaseSequence != want {
			return nil, wire.Errorf(kerr.OutOfOrderSequenceNumber, "producer %d of %s sent sequence %d where %d was due", h.ProducerID, tp, h.BaseSequence, want)
		}
	}
	return nil, nil
}

// checkMarker refuses the marker of a coordinator that has been replaced.
func (p *producers) checkMarker(tp TopicPartition, h *record.Header, e record.EndTxn, version int16) error {
	s := p.byID[h.ProducerID]
	if s == nil {
		return nil
	}
	if version >= 2 && h.ProducerEpoch <= s.epoch {
		return wire.Errorf(kerr.InvalidProducerEpoch, "a marker for producer %d of %s has epoch %d, and epoch %d is known: it ends an earlier transaction", h.ProducerID, tp, h.ProducerEpoch, s.epoch)
	}
	if h.ProducerEpoch < s.epoch {
		return wire.Errorf(kerr.InvalidProducerEpoch, "a marker for producer %d of %s has epoch %d, and epoch %d is known", h.ProducerID, tp, h.ProducerEpoch, s.epoch)
	}
	if e.CoordinatorEpoch < s.coordinatorEpoch {
		return wire.Errorf(kerr.TransactionCoordinatorFenced, "a marker for producer %d of %s comes from coordinator epoch %d, and %d is known", h.ProducerID, tp, e.CoordinatorEpoch, s.coordinatorEpoch)
	}
	return nil
}

// update takes an appended data batch in. at is where it stands.
func (p *producers) update(h *record.Header, at OffsetMeta) {
	s := p.get(h.ProducerID)
	if h.ProducerEpoch != s.epoch {
		s.epoch, s.batches = h.ProducerEpoch, nil
	}
	m := batchMeta{h.BaseSequence, h.LastSequence(), h.LastOffset(), h.LastOffsetDelta, h.MaxTimestamp}
	if len(s.batches) == duplicateWindow {
		copy(s.batches, s.batches[1:])
		s.batches[duplicateWindow-1] = m
	} else {
		s.batches = append(s.batches, m)
	}
	s.lastTimestamp = h.MaxTimestamp
	if h.IsTransactional() && s.txnFirst.Offset < 0 {
		s.txnFirst = at
	}
	p.dirty = true
}

// finish takes a marker in; first is where the transaction began, with Offset -1 where none was open here.
func (p *producers) finish(h *record.Header, e record.EndTxn) (first OffsetMeta) {
	s := p.get(h.ProducerID)
	if h.ProducerEpoch != s.epoch {
		s.epoch, s.batches = h.ProducerEpoch, nil
	}
	first = s.txnFirst
	if v, ok := p.verifying[h.ProducerID]; ok && v.endedBy(h.ProducerEpoch) {
		delete(p.verifying, h.ProducerID) // who asked before the end of the transaction asks again
	}
	s.txnFirst = OffsetMeta{Offset: -1}
	s.coordinatorEpoch = e.CoordinatorEpoch
	s.lastTimestamp = h.MaxTimestamp
	p.dirty = true
	return first
}

// expire forgets producers that have not written for a while and have no open transaction.
func (p *producers) expire(before int64) {
	for id, s := range p.byID {
		if s.txnFirst.Offset < 0 && s.lastTimestamp < before {
			delete(p.byID, id)
			p.dirty = true
		}
	}
}

func (p *producers) active() []ProducerInfo {
	out := make([]ProducerInfo, 0, len(p.byID))
	for _, id := range slices.Sorted(maps.Keys(p.byID)) {
		s := p.byID[id]
		i := ProducerInfo{ID: id, Epoch: s.epoch, LastSequence: -1, LastTimestamp: s.lastTimestamp, CoordinatorEpoch: s.coordinatorEpoch, CurrentTxnFirstOffset: s.txnFirst.Offset}
		if n := len(s.batches); n > 0 {
			i.LastSequence = s.batches[n-1].lastSeq
		}
		out = append(out, i)
	}
	return out
}

// snapshot is the state in the form of a .snapshot file. Kafka keeps the last batch of each producer; here every batch of the window
// gets an entry, oldest first, so that duplicates are known after a restart too. Kafka reads such a file and keeps the last.
func (p *producers) snapshot() ([]byte, error) {
	m := schema.NewProducerSnapshot()
	for _, id := range slices.Sorted(maps.Keys(p.byID)) {
		s := p.byID[id]
		e := schema.ProducerSnapshotProducerEntry{ProducerID: id, Epoch: s.epoch, LastSequence: -1, LastOffset: -1, Timestamp: s.lastTimestamp, CoordinatorEpoch: s.coordinatorEpoch, CurrentTxnFirstOffset: s.txnFirst.Offset}
		if len(s.batches) == 0 {
			m.ProducerEntries = append(m.ProducerEntries, e)
		}
		for _, b := range s.batches {
			e.LastSequence, e.LastOffset, e.OffsetDelta, e.Timestamp = b.lastSeq, b.lastOffset, b.offsetDelta, b.timestamp
			m.ProducerEntries = append(m.ProducerEntries, e)
		}
	}
	b, err := m.AppendTo(binary.BigEndian.AppendUint16(nil, 1), 1)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(b[2:], crc32.Checksum(b[6:], castagnoli))
	return b, nil
}

// parseSnapshot reads a .snapshot file. Open transactions come without their place on disk: SegmentBase is -1.
func parseSnapshot(b []byte) (producers, error) {
	p := newProducers()
	if len(b) < 10 || binary.BigEndian.Uint16(b) != 1 {
		return p, fmt.Errorf("producer snapshot of %d bytes has no version 1 header", len(b))
	}
	if crc32.Checksum(b[6:], castagnoli) != binary.BigEndian.Uint32(b[2:]) {
		return p, fmt.Errorf("producer snapshot of %d bytes has a wrong checksum", len(b))
	}
	m := schema.NewProducerSnapshot()
	if err := m.ReadFrom(b[2:], 1); err != nil {
		return p, err
	}
	for _, e := range m.ProducerEntries {
		s := p.get(e.ProducerID)
		s.epoch, s.lastTimestamp, s.coordinatorEpoch = e.Epoch, e.Timestamp, e.CoordinatorEpoch
		s.txnFirst = OffsetMeta{Offset: e.CurrentTxnFirstOffset, SegmentBase: -1}
		if e.LastOffset >= 0 && e.LastSequence >= 0 {
			if len(s.batches) == duplicateWindow {
				s.batches = s.batches[1:]
			}
			s.batches = append(s.batches, batchMeta{record.AddSequence(e.LastSequence, -e.OffsetDelta), e.LastSequence, e.LastOffset, e.OffsetDelta, e.Timestamp})
		}
	}
	p.dirty = false
	return p, nil
}
