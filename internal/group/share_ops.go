package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/classic"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/group/share"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// ShareGroupHeartbeat takes a heartbeat of a share group's member, which is also how members join and leave (KIP-932). The
// answer names partitions whose states the caller has to begin. Topics have been authorised by the caller.
func (s *Shard) ShareGroupHeartbeat(now time.Time, ctx RequestContext, req *kmsg.ShareGroupHeartbeatRequest) (coordinator.Result[*share.Heartbeat], error) {
	op := &effect.Op{Now: now}
	beat, err := s.shareBeat(op, ctx, req)
	if err != nil {
		op = &effect.Op{Now: now} // a refused heartbeat changes nothing
		resp := kmsg.NewPtrShareGroupHeartbeatResponse()
		if resp.ErrorCode, resp.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err); req.MemberID == "" {
			resp.ErrorMessage = nil // as from Kafka
		}
		beat = &share.Heartbeat{Response: resp}
	}
	beat.Response.Version = ctx.Version
	return result(op, beat), nil
}

func (s *Shard) shareBeat(op *effect.Op, ctx RequestContext, req *kmsg.ShareGroupHeartbeatRequest) (*share.Heartbeat, error) {
	if err := share.Admits(req); err != nil {
		return nil, err
	}
	client := share.Client{ID: ctx.ClientID, Host: ctx.ClientHost}
	joins := req.MemberEpoch == 0
	switch g := s.find(req.GroupID).(type) {
	case *share.Group:
		return g.Beat(op, client, req)
	case nil:
		if joins {
			return s.shareJoinNew(op, client, req)
		}
	case *classic.Group:
		if joins && g.IsEmpty() {
			g.Tombstones(op)
			return s.shareJoinNew(op, client, req)
		}
		return nil, notShare(req.GroupID)
	default:
		return nil, notShare(req.GroupID)
	}
	return nil, wire.Errorf(kerr.GroupIDNotFound, "Share group %s not found.", req.GroupID)
}

func notShare(id string) error {
	return wire.Errorf(kerr.GroupIDNotFound, "Group %s is not a share group.", id)
}

// shareJoinNew makes the group that a join is the first of. The group itself comes with the replay of its records, and takes
// over then what it knows besides them.
func (s *Shard) shareJoinNew(op *effect.Op, client share.Client, req *kmsg.ShareGroupHeartbeatRequest) (*share.Heartbeat, error) {
	g := share.New(s.share, req.GroupID)
	beat, err := g.Beat(op, client, req)
	if err != nil {
		return nil, err
	}
	s.newShare = g
	return beat, nil
}

// ShareGroupDescribe describes share groups, one answer per id in their order.
func (s *Shard) ShareGroupDescribe(ids []string) []kmsg.ShareGroupDescribeResponseGroup {
	out := make([]kmsg.ShareGroupDescribeResponseGroup, len(ids))
	for i, id := range ids {
		d := kmsg.NewShareGroupDescribeResponseGroup()
		d.GroupID, d.Members = id, []kmsg.ShareGroupDescribeResponseGroupMember{}
		if g, err := s.shareGroup(id); err != nil {
			d.ErrorCode, d.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
		} else {
			g.Describe(&d)
		}
		out[i] = d
	}
	return out
}

func (s *Shard) shareGroup(id string) (*share.Group, error) {
	switch g := s.find(id).(type) {
	case *share.Group:
		return g, nil
	case nil:
		return nil, wire.Errorf(kerr.GroupIDNotFound, "Group %s not found.", id)
	}
	return nil, notShare(id)
}

// ShareStates lists the partitions of a share group that have a state, by topic name. A group that is not there has none.
func (s *Shard) ShareStates(id string) (map[string][]int32, error) {
	switch g := s.find(id).(type) {
	case *share.Group:
		return g.Stated(), nil
	case nil:
		return nil, nil
	}
	return nil, notShare(id)
}

// ShareBegun tells a group which states have begun, and which could not.
func (s *Shard) ShareBegun(now time.Time, id string, ok, failed []share.Partition) (coordinator.Result[struct{}], error) {
	op := &effect.Op{Now: now}
	if g, is := s.find(id).(*share.Group); is {
		g.Begun(op, ok, failed)
	}
	return result(op, struct{}{}), nil
}

// ShareAlter begins states of an empty group anew; the caller has to.
func (s *Shard) ShareAlter(now time.Time, id string, starts map[share.Partition]int64) (coordinator.Result[*share.Begin], error) {
	op := &effect.Op{Now: now}
	g, err := s.shareGroup(id)
	if err != nil {
		return coordinator.Result[*share.Begin]{}, err
	}
	b, err := g.Alter(op, starts)
	if err != nil {
		return coordinator.Result[*share.Begin]{}, err
	}
	return result(op, b), nil
}

// ShareUnstate begins the deletion of the states of topics of an empty group, of all for nil. It gives the partitions whose
// states the caller has to delete; ShareUnstated tells that it has.
func (s *Shard) ShareUnstate(now time.Time, id string, topics []schema.UUID) (coordinator.Result[[]share.Partition], error) {
	op := &effect.Op{Now: now}
	g, err := s.shareGroup(id)
	if err != nil {
		return coordinator.Result[[]share.Partition]{}, err
	}
	ps, err := g.Unstate(op, topics)
	if err != nil {
		return coordinator.Result[[]share.Partition]{}, err
	}
	return result(op, ps), nil
}

// ShareUnstated tells a group of topics whose states are deleted.
func (s *Shard) ShareUnstated(now time.Time, id string, topics []schema.UUID) (coordinator.Result[struct{}], error) {
	op := &effect.Op{Now: now}
	if g, is := s.find(id).(*share.Group); is {
		g.Unstated(op, topics)
	}
	return result(op, struct{}{}), nil
}

// EmptyShareGroups are those among ids that are share groups without members.
func (s *Shard) EmptyShareGroups(ids []string) (out []string) {
	for _, id := range ids {
		if g, is := s.find(id).(*share.Group); is && g.IsEmpty() {
			out = append(out, id)
		}
	}
	return out
}

// replayShare replays a record of a share group; false for one that is none.
func (s *Shard) replayShare(rec coordinator.Record) bool {
	id, ok := shareGroupOf(rec.Key)
	if ok {
		replayKind(s, id, rec, &s.newShare, func() *share.Group { return share.New(s.share, id) })
	}
	return ok
}

func shareGroupOf(key schema.Message) (string, bool) {
	switch k := key.(type) {
	case *schema.ShareGroupMetadataKey:
		return k.GroupID, true
	case *schema.ShareGroupMemberMetadataKey:
		return k.GroupID, true
	case *schema.ShareGroupTargetAssignmentMetadataKey:
		return k.GroupID, true
	case *schema.ShareGroupTargetAssignmentMemberKey:
		return k.GroupID, true
	case *schema.ShareGroupCurrentMemberAssignmentKey:
		return k.GroupID, true
	case *schema.ShareGroupStatePartitionMetadataKey:
		return k.GroupID, true
	}
	return "", false
}

// tellShares brings a change of the metadata to the share groups.
func (s *Shard) tellShares(img *metadata.Image) { s.share.Image = img }

// forgetShares drops what share groups know of topics that are gone.
func (s *Shard) forgetShares(op *effect.Op, g Group) {
	if sg, ok := g.(*share.Group); ok {
		sg.Forget(op, func(id schema.UUID) bool { return s.lostIDs[id] })
	}
}
