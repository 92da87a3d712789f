package log

import (
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire"
)

// Log is one partition's log. See the package comment for its locks.
type Log struct {
	m       *Manager
	tp      TopicPartition
	topicID [16]byte

	cfg  atomic.Pointer[Config]
	segs atomic.Pointer[[]*segment] // by base, never empty; replaced under mu, read without
	dir  atomic.Pointer[dir]
	path atomic.Pointer[string]

	epochs epochCache

	asOpened      OffsetMeta // the end when the log was opened
	cleanlyOpened bool       // and the files were whole then
	checkpointed  int64      // high watermark of the checkpoint file then

	mu          sync.Mutex // appends
	end         OffsetMeta // the next batch goes here
	producers   producers
	unflushed   int64       // records since the last flush, FlushInterval only
	broken      error       // why nothing is appended any more
	toldOffline atomic.Bool // the listener knows that the disk has failed
	loose       bool        // the end of the log was appended without the committer: the journal alone would leave a hole before what follows
	paused      bool        // appends wait for resumed
	resumed     sync.Cond
	role        role // who may append

	moveMu sync.Mutex // one move at a time; before all other locks

	opMu          sync.Mutex
	gone          bool         // deleted or closed: its files are nobody's business any more
	recoveryPoint atomic.Int64 // everything below is durable in its segment; written under opMu
	snapshotAt    int64        // offset of the newest producer snapshot
	snapshotIn    int64        // base of the segment in which it stands
	snapshotAtPos int64        // and where

	namesDirty atomic.Bool                 // files were made whose names are not durable
	dirDirty   atomic.Bool                 // and so is the name of the partition's directory
	isUnborn   atomic.Bool                 // there is no directory yet
	dirtyBytes atomic.Int64                // appended and not synced to a segment
	visible    atomic.Pointer[visibleFrom] // of exact retention, a cache
	asked      atomic.Bool                 // a journal file waits for this log
	journaled  atomic.Bool                 // the journal may hold frames of it, of this run or the last

	posMu     sync.Mutex
	published OffsetMeta // end, as readers see it
	durable   OffsetMeta
	hw        OffsetMeta
	start     int64
	open      []openTxn // transactions without a marker, by first offset
	decided   []openTxn // with a marker that is not below the high watermark yet

	decidedAtOpen []openTxn // those that recovery met

	notifyMu sync.Mutex
	listener Listener
}

// openTxn is a transaction that keeps the last stable offset down; last is the offset of its marker, once there is one.
type openTxn struct {
	producerID int64
	first      OffsetMeta
	last       int64
}

// TopicPartition is the log's name.
func (l *Log) TopicPartition() TopicPartition { return l.tp }

// TopicID is the id of the topic that the log belongs to.
func (l *Log) TopicID() [16]byte { return l.topicID }

// Dir is the log dir that holds the log.
func (l *Log) Dir() string { return l.dir.Load().path }

// UpdateConfig gives the log new settings.
func (l *Log) UpdateConfig(c Config) {
	c = c.withDefaults()
	l.cfg.Store(&c)
}

// SetListener tells whom to call; what is durable already is not told again.
func (l *Log) SetListener(x Listener) {
	l.notifyMu.Lock()
	l.listener = x
	l.notifyMu.Unlock()
}

// LogStartOffset is the first offset that may be read.
func (l *Log) LogStartOffset() int64 {
	l.posMu.Lock()
	defer l.posMu.Unlock()
	return l.start
}

// LogEnd is where the next record goes.
func (l *Log) LogEnd() OffsetMeta {
	l.posMu.Lock()
	defer l.posMu.Unlock()
	return l.published
}

// DurableEnd is the end of what is durable, as far as the topic's flush mode asks for.
func (l *Log) DurableEnd() OffsetMeta {
	l.posMu.Lock()
	defer l.posMu.Unlock()
	return l.durable
}

// HighWatermark is what SetHighWatermark said last.
func (l *Log) HighWatermark() OffsetMeta {
	l.posMu.Lock()
	defer l.posMu.Unlock()
	return l.hw
}

// SetHighWatermark tells the log up to where it is committed. It does not go back.
func (l *Log) SetHighWatermark(end OffsetMeta) {
	l.posMu.Lock()
	defer l.posMu.Unlock()
	if end.Offset < l.hw.Offset {
		return
	}
	l.hw = end
	if d := l.dir.Load(); !d.pointsDirty.Load() {
		d.pointsDirty.Store(true)
	}
	n := 0
	for _, t := range l.decided {
		if t.last >= end.Offset {
			l.decided[n] = t
			n++
		}
	}
	l.decided = l.decided[:n]
}

// LastStable is the end of what a reader of committed records may see: below it no transaction is undecided.
func (l *Log) LastStable() OffsetMeta {
	l.posMu.Lock()
	defer l.posMu.Unlock()
	at := l.hw
	for _, t := range l.decided {
		if t.first.Offset < at.Offset {
			at = t.first
		}
	}
	if len(l.open) > 0 && l.open[0].first.Offset < at.Offset {
		at = l.open[0].first
	}
	return at
}

// Size is the bytes of all segments.
func (l *Log) Size() int64 {
	var n int64
	for _, s := range *l.segs.Load() {
		n += s.size.Load()
	}
	return n
}

// LatestEpoch is the newest leader epoch that the log knows, -1 for none.
func (l *Log) LatestEpoch() int32 { return l.epochs.latest() }

// EpochOf is the leader epoch that wrote an offset, -1 where that is not known.
func (l *Log) EpochOf(offset int64) int32 { return l.epochs.of(offset) }

// EpochEnd is the greatest known epoch at or below epoch, and where it ends; bound is the end of the newest. (-1, -1) where the log
// knows nothing of the epoch.
func (l *Log) EpochEnd(epoch int32, bound OffsetMeta) (found int32, end int64) {
	return l.epochs.end(epoch, bound.Offset)
}

// SetLeaderEpoch notes that a leader's epoch begins at start. The file follows at the next checkpoint; until then the batches
// themselves say their epoch to a recovery, and an epoch without batches means nothing to anybody.
func (l *Log) SetLeaderEpoch(epoch int32, start int64) {
	if l.cfg.Load().Restoring {
		return // the batches to come bring older ones
	}
	l.epochs.assign(epoch, start)
}

// writeEpochs makes the epoch cache durable where it has changed. REQUIRES: opMu.
func (l *Log) writeEpochs() error {
	if l.isUnborn.Load() {
		return nil
	}
	entries, changed := l.epochs.take()
	if !changed {
		return nil
	}
	err := writeFile(l.m.o.FS, *l.path.Load()+"/"+epochFile, appendEpochs(nil, entries), true)
	if noSpace(err) {
		l.epochs.again()
		return nil
	}
	return err
}

// ActiveProducers is the state of the log's producers, by id.
func (l *Log) ActiveProducers() []ProducerInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.producers.active()
}

// active is the segment that is appended to; REQUIRES: mu, or a state that does not change.
func (l *Log) active() *segment {
	s := *l.segs.Load()
	return s[len(s)-1]
}

// segmentOf is the segment that holds offset: the last whose base is not above it.
func (l *Log) segmentOf(offset int64) (segs []*segment, i int) {
	segs = *l.segs.Load()
	lo, hi := 0, len(segs)
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; segs[mid].base <= offset {
			lo = mid
		} else {
			hi = mid
		}
	}
	return segs, lo
}

// fail takes the log's dir out of service after a failed write or fsync.
func (l *Log) fail(err error) error {
	d := l.dir.Load()
	l.m.offline(d, err)
	return l.offlineError(&OfflineError{Dir: d.path, Cause: err})
}

func (l *Log) offlineError(err error) error {
	return wire.Errorf(kerr.KafkaStorageError, "%s: %v", l.tp, err)
}

// onCommitError is the committer's word that nothing more becomes durable.
func (l *Log) onCommitError(err error) {
	l.mu.Lock()
	if l.broken == nil {
		l.broken = l.offlineError(err)
	}
	l.mu.Unlock()
	if l.toldOffline.Swap(true) { // told once, also where an append of this very log met the failure first
		return
	}
	l.notifyMu.Lock()
	defer l.notifyMu.Unlock()
	if l.listener != nil {
		l.listener.OnOffline(l, err)
	}
}

// onDurable is the committer's word that everything below end is durable.
func (l *Log) onDurable(end OffsetMeta) {
	l.posMu.Lock()
	forward := end.Offset > l.durable.Offset
	if forward {
		l.durable = end
	}
	l.posMu.Unlock()
	if !forward {
		return
	}
	l.notifyMu.Lock()
	defer l.notifyMu.Unlock()
	if l.listener != nil {
		l.listener.OnDurable(l, end)
	}
}

func (l *Log) tellStart(start int64) {
	l.notifyMu.Lock()
	defer l.notifyMu.Unlock()
	if l.listener != nil {
		l.listener.OnLogStart(l, start)
	}
}

// VerificationGuard proves that a transaction was verified with its coordinator (KIP-890); zero is none.
type VerificationGuard uint64

// InTransaction says whether a batch of the producer continues a transaction that is open here, and no earlier batch waits for its
// coordinator's answer.
func (l *Log) InTransaction(producerID int64, epoch int16) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.producers.byID[producerID]
	_, waiting := l.producers.verifying[producerID]
	return s != nil && s.txnFirst.Offset >= 0 && s.epoch == epoch && !waiting
}

// StartVerification is what comes before the first batch of a producer's transaction: the guard lets it in, unless a marker comes in
// between, so that no batch begins a transaction that nobody will end. version is the producer's protocol. EndVerification must follow.
func (l *Log) StartVerification(producerID int64, epoch, version int16) VerificationGuard {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.producers
	v, ok := p.verifying[producerID]
	if !ok || v.epoch != epoch {
		p.guards++
		v = verification{guard: p.guards, epoch: epoch, bumps: version >= 2}
	}
	v.asked++
	p.verifying[producerID] = v
	return v.guard
}

// EndVerification says that the batch which waited has been appended, or will not be.
func (l *Log) EndVerification(producerID int64, guard VerificationGuard) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, ok := l.producers.verifying[producerID]
	if !ok || v.guard != guard {
		return // a marker came meanwhile
	}
	if v.asked--; v.asked == 0 {
		delete(l.producers.verifying, producerID)
	} else {
		l.producers.verifying[producerID] = v
	}
}

// take is what appends and recovery do with each batch of the log: epochs, producers and transactions. at is where it stands.
// REQUIRES: mu, or sole use. batch may be only the header's bytes unless it is a control batch.
func (l *Log) take(batch []byte, h *record.Header, at OffsetMeta, s *segment) error {
	if h.IsControl() {
		return l.takeControl(batch, h, s)
	}
	if !h.HasProducerID() {
		return nil
	}
	l.producers.update(h, at)
	if h.IsTransactional() {
		p := l.producers.get(h.ProducerID)
		if p.txnFirst == at {
			l.posMu.Lock()
			l.open = append(l.open, openTxn{producerID: h.ProducerID, first: at})
			l.posMu.Unlock()
		}
	}
	return nil
}

func (l *Log) takeControl(batch []byte, h *record.Header, s *segment) error {
	if h.NumRecords == 0 {
		return nil // what Kafka's compaction leaves of a producer's last marker
	}
	c, err := record.ParseControl(batch)
	if err != nil {
		return err
	}
	e, ok, err := record.ParseEndTxn(c)
	if err != nil || !ok {
		return err
	}
	first := l.producers.finish(h, e)
	if first.Offset < 0 {
		return nil
	}
	l.posMu.Lock()
	n := 0
	for _, t := range l.open {
		if t.producerID == h.ProducerID {
			first = t.first
			continue
		}
		l.open[n] = t
		n++
	}
	l.open = l.open[:n]
	l.decided = append(l.decided, openTxn{producerID: h.ProducerID, first: first, last: h.LastOffset()})
	stable := h.LastOffset() + 1
	if n > 0 {
		stable = min(stable, l.open[0].first.Offset)
	}
	l.posMu.Unlock()
	if e.Commit {
		return nil
	}
	return s.txn.add(abortedEntry{producerID: h.ProducerID, first: first.Offset, last: h.LastOffset(), lastStable: stable})
}
