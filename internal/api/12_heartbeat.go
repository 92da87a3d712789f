package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/wire"
)

// Heartbeat: v0-4. A member of a classic group is alive; the answer tells of a rebalance.

func heartbeat(c *Call, q *kmsg.HeartbeatRequest) {
	rc := c.client()
	groupWrite(c, "heartbeat", q.Group, func(s *group.Shard, now time.Time, _ coordinator.Token) (coordinator.Result[*kmsg.HeartbeatResponse], error) {
		return s.Heartbeat(now, rc, q)
	}, func(resp *kmsg.HeartbeatResponse, err error) {
		if err != nil {
			resp = kmsg.NewPtrHeartbeatResponse()
			resp.ErrorCode = wire.CodeOf(err)
		}
		c.Reply(resp)
	})
}
