package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/wire"
)

// JoinGroup: v0-9. Parked until the group's members have joined. v4: a new member gets its id first (KIP-394). v5: static members
// (KIP-345). v9: the leader may skip the assignment (KIP-814).

func joinGroup(c *Call, q *kmsg.JoinGroupRequest) {
	rc := c.client()
	groupWrite(c, "join-group", q.Group, func(s *group.Shard, now time.Time, tok coordinator.Token) (coordinator.Result[*kmsg.JoinGroupResponse], error) {
		return s.JoinGroup(now, tok, rc, q)
	}, func(resp *kmsg.JoinGroupResponse, err error) {
		if gone(err) {
			c.Req.NoResponse()
			return
		}
		if err != nil {
			resp = kmsg.NewPtrJoinGroupResponse()
			resp.ErrorCode, resp.Generation, resp.MemberID = wire.CodeOf(err), -1, q.MemberID
		}
		c.Reply(resp)
	})
}
