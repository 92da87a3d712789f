package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// AllocateProducerIds: v0. A broker asks for a block of producer ids (KIP-730).

func allocateProducerIds(c *Call, q *kmsg.AllocateProducerIDsRequest) {
	propose(c, "allocate-producer-ids", func(ctl *controller.Controller, img *metadata.Image, env controller.Env) (controller.Records, *kmsg.AllocateProducerIDsResponse) {
		return ctl.AllocateProducerIDBlock(img, q, env)
	}, func(err error) *kmsg.AllocateProducerIDsResponse {
		resp := kmsg.NewPtrAllocateProducerIDsResponse()
		resp.ErrorCode = wire.CodeOf(err)
		return resp
	})
}
