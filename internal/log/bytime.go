package log

import (
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire"
)

// OffsetForTimestamp finds the first record at or after the log start whose time is ts or later, below bound.
func (l *Log) OffsetForTimestamp(ts int64, bound OffsetMeta) (TimestampOffset, bool, error) {
	start := l.LogStartOffset()
	segs, i := l.segmentOf(start)
	for ; i < len(segs); i++ {
		s := segs[i]
		if s.base >= bound.Offset {
			break
		}
		if s.maxTs.Load() < ts {
			continue
		}
		from := max(start, s.base)
		if e, ok, err := s.tim.search(func(e timeEntry) bool { return e.ts < ts }); err != nil {
			return TimestampOffset{}, false, err
		} else if ok {
			from = max(from, s.base+int64(e.rel))
		}
		found, ok, err := l.findTime(s, from, func(max int64) bool { return max >= ts }, func(t int64) bool { return t >= ts }, start)
		if err != nil || ok {
			return found, ok && found.Offset < bound.Offset, err
		}
	}
	return TimestampOffset{}, false, nil
}

// MaxTimestampOffset finds the first record that has the largest time of the log (KIP-734).
func (l *Log) MaxTimestampOffset() (TimestampOffset, bool, error) {
	start := l.LogStartOffset()
	var best *segment
	for _, s := range *l.segs.Load() {
		if s.last.Load() >= start && s.maxTs.Load() >= 0 && (best == nil || s.maxTs.Load() > best.maxTs.Load()) {
			best = s
		}
	}
	if best == nil {
		return TimestampOffset{}, false, nil
	}
	ts := best.maxTs.Load()
	return l.findTime(best, max(start, min(best.maxTsAt.Load(), best.last.Load())), func(max int64) bool { return max >= ts }, func(t int64) bool { return t >= ts }, start)
}

// findTime looks from the batch that holds offset from on for the first batch and in it the first record that fit.
func (l *Log) findTime(s *segment, from int64, batchFits, recordFits func(ts int64) bool, start int64) (found TimestampOffset, ok bool, err error) {
	limit := s.size.Load()
	pos, _, ok, err := s.position(from, limit)
	if err != nil || !ok {
		return found, false, err
	}
	f, err := s.log.acquire()
	if err != nil {
		return found, false, err
	}
	defer s.log.release()
	sc := scanner{f: f, pos: pos, limit: limit}
	for {
		at, h, ok, err := sc.next()
		if err != nil || !ok {
			return found, false, err
		}
		if !batchFits(h.MaxTimestamp) {
			continue
		}
		buf := wire.GetBuffer(h.Size())
		_, err = f.ReadAt(buf.Bytes(), at)
		if err == nil {
			found, ok, err = firstRecord(buf.Bytes(), recordFits, start)
		}
		buf.Release()
		if err != nil {
			return found, false, l.unreadable(s, at, h.BaseOffset, err)
		}
		if ok {
			return found, true, nil
		}
	}
}

func firstRecord(batch []byte, fits func(ts int64) bool, start int64) (found TimestampOffset, ok bool, err error) {
	r, err := record.NewReader(batch, record.LimitsFor(1<<30))
	if err != nil {
		return found, false, err
	}
	defer r.Close()
	h := r.Header()
	for {
		rec, err := r.Next()
		if err != nil || rec == nil {
			return found, false, err
		}
		if ts := rec.Timestamp(h); fits(ts) && rec.Offset(h) >= start {
			return TimestampOffset{Timestamp: ts, Offset: rec.Offset(h), LeaderEpoch: h.PartitionLeaderEpoch}, true, nil
		}
	}
}
