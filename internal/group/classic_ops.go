package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/classic"
	"github.com/ottla/ottla/internal/group/effect"
)

// JoinGroup adds a member to a classic group, or lets it join the next generation; an unknown group is made for a
// member that comes without id. The reply waits under tok until the rebalance is through. The request's bytes are
// copied.
func (s *Shard) JoinGroup(now time.Time, tok coordinator.Token, ctx RequestContext, req *kmsg.JoinGroupRequest) (coordinator.Result[*kmsg.JoinGroupResponse], error) {
	op := &effect.Op{Now: now}
	refuse := func(code *kerr.Error) (coordinator.Result[*kmsg.JoinGroupResponse], error) {
		return result(op, classic.JoinError(ctx.Version, req.MemberID, code)), nil
	}
	if code := s.cfg.Classic.Admits(ctx.client(), req); code != nil {
		return refuse(code)
	}
	found := s.find(req.Group)
	var old Group
	if found != nil && found.IsEmpty() && (found.Kind() == effect.Consumer || found.Kind() == effect.Streams) {
		old, found = found, nil // it becomes a classic one
	}
	switch g := found.(type) {
	case nil:
		if req.MemberID != "" {
			return refuse(kerr.UnknownMemberID)
		}
		return s.joinNewGroup(op, tok, ctx, req, old), nil
	case ClassicProtocol:
		g.Join(op, tok, ctx.client(), req)
	default:
		return refuse(kerr.InconsistentGroupProtocol)
	}
	return parkable[*kmsg.JoinGroupResponse](op, tok), nil
}

// joinNewGroup makes the group that a join is the first of, in place of old, a group of another kind without members, or nil. A
// join that the group or the log refuses leaves what was.
func (s *Shard) joinNewGroup(op *effect.Op, tok coordinator.Token, ctx RequestContext, req *kmsg.JoinGroupRequest, old Group) coordinator.Result[*kmsg.JoinGroupResponse] {
	fresh := classic.New(s.classic, req.Group, op.NowMs())
	fresh.Join(op, tok, ctx.client(), req)
	if fresh.IsEmpty() {
		return parkable[*kmsg.JoinGroupResponse](op, tok)
	}
	if old != nil {
		old.Tombstones(op)
	}
	s.put(fresh)
	op.Write(fresh.Birth())
	r := parkable[*kmsg.JoinGroupResponse](op, tok)
	if !r.Parked { // one that waits would wait for ever: then the frame loads the shard anew
		r.OnRefused = func(error) {
			delete(s.groups, req.Group)
			if old != nil {
				s.put(old)
			}
		}
	}
	return r
}

// SyncGroup gives a member its assignment. A follower's reply waits under tok for the leader's sync.
func (s *Shard) SyncGroup(now time.Time, tok coordinator.Token, ctx RequestContext, req *kmsg.SyncGroupRequest) (coordinator.Result[*kmsg.SyncGroupResponse], error) {
	op := &effect.Op{Now: now}
	refuse := func(code *kerr.Error) (coordinator.Result[*kmsg.SyncGroupResponse], error) {
		return result(op, classic.SyncError(ctx.Version, code)), nil
	}
	switch {
	case req.Group == "":
		return refuse(kerr.InvalidGroupID)
	case ctx.Version >= 5 && (req.ProtocolType == nil || req.Protocol == nil): // KIP-559 makes both mandatory
		return refuse(kerr.InconsistentGroupProtocol)
	}
	g, ok := s.find(req.Group).(ClassicProtocol)
	if !ok {
		return refuse(kerr.UnknownMemberID)
	}
	g.Sync(op, tok, ctx.Version, req)
	return parkable[*kmsg.SyncGroupResponse](op, tok), nil
}

// Heartbeat keeps a member of a classic group alive.
func (s *Shard) Heartbeat(now time.Time, ctx RequestContext, req *kmsg.HeartbeatRequest) (coordinator.Result[*kmsg.HeartbeatResponse], error) {
	op := &effect.Op{Now: now}
	resp := kmsg.NewPtrHeartbeatResponse()
	resp.Version = ctx.Version
	code := kerr.UnknownMemberID
	if req.Group == "" {
		code = kerr.InvalidGroupID
	} else if g, ok := s.find(req.Group).(ClassicProtocol); ok {
		code = g.Heartbeat(op, req)
	}
	if code != nil {
		resp.ErrorCode = code.Code
	}
	return result(op, resp), nil
}

// LeaveGroup takes members out of a classic group: one before version 3, a list from there on.
func (s *Shard) LeaveGroup(now time.Time, ctx RequestContext, req *kmsg.LeaveGroupRequest) (coordinator.Result[*kmsg.LeaveGroupResponse], error) {
	op := &effect.Op{Now: now}
	resp := kmsg.NewPtrLeaveGroupResponse()
	resp.Version = ctx.Version
	if req.Group == "" {
		resp.ErrorCode = kerr.InvalidGroupID.Code
		return result(op, resp), nil
	}
	g, ok := s.find(req.Group).(ClassicProtocol)
	if !ok {
		resp.ErrorCode = kerr.UnknownMemberID.Code
		return result(op, resp), nil
	}
	if ctx.Version >= 3 {
		resp.Members = g.Leave(op, req.Members)
		return result(op, resp), nil
	}
	one := kmsg.NewLeaveGroupRequestMember()
	one.MemberID = req.MemberID
	resp.ErrorCode = g.Leave(op, []kmsg.LeaveGroupRequestMember{one})[0].ErrorCode
	return result(op, resp), nil
}
