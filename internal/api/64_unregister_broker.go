package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// UnregisterBroker: v0. Forgets a broker that has gone for good.

func unregisterBroker(c *Call, q *kmsg.UnregisterBrokerRequest) {
	propose(c, "unregister-broker", func(ctl *controller.Controller, img *metadata.Image, env controller.Env) (controller.Records, *kmsg.UnregisterBrokerResponse) {
		return ctl.UnregisterBroker(img, q, env)
	}, func(err error) *kmsg.UnregisterBrokerResponse {
		resp := kmsg.NewPtrUnregisterBrokerResponse()
		resp.ErrorCode, resp.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
		return resp
	})
}
