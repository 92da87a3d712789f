package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/share"
	"github.com/ottla/ottla/internal/sharefetch"
	"github.com/ottla/ottla/internal/wire"
)

// ShareFetch: v1-2.
//
// A member of a share group acknowledges what it has and gets more (KIP-932). Sessions name the partitions once. Records go out as
// file ranges. v2: a strict limit of records and longer leases (KIP-1206, KIP-1222).

func shareFetch(c *Call, q *kmsg.ShareFetchRequest) {
	r := &sharefetch.Request{
		Group: text(q.GroupID), Member: text(q.MemberID), Epoch: q.ShareSessionEpoch, Conn: c.Context(),
		MaxWait: time.Duration(q.MaxWaitMillis) * time.Millisecond, MinBytes: int(q.MinBytes), MaxBytes: int(min(q.MaxBytes, int32(config.FetchMaxBytes.Get(c.Values())))),
		MaxRecords: int(q.MaxRecords), BatchSize: int(q.BatchSize), Strict: q.ShareAcquireMode == 1,
	}
	for i := range q.Topics {
		t := &q.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			n := sharefetch.Named{ID: sharefetch.PartitionID{TopicID: t.TopicID, Partition: p.Partition}}
			for k := range p.AcknowledgementBatches {
				b := &p.AcknowledgementBatches[k]
				n.Acks = append(n.Acks, share.Ack{First: b.FirstOffset, Last: b.LastOffset, Types: ackTypes(b.AcknowledgeTypes)})
			}
			n.Err = checkAcks(n.Acks, q.IsRenewAck)
			r.Partitions = append(r.Partitions, n)
		}
	}
	for i := range q.ForgottenTopicsData {
		for _, p := range q.ForgottenTopicsData[i].Partitions {
			r.Forgotten = append(r.Forgotten, sharefetch.PartitionID{TopicID: q.ForgottenTopicsData[i].TopicID, Partition: p})
		}
	}
	if err := c.mayShare(r, q.IsRenewAck && (q.MaxWaitMillis > 0 || q.MinBytes > 0 || q.MaxRecords > 0 || q.MaxBytes > 0)); err != nil {
		c.sendShares(0, nil, err)
		return
	}
	c.Shares.Do(r, c.sendShares)
}

// mayShare refuses requests that are wrong as a whole.
func (c *Call) mayShare(r *sharefetch.Request, badRenewal bool) error {
	switch {
	case c.Image().Feature("share.version") == 0:
		return kerr.UnsupportedVersion
	case r.Group == "" || r.Member == "" || badRenewal:
		return kerr.InvalidRequest
	}
	if r.Epoch == sharefetch.EpochInitial {
		for i := range r.Partitions {
			if len(r.Partitions[i].Acks) > 0 {
				return wire.Errorf(kerr.InvalidRequest, "the request that opens a share session can acknowledge nothing")
			}
		}
	}
	return nil
}

// sendShares encodes the answer and hands the records over to the connection.
func (c *Call) sendShares(lockMs int64, results []sharefetch.Result, err error) {
	resp := wire.ShareFetchResponse{ErrorCode: wire.CodeOf(err), LockTimeoutMs: int32(lockMs)}
	var slices []*sharefetch.Result
	for i := range results {
		x := &results[i]
		n := len(resp.Topics)
		if n == 0 || resp.Topics[n-1].TopicID != x.ID.TopicID {
			resp.Topics = append(resp.Topics, wire.ShareFetchTopicResponse{TopicID: x.ID.TopicID})
			n++
		}
		p := wire.ShareFetchPartitionResponse{Index: x.ID.Partition, ErrorCode: wire.CodeOf(x.Err), AckErrorCode: wire.CodeOf(x.AckErr),
			AckErrorMessage: shareMessage(x.AckErr), RecordsSize: int32(x.Slice.Len())}
		for _, l := range x.Leases {
			p.Acquired = append(p.Acquired, wire.AcquiredRecords{FirstOffset: l.First, LastOffset: l.Last, DeliveryCount: l.Count})
		}
		resp.Topics[n-1].Partitions = append(resp.Topics[n-1].Partitions, p)
		if x.Slice.Len() > 0 {
			slices = append(slices, x)
		}
	}
	o := c.Req.Begin()
	var at []int
	o.B, at = resp.Append(o.B, nil)
	for i, pos := range at {
		o.Insert(pos, slices[i].Slice)
	}
	c.Req.Send(o)
}

// shareMessage is the message beside an acknowledgement's error; a request that is wrong gets none, as from Kafka.
func shareMessage(err error) *string {
	if wire.CodeOf(err) == kerr.InvalidRequest.Code {
		return nil
	}
	return wire.MessageOf(err)
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func ackTypes(types []int8) []share.AckType {
	out := make([]share.AckType, len(types))
	for i, t := range types {
		out[i] = share.AckType(t)
	}
	return out
}

// checkAcks refuses acknowledgements that no state can make right: ranges out of order, types that do not fit them.
func checkAcks(acks []share.Ack, renewals bool) error {
	last := int64(-1)
	for i := range acks {
		a := &acks[i]
		if a.First > a.Last || a.First <= last || len(a.Types) == 0 || len(a.Types) > 1 && int64(len(a.Types)) != a.Last-a.First+1 {
			return kerr.InvalidRequest
		}
		last = a.Last
		for _, t := range a.Types {
			if t < share.Gap || t > share.Renew || t == share.Renew && !renewals {
				return kerr.InvalidRequest
			}
		}
	}
	return nil
}
