package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/wire"
)

// ConsumerGroupHeartbeat: v0-1 (KIP-848). Joins, stays in, confirms revocations and leaves a consumer group; the answer brings the
// assignment. v1: subscriptions by regular expression, and members that choose their own id. The offsets topic is made by the first join.

func consumerGroupHeartbeat(c *Call, q *kmsg.ConsumerGroupHeartbeatRequest) {
	if c.Image().Feature(controller.GroupVersion) == 0 {
		resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		c.Reply(resp)
		return
	}
	rc := c.client()
	groupWrite(c, "consumer-group-heartbeat", q.Group, func(s *group.Shard, now time.Time, _ coordinator.Token) (coordinator.Result[*kmsg.ConsumerGroupHeartbeatResponse], error) {
		return s.ConsumerGroupHeartbeat(now, rc, q, everyTopic)
	}, func(resp *kmsg.ConsumerGroupHeartbeatResponse, err error) {
		if err != nil {
			resp = kmsg.NewPtrConsumerGroupHeartbeatResponse()
			resp.ErrorCode, resp.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
		}
		c.Reply(resp)
	})
}

// everyTopic is visible to a client where nobody says otherwise.
func everyTopic(string) bool { return true }
