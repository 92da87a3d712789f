package log

import (
	"errors"
	"fmt"

	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/vfs"
	"github.com/ottla/ottla/internal/wire"
)

// Damage is repaired in place: copies of a partition are equal byte for byte, so what another broker has for the damaged offsets fits
// exactly where it lies, unless compaction has left other batches there.

// DamageListener is a Listener that wants to hear of damage as well.
type DamageListener interface {
	// OnDamage says that a segment holds bytes that were not written so. It is called by whoever read them, and must not block.
	OnDamage(l *Log, segmentBase int64)
}

// mendMax bounds what is replaced at once.
const mendMax = 64 << 20

func (l *Log) tellDamage(s *segment) {
	l.notifyMu.Lock()
	x, ok := l.listener.(DamageListener)
	l.notifyMu.Unlock()
	if ok {
		x.OnDamage(l, s.base)
	}
}

// Mend verifies the durable part of a segment and replaces what is damaged by what fetch gives: whole batches from an offset on, of another
// copy of the partition. It gives the number of bytes replaced. Nothing is written that does not fit between two good batches.
func (l *Log) Mend(segmentBase int64, fetch func(from int64) ([]byte, error)) (mended int, err error) {
	segs, i := l.segmentOf(segmentBase)
	s := segs[i]
	if s.base != segmentBase {
		return 0, nil // retention has taken it
	}
	f, err := s.log.acquire()
	if err != nil {
		return 0, err
	}
	defer s.log.release()
	limit := l.durableIn(s)
	for pos, next := int64(0), s.base; pos < limit; {
		if n, h, ok := goodBatch(f, pos, limit, next); ok {
			pos, next = pos+n, h.NextOffset()
			continue
		}
		patch, after, err := l.patch(f, pos, limit, next, fetch)
		if err != nil {
			return mended, fmt.Errorf("%s from offset %d at byte %d of the segment %d: %w", l.tp, next, pos, s.base, err)
		}
		if err := l.overwrite(s, f, pos, patch); err != nil {
			return mended, err
		}
		mended += len(patch)
		pos, next = pos+int64(len(patch)), after
	}
	if mended > 0 {
		s.distrust()
		s.mended.Store(true)
	}
	return mended, nil
}

// goodBatch reads the batch at pos, whose offsets must not lie below next.
func goodBatch(f vfs.File, pos, limit, next int64) (n int64, h record.Header, ok bool) {
	sc := scanner{f: f, pos: pos, limit: limit}
	_, h, ok, err := sc.next()
	if err != nil || !ok || h.BaseOffset < next {
		return 0, h, false
	}
	buf := wire.GetBuffer(h.Size())
	defer buf.Release()
	if _, err := f.ReadAt(buf.Bytes(), pos); err != nil || !record.CheckCRC(buf.Bytes()) {
		return 0, h, false
	}
	return int64(h.Size()), h, true
}

var errNoFit = errors.New("the other copy has other batches here, as compaction leaves them")

// patch is what belongs from pos on, up to where a good batch follows, or the end.
func (l *Log) patch(f vfs.File, pos, limit, next int64, fetch func(from int64) ([]byte, error)) (patch []byte, after int64, err error) {
	for {
		b, err := fetch(next)
		if err != nil {
			return nil, 0, err
		}
		it, before := record.NewBatchIter(b), len(patch)
		for {
			batch, h, ok, err := it.Next()
			if err != nil {
				return nil, 0, err
			}
			if !ok {
				break
			}
			if h.NextOffset() <= next {
				continue // a batch before the one that was asked for
			}
			at := pos + int64(len(patch)+len(batch))
			if h.BaseOffset < next || at > limit || len(patch)+len(batch) > mendMax || !record.CheckCRC(batch) {
				return nil, 0, errNoFit
			}
			patch, next = append(patch, batch...), h.NextOffset()
			if at == limit {
				return patch, next, nil
			}
			if _, _, ok := goodBatch(f, at, limit, next); ok {
				return patch, next, nil
			}
		}
		if len(patch) == before {
			return nil, 0, errNoFit
		}
	}
}

// overwrite puts good bytes in the place of damaged ones and makes them durable.
func (l *Log) overwrite(s *segment, f vfs.File, pos int64, b []byte) error {
	l.opMu.Lock()
	defer l.opMu.Unlock()
	if l.gone || pos+int64(len(b)) > s.synced {
		return errClosed
	}
	_, err := f.WriteAt(b, pos)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return l.fail(err)
	}
	return nil
}
