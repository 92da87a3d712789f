package wire

// ShareFetchResponse is encoded in the versions 1 and 2 (KIP-932). The records of a partition are not part of it, only their
// size: they go from the log's files to the network.
type ShareFetchResponse struct {
	ThrottleTimeMs int32
	ErrorCode      int16
	ErrorMessage   *string
	LockTimeoutMs  int32
	Topics         []ShareFetchTopicResponse
	NodeEndpoints  []NodeEndpoint
}

// ShareFetchTopicResponse is the answer for one topic.
type ShareFetchTopicResponse struct {
	TopicID    [16]byte
	Partitions []ShareFetchPartitionResponse
}

// ShareFetchPartitionResponse is the answer for one partition.
type ShareFetchPartitionResponse struct {
	Index           int32
	ErrorCode       int16
	ErrorMessage    *string
	AckErrorCode    int16
	AckErrorMessage *string
	CurrentLeader   LeaderAndEpoch
	RecordsSize     int32 // in bytes
	Acquired        []AcquiredRecords
}

// AcquiredRecords is a range of records that the member now holds.
type AcquiredRecords struct {
	FirstOffset, LastOffset int64
	DeliveryCount           int16
}

// Append appends the body, without a header, and the places in dst where records are to be put in, in the order of the partitions that
// have some.
func (r *ShareFetchResponse) Append(dst []byte, at []int) ([]byte, []int) {
	dst = appendInt32(dst, r.ThrottleTimeMs)
	dst = appendInt16(dst, r.ErrorCode)
	dst = appendNullableString(dst, true, r.ErrorMessage)
	dst = appendInt32(dst, r.LockTimeoutMs)
	dst = appendSize(dst, true, len(r.Topics))
	for i := range r.Topics {
		t := &r.Topics[i]
		dst = append(dst, t.TopicID[:]...)
		dst = appendSize(dst, true, len(t.Partitions))
		for j := range t.Partitions {
			p := &t.Partitions[j]
			dst = p.appendBeforeRecords(dst)
			if p.RecordsSize > 0 {
				at = append(at, len(dst))
			}
			dst = appendSize(dst, true, len(p.Acquired))
			for _, a := range p.Acquired {
				dst = appendInt64(dst, a.FirstOffset)
				dst = appendInt64(dst, a.LastOffset)
				dst = appendInt16(dst, a.DeliveryCount)
				dst = append(dst, 0)
			}
			dst = append(dst, 0)
		}
		dst = append(dst, 0)
	}
	dst = appendSize(dst, true, len(r.NodeEndpoints))
	for i := range r.NodeEndpoints {
		e := &r.NodeEndpoints[i]
		dst = appendInt32(dst, e.NodeID)
		dst = appendString(dst, true, e.Host)
		dst = appendInt32(dst, e.Port)
		dst = appendNullableString(dst, true, e.Rack)
		dst = append(dst, 0)
	}
	return append(dst, 0), at
}

func (p *ShareFetchPartitionResponse) appendBeforeRecords(dst []byte) []byte {
	dst = appendInt32(dst, p.Index)
	dst = appendInt16(dst, p.ErrorCode)
	dst = appendNullableString(dst, true, p.ErrorMessage)
	dst = appendInt16(dst, p.AckErrorCode)
	dst = appendNullableString(dst, true, p.AckErrorMessage)
	dst = appendInt32(dst, p.CurrentLeader.LeaderID)
	dst = appendInt32(dst, p.CurrentLeader.LeaderEpoch)
	dst = append(dst, 0)
	return appendSize(dst, true, int(p.RecordsSize))
}
