package record

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/wire"
)

// Where the fields of a batch header stand. All integers are big endian.
const (
	offBaseOffset      = 0
	offBatchLength     = 8
	offLeaderEpoch     = 12
	MagicOffset        = 16 // the same place in every message format Kafka ever had
	offCRC             = 17
	offAttributes      = 21 // the checksum covers everything from here on
	offLastOffsetDelta = 23
	offBaseTimestamp   = 27
	offMaxTimestamp    = 35
	offProducerID      = 43
	offProducerEpoch   = 51
	offBaseSequence    = 53
	offNumRecords      = 57

	// HeaderSize is the size in bytes of a batch header.
	HeaderSize = 61
	// LengthOverhead is how much longer a batch is than its BatchLength field says: the base offset and the field itself.
	LengthOverhead = 12
	// MagicV2 is the only message format spoken here.
	MagicV2 = 2
)

// Bits of a batch's attributes.
const (
	attrCodecMask     = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
	attrDeleteHorizon = 0x40
)

// Values that say "none" in a batch header.
const (
	NoTimestamp     int64 = -1
	NoProducerID    int64 = -1
	NoProducerEpoch int16 = -1
	NoSequence      int32 = -1
	NoLeaderEpoch   int32 = -1
)

// TimestampType says who gave a batch its timestamps.
type TimestampType int8

// The two timestamp types: the producer's clock, or the broker's at append.
const (
	CreateTime    TimestampType = 0
	LogAppendTime TimestampType = 1
)

func (t TimestampType) String() string {
	if t == LogAppendTime {
		return "LogAppendTime"
	}
	return "CreateTime"
}

// Header is the fixed head of a RecordBatch version 2. Times are milliseconds since the Unix epoch.
type Header struct {
	BaseOffset           int64
	BatchLength          int32 // bytes after this field
	PartitionLeaderEpoch int32
	Magic                int8
	CRC                  uint32
	Attributes           int16
	LastOffsetDelta      int32
	BaseTimestamp        int64
	MaxTimestamp         int64
	ProducerID           int64
	ProducerEpoch        int16
	BaseSequence         int32
	NumRecords           int32
}

// ParseHeader reads the header at the start of b. The error is CORRUPT_MESSAGE where b is shorter than a header, the magic
// is not 2, or the length field is below the size of a header. The bytes after the header may be missing: compare Size.
// It does not check the CRC.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, wire.Errorf(kerr.CorruptMessage, "a record batch needs a header of %d bytes, got %d", HeaderSize, len(b))
	}
	h := decodeHeader((*[HeaderSize]byte)(b))
	if h.Magic != MagicV2 {
		return Header{}, wire.Errorf(kerr.CorruptMessage, "message format %d where 2 is the only one known", h.Magic)
	}
	if h.BatchLength < HeaderSize-LengthOverhead {
		return Header{}, wire.Errorf(kerr.CorruptMessage, "batch length %d is below the least possible, %d", h.BatchLength, HeaderSize-LengthOverhead)
	}
	return h, nil
}

func decodeHeader(b *[HeaderSize]byte) Header {
	return Header{
		BaseOffset:           int64(binary.BigEndian.Uint64(b[offBaseOffset:])),
		BatchLength:          int32(binary.BigEndian.Uint32(b[offBatchLength:])),
		PartitionLeaderEpoch: int32(binary.BigEndian.Uint32(b[offLeaderEpoch:])),
		Magic:                int8(b[MagicOffset]),
		CRC:                  binary.BigEndian.Uint32(b[offCRC:]),
		Attributes:           int16(binary.BigEndian.Uint16(b[offAttributes:])),
		LastOffsetDelta:      int32(binary.BigEndian.Uint32(b[offLastOffsetDelta:])),
		BaseTimestamp:        int64(binary.BigEndian.Uint64(b[offBaseTimestamp:])),
		MaxTimestamp:         int64(binary.BigEndian.Uint64(b[offMaxTimestamp:])),
		ProducerID:           int64(binary.BigEndian.Uint64(b[offProducerID:])),
		ProducerEpoch:        int16(binary.BigEndian.Uint16(b[offProducerEpoch:])),
		BaseSequence:         int32(binary.BigEndian.Uint32(b[offBaseSequence:])),
		NumRecords:           int32(binary.BigEndian.Uint32(b[offNumRecords:])),
	}
}

// put writes the header over the first HeaderSize bytes of b, CRC included as it stands in h.
func (h *Header) put(b []byte) {
	_ = b[HeaderSize-1]
	binary.BigEndian.PutUint64(b[offBaseOffset:], uint64(h.BaseOffset))
	binary.BigEndian.PutUint32(b[offBatchLength:], uint32(h.BatchLength))
	binary.BigEndian.PutUint32(b[offLeaderEpoch:], uint32(h.PartitionLeaderEpoch))
	b[MagicOffset] = byte(h.Magic)
	binary.BigEndian.PutUint32(b[offCRC:], h.CRC)
	binary.BigEndian.PutUint16(b[offAttributes:], uint16(h.Attributes))
	binary.BigEndian.PutUint32(b[offLastOffsetDelta:], uint32(h.LastOffsetDelta))
	binary.BigEndian.PutUint64(b[offBaseTimestamp:], uint64(h.BaseTimestamp))
	binary.BigEndian.PutUint64(b[offMaxTimestamp:], uint64(h.MaxTimestamp))
	binary.BigEndian.PutUint64(b[offProducerID:], uint64(h.ProducerID))
	binary.BigEndian.PutUint16(b[offProducerEpoch:], uint16(h.ProducerEpoch))
	binary.BigEndian.PutUint32(b[offBaseSequence:], uint32(h.BaseSequence))
	binary.BigEndian.PutUint32(b[offNumRecords:], uint32(h.NumRecords))
}

// Size is the size of the whole batch in bytes, header included.
func (h Header) Size() int { return LengthOverhead + int(h.BatchLength) }

// LastOffset is the offset of the batch's last record, whether or not compaction has left it there.
func (h Header) LastOffset() int64 { return h.BaseOffset + int64(h.LastOffsetDelta) }

// NextOffset is the first offset after the batch.
func (h Header) NextOffset() int64 { return h.LastOffset() + 1 }

// LastSequence is the sequence number of the last record, wrapping from the largest int32 to 0; NoSequence where there is none.
func (h Header) LastSequence() int32 {
	if h.BaseSequence == NoSequence {
		return NoSequence
	}
	return AddSequence(h.BaseSequence, h.LastOffsetDelta)
}

// AddSequence adds n >= 0 to a sequence number, which wraps from the largest int32 to 0.
func AddSequence(seq, n int32) int32 { return int32((uint32(seq) + uint32(n)) & 0x7fffffff) }

// Codec is how the records are compressed. It may be a number no codec has.
func (h Header) Codec() Codec { return Codec(h.Attributes & attrCodecMask) }

// IsTransactional says whether the batch belongs to a transaction.
func (h Header) IsTransactional() bool { return h.Attributes&attrTransactional != 0 }

// IsControl says whether the batch holds control records, which consumers never see.
func (h Header) IsControl() bool { return h.Attributes&attrControl != 0 }

// HasProducerID says whether an idempotent producer wrote the batch.
func (h Header) HasProducerID() bool { return h.ProducerID > NoProducerID }

// TimestampType says who gave the timestamps.
func (h Header) TimestampType() TimestampType {
	return TimestampType((h.Attributes & attrLogAppendTime) >> 3)
}

// HasDeleteHorizon says whether BaseTimestamp holds the time after which the cleaner may drop the batch's tombstones.
func (h Header) HasDeleteHorizon() bool { return h.Attributes&attrDeleteHorizon != 0 }

// castagnoli is the table of the CRC-32C; the standard library uses the processor's own instruction where there is one.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CheckCRC says whether the checksum of batch, which must hold exactly one batch, is right.
func CheckCRC(batch []byte) bool {
	if len(batch) < HeaderSize {
		return false
	}
	return crc32.Checksum(batch[offAttributes:], castagnoli) == binary.BigEndian.Uint32(batch[offCRC:])
}

// SetCRC computes and writes the checksum of batch, which must hold exactly one batch.
func SetCRC(batch []byte) {
	binary.BigEndian.PutUint32(batch[offCRC:], crc32.Checksum(batch[offAttributes:], castagnoli))
}

// SetBaseOffset writes the base offset in place. It lies outside the CRC.
func SetBaseOffset(batch []byte, off int64) {
	binary.BigEndian.PutUint64(batch[offBaseOffset:], uint64(off))
}

// SetLeaderEpoch writes the partition leader epoch in place. It lies outside the CRC.
func SetLeaderEpoch(batch []byte, epoch int32) {
	binary.BigEndian.PutUint32(batch[offLeaderEpoch:], uint32(epoch))
}

// SetMaxTimestamp writes the timestamp type and the largest timestamp of the one batch given, and computes its CRC anew.
// Under LogAppendTime every record reads with ts, whatever its own delta.
func SetMaxTimestamp(batch []byte, t TimestampType, ts int64) {
	attrs := binary.BigEndian.Uint16(batch[offAttributes:]) &^ attrLogAppendTime
	if t == LogAppendTime {
		attrs |= attrLogAppendTime
	}
	binary.BigEndian.PutUint16(batch[offAttributes:], attrs)
	binary.BigEndian.PutUint64(batch[offMaxTimestamp:], uint64(ts))
	SetCRC(batch)
}

// BatchIter walks concatenated batches without copying them.
type BatchIter struct {
	b   []byte
	pos int
}

// NewBatchIter walks b, which must start with a batch.
func NewBatchIter(b []byte) BatchIter { return BatchIter{b: b} }

// Next gives the next batch, a slice of the bytes given, and its header. At the end, or where the last batch is not whole,
// ok is false without an error: Pos tells how far it came. An error (CORRUPT_MESSAGE) means that the bytes at Pos cannot
// be a batch; calling Next again gives the same. It does not check CRCs.
func (it *BatchIter) Next() (batch []byte, h Header, ok bool, err error) {
	rest := it.b[it.pos:]
	if len(rest) < HeaderSize {
		return nil, Header{}, false, nil
	}
	h, err = ParseHeader(rest)
	if err != nil {
		return nil, Header{}, false, err
	}
	size := h.Size()
	if size > len(rest) {
		return nil, Header{}, false, nil
	}
	it.pos += size
	return rest[:size:size], h, true, nil
}

// Pos is the number of bytes that the batches given so far take.
func (it *BatchIter) Pos() int { return it.pos }
