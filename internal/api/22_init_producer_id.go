package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/wire"
)

// InitProducerId: v0-5.
//
// A new id for an idempotent producer, with epoch 0. Transactional ids need a transaction coordinator, which this release
// does not have: they are refused with UNSUPPORTED_VERSION, which clients take as final.

func initProducerID(c *Call, q *kmsg.InitProducerIDRequest) {
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	if c.Version >= 3 && q.ProducerID >= 0 != (q.ProducerEpoch >= 0) {
		resp.ErrorCode = kerr.InvalidRequest.Code // an id and an epoch come together
		c.Reply(resp)
		return
	}
	if q.TransactionalID != nil {
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		if *q.TransactionalID == "" {
			resp.ErrorCode = kerr.InvalidRequest.Code
		}
		c.Reply(resp)
		return
	}
	c.ProducerIDs.Next(func(id int64, err error) {
		if err != nil {
			resp.ErrorCode = wire.CodeOf(err)
		} else {
			resp.ProducerID, resp.ProducerEpoch = id, 0
		}
		c.Reply(resp)
	})
}
