package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/wire"
)

// StreamsGroupTopologyDescriptionUpdate: v0 (KIP-1331). A member of a streams group says what its topology looks like, when the answer
// to its heartbeat asks for it. The description is kept in memory; a coordinator that starts asks again.

func streamsGroupTopologyDescriptionUpdate(c *Call, q *kmsg.StreamsGroupTopologyDescriptionUpdateRequest) {
	answer := func(_ struct{}, err error) {
		resp := kmsg.NewPtrStreamsGroupTopologyDescriptionUpdateResponse()
		resp.ErrorCode, resp.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
		c.Reply(resp)
	}
	if !c.servesStreams() {
		answer(struct{}{}, kerr.UnsupportedVersion)
		return
	}
	groupRead(c, "streams-topology-description", q.Group, func(s *group.Shard, _ time.Time) (struct{}, error) {
		return struct{}{}, s.StreamsTopologyDescription(q)
	}, answer)
}
