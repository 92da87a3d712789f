package record

import (
	"encoding/binary"
	"math"

	"github.com/ottla/ottla/internal/invariant"
)

// BuilderOptions say what stands in the header of the batch that is built.
type BuilderOptions struct {
	BaseOffset  int64
	LeaderEpoch int32
	Codec       Codec
	Level       int // as in compression.*.level; 0 is the codec's default

	TimestampType TimestampType
	LogAppendTime int64 // every record's time, in milliseconds, under the type LogAppendTime

	// HasProducer says that the three fields after it count; otherwise the batch says "none" for each of them.
	HasProducer   bool
	ProducerID    int64
	ProducerEpoch int16
	BaseSequence  int32

	Transactional bool
	Control       bool
	// DeleteHorizon says that BaseTimestamp is the time after which the batch's tombstones may go. Without it the first
	// record's time is the base timestamp.
	DeleteHorizon bool
	BaseTimestamp int64
}

// Builder builds one batch record by record. It belongs to one goroutine; Reset makes it ready for the next batch.
type Builder struct {
	o       BuilderOptions
	buf     []byte // room for the header, then the records, not compressed
	base    int64
	maxTime int64
	last    int32
	count   int32
}

// NewBuilder starts a batch.
func NewBuilder(o BuilderOptions) *Builder {
	b := &Builder{}
	b.Reset(o)
	return b
}

// Reset starts a new batch in the memory of the one before, which Finish has handed out as a copy.
func (b *Builder) Reset(o BuilderOptions) {
	invariant.Assert(o.Codec.Known(), "batch with codec %d", o.Codec)
	if b.buf == nil {
		b.buf = make([]byte, HeaderSize, 512)
	}
	b.o, b.buf, b.last, b.count = o, b.buf[:HeaderSize], -1, 0
	b.base, b.maxTime = NoTimestamp, NoTimestamp
	if o.DeleteHorizon {
		b.base = o.BaseTimestamp
	}
}

// Append adds a record behind the last one. ts is in milliseconds; nil is null for key and value.
func (b *Builder) Append(ts int64, key, value []byte, headers []RecordHeader) {
	b.add(b.last+1, ts, key, value, headers)
}

// AppendWithOffset adds a record at an offset, which must be above all offsets before it.
func (b *Builder) AppendWithOffset(offset, ts int64, key, value []byte, headers []RecordHeader) {
	delta := offset - b.o.BaseOffset
	invariant.Assert(delta > int64(b.last) && delta <= math.MaxInt32, "offset %d in a batch that starts at %d and has come to %d", offset, b.o.BaseOffset, b.last)
	b.add(int32(delta), ts, key, value, headers)
}

func (b *Builder) add(delta int32, ts int64, key, value []byte, headers []RecordHeader) {
	if b.count == 0 && !b.o.DeleteHorizon {
		b.base = ts
	}
	b.maxTime = max(b.maxTime, ts)
	b.last = delta
	b.count++
	b.buf = appendRecord(b.buf, delta, ts-b.base, key, value, headers)
}

// SetLastOffset moves the batch's last offset past that of its last record: a cleaned batch keeps the offset range it had,
// even where no record of it is left.
func (b *Builder) SetLastOffset(offset int64) {
	delta := offset - b.o.BaseOffset
	invariant.Assert(delta >= int64(b.last) && delta <= math.MaxInt32, "last offset %d in a batch that starts at %d and has come to %d", offset, b.o.BaseOffset, b.last)
	b.last = int32(delta)
}

// Count is the number of records so far.
func (b *Builder) Count() int { return int(b.count) }

// Size is what the batch would take, in bytes, were it not compressed.
func (b *Builder) Size() int { return len(b.buf) }

// RecordSize is what one more record adds to Size at most.
func RecordSize(key, value []byte, headers []RecordHeader) int {
	n := 5 + 1 + 10 + 5 + 5 + len(key) + 5 + len(value) + 5
	for _, h := range headers {
		n += 10 + len(h.Key) + len(h.Value)
	}
	return n
}

// Finish gives the batch, CRC included, in memory of its own.
func (b *Builder) Finish() []byte { return b.AppendTo(nil) }

// AppendTo appends the finished batch to dst.
func (b *Builder) AppendTo(dst []byte) []byte {
	at := len(dst)
	if b.o.Codec == None || b.count == 0 {
		dst = append(dst, b.buf...)
	} else {
		dst = append(growBy(dst, HeaderSize+len(b.buf)/2), b.buf[:HeaderSize]...)
		dst = compress(dst, b.o.Codec, b.o.Level, b.buf[HeaderSize:])
	}
	batch := dst[at:]
	h := Header{
		BaseOffset: b.o.BaseOffset, BatchLength: int32(len(batch) - LengthOverhead), PartitionLeaderEpoch: b.o.LeaderEpoch, Magic: MagicV2,
		Attributes: b.attributes(), LastOffsetDelta: b.last, BaseTimestamp: b.base, MaxTimestamp: b.maxTime,
		ProducerID: NoProducerID, ProducerEpoch: NoProducerEpoch, BaseSequence: NoSequence, NumRecords: b.count,
	}
	if b.o.TimestampType == LogAppendTime {
		h.MaxTimestamp = b.o.LogAppendTime
	}
	if b.o.HasProducer {
		h.ProducerID, h.ProducerEpoch, h.BaseSequence = b.o.ProducerID, b.o.ProducerEpoch, b.o.BaseSequence
	}
	h.put(batch)
	SetCRC(batch)
	return dst
}

func (b *Builder) attributes() int16 {
	var a int16
	if b.count > 0 {
		a = int16(b.o.Codec)
	}
	if b.o.TimestampType == LogAppendTime {
		a |= attrLogAppendTime
	}
	if b.o.Transactional {
		a |= attrTransactional
	}
	if b.o.Control {
		a |= attrControl
	}
	if b.o.DeleteHorizon {
		a |= attrDeleteHorizon
	}
	return a
}

func appendRecord(dst []byte, offsetDelta int32, timeDelta int64, key, value []byte, headers []RecordHeader) []byte {
	size := 1 + varintSize(timeDelta) + varintSize(int64(offsetDelta)) + fieldSize(key) + fieldSize(value) + varintSize(int64(len(headers)))
	for i := range headers {
		size += varintSize(int64(len(headers[i].Key))) + len(headers[i].Key) + fieldSize(headers[i].Value)
	}
	dst = appendVarint(dst, int64(size))
	dst = append(dst, 0)
	dst = appendVarint(dst, timeDelta)
	dst = appendVarint(dst, int64(offsetDelta))
	dst = appendField(dst, key)
	dst = appendField(dst, value)
	dst = appendVarint(dst, int64(len(headers)))
	for i := range headers {
		dst = appendVarint(dst, int64(len(headers[i].Key)))
		dst = append(dst, headers[i].Key...)
		dst = appendField(dst, headers[i].Value)
	}
	return dst
}

func fieldSize(b []byte) int {
	if b == nil {
		return 1
	}
	return varintSize(int64(len(b))) + len(b)
}

func appendField(dst, b []byte) []byte {
	if b == nil {
		return append(dst, 1) // -1
	}
	dst = appendVarint(dst, int64(len(b)))
	return append(dst, b...)
}

// rebuildOptions keep what h says of the producer, the transaction and the time.
func rebuildOptions(h *Header, c Codec, level int) BuilderOptions {
	return BuilderOptions{
		BaseOffset: h.BaseOffset, LeaderEpoch: h.PartitionLeaderEpoch, Codec: c, Level: level,
		HasProducer: true, ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch, BaseSequence: h.BaseSequence,
		Transactional: h.IsTransactional(), Control: h.IsControl(),
	}
}

func be16(b []byte) int16 { return int16(binary.BigEndian.Uint16(b)) }
func be32(b []byte) int32 { return int32(binary.BigEndian.Uint32(b)) }
