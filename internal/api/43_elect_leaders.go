package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// ElectLeaders: v0-2. Gives partitions their preferred leader back, or, where nobody leads, any leader that is up (KIP-183, KIP-460).

func electLeaders(c *Call, q *kmsg.ElectLeadersRequest) {
	propose(c, "elect-leaders", func(ctl *controller.Controller, img *metadata.Image, env controller.Env) (controller.Records, *kmsg.ElectLeadersResponse) {
		return ctl.ElectLeaders(img, q, env)
	}, func(err error) *kmsg.ElectLeadersResponse {
		resp := kmsg.NewPtrElectLeadersResponse()
		resp.ErrorCode = wire.CodeOf(err)
		return resp
	})
}
