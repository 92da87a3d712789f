package load

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Payload is a value of text-like bytes that compresses to about half.
func Payload(rng *rand.Rand, size int) []byte {
	const letters = "etaoinshrdlucmfw"
	b := make([]byte, size)
	for i := range b {
		b[i] = letters[rng.IntN(len(letters))]
	}
	return b
}

// Batch builds one RecordBatch of records of recordBytes each, as many as fit into batchBytes before compression.
// It returns the bytes and the number of records.
func Batch(recordBytes, batchBytes int, codec string, timestamp int64) ([]byte, int, error) {
	rng := rand.New(rand.NewPCG(1, 2))
	var records []byte
	n := 0
	for len(records)+recordBytes+20 <= batchBytes-61 || n == 0 {
		r := kmsg.Record{OffsetDelta: int32(n), Value: Payload(rng, recordBytes)}
		body := r.AppendTo(nil)[1:] // its length, zero so far, is one byte
		r.Length = int32(len(body))
		records = r.AppendTo(records)
		n++
	}
	kind := int16(0)
	switch codec {
	case "", "none":
	case "lz4":
		kind = 3
		var err error
		if records, err = lz4Frame(records); err != nil {
			return nil, 0, err
		}
	case "zstd":
		kind = 4
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			return nil, 0, err
		}
		records = w.EncodeAll(records, nil)
		w.Close()
	default:
		return nil, 0, fmt.Errorf("codec %q: know none, lz4, zstd", codec)
	}
	b := kmsg.RecordBatch{
		Length: int32(49 + len(records)), PartitionLeaderEpoch: -1, Magic: 2, Attributes: kind, LastOffsetDelta: int32(n - 1),
		FirstTimestamp: timestamp, MaxTimestamp: timestamp, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: int32(n), Records: records,
	}
	out := b.AppendTo(nil)
	binary.BigEndian.PutUint32(out[17:], crc32.Checksum(out[21:], crc32.MakeTable(crc32.Castagnoli)))
	return out, n, nil
}

func lz4Frame(b []byte) ([]byte, error) {
	var out sliceWriter
	w := lz4.NewWriter(&out)
	if err := w.Apply(lz4.BlockSizeOption(lz4.Block64Kb)); err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	return out, w.Close()
}

type sliceWriter []byte

func (s *sliceWriter) Write(p []byte) (int, error) { *s = append(*s, p...); return len(p), nil }

// produceFrame is a complete Produce v9 request with its size in front, acks=all.
func produceFrame(topic string, partition int32, batch []byte) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 9, -1, 30000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = topic
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, batch
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return frame(req)
}

// frame puts size and header v2 in front of a flexible request.
func frame(req kmsg.Request) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 4, 512), uint16(req.Key()))
	b = binary.BigEndian.AppendUint16(b, uint16(req.GetVersion()))
	b = append(b, 0, 0, 0, 1, 0, 4, 'l', 'o', 'a', 'd', 0)
	b = req.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// produceError is the error code of a Produce v9 response to produceFrame: correlation id, tags, one topic, one partition.
func produceError(resp []byte, topic string) int16 {
	at := 4 + 1 + 1 + 1 + len(topic) + 1 + 4
	if len(topic) > 126 || len(resp) < at+2 {
		return -1
	}
	return int16(binary.BigEndian.Uint16(resp[at:]))
}
