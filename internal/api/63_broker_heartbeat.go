package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// BrokerHeartbeat: v0-2. A broker lives, and says what it wants (KIP-631). v1: failed directories (KIP-858); v2: cordoned ones (KIP-1066).

func brokerHeartbeat(c *Call, q *kmsg.BrokerHeartbeatRequest) {
	propose(c, "broker-heartbeat", func(ctl *controller.Controller, img *metadata.Image, env controller.Env) (controller.Records, *kmsg.BrokerHeartbeatResponse) {
		return ctl.Heartbeat(img, q, env)
	}, func(err error) *kmsg.BrokerHeartbeatResponse {
		resp := kmsg.NewPtrBrokerHeartbeatResponse()
		resp.ErrorCode = wire.CodeOf(err)
		resp.IsFenced = true
		return resp
	})
}
