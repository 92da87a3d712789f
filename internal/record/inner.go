package record

import (
	"errors"
	"math"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/wire"
)

// plainScan is what one pass over records that are not compressed found.
type plainScan struct {
	ok      bool // nothing needs a second look
	maxTime int64
}

// beyond is the position after a varint that is malformed or cut: past every end, so that one check after several
// varints finds it.
const beyond = math.MaxInt

// uvar32 reads the varint at b[p] as the unsigned number that zigzag has made of it, and gives the position after it. One
// and two bytes are what nearly all varints of records take.
func uvar32(b []byte, p int) (uint32, int) {
	if p >= len(b) {
		return 0, beyond
	}
	c := b[p]
	if c < 0x80 {
		return uint32(c), p + 1
	}
	if p+1 < len(b) && b[p+1] < 0x80 {
		return uint32(c&0x7f) | uint32(b[p+1])<<7, p + 2
	}
	v, n := varint32Slow(b[p:])
	if n <= 0 {
		return 0, beyond
	}
	return uint32(v<<1) ^ uint32(v>>31), p + n
}

// scanPlain walks the records of a batch without looking at their keys and values: sizes that fit, times from lo to hi, keys
// where they must be, offsets one after the other. It allocates nothing and says no more than that something is wrong;
// validator.inside says what.
func scanPlain(b []byte, h *Header, lo, hi int64, keyed bool) plainScan {
	s := plainScan{maxTime: NoTimestamp}
	fixed := h.TimestampType() == LogAppendTime
	p := 0
	for i := range uint32(h.NumRecords) {
		size, at := uvar32(b, p)
		if at == beyond || size&1 != 0 || int(size>>1) > len(b)-at || size>>1 < minRecordBytes-1 {
			return s
		}
		end := at + int(size>>1)
		rec := b[:end]
		delta, n := varint64(rec[at+1:]) // after the attributes, of which none are in use
		if n <= 0 {
			return s
		}
		offset, at := uvar32(rec, at+1+n)
		if at == beyond || offset != i<<1 {
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
		if !scanFields(rec, at, keyed) {
			return s
		}
		p = end
	}
	s.ok = p == len(b)
	return s
}

// scanFields walks key, value and headers from rec[p] on, which must end where rec does.
func scanFields(rec []byte, p int, keyed bool) bool {
	key, p := uvar32(rec, p)
	if keyed && key&1 != 0 {
		return false
	}
	p = skipField(rec, p, key)
	value, p := uvar32(rec, p)
	p = skipField(rec, p, value)
	headers, p := uvar32(rec, p)
	if p == beyond || headers&1 != 0 {
		return false
	}
	for range headers >> 1 {
		var size uint32
		size, p = uvar32(rec, p)
		if p == beyond || size&1 != 0 {
			return false
		}
		p = skipField(rec, p, size)
		size, p = uvar32(rec, p)
		if p = skipField(rec, p, size); p == beyond {
			return false
		}
	}
	return p == len(rec)
}

// skipField gives the position after the field at p of the size that zigzag has made size of; negative is null.
func skipField(rec []byte, p int, size uint32) int {
	if size&1 != 0 {
		return p
	}
	if int(size>>1) > len(rec)-p {
		return beyond
	}
	return p + int(size>>1)
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
