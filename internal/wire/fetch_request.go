package wire

import (
	"fmt"
	"math"
)

// Versions of Fetch that the codec knows.
const (
	FetchMinVersion = 4
	FetchMaxVersion = 18

	fetchFlexible = 12
	fetchTopicIDs = 13
)

// FetchRequest may be decoded into again and then allocates little or nothing. It holds nothing of the buffer.
type FetchRequest struct {
	Version        int16
	ClusterID      *string
	ReplicaID      int32 // -1 for a consumer; from version 15 on it comes with an epoch
	ReplicaEpoch   int64 // -1 where it is not given
	MaxWaitMs      int32
	MinBytes       int32
	MaxBytes       int32
	IsolationLevel int8 // 1 is read committed
	SessionID      int32
	SessionEpoch   int32 // -1 without a session
	Topics         []FetchTopic
	Forgotten      []ForgottenTopic
	RackID         string

	clusterID string
}

// FetchTopic has a name up to version 12 and an id from version 13.
type FetchTopic struct {
	Name       string
	TopicID    [16]byte
	Partitions []FetchPartition
}

// FetchPartition says from where to read a partition.
type FetchPartition struct {
	Index              int32
	CurrentLeaderEpoch int32 // -1 where the client does not know it
	FetchOffset        int64
	LastFetchedEpoch   int32 // -1 for none
	LogStartOffset     int64 // a follower's; -1 from consumers
	MaxBytes           int32
	ReplicaDirectoryID [16]byte // KIP-853
	HighWatermark      int64    // KIP-1166: the one the replica knows; -1 none, math.MaxInt64 where it does not say
}

// ForgottenTopic names partitions that leave a session.
type ForgottenTopic struct {
	Name       string
	TopicID    [16]byte
	Partitions []int32
}

// Decode reads a request of versions 4 to 18. Bytes after it are accepted. Errors wrap ErrMalformed.
func (r *FetchRequest) Decode(version int16, body []byte) error {
	if version < FetchMinVersion || version > FetchMaxVersion {
		return fmt.Errorf("%w: Fetch version %d", ErrMalformed, version)
	}
	flexible := version >= fetchFlexible
	b := NewReader(body)
	r.Version, r.ClusterID, r.ReplicaID, r.ReplicaEpoch = version, nil, -1, -1
	if version <= 14 {
		r.ReplicaID = b.Int32()
	}
	r.MaxWaitMs, r.MinBytes, r.MaxBytes, r.IsolationLevel = b.Int32(), b.Int32(), b.Int32(), b.Int8()
	r.SessionID, r.SessionEpoch = 0, -1
	if version >= 7 {
		r.SessionID, r.SessionEpoch = b.Int32(), b.Int32()
	}
	r.Topics = resize(r.Topics, b.Count(flexible, 3))
	for i := range r.Topics {
		r.Topics[i].decode(&b, version, flexible)
	}
	r.Forgotten = r.Forgotten[:0]
	if version >= 7 {
		r.decodeForgotten(&b, version, flexible)
	}
	if version >= 11 {
		r.RackID = keepString(r.RackID, b.String(flexible))
	} else {
		r.RackID = ""
	}
	if flexible {
		b.Tags(r.tag)
	}
	if b.bad {
		r.Topics, r.Forgotten = r.Topics[:0], r.Forgotten[:0]
		return fmt.Errorf("%w: Fetch version %d of %d bytes", ErrMalformed, version, len(body))
	}
	return nil
}

func (r *FetchRequest) decodeForgotten(b *Reader, version int16, flexible bool) {
	r.Forgotten = resize(r.Forgotten, b.Count(flexible, 3))
	for i := range r.Forgotten {
		f := &r.Forgotten[i]
		if version >= fetchTopicIDs {
			f.Name, f.TopicID = "", b.UUID()
		} else {
			f.Name, f.TopicID = keepString(f.Name, b.String(flexible)), [16]byte{}
		}
		f.Partitions = resize(f.Partitions, b.Count(flexible, 4))
		for j := range f.Partitions {
			f.Partitions[j] = b.Int32()
		}
		b.noTags(flexible)
	}
}

func (r *FetchRequest) tag(tag uint32, b *Reader) {
	switch {
	case tag == 0:
		if id := b.NullableString(true); id != nil {
			r.clusterID = keepString(r.clusterID, id)
			r.ClusterID = &r.clusterID
		} else {
			r.ClusterID = nil
		}
	case tag == 1 && r.Version >= 15:
		r.ReplicaID, r.ReplicaEpoch = b.Int32(), b.Int64()
		b.Tags(nil)
	}
}

func (t *FetchTopic) decode(b *Reader, version int16, flexible bool) {
	if version >= fetchTopicIDs {
		t.Name, t.TopicID = "", b.UUID()
	} else {
		t.Name, t.TopicID = keepString(t.Name, b.String(flexible)), [16]byte{}
	}
	t.Partitions = resize(t.Partitions, b.Count(flexible, 16))
	for i := range t.Partitions {
		t.Partitions[i].decode(b, version, flexible)
	}
	b.noTags(flexible)
}

func (p *FetchPartition) decode(b *Reader, version int16, flexible bool) {
	*p = FetchPartition{CurrentLeaderEpoch: -1, LastFetchedEpoch: -1, LogStartOffset: -1, HighWatermark: math.MaxInt64}
	p.Index = b.Int32()
	if version >= 9 {
		p.CurrentLeaderEpoch = b.Int32()
	}
	p.FetchOffset = b.Int64()
	if version >= 12 {
		p.LastFetchedEpoch = b.Int32()
	}
	if version >= 5 {
		p.LogStartOffset = b.Int64()
	}
	p.MaxBytes = b.Int32()
	if !flexible {
		return
	}
	if len(b.b) > 0 && b.b[0] == 0 { // no tagged fields, as from every consumer
		b.b = b.b[1:]
		return
	}
	b.Tags(func(tag uint32, f *Reader) {
		switch {
		case tag == 0 && version >= 17:
			p.ReplicaDirectoryID = f.UUID()
		case tag == 1 && version >= 18:
			p.HighWatermark = f.Int64()
		}
	})
}

// Reset drops what is too large to keep, before the request goes to a pool.
func (r *FetchRequest) Reset() {
	if cap(r.Topics) > maxReuse {
		r.Topics = nil
	}
	for i, topics := 0, r.Topics[:cap(r.Topics)]; i < len(topics); i++ {
		if cap(topics[i].Partitions) > maxReuse {
			topics[i].Partitions = nil
		}
	}
	if cap(r.Forgotten) > maxReuse {
		r.Forgotten = nil
	}
	for i, topics := 0, r.Forgotten[:cap(r.Forgotten)]; i < len(topics); i++ {
		if cap(topics[i].Partitions) > maxReuse {
			topics[i].Partitions = nil
		}
	}
	r.Topics, r.Forgotten, r.ClusterID = r.Topics[:0], r.Forgotten[:0], nil
}
