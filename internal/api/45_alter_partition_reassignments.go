package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
)

// AlterPartitionReassignments: v0-1. Moves partitions to other brokers, or takes a move back (KIP-455). v1: may forbid that the number of
// replicas changes (KIP-860).

func alterPartitionReassignments(c *Call, q *kmsg.AlterPartitionAssignmentsRequest) {
	propose(c, "alter-reassignments", func(ctl *controller.Controller, img *metadata.Image, env controller.Env) (controller.Records, *kmsg.AlterPartitionAssignmentsResponse) {
		return ctl.AlterPartitionReassignments(img, q, env)
	}, func(err error) *kmsg.AlterPartitionAssignmentsResponse {
		resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
		resp.ErrorCode, resp.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
		return resp
	})
}
