package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/classic"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/group/streams"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// StreamsGroupHeartbeat takes a heartbeat of a streams group's member, which is also how members join and leave
// (KIP-1071). The answer names internal topics that the caller has to make. Topics of the topology have been authorised by
// the caller.
func (s *Shard) StreamsGroupHeartbeat(now time.Time, ctx RequestContext, req *kmsg.StreamsGroupHeartbeatRequest) (coordinator.Result[*streams.Heartbeat], error) {
	op := &effect.Op{Now: now}
	beat, err := s.streamsBeat(op, ctx, req)
	if err != nil {
		op = &effect.Op{Now: now} // a refused heartbeat changes nothing
		resp := kmsg.NewPtrStreamsGroupHeartbeatResponse()
		resp.ErrorCode, resp.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
		resp.Status, resp.AcceptableRecoveryLag = []kmsg.StreamsGroupHeartbeatResponseStatus{}, -1
		beat = &streams.Heartbeat{Response: resp}
	}
	beat.Response.Version = ctx.Version
	return result(op, beat), nil
}

func (s *Shard) streamsBeat(op *effect.Op, ctx RequestContext, req *kmsg.StreamsGroupHeartbeatRequest) (*streams.Heartbeat, error) {
	if err := s.cfg.Streams.Admits(req); err != nil {
		return nil, err
	}
	client := streams.Client{ID: ctx.ClientID, Host: ctx.ClientHost, Version: ctx.Version}
	joins := req.MemberEpoch == 0
	switch g := s.find(req.Group).(type) {
	case *streams.Group:
		return g.Beat(op, client, req)
	case nil:
		if joins {
			return s.streamsJoinNew(op, client, req)
		}
	case *classic.Group:
		if joins && g.IsEmpty() {
			g.Tombstones(op)
			return s.streamsJoinNew(op, client, req)
		}
		return nil, wire.Errorf(kerr.GroupIDNotFound, "Group %s is not a streams group.", req.Group)
	default:
		return nil, wire.Errorf(kerr.GroupIDNotFound, "Group %s is not a streams group.", req.Group)
	}
	if req.MemberEpoch < 0 {
		return nil, wire.Errorf(kerr.GroupIDNotFound, "Group %s not found.", req.Group)
	}
	return nil, wire.Errorf(kerr.GroupIDNotFound, "Streams group %s not found.", req.Group)
}

// streamsJoinNew makes the group that a join is the first of. The group itself comes with the replay of its records, and
// takes over then what it knows besides them.
func (s *Shard) streamsJoinNew(op *effect.Op, client streams.Client, req *kmsg.StreamsGroupHeartbeatRequest) (*streams.Heartbeat, error) {
	g := streams.New(s.streams, req.Group)
	beat, err := g.Beat(op, client, req)
	if err != nil {
		return nil, err
	}
	s.newborn = g
	return beat, nil
}

// StreamsGroupDescribe describes streams groups, one answer per id in their order.
func (s *Shard) StreamsGroupDescribe(ids []string, withDescription bool) []kmsg.StreamsGroupDescribeResponseGroup {
	out := make([]kmsg.StreamsGroupDescribeResponseGroup, len(ids))
	for i, id := range ids {
		d := kmsg.NewStreamsGroupDescribeResponseGroup()
		d.Group, d.Members = id, []kmsg.StreamsGroupDescribeResponseGroupMember{}
		switch g := s.find(id).(type) {
		case *streams.Group:
			g.Describe(&d, withDescription)
		case nil:
			d.ErrorCode, d.ErrorMessage = kerr.GroupIDNotFound.Code, kmsg.StringPtr("Group "+id+" not found.")
		default:
			d.ErrorCode, d.ErrorMessage = kerr.GroupIDNotFound.Code, kmsg.StringPtr("Group "+id+" is not a streams group.")
		}
		out[i] = d
	}
	return out
}

// StreamsTopologyDescription takes the description of a streams group's topology from one of its members (KIP-1331).
func (s *Shard) StreamsTopologyDescription(req *kmsg.StreamsGroupTopologyDescriptionUpdateRequest) error {
	switch {
	case req.MemberID == "":
		return wire.Errorf(kerr.InvalidRequest, "MemberId can't be empty.")
	case req.Group == "":
		return wire.Errorf(kerr.InvalidRequest, "GroupId can't be empty.")
	}
	g, ok := s.find(req.Group).(*streams.Group)
	if !ok {
		return wire.Errorf(kerr.UnknownMemberID, "Member %s is not a member of group %s.", req.MemberID, req.Group)
	}
	return g.SetDescription(req)
}

// StreamsTopicsFailed notes why a group's internal topics could not be made; "" that they were.
func (s *Shard) StreamsTopicsFailed(id, why string) {
	if g, ok := s.find(id).(*streams.Group); ok {
		g.CreateFailed(why)
	}
}

// replayStreams replays a record of a streams group; false for one that is none.
func (s *Shard) replayStreams(rec coordinator.Record) bool {
	id, ok := streamsGroupOf(rec.Key)
	if ok {
		replayKind(s, id, rec, &s.newborn, func() *streams.Group { return streams.New(s.streams, id) })
	}
	return ok
}

func streamsGroupOf(key schema.Message) (string, bool) {
	switch k := key.(type) {
	case *schema.StreamsGroupMetadataKey:
		return k.GroupID, true
	case *schema.StreamsGroupMemberMetadataKey:
		return k.GroupID, true
	case *schema.StreamsGroupTargetAssignmentMetadataKey:
		return k.GroupID, true
	case *schema.StreamsGroupTargetAssignmentMemberKey:
		return k.GroupID, true
	case *schema.StreamsGroupCurrentMemberAssignmentKey:
		return k.GroupID, true
	case *schema.StreamsGroupTopologyKey:
		return k.GroupID, true
	}
	return "", false
}

// tellStreams brings a change of the metadata to the streams groups.
func (s *Shard) tellStreams(img *metadata.Image, delta *metadata.Delta) {
	s.streams.Image = img
	if delta == nil {
		return
	}
	for _, g := range s.groups {
		if c, ok := g.(*streams.Group); ok {
			c.OnImage(delta)
		}
	}
}
