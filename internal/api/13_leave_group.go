package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/wire"
)

// LeaveGroup: v0-5. v3: several members at once, as an administrator does. v5: the reason (KIP-800).

func leaveGroup(c *Call, q *kmsg.LeaveGroupRequest) {
	rc := c.client()
	groupWrite(c, "leave-group", q.Group, func(s *group.Shard, now time.Time, _ coordinator.Token) (coordinator.Result[*kmsg.LeaveGroupResponse], error) {
		return s.LeaveGroup(now, rc, q)
	}, func(resp *kmsg.LeaveGroupResponse, err error) {
		if err != nil {
			resp = kmsg.NewPtrLeaveGroupResponse()
			resp.ErrorCode = wire.CodeOf(err)
		}
		c.Reply(resp)
	})
}
