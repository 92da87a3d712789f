package record

import (
	"errors"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/wire"
)

// plainScan is what one pass over records that are not compressed found.
type plainScan struct {
	ok      bool // nothing needs a second look
	maxTime int64
}

// scanPlain walks the records of a batch without looking at their keys and values: sizes that fit, times from lo to hi, keys
// where they must be, offsets one after the other. It allocates nothing and says no more than that something is wrong;
// validator.inside says what.
func scanPlain(b []byte, h *Header, lo, hi int64, keyed bool) plainScan {
	s := plainScan{maxTime: NoTimestamp}
	fixed := h.TimestampType() == LogAppendTime
	for i := range h.NumRecords {
		size, n := varint32(b)
		if n <= 0 || size < minRecordBytes-1 || int(size) > len(b)-n {
			return s
		}
		rec := b[n : n+int(size)]
		b = b[n+int(size):]
		rec = rec[1:] // attributes: none are in use
		delta, n := varint64(rec)
		if n <= 0 {
			return s
		}
		rec = rec[n:]
		offset, n := varint32(rec)
		if n <= 0 || offset != i {
			return s
		}
		t := h.BaseTimestamp + delta
		if fixed {
			t = h.MaxTimestamp
		}
		if outOf(t, lo, hi) {
			return s
		}
		s.maxTime = max(s.maxTime, t)
		if !scanFields(rec[n:], keyed) {
			return s
		}
	}
	s.ok = len(b) == 0
	return s
}

// scanFields walks key, value and headers, which must fill b.
func scanFields(b []byte, keyed bool) bool {
	key, n := varint32(b)
	if n <= 0 || keyed && key < 0 {
		return false
	}
	b = b[n:]
	if key > 0 {
		if int(key) > len(b) {
			return false
		}
		b = b[key:]
	}
	value, n := varint32(b)
	if n <= 0 {
		return false
	}
	b = b[n:]
	if value > 0 {
		if int(value) > len(b) {
			return false
		}
		b = b[value:]
	}
	headers, n := varint32(b)
	if n <= 0 || headers < 0 {
		return false
	}
	b = b[n:]
	for range headers {
		size, n := varint32(b)
		if n <= 0 || size < 0 || int(size) > len(b)-n {
			return false
		}
		b = b[n+int(size):]
		size, n = varint32(b)
		if n <= 0 || size > 0 && int(size) > len(b)-n {
			return false
		}
		b = b[n:]
		if size > 0 {
			b = b[size:]
		}
	}
	return len(b) == 0
}

// inside reads every record, tells which of them are wrong, and builds the batch anew where it is to be stored with another
// codec or its offsets have gaps.
func (v *validator) inside(res *Result, target Codec, lo, hi int64) error {
	r, err := NewReader(v.batch, LimitsFor(v.o.MaxMessageBytes))
	if err != nil {
		return v.contentError(err)
	}
	defer r.Close()
	var build *Builder
	if target != v.h.Codec() {
		build = v.builder(target)
	}
	var errs recordErrors
	maxTime, dense := NoTimestamp, true
	for i := int32(0); ; i++ {
		rec, err := r.Next()
		if err != nil {
			return v.contentError(err)
		}
		if rec == nil {
			break
		}
		t := rec.Timestamp(&v.h)
		maxTime = max(maxTime, t)
		dense = dense && rec.OffsetDelta == i
		switch {
		case v.o.Compacted && rec.Key == nil:
			errs.add(i, kerr.InvalidRecord, "a record without a key cannot go to the compacted topic partition "+v.o.Where)
		case outOf(t, lo, hi):
			errs.add(i, kerr.InvalidTimestamp, "the time "+strconv.FormatInt(t, 10)+" of record "+strconv.Itoa(int(i))+
				" is not from "+strconv.FormatInt(lo, 10)+" to "+strconv.FormatInt(hi, 10))
		}
		if build != nil && errs.n == 0 {
			build.Append(t, rec.Key, rec.Value, rec.Headers)
		}
	}
	if err := r.Done(); err != nil {
		return v.contentError(err)
	}
	if errs.n > 0 {
		res.RecordErrors = errs.list
		return errs.err(v.o.Where)
	}
	if build == nil && !dense && v.o.Origin == Client {
		if build, err = v.renumber(target); err != nil {
			return v.contentError(err)
		}
	}
	if build != nil {
		v.out = build.Finish()
		v.h = decodeHeader((*[HeaderSize]byte)(v.out))
		return nil
	}
	v.maxTime = maxTime
	return nil
}

// builder starts the batch anew with what its header says, under the topic's timestamp type.
func (v *validator) builder(target Codec) *Builder {
	o := rebuildOptions(&v.h, target, v.o.Level)
	o.TimestampType, o.LogAppendTime = v.o.TimestampType, v.o.Now
	return NewBuilder(o)
}

// renumber builds the batch anew with offsets one after the other: Kafka takes batches with other deltas from clients and
// counts their records, so that two records at 0 and 5 use two offsets.
func (v *validator) renumber(target Codec) (*Builder, error) {
	build := v.builder(target)
	err := Records(v.batch, LimitsFor(v.o.MaxMessageBytes), func(rec *Record) error {
		build.Append(rec.Timestamp(&v.h), rec.Key, rec.Value, rec.Headers)
		return nil
	})
	return build, err
}

// contentError gives the protocol error for what a reader found inside.
func (v *validator) contentError(err error) error {
	var c *contentError
	if errors.As(err, &c) {
		switch c.fault {
		case faultCodec:
			return wire.Errorf(kerr.UnknownServerError, "a batch for %s: %s", v.o.Where, c.Error())
		case faultRecords, faultLimit:
			return wire.Errorf(kerr.InvalidRecord, "a batch for %s: %s", v.o.Where, c.Error())
		}
	}
	return err
}

// recordErrors collects what is wrong with the records of a batch.
type recordErrors struct {
	list []RecordError
	n    int
	time bool // one of them is about time, which decides the error code
}

func (e *recordErrors) add(i int32, k *kerr.Error, msg string) {
	e.n++
	e.time = e.time || k == kerr.InvalidTimestamp
	if len(e.list) < maxRecordErrors {
		e.list = append(e.list, RecordError{Index: i, Message: msg})
	}
}

func (e *recordErrors) err(where string) error {
	if e.time {
		return wire.Errorf(kerr.InvalidTimestamp, "%d records for %s are out of the topic's time bounds or lack a key; the first: %s", e.n, where, e.list[0].Message)
	}
	return wire.Errorf(kerr.InvalidRecord, "%d records refused by %s; the first, record %d: %s", e.n, where, e.list[0].Index, e.list[0].Message)
}
