package wire

// FetchResponse is encoded in the versions 4 to 18; fields that a version does not have are left out. The records of a
// partition are not part of it, only their size: they go from the log's files to the network.
type FetchResponse struct {
	ThrottleTimeMs int32
	ErrorCode      int16 // version 7
	SessionID      int32 // version 7
	Topics         []FetchTopicResponse
	NodeEndpoints  []NodeEndpoint // version 16, for the leaders named in partitions
}

// FetchTopicResponse has a name up to version 12 and an id from version 13.
type FetchTopicResponse struct {
	Name       string
	TopicID    [16]byte
	Partitions []FetchPartitionResponse
}

// NullRecords is the RecordsSize of a partition whose records are null and not empty.
const NullRecords = -1

// FetchPartitionResponse is the answer for one partition. With an error the offsets are -1.
type FetchPartitionResponse struct {
	Index            int32
	ErrorCode        int16
	HighWatermark    int64
	LastStableOffset int64
	LogStartOffset   int64           // version 5
	DivergingEpoch   *EpochEndOffset // version 12, nil is none
	CurrentLeader    *LeaderAndEpoch // version 12, nil is none
	SnapshotID       *SnapshotID     // version 12, nil is none
	// AbortedTxns is null where it is nil, as for readers of uncommitted records.
	AbortedTxns          []AbortedTxn
	PreferredReadReplica *int32 // version 11, nil is none
	RecordsSize          int32  // in bytes, or NullRecords
}

// EpochEndOffset is where a leader epoch ended.
type EpochEndOffset struct {
	Epoch     int32
	EndOffset int64
}

// SnapshotID names a snapshot of the metadata log.
type SnapshotID struct {
	EndOffset int64
	Epoch     int32
}

// AbortedTxn is a transaction whose records a reader of committed records must leave out.
type AbortedTxn struct {
	ProducerID  int64
	FirstOffset int64
}

// FetchPart is a piece of an encoded Fetch response: the bytes Start to End of the buffer it was encoded into, then, unless
// Topic is -1, the RecordsSize bytes of records of Topics[Topic].Partitions[Partition]. The last part has no records.
type FetchPart struct {
	Start, End       int
	Topic, Partition int
}

// AppendFrame appends the whole frame, size prefix and header included, except for the records, and the parts in which it is to be
// sent. A partition with records ends a part; others share one. size is what the size prefix says.
func (r *FetchResponse) AppendFrame(dst []byte, version int16, correlationID int32, parts []FetchPart) (_ []byte, _ []FetchPart, size int64) {
	start := len(dst)
	dst = BeginFrame(dst, 1, version, correlationID)
	dst, parts = r.appendFrom(dst, start, version, parts)
	return dst, parts, EndFrame(dst, start, r.RecordsBytes())
}

// RecordsBytes is the size of all records in the response.
func (r *FetchResponse) RecordsBytes() int64 {
	var n int64
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			n += int64(max(r.Topics[i].Partitions[j].RecordsSize, 0))
		}
	}
	return n
}

// Append appends the body, without a header; parts as in AppendFrame.
func (r *FetchResponse) Append(dst []byte, version int16, parts []FetchPart) ([]byte, []FetchPart) {
	return r.appendFrom(dst, len(dst), version, parts)
}

// appendFrom appends the body; the first part starts at dst[start].
func (r *FetchResponse) appendFrom(dst []byte, start int, version int16, parts []FetchPart) ([]byte, []FetchPart) {
	flexible := version >= fetchFlexible
	dst = appendInt32(dst, r.ThrottleTimeMs)
	if version >= 7 {
		dst = appendInt16(dst, r.ErrorCode)
		dst = appendInt32(dst, r.SessionID)
	}
	dst = appendSize(dst, flexible, len(r.Topics))
	for i := range r.Topics {
		t := &r.Topics[i]
		if version >= fetchTopicIDs {
			dst = append(dst, t.TopicID[:]...)
		} else {
			dst = appendString(dst, flexible, t.Name)
		}
		dst = appendSize(dst, flexible, len(t.Partitions))
		for j := range t.Partitions {
			p := &t.Partitions[j]
			dst = p.appendBeforeRecords(dst, version, flexible)
			if p.RecordsSize > 0 {
				parts = append(parts, FetchPart{Start: start, End: len(dst), Topic: i, Partition: j})
				start = len(dst)
			}
			if flexible {
				dst = p.appendTags(dst)
			}
		}
		if flexible {
			dst = append(dst, 0)
		}
	}
	if version >= 16 {
		dst = appendEndpoints(dst, r.NodeEndpoints)
	} else if flexible {
		dst = append(dst, 0)
	}
	if start < len(dst) || len(parts) == 0 {
		parts = append(parts, FetchPart{Start: start, End: len(dst), Topic: -1, Partition: -1})
	}
	return dst, parts
}

// appendBeforeRecords appends everything up to the records' size.
func (p *FetchPartitionResponse) appendBeforeRecords(dst []byte, version int16, flexible bool) []byte {
	dst = appendInt32(dst, p.Index)
	dst = appendInt16(dst, p.ErrorCode)
	dst = appendInt64(dst, p.HighWatermark)
	dst = appendInt64(dst, p.LastStableOffset)
	if version >= 5 {
		dst = appendInt64(dst, p.LogStartOffset)
	}
	if p.AbortedTxns == nil {
		dst = appendSize(dst, flexible, -1)
	} else {
		dst = appendSize(dst, flexible, len(p.AbortedTxns))
	}
	for i := range p.AbortedTxns {
		dst = appendInt64(dst, p.AbortedTxns[i].ProducerID)
		dst = appendInt64(dst, p.AbortedTxns[i].FirstOffset)
		if flexible {
			dst = append(dst, 0)
		}
	}
	if version >= 11 {
		preferred := int32(-1)
		if p.PreferredReadReplica != nil {
			preferred = *p.PreferredReadReplica
		}
		dst = appendInt32(dst, preferred)
	}
	return appendSize(dst, flexible, int(p.RecordsSize))
}

// appendTags appends the tagged fields, which come after the records.
func (p *FetchPartitionResponse) appendTags(dst []byte) []byte {
	var n byte
	if p.DivergingEpoch != nil {
		n++
	}
	if p.CurrentLeader != nil {
		n++
	}
	if p.SnapshotID != nil {
		n++
	}
	dst = append(dst, n)
	if e := p.DivergingEpoch; e != nil {
		dst = append(dst, 0, 13) // tag, size
		dst = appendInt32(dst, e.Epoch)
		dst = appendInt64(dst, e.EndOffset)
		dst = append(dst, 0)
	}
	if p.CurrentLeader != nil {
		dst = appendLeader(dst, 1, p.CurrentLeader)
	}
	if s := p.SnapshotID; s != nil {
		dst = append(dst, 2, 13)
		dst = appendInt64(dst, s.EndOffset)
		dst = appendInt32(dst, s.Epoch)
		dst = append(dst, 0)
	}
	return dst
}
