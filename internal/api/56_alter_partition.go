package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// AlterPartition: v2-3. A leader tells the active controller who is in sync (KIP-497). v3: with the epochs of the brokers (KIP-903).

func alterPartition(c *Call, q *kmsg.AlterPartitionRequest) {
	propose(c, "alter-partition", func(ctl *controller.Controller, img *metadata.Image, env controller.Env) (controller.Records, *kmsg.AlterPartitionResponse) {
		return ctl.AlterPartition(img, q, env)
	}, func(err error) *kmsg.AlterPartitionResponse {
		resp := kmsg.NewPtrAlterPartitionResponse()
		resp.ErrorCode = wire.CodeOf(err)
		return resp
	})
}
