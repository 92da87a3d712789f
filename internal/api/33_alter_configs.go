package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// AlterConfigs: v0-2. Replaces all settings of a resource by those given; IncrementalAlterConfigs is the better way (KIP-339).

func alterConfigs(c *Call, q *kmsg.AlterConfigsRequest) {
	propose(c, "alter-configs", func(ctl *controller.Controller, img *metadata.Image, env controller.Env) (controller.Records, *kmsg.AlterConfigsResponse) {
		return ctl.AlterConfigs(img, q, env)
	}, func(err error) *kmsg.AlterConfigsResponse {
		resp := kmsg.NewPtrAlterConfigsResponse()
		for _, r := range q.Resources {
			rr := kmsg.NewAlterConfigsResponseResource()
			rr.ResourceType, rr.ResourceName, rr.ErrorCode, rr.ErrorMessage = r.ResourceType, r.ResourceName, wire.CodeOf(err), wire.MessageOf(err)
			resp.Resources = append(resp.Resources, rr)
		}
		return resp
	})
}
