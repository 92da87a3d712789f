package api

import (
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/network"
	"github.com/ottla/ottla/internal/replica"
	"github.com/ottla/ottla/internal/replica/fetchsession"
	"github.com/ottla/ottla/internal/wire"
)

// Fetch: v4-18.
//
// Ordered half: find the session (KIP-227), resolve topics, read. Parked half: answer once enough bytes are committed or the
// wait is over. Records go out as file ranges. v12: epochs of the reader's log (KIP-595). v13: topics by id (KIP-516).
// v11: the rack of a reader, who may be sent to a nearer replica (KIP-392). v15: the replica's epoch (KIP-903). Replicas are served on the
// listener of the cluster only, and read up to the end of the log; elsewhere a replica id is refused.

type fetchCall struct {
	Call
	req     wire.FetchRequest
	resp    wire.FetchResponse
	named   []fetchsession.Partition
	forgot  []fetchsession.Key
	parts   []replica.FetchPartition
	session *fetchsession.Fetch
	out     []wire.FetchPart
}

var fetchCalls = sync.Pool{New: func() any { return new(fetchCall) }}

func fetch(s *Server, r *network.Request) error {
	c := fetchCalls.Get().(*fetchCall)
	c.Call = Call{Server: s, Req: r, Version: r.Header.Version}
	if err := c.req.Decode(c.Version, r.Body); err != nil {
		c.release()
		return err
	}
	if c.wantsMetadata() {
		c.fetchMetadata()
		c.release()
		return nil
	}
	c.collect()
	follower := c.req.ReplicaID >= 0
	if follower && !s.ofCluster(r.Conn) {
		c.refuse(wire.Errorf(kerr.ClusterAuthorizationFailed, "a replica fetched on a listener that is none of the cluster's"))
		return nil
	}
	sessions := s.Sessions
	if follower {
		sessions = s.ReplicaSessions
		if c.req.SessionEpoch == fetchsession.EpochFinal && len(c.named) == 0 {
			s.Replicas.ReleaseFollower(c.req.ReplicaID)
		}
	}
	session, err := sessions.Begin(s.Clock.Now(), c.req.SessionID, c.req.SessionEpoch, c.Version >= 13, c.named, c.forgot)
	if err != nil {
		c.refuse(err)
		return nil
	}
	c.session = session
	c.resolve()
	maxBytes := min(c.req.MaxBytes, int32(config.FetchMaxBytes.Get(s.Values())))
	if maxBytes <= 0 {
		maxBytes = 1 // the first batch goes out whole however small the limit (KIP-74)
	}
	p := replica.FetchParams{
		MinBytes: min(c.req.MinBytes, maxBytes), MaxBytes: maxBytes,
		MaxWait: time.Duration(c.req.MaxWaitMs) * time.Millisecond, ReadCommitted: c.req.IsolationLevel == 1,
		Follower: follower, Replica: c.req.ReplicaID, BrokerEpoch: c.req.ReplicaEpoch, AnyReplica: !follower && c.Version >= 11, Rack: c.req.RackID,
	}
	s.Replicas.Fetch(p, c.parts, c.answer)
	return nil
}

// refuse answers with an error of the whole request.
func (c *fetchCall) refuse(err error) {
	c.resp = wire.FetchResponse{Topics: c.resp.Topics[:0], ErrorCode: wire.CodeOf(err)}
	c.send(nil)
}

// collect turns the request's topics into the session's partitions.
func (c *fetchCall) collect() {
	c.named, c.forgot = c.named[:0], c.forgot[:0]
	for i := range c.req.Topics {
		t := &c.req.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			c.named = append(c.named, fetchsession.Partition{
				Key:         fetchsession.Key{Topic: t.Name, TopicID: t.TopicID, Partition: p.Index},
				FetchOffset: p.FetchOffset, LogStartOffset: p.LogStartOffset, MaxBytes: p.MaxBytes,
				CurrentLeaderEpoch: p.CurrentLeaderEpoch, LastFetchedEpoch: p.LastFetchedEpoch,
			})
		}
	}
	for i := range c.req.Forgotten {
		t := &c.req.Forgotten[i]
		for _, p := range t.Partitions {
			c.forgot = append(c.forgot, fetchsession.Key{Topic: t.Name, TopicID: t.TopicID, Partition: p})
		}
	}
}

// resolve turns the session's partitions into reads; what does not exist carries its error.
func (c *fetchCall) resolve() {
	img := c.Image()
	c.parts = c.parts[:0]
	var topic *metadata.Topic
	for i := range c.session.Partitions {
		p := &c.session.Partitions[i]
		f := replica.FetchPartition{FetchOffset: p.FetchOffset, CurrentLeaderEpoch: p.CurrentLeaderEpoch, LastFetchedEpoch: p.LastFetchedEpoch, MaxBytes: p.MaxBytes, LogStart: p.LogStartOffset}
		if c.Version >= 13 {
			if topic == nil || topic.ID != p.TopicID {
				topic = img.TopicByID(p.TopicID)
			}
		} else if topic == nil || topic.Name != p.Topic {
			topic = img.Topic(p.Topic)
		}
		switch {
		case topic == nil && c.Version >= 13:
			f.Err = kerr.UnknownTopicID
		case topic == nil || topic.Partition(p.Partition) == nil:
			f.Err = kerr.UnknownTopicOrPartition
		default:
			f.TP, f.TopicID = log.TopicPartition{Topic: topic.Name, Partition: p.Partition}, topic.ID
		}
		c.parts = append(c.parts, f)
	}
}

// answer runs when the reads are done, perhaps on another goroutine.
func (c *fetchCall) answer(results []replica.FetchResult) {
	include := c.session.Finish(func(i int) fetchsession.Answer {
		r := &results[i]
		return fetchsession.Answer{HighWatermark: r.HighWatermark, LogStart: r.LogStart, Bytes: r.Slice.Len(), Error: r.Err != nil || r.PreferredReplica >= 0, Diverging: r.DivergingEpoch >= 0}
	})
	c.resp = wire.FetchResponse{Topics: c.resp.Topics[:0], SessionID: c.session.SessionID()}
	var withRecords []*replica.FetchResult // in the order of the answer
	for i := range results {
		if !include[i] {
			results[i].Slice.Release()
			continue
		}
		p := &c.session.Partitions[i]
		n := len(c.resp.Topics)
		if n == 0 || c.resp.Topics[n-1].Name != p.Topic || c.resp.Topics[n-1].TopicID != p.TopicID {
			c.resp.Topics = append(c.resp.Topics, wire.FetchTopicResponse{Name: p.Topic, TopicID: p.TopicID})
			n++
		}
		t := &c.resp.Topics[n-1]
		t.Partitions = append(t.Partitions, c.partition(&c.parts[i], p.Partition, &results[i]))
		if results[i].Slice.Len() > 0 {
			withRecords = append(withRecords, &results[i])
		} else {
			results[i].Slice.Release()
		}
	}
	c.send(withRecords)
}

func (c *fetchCall) partition(f *replica.FetchPartition, index int32, r *replica.FetchResult) wire.FetchPartitionResponse {
	out := wire.FetchPartitionResponse{Index: index, HighWatermark: r.HighWatermark, LastStableOffset: r.LastStable, LogStartOffset: r.LogStart}
	if c.Version >= 11 {
		preferred := r.PreferredReplica
		out.PreferredReadReplica = &preferred
	}
	if r.Err != nil {
		out.ErrorCode = wire.CodeOf(r.Err)
		out.HighWatermark, out.LastStableOffset, out.LogStartOffset = -1, -1, -1
		if f.TP.Topic == "" {
			out.AbortedTxns = []wire.AbortedTxn{} // Kafka: no list where the partition was read, an empty one where there is none
		}
		return out
	}
	if r.DivergingEpoch >= 0 {
		out.DivergingEpoch = &wire.EpochEndOffset{Epoch: r.DivergingEpoch, EndOffset: r.DivergingEnd}
		return out
	}
	if c.req.IsolationLevel == 1 {
		out.AbortedTxns = make([]wire.AbortedTxn, len(r.Aborted))
		for i, a := range r.Aborted {
			out.AbortedTxns[i] = wire.AbortedTxn{ProducerID: a.ProducerID, FirstOffset: a.FirstOffset}
		}
	}
	out.RecordsSize = int32(r.Slice.Len())
	return out
}

// send encodes the answer and hands the slices over to the connection, which releases them.
func (c *fetchCall) send(results []*replica.FetchResult) {
	o := c.Req.Begin()
	o.B, c.out = c.resp.Append(o.B, c.Version, c.out[:0])
	for _, part := range c.out {
		if part.Topic >= 0 {
			o.Insert(part.End, results[0].Slice)
			results = results[1:]
		}
	}
	c.Req.Send(o)
	c.release()
}

func (c *fetchCall) release() {
	c.Call = Call{}
	c.req.Reset()
	clear(c.parts)
	c.session, c.resp = nil, wire.FetchResponse{Topics: c.resp.Topics[:0]}
	if cap(c.named) < 4096 {
		fetchCalls.Put(c)
	}
}
