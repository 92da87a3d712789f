package coordinator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// batch is a built batch and the records in it.
type batch struct {
	bytes   []byte
	records []Record
}

// apply does what a result asks for; w, which may be nil, is answered when it is committed.
func (p *partition) apply(e effects, w waiter) {
	batches, err := p.encode(&e)
	if err != nil {
		p.refuse(&e, w, err)
		return
	}
	producerID, producerEpoch := int64(record.NoProducerID), int16(record.NoProducerEpoch)
	opts := AppendOptions{}
	if e.producer != nil {
		producerID, producerEpoch = e.producer.ID, e.producer.Epoch
		opts.Transactional, opts.Guard = true, e.producer.Guard
	}
	for i, b := range batches {
		opts.Records = len(b.records)
		last, err := p.append(b.bytes, opts)
		switch {
		case err != nil && i == 0 && refused(err):
			p.refuse(&e, w, err)
			return
		case err != nil:
			p.fail("append", err)
			if w != nil {
				p.answer(w, appendError(p, err))
			}
			return
		}
		first := last - int64(len(b.records)) + 1
		for j, r := range b.records {
			if err := p.shard.Replay(first+int64(j), producerID, producerEpoch, r); err != nil {
				panic(fmt.Sprintf("BUG: replay of the record just appended at offset %d: %v", first+int64(j), err))
			}
		}
	}
	p.setTimers(e.timers)
	p.await(pending{w: w, deliveries: e.deliveries})
}

// append appends one batch and notes where the log ends now.
func (p *partition) append(batch []byte, o AppendOptions) (last int64, err error) {
	last, err = p.c.log.Append(p.number, p.epoch, batch, o)
	if err != nil {
		return 0, err
	}
	p.end = last + 1
	p.failures = 0
	return last, nil
}

// refuse answers a result whose records were not written, nor anything else. Where the operation has answered others or
// parked, its shard believes in what did not happen: either it takes that back or it is loaded anew.
func (p *partition) refuse(e *effects, w waiter, err error) {
	if known := knownAppendError(p, err); known != nil {
		err = known
	}
	if e.onRefused != nil {
		e.onRefused(err)
	} else if len(e.deliveries) > 0 || e.parked {
		if e.parked {
			p.deliver(Delivery{Token: e.token}, err)
		}
		p.fail("append", err)
		if w != nil {
			p.answer(w, err)
		}
		return
	}
	if w == nil && !e.parked {
		p.c.logger.Warn("records of a timer were refused", "topic", p.c.topic, "partition", p.number, "err", err)
	}
	p.setTimers(e.timers)
	deliveries := slices.Clone(e.deliveries)
	if e.parked {
		deliveries = append(deliveries, Delivery{Token: e.token})
	}
	for i := range deliveries {
		deliveries[i].Err = err
	}
	if r, ok := w.(interface{ refused(error) }); ok {
		r.refused(err)
	}
	p.await(pending{w: w, deliveries: deliveries})
}

func (r *reply[T]) refused(err error) { r.err = err }

// encode builds the batches of a result: one, unless it is not atomic.
func (p *partition) encode(e *effects) ([]batch, error) {
	if len(e.records) == 0 {
		return nil, nil
	}
	o := record.BuilderOptions{Codec: p.c.codec}
	if e.producer != nil {
		o.HasProducer, o.ProducerID, o.ProducerEpoch, o.BaseSequence = true, e.producer.ID, e.producer.Epoch, record.NoSequence
		o.Transactional = true
	}
	s, _ := p.c.scratch.Get().(*scratch)
	if s == nil {
		s = &scratch{builder: record.NewBuilder(o)}
	}
	defer p.c.scratch.Put(s)
	s.builder.Reset(o)
	var out []batch
	now, from := p.c.clock.Now().UnixMilli(), 0
	for i, r := range e.records {
		val, err := s.encode(r)
		if err != nil {
			return nil, err
		}
		if e.nonAtomic && i > from && s.builder.Size()+record.RecordSize(s.key, val, nil) > p.c.maxBatchBytes {
			out = append(out, batch{s.builder.Finish(), e.records[from:i]})
			s.builder.Reset(o)
			from = i
		}
		s.builder.Append(now, s.key, val, nil)
		if size := s.builder.Size(); size > p.c.maxBatchBytes {
			return nil, errTooLarge(p, size)
		}
	}
	return append(out, batch{s.builder.Finish(), e.records[from:]}), nil
}

// scratch is memory to encode in, shared by all partitions: an idle one keeps none.
type scratch struct {
	builder  *record.Builder
	key, val []byte
}

// encode leaves the key in s.key and gives the value, nil for a tombstone.
func (s *scratch) encode(r Record) (val []byte, err error) {
	s.key = binary.BigEndian.AppendUint16(s.key[:0], uint16(r.Key.APIKey()))
	if s.key, err = r.Key.AppendTo(s.key, r.Key.HighestVersion()); err != nil {
		return nil, err
	}
	if r.Value == nil {
		return nil, nil
	}
	s.val, err = schema.AppendCoordinatorValue(s.val[:0], r.Value, r.ValueVersion)
	return s.val, err
}

func refused(err error) bool { return errors.Is(err, ErrRefused) }

// appendError is what to answer for a failed append, as clients of coordinators know it.
func appendError(p *partition, err error) error {
	if known := knownAppendError(p, err); known != nil {
		return known
	}
	return notWritten(p, err)
}

// knownAppendError translates the errors that are about the partition, not about the batch; nil for all others.
func knownAppendError(p *partition, err error) error {
	for _, k := range []*kerr.Error{kerr.UnknownTopicOrPartition, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut} {
		if errors.Is(err, k) {
			return wire.Errorf(kerr.CoordinatorNotAvailable, "partition %d of %s cannot be written now: %v; try again", p.number, p.c.topic, err)
		}
	}
	if errors.Is(err, kerr.NotLeaderForPartition) || errors.Is(err, kerr.KafkaStorageError) {
		return notWritten(p, err)
	}
	return nil
}

func notWritten(p *partition, err error) error {
	return wire.Errorf(kerr.NotCoordinator, "partition %d of %s could not be written: %v; look up the coordinator and try again", p.number, p.c.topic, err)
}

func errNotCoordinator(c *core, partition int32) error {
	return wire.Errorf(kerr.NotCoordinator, "this broker does not coordinate partition %d of %s; look up the coordinator and try again", partition, c.topic)
}

func errGone(p *partition) error {
	return wire.Errorf(kerr.NotCoordinator, "the coordinator of partition %d of %s has gone from this broker, or lost its state and loads it again; look up the coordinator and try again", p.number, p.c.topic)
}

func errLoading(p *partition) error {
	return wire.Errorf(kerr.CoordinatorLoadInProgress, "partition %d of %s is still loading; try again", p.number, p.c.topic)
}

func errBusy(p *partition) error {
	return wire.Errorf(kerr.CoordinatorLoadInProgress, "%d operations wait for partition %d of %s already; try again later", p.c.mailboxOps, p.number, p.c.topic)
}

func errQuarantined(p *partition) error {
	return wire.Errorf(kerr.UnknownServerError, "the coordinator of partition %d of %s has stopped on an internal error, which the broker's log tells of", p.number, p.c.topic)
}

func errCommitTimeout(p *partition) error {
	return wire.Errorf(kerr.CoordinatorNotAvailable, "partition %d of %s did not commit within %v; the change may still come into effect", p.number, p.c.topic, p.c.writeTimeout)
}

func errTooLarge(p *partition, size int) error {
	return wire.Errorf(kerr.MessageTooLarge, "the operation needs a batch of at least %d bytes in partition %d of %s, which takes %d (max.message.bytes)", size, p.number, p.c.topic, p.c.maxBatchBytes)
}
