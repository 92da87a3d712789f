package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/wire"
)

// SyncGroup: v0-5. Parked until the group's leader has handed in the assignment. v5: protocol type and name (KIP-559).

func syncGroup(c *Call, q *kmsg.SyncGroupRequest) {
	rc := c.client()
	groupWrite(c, "sync-group", q.Group, func(s *group.Shard, now time.Time, tok coordinator.Token) (coordinator.Result[*kmsg.SyncGroupResponse], error) {
		return s.SyncGroup(now, tok, rc, q)
	}, func(resp *kmsg.SyncGroupResponse, err error) {
		if gone(err) {
			c.Req.NoResponse()
			return
		}
		if err != nil {
			resp = kmsg.NewPtrSyncGroupResponse()
			resp.ErrorCode = wire.CodeOf(err)
		}
		c.Reply(resp)
	})
}
