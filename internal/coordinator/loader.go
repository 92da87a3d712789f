package coordinator

import (
	"errors"
	"fmt"
	"time"

	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire/schema"
)

// loading is how far the loading of a partition has come.
type loading struct {
	started          time.Time
	next             int64
	records, skipped int
	bytes            int64
}

// load is the event of Runtime.Load.
func (p *partition) load(epoch int32) {
	if p.State() == Closed { // it was unloaded while the event waited
		p.c.load(p.number, epoch)
		return
	}
	if epoch <= p.epoch {
		return
	}
	p.epoch = epoch
	p.epochSeen.Store(epoch)
	p.failures = 0
	p.startLoad()
}

// startLoad makes an empty shard and begins to replay the log into it.
func (p *partition) startLoad() {
	p.set(Loading)
	p.drop(errGone(p))
	p.hw.Store(0) // after an unclean election the log may be committed less far than it was
	start, end, hw, err := p.c.log.Bounds(p.number)
	if err != nil {
		p.fail("find the log", err)
		return
	}
	p.end, p.committed = end, max(hw, start)
	p.shard = p.c.newShard(p.number)
	p.loading = &loading{started: p.c.clock.Now(), next: start}
	p.nextChunk()
}

func (p *partition) nextChunk() {
	l := p.loading
	p.control(func() {
		if p.loading == l && l != nil {
			p.loadChunk(l)
		}
	})
}

// loadChunk replays one read of the log.
func (p *partition) loadChunk(l *loading) {
	if l.next < p.end {
		chunk, err := p.c.log.Read(p.number, l.next, p.c.loadBytes)
		if err == nil {
			err = p.replayChunk(l, chunk)
		}
		if err != nil {
			p.fail(fmt.Sprintf("load from offset %d", l.next), err)
			return
		}
		if len(chunk) > 0 {
			p.nextChunk()
			return
		}
		l.next = p.end // the log's last offsets hold nothing
	}
	_, end, hw, err := p.c.log.Bounds(p.number)
	if err != nil {
		p.fail("find the end of the log", err)
		return
	}
	p.committed = max(p.committed, hw)
	if end > p.end { // a marker, say, came in while we read
		p.end = end
		p.nextChunk()
		return
	}
	p.loaded(l)
}

func (p *partition) loaded(l *loading) {
	p.loading = nil
	p.set(Active)
	took := p.c.clock.Since(l.started)
	p.c.metrics.load.Observe(took.Seconds())
	p.c.logger.Debug("loaded", "topic", p.c.topic, "partition", p.number, "epoch", p.epoch, "records", l.records, "bytes", l.bytes, "skipped", l.skipped, "took", took)
	img, seq := p.c.newestImage()
	p.imageSeq = seq
	p.setTimers(p.shard.OnLoaded(p.c.clock.Now(), img))
}

func (p *partition) replayChunk(l *loading, chunk []byte) error {
	it := record.NewBatchIter(chunk)
	from := l.next
	for {
		b, h, ok, err := it.Next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if h.LastOffset() < l.next {
			continue
		}
		if !record.CheckCRC(b) {
			return fmt.Errorf("the batch at offset %d has a wrong checksum", h.BaseOffset)
		}
		if h.IsControl() {
			err = p.replayControl(b, h)
		} else {
			err = p.replayBatch(l, b, h)
		}
		if err != nil {
			return fmt.Errorf("batch at offset %d: %w", h.BaseOffset, err)
		}
		l.next = h.NextOffset()
		l.bytes += int64(len(b))
	}
	if len(chunk) > 0 && l.next == from {
		return fmt.Errorf("a read of %d bytes holds no whole batch", len(chunk))
	}
	return nil
}

func (p *partition) replayControl(b []byte, h record.Header) error {
	c, err := record.ParseControl(b)
	if err != nil {
		return err
	}
	end, ok, err := record.ParseEndTxn(c)
	if err != nil || !ok {
		return err
	}
	return p.shard.ReplayEndTxn(h.ProducerID, h.ProducerEpoch, end.Commit)
}

func (p *partition) replayBatch(l *loading, b []byte, h record.Header) error {
	producerID, producerEpoch := int64(record.NoProducerID), int16(record.NoProducerEpoch)
	if h.IsTransactional() {
		producerID, producerEpoch = h.ProducerID, h.ProducerEpoch
	}
	return record.Records(b, record.LimitsFor(int32(p.c.maxBatchBytes)), func(r *record.Record) error {
		offset := r.Offset(&h)
		if offset < l.next { // the log starts inside the batch
			return nil
		}
		k, v, err := p.c.decode(r.Key, r.Value)
		if errors.Is(err, schema.ErrUnknownRecordType) {
			if l.skipped++; l.skipped == 1 {
				p.c.logger.Warn("the log has records that this release does not know; they are passed over", "topic", p.c.topic, "partition", p.number, "offset", offset, "err", err)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("record at offset %d: %w", offset, err)
		}
		rec := Record{Key: k, Value: v}
		if v != nil {
			rec.ValueVersion = int16(uint16(r.Value[0])<<8 | uint16(r.Value[1]))
		}
		l.records++
		if err := p.shard.Replay(offset, producerID, producerEpoch, rec); err != nil {
			return fmt.Errorf("replay of the record at offset %d: %w", offset, err)
		}
		return nil
	})
}
