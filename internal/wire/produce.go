package wire

import "fmt"

// Versions of Produce that the codec knows.
const (
	ProduceMinVersion = 3
	ProduceMaxVersion = 13

	produceFlexible = 9
	produceTopicIDs = 13
)

// ProduceRequest is decoded from the network's buffer without copying records: it may be used only as long as the buffer
// lives. A used one may be decoded into again and then allocates little or nothing.
type ProduceRequest struct {
	Version         int16
	TransactionalID *string
	Acks            int16
	TimeoutMs       int32
	Topics          []ProduceTopic

	txnID string
}

// ProduceTopic has a name up to version 12 and an id from version 13.
type ProduceTopic struct {
	Name       string
	TopicID    [16]byte
	Partitions []ProducePartition
}

// ProducePartition holds the records for one partition: a part of the request's buffer, nil for null.
type ProducePartition struct {
	Index   int32
	Records []byte
}

// Decode reads a request of versions 3 to 13. Bytes after it are accepted. Errors wrap ErrMalformed.
func (r *ProduceRequest) Decode(version int16, body []byte) error {
	if version < ProduceMinVersion || version > ProduceMaxVersion {
		return fmt.Errorf("%w: Produce version %d", ErrMalformed, version)
	}
	flexible := version >= produceFlexible
	b := NewReader(body)
	r.Version = version
	r.TransactionalID = nil
	if id := b.NullableString(flexible); id != nil {
		r.txnID = keepString(r.txnID, id)
		r.TransactionalID = &r.txnID
	}
	r.Acks, r.TimeoutMs = b.Int16(), b.Int32()
	r.Topics = resize(r.Topics, b.Count(flexible, 3))
	for i := range r.Topics {
		r.Topics[i].decode(&b, version, flexible)
	}
	b.noTags(flexible)
	if b.bad {
		r.Topics = r.Topics[:0]
		return fmt.Errorf("%w: Produce version %d of %d bytes", ErrMalformed, version, len(body))
	}
	return nil
}

func (t *ProduceTopic) decode(b *Reader, version int16, flexible bool) {
	if version >= produceTopicIDs {
		t.Name, t.TopicID = "", b.UUID()
	} else {
		t.Name, t.TopicID = keepString(t.Name, b.String(flexible)), [16]byte{}
	}
	t.Partitions = resize(t.Partitions, b.Count(flexible, 5))
	for i := range t.Partitions {
		p := &t.Partitions[i]
		p.Index, p.Records = b.Int32(), b.NullableBytes(flexible)
		b.noTags(flexible)
	}
	b.noTags(flexible)
}

// maxReuse bounds what a pooled request or response may keep for its next use.
const maxReuse = 1024

// Reset drops what points into the request's buffer and what is too large to keep, before the request goes to a pool.
func (r *ProduceRequest) Reset() {
	if cap(r.Topics) > maxReuse {
		r.Topics = nil
	}
	topics := r.Topics[:cap(r.Topics)]
	for i := range topics {
		if cap(topics[i].Partitions) > maxReuse {
			topics[i].Partitions = nil
		}
		clear(topics[i].Partitions[:cap(topics[i].Partitions)])
	}
	r.Topics, r.TransactionalID = r.Topics[:0], nil
}

// ProduceResponse is encoded in the versions 3 to 13; fields that a version does not have are left out.
type ProduceResponse struct {
	Topics         []ProduceTopicResponse
	ThrottleTimeMs int32
	NodeEndpoints  []NodeEndpoint // version 10, for the leaders named in partitions
}

// ProduceTopicResponse has a name up to version 12 and an id from version 13.
type ProduceTopicResponse struct {
	Name       string
	TopicID    [16]byte
	Partitions []ProducePartitionResponse
}

// ProducePartitionResponse is the answer for one partition.
type ProducePartitionResponse struct {
	Index           int32
	ErrorCode       int16
	BaseOffset      int64           // -1 with an error
	LogAppendTimeMs int64           // -1 under CreateTime
	LogStartOffset  int64           // version 5; -1 where it is not known
	RecordErrors    []RecordError   // version 8
	ErrorMessage    *string         // version 8
	CurrentLeader   *LeaderAndEpoch // version 10, nil is none
}

// RecordError says what is wrong with a record of a refused batch.
type RecordError struct {
	BatchIndex int32
	Message    *string
}

// LeaderAndEpoch names the leader a client should turn to.
type LeaderAndEpoch struct {
	LeaderID    int32
	LeaderEpoch int32
}

// NodeEndpoint is the address of a broker.
type NodeEndpoint struct {
	NodeID int32
	Host   string
	Port   int32
	Rack   *string
}

// Append appends the response's body.
func (r *ProduceResponse) Append(dst []byte, version int16) []byte {
	flexible := version >= produceFlexible
	dst = appendSize(dst, flexible, len(r.Topics))
	for i := range r.Topics {
		t := &r.Topics[i]
		if version >= produceTopicIDs {
			dst = append(dst, t.TopicID[:]...)
		} else {
			dst = appendString(dst, flexible, t.Name)
		}
		dst = appendSize(dst, flexible, len(t.Partitions))
		for j := range t.Partitions {
			dst = t.Partitions[j].append(dst, version, flexible)
		}
		if flexible {
			dst = append(dst, 0)
		}
	}
	dst = appendInt32(dst, r.ThrottleTimeMs)
	if version >= 10 {
		dst = appendEndpoints(dst, r.NodeEndpoints)
	} else if flexible {
		dst = append(dst, 0)
	}
	return dst
}

func (p *ProducePartitionResponse) append(dst []byte, version int16, flexible bool) []byte {
	dst = appendInt32(dst, p.Index)
	dst = appendInt16(dst, p.ErrorCode)
	dst = appendInt64(dst, p.BaseOffset)
	dst = appendInt64(dst, p.LogAppendTimeMs)
	if version >= 5 {
		dst = appendInt64(dst, p.LogStartOffset)
	}
	if version >= 8 {
		dst = appendSize(dst, flexible, len(p.RecordErrors))
		for i := range p.RecordErrors {
			dst = appendInt32(dst, p.RecordErrors[i].BatchIndex)
			dst = appendNullableString(dst, flexible, p.RecordErrors[i].Message)
			if flexible {
				dst = append(dst, 0)
			}
		}
		dst = appendNullableString(dst, flexible, p.ErrorMessage)
	}
	if !flexible {
		return dst
	}
	if version < 10 || p.CurrentLeader == nil {
		return append(dst, 0)
	}
	dst = append(dst, 1) // one tagged field
	return appendLeader(dst, 0, p.CurrentLeader)
}

// appendLeader appends a tagged field: the tag, the size, two int32 and no further tags.
func appendLeader(dst []byte, tag byte, l *LeaderAndEpoch) []byte {
	dst = append(dst, tag, 9)
	dst = appendInt32(dst, l.LeaderID)
	dst = appendInt32(dst, l.LeaderEpoch)
	return append(dst, 0)
}

// appendEndpoints appends the tagged fields at the end of a response: the brokers' addresses under tag 0, or none.
func appendEndpoints(dst []byte, nodes []NodeEndpoint) []byte {
	if len(nodes) == 0 {
		return append(dst, 0)
	}
	size := uvarintSize(uint32(len(nodes) + 1))
	for i := range nodes {
		n := &nodes[i]
		size += 4 + uvarintSize(uint32(len(n.Host)+1)) + len(n.Host) + 4 + 1 + 1
		if n.Rack != nil {
			size += uvarintSize(uint32(len(*n.Rack)+1)) - 1 + len(*n.Rack)
		}
	}
	dst = append(dst, 1, 0)
	dst = appendUvarint(dst, uint32(size))
	dst = appendSize(dst, true, len(nodes))
	for i := range nodes {
		n := &nodes[i]
		dst = appendInt32(dst, n.NodeID)
		dst = appendString(dst, true, n.Host)
		dst = appendInt32(dst, n.Port)
		dst = appendNullableString(dst, true, n.Rack)
		dst = append(dst, 0)
	}
	return dst
}
