package log

import (
	"context"
	"crypto/md5"
	"errors"

	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire"
)

// cleaningPass is one pass over one log.
type cleaningPass struct {
	c            *cleaner
	ctx          context.Context
	l            *Log
	now          int64
	end          int64 // the pass ends here; lower where the map is full
	latest       map[[md5.Size]byte]int64
	full         bool
	aborted      []abortedEntry
	producerLast map[int64]int64 // last data batch's last offset
	markerLast   map[int64]int16 // epoch, of producers that only a marker tells of
	// live are the producers of whose transaction, the one that the pass stands in, a record is kept. A pass begins at the log start.
	live map[int64]bool
}

// each reads the batches of a segment, whole and checked.
func (p *cleaningPass) each(s *segment, visit func(batch []byte, h *record.Header) error) error {
	f, err := s.log.acquire()
	if err != nil {
		return err
	}
	defer s.log.release()
	sc := scanner{f: f, limit: s.size.Load()}
	for {
		at, h, ok, err := sc.next()
		if err != nil || !ok {
			return err
		}
		if err := p.c.throttle(p.ctx, int64(h.Size())); err != nil {
			return err
		}
		buf := wire.GetBuffer(h.Size())
		_, err = f.ReadAt(buf.Bytes(), at)
		if err == nil && !record.CheckCRC(buf.Bytes()) {
			err = p.l.unreadable(s, at, h.BaseOffset, errChecksum)
		}
		if err == nil {
			err = visit(buf.Bytes(), &h)
		}
		buf.Release()
		if err != nil {
			return err
		}
	}
}

// index notes the last offset of every key in the segment, from dirty on.
func (p *cleaningPass) index(s *segment, dirty int64) error {
	limit := int(p.c.o.MapBytes / cleanerEntryBytes)
	return p.each(s, func(batch []byte, h *record.Header) error {
		if p.full || h.IsControl() || h.LastOffset() < dirty || p.isAborted(h) {
			return nil
		}
		if len(p.latest)+int(h.NumRecords) > limit && len(p.latest) > 0 {
			p.full, p.end = true, h.BaseOffset // the rest is for the next pass
			return nil
		}
		return p.records(batch, func(r *record.Record, offset int64) {
			if r.Key != nil && offset >= dirty {
				p.latest[md5.Sum(r.Key)] = offset
			}
		})
	})
}

func (p *cleaningPass) records(batch []byte, fn func(r *record.Record, offset int64)) error {
	rd, err := record.NewReader(batch, record.LimitsFor(1<<30))
	if err != nil {
		return err
	}
	defer rd.Close()
	h := rd.Header()
	for {
		r, err := rd.Next()
		if err != nil || r == nil {
			return err
		}
		fn(r, r.Offset(h))
	}
}

// isAborted says whether a batch belongs to a transaction that was aborted.
func (p *cleaningPass) isAborted(h *record.Header) bool {
	if !h.IsTransactional() || h.IsControl() {
		return false
	}
	for _, a := range p.aborted {
		if a.producerID == h.ProducerID && a.first <= h.BaseOffset && h.LastOffset() < a.last {
			return true
		}
	}
	return false
}

// rewrite writes a group's batches into one new segment and puts it in the group's place, where that changes anything.
func (p *cleaningPass) rewrite(group []*segment) (before, after int64, err error) {
	out, err := p.l.newCleaned(group)
	if err != nil {
		return 0, 0, err
	}
	interval := int64(p.l.cfg.Load().IndexIntervalBytes)
	changed := len(group) > 1
	dropped := map[int64]bool{} // last offsets of the markers that went
	for _, s := range group {
		before += s.size.Load()
		err = p.each(s, func(batch []byte, h *record.Header) error {
			kept, err := p.clean(batch, h, out)
			if err != nil {
				return err
			}
			changed = changed || len(kept) != len(batch) || &kept[0] != &batch[0]
			if len(kept) == 0 {
				dropped[h.LastOffset()] = h.IsControl()
				return nil
			}
			return out.append(kept, interval)
		})
		if err == nil {
			err = out.keepAborted(s, dropped)
		}
		if err != nil {
			return 0, 0, errors.Join(err, p.l.dropCleaned(out))
		}
	}
	if !changed {
		group[0].horizon.Store(out.horizon.Load())
		return before, before, p.l.dropCleaned(out)
	}
	if err := out.complete(); err != nil {
		return 0, 0, errors.Join(err, p.l.dropCleaned(out))
	}
	return before, out.size.Load(), p.l.replace(group, out)
}

// clean gives what is left of a batch: the batch itself where nothing changes, nothing where nothing is left.
func (p *cleaningPass) clean(batch []byte, h *record.Header, out *segment) ([]byte, error) {
	if h.IsControl() {
		return p.cleanMarker(batch, h, out)
	}
	if h.BaseOffset >= p.end {
		p.live[h.ProducerID] = p.live[h.ProducerID] || h.IsTransactional()
		return batch, nil
	}
	aborted := p.isAborted(h)
	horizon := int64(-1)
	if h.HasDeleteHorizon() {
		horizon = h.BaseTimestamp
	}
	dropped, tombstones, kept := 0, 0, 0
	keep := func(r *record.Record, offset int64) bool {
		if aborted || r.Key == nil {
			return false
		}
		if last, ok := p.latest[md5.Sum(r.Key)]; ok && offset < last {
			return false
		}
		return r.Value != nil || horizon < 0 || horizon > p.now
	}
	if err := p.records(batch, func(r *record.Record, offset int64) {
		if !keep(r, offset) {
			dropped++
			return
		}
		kept++
		if r.Value == nil {
			tombstones++
		}
	}); err != nil {
		return nil, err
	}
	if tombstones > 0 {
		if horizon < 0 {
			horizon = p.now + p.l.cfg.Load().DeleteRetentionMs
			dropped++ // the batch is written anew, with the horizon in it
		}
		out.expect(horizon)
	}
	if kept == 0 && dropped > 0 && (!h.HasProducerID() || p.producerLast[h.ProducerID] != h.LastOffset()) {
		return nil, nil
	}
	if h.IsTransactional() {
		p.live[h.ProducerID] = true // be it an empty batch: without its marker the transaction would seem to be open
	}
	if dropped == 0 {
		return batch, nil
	}
	return p.build(batch, h, tombstones > 0, horizon, keep)
}

// cleanMarker gives what is left of a control batch. Only the end of a transaction of which no record is left may go, and a while after
// the pass that found that out.
func (p *cleaningPass) cleanMarker(batch []byte, h *record.Header, out *segment) ([]byte, error) {
	live := p.live[h.ProducerID]
	delete(p.live, h.ProducerID)
	if live || h.BaseOffset >= p.end || !h.IsTransactional() {
		return batch, nil
	}
	if epoch, ok := p.markerLast[h.ProducerID]; ok && epoch == h.ProducerEpoch {
		return batch, nil // nothing else tells of the producer
	}
	if !h.HasDeleteHorizon() {
		horizon := p.now + p.l.cfg.Load().DeleteRetentionMs
		out.expect(horizon)
		return p.build(batch, h, true, horizon, func(*record.Record, int64) bool { return true })
	}
	if h.BaseTimestamp > p.now {
		out.expect(h.BaseTimestamp)
		return batch, nil
	}
	return nil, nil
}

// build writes a batch anew with the records that keep accepts.
func (p *cleaningPass) build(batch []byte, h *record.Header, hasHorizon bool, horizon int64, keep func(r *record.Record, offset int64) bool) ([]byte, error) {
	o := record.BuilderOptions{
		BaseOffset: h.BaseOffset, LeaderEpoch: h.PartitionLeaderEpoch, Codec: h.Codec(), TimestampType: h.TimestampType(), LogAppendTime: h.MaxTimestamp,
		HasProducer: h.HasProducerID(), ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch, BaseSequence: h.BaseSequence, Transactional: h.IsTransactional(), Control: h.IsControl(),
	}
	if hasHorizon {
		o.DeleteHorizon, o.BaseTimestamp = true, horizon
	}
	b := record.NewBuilder(o)
	if err := p.records(batch, func(r *record.Record, offset int64) {
		if keep(r, offset) {
			b.AppendWithOffset(offset, r.Timestamp(h), r.Key, r.Value, r.Headers)
		}
	}); err != nil {
		return nil, err
	}
	b.SetLastOffset(h.LastOffset())
	return b.Finish(), nil
}
