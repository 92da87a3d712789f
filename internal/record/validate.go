package record

import (
	"encoding/binary"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/wire"
)

// Origin says who wants to append.
type Origin int8

// The origins. A client may append one batch at a time and no control records; a coordinator of this broker may do both;
// a replica appends what the leader has validated.
const (
	Client Origin = iota
	Coordinator
	Replication
)

// Target is the config compression.type: what batches are compressed with when they are stored. The zero value keeps the
// producer's own.
type Target int8

// The targets.
const (
	TargetProducer Target = iota
	TargetUncompressed
	TargetGzip
	TargetSnappy
	TargetLZ4
	TargetZstd
)

// ParseTarget reads a value of compression.type.
func ParseTarget(s string) (Target, bool) {
	if s == "producer" {
		return TargetProducer, true
	}
	for c := None; c <= Zstd; c++ {
		if s == c.String() {
			return TargetUncompressed + Target(c), true
		}
	}
	return 0, false
}

// codec is what a batch of codec c is stored with.
func (t Target) codec(c Codec) Codec {
	if t == TargetProducer {
		return c
	}
	return Codec(t - TargetUncompressed)
}

// ValidateOptions are the topic's settings and the moment.
type ValidateOptions struct {
	Origin          Origin
	Now             int64 // milliseconds
	TimestampType   TimestampType
	BeforeMaxMs     int64 // message.timestamp.before.max.ms; math.MaxInt64 is no bound
	AfterMaxMs      int64 // message.timestamp.after.max.ms
	Compacted       bool  // every record needs a key
	Target          Target
	Level           int   // of Target's codec; 0 is its default
	MaxMessageBytes int32 // max.message.bytes; 0 is no bound
	// FullInner has the records of compressed batches looked at, which costs their decompression. Without it they are
	// decompressed only where the topic is compacted, stores with another codec, or the header's times are out of bounds.
	FullInner bool
	// RefuseZstd is for Produce before version 7, which knows no zstd.
	RefuseZstd bool
	// Where names the partition in error messages.
	Where string
}

// RecordError says what is wrong with one record of a refused batch.
type RecordError struct {
	Index   int32 // of the record in the batch
	Message string
}

// maxRecordErrors bounds the answer to a batch in which every record is wrong.
const maxRecordErrors = 1000

// Result is what Validate found.
type Result struct {
	// Batches is what to append: the input itself, changed in place, or new memory where Rewritten is set.
	Batches   []byte
	Rewritten bool
	Header    Header // of the first batch, as it is to be appended
	Count     int    // records in all batches
	// MaxTimestamp is the largest time in the batches; OffsetOfMaxTimestamp the last offset of the batch it is in, counted from
	// the first batch's base offset. Kafka keeps its time index in the same way.
	MaxTimestamp         int64
	OffsetOfMaxTimestamp int64

	// Of a refusal:
	RecordErrors []RecordError
	// KnowsLogStart says that Kafka answers this refusal with the log start offset, because it has come as far as the log, and
	// not with -1.
	KnowsLogStart bool
}

// Validate decides whether in, the records of one partition of a request, may be appended, and makes them fit to be. Offsets
// and leader epoch are left to the log. It changes in, in place, where the topic wants other timestamps.
//
// On the fast path it reads the header, the CRC and, where the records are not compressed, their sizes, and allocates
// nothing. Errors are protocol errors with the codes Kafka 4.4 gives: INVALID_RECORD, CORRUPT_MESSAGE, MESSAGE_TOO_LARGE,
// INVALID_TIMESTAMP, UNSUPPORTED_COMPRESSION_TYPE, UNKNOWN_SERVER_ERROR where compressed data cannot be read.
func Validate(in []byte, o ValidateOptions) (Result, error) {
	if o.Origin == Replication {
		return validateReplica(in)
	}
	if o.Origin == Client {
		if err := validateRequest(in, &o); err != nil {
			return Result{}, err
		}
	}
	res := Result{MaxTimestamp: NoTimestamp}
	it := NewBatchIter(in)
	used := 0      // bytes of in that are batches
	var out []byte // what has been rewritten so far, nil while nothing has
	for first := true; ; first = false {
		batch, h, ok, err := it.Next()
		if err != nil {
			return res, err
		}
		if !ok || !first && o.Origin == Client {
			break
		}
		v := validator{o: o, batch: batch, h: h}
		if err := v.run(&res); err != nil {
			return res, err
		}
		if v.out != nil && out == nil {
			out = append(make([]byte, 0, used+len(v.out)), in[:used]...)
		}
		if out != nil {
			out = append(out, v.stored()...)
		}
		if first {
			res.Header = v.h
		}
		used = it.Pos()
		res.Count += int(v.h.NumRecords)
		if v.h.MaxTimestamp > res.MaxTimestamp {
			res.MaxTimestamp = v.h.MaxTimestamp
			res.OffsetOfMaxTimestamp = v.h.LastOffset() - res.Header.BaseOffset
		}
	}
	if used == 0 {
		return res, wire.Errorf(kerr.InvalidRecord, "no whole record batch in the %d bytes for %s", len(in), o.Where)
	}
	res.Batches = in[:used]
	if out != nil {
		res.Batches, res.Rewritten = out, true
	}
	return res, nil
}

// smallestEntry is the least that a length field may say in any message format, old ones included.
const smallestEntry = 14

// validateRequest checks what a Produce request may hold at all: exactly one batch of format 2.
func validateRequest(in []byte, o *ValidateOptions) error {
	size, err := nextEntry(in)
	switch {
	case err != nil:
		return err
	case size == 0:
		return wire.Errorf(kerr.InvalidRecord, "no whole record batch in the %d bytes for %s; a produce request holds exactly one for each partition", len(in), o.Where)
	case in[MagicOffset] != MagicV2:
		return wire.Errorf(kerr.InvalidRecord, "message format %d sent to %s; only format 2 (since Kafka 0.11) is accepted", in[MagicOffset], o.Where)
	case size < HeaderSize:
		return wire.Errorf(kerr.CorruptMessage, "a record batch for %s says that it takes %d bytes, less than its header", o.Where, size)
	case o.RefuseZstd && in[offAttributes+1]&attrCodecMask == byte(Zstd):
		return wire.Errorf(kerr.UnsupportedCompressionType, "zstd in a produce request before version 7, for %s; use a newer client or another codec", o.Where)
	}
	second, err := nextEntry(in[size:])
	switch {
	case err != nil:
		return err
	case second > 0:
		return wire.Errorf(kerr.InvalidRecord, "more than one record batch for %s in a produce request", o.Where)
	}
	return nil
}

// nextEntry gives the size of the batch or old message that b starts with, 0 where it is not whole.
func nextEntry(b []byte) (int, error) {
	if len(b) <= MagicOffset {
		return 0, nil
	}
	length, magic := be32(b[offBatchLength:]), int8(b[MagicOffset])
	if length < smallestEntry {
		return 0, wire.Errorf(kerr.CorruptMessage, "a batch length of %d is below the least possible", length)
	}
	if magic < 0 || magic > MagicV2 {
		return 0, wire.Errorf(kerr.CorruptMessage, "unknown message format %d", magic)
	}
	size := LengthOverhead + int(length)
	if size > len(b) {
		return 0, nil
	}
	return size, nil
}

// validateReplica checks batches that another broker has validated: whole, unharmed, in order. A last batch that is not whole
// is left out.
func validateReplica(in []byte) (Result, error) {
	res := Result{MaxTimestamp: NoTimestamp}
	it := NewBatchIter(in)
	next := int64(math.MinInt64)
	for {
		batch, h, ok, err := it.Next()
		if err != nil {
			return res, err
		}
		if !ok {
			break
		}
		switch {
		case h.BaseOffset < next || h.LastOffsetDelta < 0:
			return res, wire.Errorf(kerr.CorruptMessage, "batch at offset %d to %d after offset %d", h.BaseOffset, h.LastOffset(), next-1)
		case !CheckCRC(batch):
			return res, wire.Errorf(kerr.CorruptMessage, "batch at offset %d has a wrong checksum", h.BaseOffset)
		}
		if next == math.MinInt64 {
			res.Header = h
		}
		next = h.NextOffset()
		res.Count += int(max(h.NumRecords, 0))
		if h.MaxTimestamp > res.MaxTimestamp {
			res.MaxTimestamp = h.MaxTimestamp
			res.OffsetOfMaxTimestamp = h.LastOffset() - res.Header.BaseOffset
		}
	}
	res.Batches = in[:it.Pos()]
	return res, nil
}

// validator validates one batch.
type validator struct {
	o       ValidateOptions
	batch   []byte
	h       Header
	maxTime int64  // the records' largest time, as far as it has been looked for
	out     []byte // the batch built anew, nil where it stays
}

func (v *validator) stored() []byte {
	if v.out != nil {
		return v.out
	}
	return v.batch
}

func (v *validator) run(res *Result) error {
	if err := v.outside(); err != nil {
		return err
	}
	res.KnowsLogStart = true
	if err := v.header(); err != nil {
		return err
	}
	codec := v.h.Codec()
	target := v.o.Target.codec(codec)
	lo, hi := v.bounds()
	v.maxTime = v.h.MaxTimestamp
	switch {
	case codec == None && target == None:
		scan := scanPlain(v.batch[HeaderSize:], &v.h, lo, hi, v.o.Compacted)
		switch {
		case !scan.ok:
			if err := v.inside(res, None, lo, hi); err != nil {
				return err
			}
		case v.h.TimestampType() == CreateTime:
			v.maxTime = scan.maxTime
		}
	case codec != target || v.o.FullInner || v.o.Compacted || outOf(v.h.MaxTimestamp, lo, hi) || outOf(v.h.BaseTimestamp, lo, hi):
		if err := v.inside(res, target, lo, hi); err != nil {
			return err
		}
	default:
		if !plausible(codec, v.batch[HeaderSize:], v.h.NumRecords) {
			return wire.Errorf(kerr.UnknownServerError, "the records for %s cannot be decompressed as %s", v.o.Where, codec)
		}
	}
	if v.out == nil {
		v.settleTime()
	}
	if v.o.MaxMessageBytes > 0 && len(v.stored()) > int(v.o.MaxMessageBytes) {
		res.KnowsLogStart = false
		return v.tooLarge(len(v.stored()))
	}
	return nil
}

// outside checks what can be said of the batch as a piece of bytes.
func (v *validator) outside() error {
	switch {
	case v.o.Origin == Client && v.h.BaseOffset != 0:
		return wire.Errorf(kerr.InvalidRecord, "a batch sent to %s starts at offset %d; producers send 0", v.o.Where, v.h.BaseOffset)
	case v.o.MaxMessageBytes > 0 && len(v.batch) > int(v.o.MaxMessageBytes):
		return v.tooLarge(len(v.batch))
	case !CheckCRC(v.batch):
		return wire.Errorf(kerr.CorruptMessage, "a batch sent to %s has a wrong checksum: it was damaged on its way", v.o.Where)
	}
	return nil
}

func (v *validator) tooLarge(n int) error {
	return wire.Errorf(kerr.MessageTooLarge, "a batch of %d bytes for %s is above max.message.bytes, %d", n, v.o.Where, v.o.MaxMessageBytes)
}

// header checks that the header's fields agree.
func (v *validator) header() error {
	h := &v.h
	switch {
	case !h.Codec().Known():
		return wire.Errorf(kerr.UnknownServerError, "unknown compression codec %d in a batch for %s", h.Codec(), v.o.Where)
	case h.LastOffsetDelta < 0, h.NumRecords <= 0:
		return wire.Errorf(kerr.InvalidRecord, "a batch for %s says that it holds %d records, the last %d after the first", v.o.Where, h.NumRecords, h.LastOffsetDelta)
	case int64(h.LastOffsetDelta)+1 != int64(h.NumRecords) && v.o.Origin == Client:
		return wire.Errorf(kerr.InvalidRecord, "a batch for %s says that it holds %d records, but the last is %d after the first", v.o.Where, h.NumRecords, h.LastOffsetDelta)
	case h.HasProducerID() && h.BaseSequence < 0 && !h.IsControl():
		return wire.Errorf(kerr.InvalidRecord, "a batch for %s has producer id %d and the sequence number %d", v.o.Where, h.ProducerID, h.BaseSequence)
	case h.HasProducerID() && h.ProducerEpoch < 0:
		return wire.Errorf(kerr.InvalidRecord, "a batch for %s has producer id %d and the producer epoch %d", v.o.Where, h.ProducerID, h.ProducerEpoch)
	case h.IsTransactional() && !h.HasProducerID():
		return wire.Errorf(kerr.InvalidRecord, "a transactional batch for %s has no producer id", v.o.Where)
	case h.IsControl() && v.o.Origin == Client:
		return wire.Errorf(kerr.InvalidRecord, "a client sent control records to %s", v.o.Where)
	}
	return nil
}

// bounds gives the times that records may have.
func (v *validator) bounds() (lo, hi int64) {
	if v.o.TimestampType == LogAppendTime || v.o.Origin != Client {
		return math.MinInt64, math.MaxInt64
	}
	lo, hi = v.o.Now-v.o.BeforeMaxMs, v.o.Now+v.o.AfterMaxMs
	if lo > v.o.Now {
		lo = math.MinInt64
	}
	if hi < v.o.Now {
		hi = math.MaxInt64
	}
	return lo, hi
}

// outOf says whether a record may not have the time t. No time at all is always allowed.
func outOf(t, lo, hi int64) bool { return (t < lo || t > hi) && t != NoTimestamp }

// settleTime makes the header's timestamp type and largest timestamp what they must be, in place. The delete horizon, which
// is the cleaner's alone to set, is taken from producers.
func (v *validator) settleTime() {
	want, maxTime := v.o.TimestampType, v.maxTime
	if want == LogAppendTime {
		maxTime = v.o.Now
	}
	if v.h.HasDeleteHorizon() {
		v.h.Attributes &^= attrDeleteHorizon
		binary.BigEndian.PutUint16(v.batch[offAttributes:], uint16(v.h.Attributes))
	} else if v.h.TimestampType() == want && v.h.MaxTimestamp == maxTime {
		return
	}
	SetMaxTimestamp(v.batch, want, maxTime)
	v.h = decodeHeader((*[HeaderSize]byte)(v.batch))
}
