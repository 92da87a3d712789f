package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// CreatePartitions: v0-3. A topic's partitions can only become more (KIP-195).

func createPartitions(c *Call, q *kmsg.CreatePartitionsRequest) {
	propose(c, "create-partitions", func(ctl *controller.Controller, img *metadata.Image, env controller.Env) (controller.Records, *kmsg.CreatePartitionsResponse) {
		return ctl.CreatePartitions(img, q, env)
	}, func(err error) *kmsg.CreatePartitionsResponse {
		resp := kmsg.NewPtrCreatePartitionsResponse()
		for _, t := range q.Topics {
			rt := kmsg.NewCreatePartitionsResponseTopic()
			rt.Topic, rt.ErrorCode, rt.ErrorMessage = t.Topic, wire.CodeOf(err), wire.MessageOf(err)
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	})
}
