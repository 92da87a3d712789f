package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/wire"
)

// RemoveRaftVoter: v0. One keeper of the metadata less (KIP-853), as for one that is dead and will not come back: another broker takes its
// place when there is one.

func removeRaftVoter(c *Call, q *kmsg.RemoveRaftVoterRequest) {
	answer := func(err error) {
		resp := kmsg.NewPtrRemoveRaftVoterResponse()
		resp.ErrorCode, resp.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
		c.Reply(resp)
	}
	c.Cluster.Members(func(members []Member) {
		if err := controller.CheckVoters(c.Image(), votersOf(members), q.ClusterID, controller.Voter{ID: q.VoterID, Dir: q.VoterDirectoryID}, false); err != nil {
			answer(err)
			return
		}
		c.Cluster.RemoveVoter(q.VoterID, q.VoterDirectoryID, answer)
	})
}
