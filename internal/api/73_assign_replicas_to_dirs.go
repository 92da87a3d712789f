package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// AssignReplicasToDirs: v0. A broker tells in which of its directories it keeps which replicas (KIP-858).

func assignReplicasToDirs(c *Call, q *kmsg.AssignReplicasToDirsRequest) {
	propose(c, "assign-replicas-to-dirs", func(ctl *controller.Controller, img *metadata.Image, env controller.Env) (controller.Records, *kmsg.AssignReplicasToDirsResponse) {
		return ctl.AssignReplicasToDirs(img, q, env)
	}, func(err error) *kmsg.AssignReplicasToDirsResponse {
		resp := kmsg.NewPtrAssignReplicasToDirsResponse()
		resp.ErrorCode = wire.CodeOf(err)
		return resp
	})
}
