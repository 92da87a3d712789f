package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/wire"
)

// AddRaftVoter: v0-1. A further keeper of the metadata (KIP-853). The metadata has one voter in this release, so it is refused.

func addRaftVoter(c *Call, q *kmsg.AddRaftVoterRequest) {
	resp := kmsg.NewPtrAddRaftVoterResponse()
	err := controller.CheckVoters(c.Image(), controller.Voter{ID: c.NodeID, Dir: c.Quorum.Voter()}, q.ClusterID, controller.Voter{ID: q.VoterID, Dir: q.VoterDirectoryID}, true)
	resp.ErrorCode, resp.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
	c.Reply(resp)
}
