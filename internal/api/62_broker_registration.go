package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// BrokerRegistration: v0-4. A broker introduces itself to the active controller (KIP-631).

func brokerRegistration(c *Call, q *kmsg.BrokerRegistrationRequest) {
	propose(c, "broker-registration", func(ctl *controller.Controller, img *metadata.Image, env controller.Env) (controller.Records, *kmsg.BrokerRegistrationResponse) {
		return ctl.Register(img, q, env)
	}, func(err error) *kmsg.BrokerRegistrationResponse {
		resp := kmsg.NewPtrBrokerRegistrationResponse()
		resp.ErrorCode = wire.CodeOf(err)
		return resp
	})
}
