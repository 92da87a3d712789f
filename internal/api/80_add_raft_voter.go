package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/wire"
)

// AddRaftVoter: v0-1. A further keeper of the metadata (KIP-853). The cluster chooses them itself, so it is refused.

func addRaftVoter(c *Call, q *kmsg.AddRaftVoterRequest) {
	c.Cluster.Members(func(members []Member) {
		resp := kmsg.NewPtrAddRaftVoterResponse()
		err := controller.CheckVoters(c.Image(), votersOf(members), q.ClusterID, controller.Voter{ID: q.VoterID, Dir: q.VoterDirectoryID}, true)
		resp.ErrorCode, resp.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
		c.Reply(resp)
	})
}

func votersOf(members []Member) []controller.Voter {
	var out []controller.Voter
	for _, m := range members {
		if m.Voter {
			out = append(out, controller.Voter{ID: m.ID, Dir: m.Dir})
		}
	}
	return out
}
