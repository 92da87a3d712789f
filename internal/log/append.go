package log

import (
	"math"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire"
)

// Append writes batches at the end of the log as its leader: offsets and leader epoch are written into them, in place. They
// must have passed record.Validate. When it returns the bytes are in the segment file; the listener hears when they are
// durable. Errors: KAFKA_STORAGE_ERROR where the disk is offline or full, the producer errors of KIP-98.
func (l *Log) Append(batches []byte, o AppendOptions) (AppendInfo, error) {
	return l.append(batches, o, true)
}

// AppendAsFollower writes batches as they came from the leader of o.LeaderEpoch: offsets and epochs stay.
func (l *Log) AppendAsFollower(batches []byte, o AppendOptions) (AppendInfo, error) {
	o.Origin = Follower
	return l.append(batches, o, false)
}

// AppendRestored writes batches of a backup as they are, and none where the log is not being restored.
func (l *Log) AppendRestored(batches []byte, o AppendOptions) (AppendInfo, error) {
	if !l.cfg.Load().Restoring {
		return AppendInfo{LogStartOffset: -1}, wire.Errorf(kerr.InvalidRequest, "%s is not being restored", l.tp)
	}
	o.Origin, o.restored = Follower, true
	return l.append(batches, o, false)
}

func (l *Log) append(batches []byte, o AppendOptions, assign bool) (AppendInfo, error) {
	cfg := l.cfg.Load()
	if assign && cfg.Restoring {
		return AppendInfo{LogStartOffset: -1}, wire.Errorf(kerr.NotEnoughReplicas, "%s is being restored from a backup; it takes records once that is finished", l.tp)
	}
	if o.Origin == Client && l.dir.Load().full.Load() {
		return AppendInfo{LogStartOffset: -1}, wire.Errorf(kerr.KafkaStorageError, "the disk of log dir %s is full but for its reserve; free space or add a disk, producing goes on by itself then", l.Dir())
	}
	l.mu.Lock()
	for l.paused {
		l.resumed.Wait()
	}
	info, owner, err := l.appendLocked(batches, o, cfg, assign)
	end := l.end
	l.mu.Unlock()
	if owner != nil {
		owner.Release()
	}
	l.m.wrote(l.dir.Load(), len(batches))
	if err == nil && !info.Duplicate && cfg.Flush != FlushFsync {
		err = l.countsAtOnce(end, int64(info.NumRecords), cfg)
	}
	return info, err
}

// countsAtOnce is what durable means where the topic does not wait for the disk.
func (l *Log) countsAtOnce(end OffsetMeta, records int64, cfg *Config) error {
	if cfg.Flush == FlushInterval && cfg.FlushMessages < math.MaxInt64 {
		l.mu.Lock()
		l.unflushed += records
		due := l.unflushed >= cfg.FlushMessages
		if due {
			l.unflushed = 0
		}
		l.mu.Unlock()
		if due {
			if err := l.syncTo(end); err != nil {
				return l.fail(err)
			}
		}
	}
	l.onDurable(end)
	return nil
}

// appendLocked does the work under mu. The buffer it returns is the caller's to release.
func (l *Log) appendLocked(batches []byte, o AppendOptions, cfg *Config, assign bool) (AppendInfo, *wire.Buffer, error) {
	info := AppendInfo{FirstOffset: -1, LastOffset: -1, LogAppendTime: -1, LogStartOffset: -1, MaxTimestamp: record.NoTimestamp}
	if l.broken != nil {
		return info, nil, l.broken
	}
	if err := l.admits(o.LeaderEpoch, assign || o.restored); err != nil {
		return info, nil, err
	}
	if done, err := l.judge(batches, o, assign, &info); done || err != nil {
		return info, nil, err
	}
	if assign && int64(len(batches)) > cfg.SegmentBytes {
		return info, nil, wire.Errorf(kerr.RecordListTooLarge, "%d bytes for %s are more than one of its segments holds, %d bytes", len(batches), l.tp, cfg.SegmentBytes)
	}
	if err := l.rollIfDue(int64(len(batches)), &info, o.Now, cfg); err != nil {
		return info, nil, err
	}
	if l.isUnborn.Load() {
		if err := l.birth(); err != nil {
			return info, nil, l.refuseOrFail(err)
		}
	}
	s := l.active()
	pos := s.size.Load()
	if err := s.write(batches); err != nil {
		return info, nil, l.refuseOrFail(err)
	}
	first := l.end.Offset
	if !assign {
		first = info.FirstOffset
	}
	if err := l.noteAll(batches, s, pos, int64(cfg.IndexIntervalBytes)); err != nil {
		return info, nil, l.failLocked(err)
	}
	l.end = OffsetMeta{Offset: info.LastOffset + 1, SegmentBase: s.base, Position: pos + int64(len(batches))}
	l.posMu.Lock()
	l.published = l.end
	info.LogStartOffset = l.start
	l.posMu.Unlock()
	l.dirtyBytes.Add(int64(len(batches)))
	if cfg.Flush != FlushFsync {
		l.loose = true
		return info, nil, nil
	}
	e := commitEntry{log: l, batches: batches, size: len(batches), direct: l.loose, segmentBase: s.base, pos: pos, first: first, end: l.end}
	l.loose = false // what follows waits until this one is synced
	if o.Owner != nil {
		o.Owner.Retain()
		e.owner = o.Owner
	} else {
		e.owner = wire.GetBuffer(len(batches))
		copy(e.owner.Bytes(), batches)
		e.batches = e.owner.Bytes()
	}
	l.dir.Load().committer.enqueue(e)
	return info, nil, nil
}

func (l *Log) failLocked(err error) error {
	l.broken = l.fail(err)
	return l.broken
}

// refuseOrFail is failLocked, unless the write failed for want of room: then the append is refused, nothing was promised, and the next
// one that finds room writes over what a short write has left. The brake is put on at once; the space is looked at every second.
func (l *Log) refuseOrFail(err error) error {
	switch {
	case noSpace(err):
		d := l.dir.Load()
		if !d.full.Swap(true) {
			l.m.o.Logger.Error("the disk is full: producing is refused until space is free; reading and deleting go on", "dir", d.path, "error", err)
		}
		return wire.Errorf(kerr.KafkaStorageError, "the disk of log dir %s is full; free space or add a disk, producing goes on by itself then", d.path)
	case noFiles(err):
		return wire.Errorf(kerr.KafkaStorageError, "%s cannot be opened: %v; raise the limit of open files (ulimit -n)", l.tp, err)
	}
	return l.failLocked(err)
}

// judge gives the batches their offsets, or says that they are duplicates or not to be appended. done is true for duplicates.
func (l *Log) judge(batches []byte, o AppendOptions, assign bool, info *AppendInfo) (done bool, err error) {
	l.posMu.Lock()
	info.LogStartOffset = l.start
	l.posMu.Unlock()
	next := l.end.Offset
	it := record.NewBatchIter(batches)
	for {
		batch, h, ok, err := it.Next()
		if err != nil {
			return false, err
		}
		if !ok {
			break
		}
		if !assign && h.BaseOffset < next {
			return false, wire.Errorf(kerr.UnknownServerError, "%s: a batch of the leader begins at offset %d, below the log's end %d", l.tp, h.BaseOffset, next)
		}
		dup, err := l.judgeOne(batch, &h, o)
		if err != nil {
			return false, err
		}
		if dup != nil {
			*info = AppendInfo{FirstOffset: dup.firstOffset(), LastOffset: dup.lastOffset, LogAppendTime: dup.timestamp, LogStartOffset: info.LogStartOffset, MaxTimestamp: dup.timestamp, Duplicate: true}
			return true, nil
		}
		if assign {
			record.SetBaseOffset(batch, next)
			record.SetLeaderEpoch(batch, o.LeaderEpoch)
			h.BaseOffset, h.PartitionLeaderEpoch = next, o.LeaderEpoch
		}
		if info.FirstOffset < 0 {
			info.FirstOffset = h.BaseOffset
			if h.TimestampType() == record.LogAppendTime {
				info.LogAppendTime = h.MaxTimestamp
			}
		}
		next = h.NextOffset()
		info.LastOffset = h.LastOffset()
		info.NumRecords += int(h.NumRecords)
		info.MaxTimestamp = max(info.MaxTimestamp, h.MaxTimestamp)
	}
	if info.FirstOffset < 0 || it.Pos() != len(batches) {
		return false, wire.Errorf(kerr.InvalidRecord, "%s: %d bytes to append are no whole batches", l.tp, len(batches))
	}
	return false, nil
}

func (l *Log) judgeOne(batch []byte, h *record.Header, o AppendOptions) (*batchMeta, error) {
	if !h.HasProducerID() || o.Origin == Follower {
		return nil, nil
	}
	if h.IsControl() {
		c, err := record.ParseControl(batch)
		if err != nil {
			return nil, err
		}
		e, ok, err := record.ParseEndTxn(c)
		if err != nil || !ok {
			return nil, err
		}
		return nil, l.producers.checkMarker(l.tp, h, e, o.TransactionVersion)
	}
	if p := l.producers.byID[h.ProducerID]; o.Origin == Client && !h.IsTransactional() && p != nil && p.txnFirst.Offset >= 0 {
		return nil, wire.Errorf(kerr.InvalidTxnState, "producer %d has a transaction open in %s and sent a batch outside of it", h.ProducerID, l.tp)
	}
	if o.CheckVerification && h.IsTransactional() {
		asked := o.VerificationGuard != 0 && l.producers.verifying[h.ProducerID].guard == o.VerificationGuard
		if p := l.producers.byID[h.ProducerID]; !asked && (p == nil || p.txnFirst.Offset < 0) {
			return nil, wire.Errorf(kerr.InvalidTxnState, "producer %d has no transaction in %s that its coordinator knows of", h.ProducerID, l.tp)
		}
	}
	return l.producers.check(l.tp, h, o.Origin)
}

// noteAll takes written batches into indexes, which write has loaded, epochs and producer state.
func (l *Log) noteAll(batches []byte, s *segment, pos, interval int64) error {
	it := record.NewBatchIter(batches)
	for {
		batch, h, ok, err := it.Next()
		if err != nil || !ok {
			if err == nil && (s.off.full() || s.tim.full()) {
				if err = s.flushIndexes(); noSpace(err) || noFiles(err) {
					err = nil // the entries stay in memory and are tried again
				}
			}
			return err
		}
		at := OffsetMeta{Offset: h.BaseOffset, SegmentBase: s.base, Position: pos}
		s.note(&h, pos, interval)
		pos += int64(h.Size())
		l.epochs.assign(h.PartitionLeaderEpoch, h.BaseOffset)
		if err := l.take(batch, &h, at, s); err != nil {
			return err
		}
	}
}

// rollIfDue begins a new segment where the active one is full, old by record time, or cannot express the offset.
func (l *Log) rollIfDue(n int64, info *AppendInfo, now int64, cfg *Config) error {
	s := l.active()
	size := s.size.Load()
	if size == 0 {
		return nil
	}
	entries, err := s.off.len()
	if err != nil {
		return l.refuseOrFail(err)
	}
	old := false
	if first := s.firstTs.Load(); first >= 0 && info.MaxTimestamp >= 0 {
		old = info.MaxTimestamp-first > cfg.SegmentMs-l.jitter(cfg)
	}
	if size+n <= cfg.SegmentBytes && !old && int64(entries+1)*offsetEntrySize <= int64(cfg.SegmentIndexBytes) && info.LastOffset-s.base <= math.MaxInt32 {
		return nil
	}
	return l.roll(l.end.Offset)
}

// jitter spreads the rolls of a topic's partitions; it is the same for a partition at every time.
func (l *Log) jitter(cfg *Config) int64 {
	if cfg.SegmentJitterMs <= 0 {
		return 0
	}
	h := uint64(14695981039346656037)
	for _, b := range []byte(l.tp.String()) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return int64(h % uint64(cfg.SegmentJitterMs))
}

// roll begins a new segment at offset. REQUIRES: mu.
func (l *Log) roll(offset int64) error {
	old := l.active()
	if old.size.Load() == 0 && old.base == offset {
		return nil
	}
	if err := old.finish(); err != nil {
		return l.refuseOrFail(err)
	}
	s := newSegment(l.m.files, *l.path.Load(), offset)
	if _, err := s.log.acquire(); err != nil {
		return l.refuseOrFail(err)
	}
	s.log.release()
	l.writeSnapshot(offset)
	segs := *l.segs.Load()
	next := append(segs[:len(segs):len(segs)], s)
	l.segs.Store(&next)
	l.end = OffsetMeta{Offset: offset, SegmentBase: s.base}
	l.posMu.Lock()
	l.published = l.end
	l.posMu.Unlock()
	l.namesDirty.Store(true)
	return nil
}

// Roll begins a new segment where the active one is not empty.
func (l *Log) Roll() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	return l.roll(l.end.Offset)
}

// writeSnapshot writes the producers' state as of offset. A failure costs time at the next start and nothing else. REQUIRES: mu.
func (l *Log) writeSnapshot(offset int64) {
	b, err := l.producers.snapshot()
	if err == nil {
		err = writeFile(l.m.o.FS, *l.path.Load()+"/"+segmentName(offset)+snapshotSuffix, b, false)
	}
	if err != nil {
		l.m.o.Logger.Warn("a producer snapshot could not be written", "partition", l.tp.String(), "offset", offset, "error", err)
		return
	}
	l.producers.dirty = false
}
