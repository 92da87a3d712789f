package log

import (
	"context"
	"crypto/md5"

	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/vfs"
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
	producerLast map[int64]int64
}

// cleanedFile is a file that is written from its start.
type cleanedFile struct {
	vfs.File
	at int64
}

func (f *cleanedFile) append(b []byte) error {
	_, err := f.WriteAt(b, f.at)
	f.at += int64(len(b))
	return err
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

// rewrite writes a segment anew and puts it in the old one's place, where it loses anything.
func (p *cleaningPass) rewrite(s *segment) (before, after int64, err error) {
	name, out, err := p.l.createCleaned(s)
	if err != nil {
		return 0, 0, err
	}
	changed := false
	s.nextHorizon = 0
	err = p.each(s, func(batch []byte, h *record.Header) error {
		kept, err := p.clean(batch, h, s)
		if err != nil {
			return err
		}
		changed = changed || len(kept) != len(batch) || &kept[0] != &batch[0]
		return out.append(kept)
	})
	if err == nil && changed {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil || !changed {
		if rerr := p.l.m.o.FS.Remove(name); err == nil {
			err = rerr
		}
		s.horizon.Store(s.nextHorizon)
		return s.size.Load(), s.size.Load(), err
	}
	return s.size.Load(), out.at, p.l.replace(s, name)
}

// clean gives what is left of a batch: the batch itself where nothing changes, nothing where nothing is left.
func (p *cleaningPass) clean(batch []byte, h *record.Header, s *segment) ([]byte, error) {
	if h.IsControl() || h.BaseOffset >= p.end {
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
		if s.nextHorizon == 0 || horizon < s.nextHorizon {
			s.nextHorizon = horizon
		}
	}
	if dropped == 0 {
		return batch, nil
	}
	if kept == 0 && (!h.HasProducerID() || p.producerLast[h.ProducerID] != h.LastOffset()) {
		return nil, nil
	}
	return p.build(batch, h, tombstones > 0, horizon, keep)
}

// build writes a batch anew with the records that keep accepts.
func (p *cleaningPass) build(batch []byte, h *record.Header, hasHorizon bool, horizon int64, keep func(r *record.Record, offset int64) bool) ([]byte, error) {
	o := record.BuilderOptions{
		BaseOffset: h.BaseOffset, LeaderEpoch: h.PartitionLeaderEpoch, Codec: h.Codec(), TimestampType: h.TimestampType(), LogAppendTime: h.MaxTimestamp,
		HasProducer: h.HasProducerID(), ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch, BaseSequence: h.BaseSequence, Transactional: h.IsTransactional(),
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
