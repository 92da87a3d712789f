package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// UnregisterController: v0. Forgets a controller that has gone for good.

func unregisterController(c *Call, q *kmsg.UnregisterControllerRequest) {
	propose(c, "unregister-controller", func(ctl *controller.Controller, img *metadata.Image, env controller.Env) (controller.Records, *kmsg.UnregisterControllerResponse) {
		return ctl.UnregisterController(img, q, env)
	}, func(err error) *kmsg.UnregisterControllerResponse {
		resp := kmsg.NewPtrUnregisterControllerResponse()
		resp.ErrorCode, resp.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
		return resp
	})
}
