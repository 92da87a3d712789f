package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/wire"
)

// RemoveRaftVoter: v0. One keeper of the metadata less (KIP-853). The metadata has one voter in this release, so it is refused.

func removeRaftVoter(c *Call, q *kmsg.RemoveRaftVoterRequest) {
	resp := kmsg.NewPtrRemoveRaftVoterResponse()
	err := controller.CheckVoters(c.Image(), controller.Voter{ID: c.NodeID, Dir: c.Quorum.Voter()}, q.ClusterID, controller.Voter{ID: q.VoterID, Dir: q.VoterDirectoryID}, false)
	resp.ErrorCode, resp.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
	c.Reply(resp)
}
