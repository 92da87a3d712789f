package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/share"
	"github.com/ottla/ottla/internal/sharefetch"
	"github.com/ottla/ottla/internal/wire"
)

// ShareAcknowledge: v1-2.
//
// A member of a share group says what became of records: accepted, released, rejected, a gap. v2: it asks for more time (KIP-1222).

func shareAcknowledge(c *Call, q *kmsg.ShareAcknowledgeRequest) {
	r := &sharefetch.Request{Group: text(q.GroupID), Member: text(q.MemberID), Epoch: q.ShareSessionEpoch, Conn: c.Context(), AcknowledgeOnly: true}
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
	err := c.mayShare(r, false)
	if r.Epoch == sharefetch.EpochInitial {
		err = kerr.InvalidShareSessionEpoch // only a fetch opens a session
	}
	if err != nil {
		c.sendShareAcks(0, nil, err)
		return
	}
	c.Shares.Do(r, c.sendShareAcks)
}

func (c *Call) sendShareAcks(lockMs int64, results []sharefetch.Result, err error) {
	resp := kmsg.NewPtrShareAcknowledgeResponse()
	resp.ErrorCode, resp.AcquisitionLockTimeoutMillis = wire.CodeOf(err), int32(lockMs)
	for i := range results {
		x := &results[i]
		n := len(resp.Topics)
		if n == 0 || resp.Topics[n-1].TopicID != x.ID.TopicID {
			t := kmsg.NewShareAcknowledgeResponseTopic()
			t.TopicID = x.ID.TopicID
			resp.Topics = append(resp.Topics, t)
			n++
		}
		p := kmsg.NewShareAcknowledgeResponseTopicPartition()
		if x.AckErr == nil {
			x.AckErr = x.Err
		}
		p.Partition, p.ErrorCode, p.ErrorMessage = x.ID.Partition, wire.CodeOf(x.AckErr), shareMessage(x.AckErr)
		resp.Topics[n-1].Partitions = append(resp.Topics[n-1].Partitions, p)
	}
	c.Reply(resp)
}
