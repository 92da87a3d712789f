package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
	groupshare "github.com/ottla/ottla/internal/group/share"
	"github.com/ottla/ottla/internal/wire"
)

// ShareGroupHeartbeat: v1 (KIP-932). Joins, stays in and leaves a share group; the answer brings the partitions. States of partitions
// that are new to the group are begun on the way; members get them with a later answer.

func shareGroupHeartbeat(c *Call, q *kmsg.ShareGroupHeartbeatRequest) {
	refuse := func(err error) {
		resp := kmsg.NewPtrShareGroupHeartbeatResponse()
		resp.ErrorCode, resp.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
		c.Reply(resp)
	}
	if c.Image().Feature(controller.ShareVersion) == 0 {
		refuse(kerr.UnsupportedVersion)
		return
	}
	rc := c.client()
	id := q.GroupID
	groupWrite(c, "share-group-heartbeat", id, func(s *group.Shard, now time.Time, _ coordinator.Token) (coordinator.Result[*groupshare.Heartbeat], error) {
		return s.ShareGroupHeartbeat(now, rc, q)
	}, func(beat *groupshare.Heartbeat, err error) {
		if err != nil {
			refuse(err)
			return
		}
		if beat.Begin != nil {
			c.beginShares(id, beat.Begin, func(map[groupshare.Partition]error) {})
		}
		c.Reply(beat.Response)
	})
}
