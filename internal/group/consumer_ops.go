package group

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/classic"
	"github.com/ottla/ottla/internal/group/consumer"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// ConsumerGroupHeartbeat takes a heartbeat of a consumer group's member, which is also how members join and leave
// (KIP-848). visible tells which topics a subscription by regular expression may find for this client, nil for all;
// it must be pure. Topics subscribed to by name have been authorised by the caller.
func (s *Shard) ConsumerGroupHeartbeat(now time.Time, ctx RequestContext, req *kmsg.ConsumerGroupHeartbeatRequest, visible func(topic string) bool) (coordinator.Result[*kmsg.ConsumerGroupHeartbeatResponse], error) {
	op := &effect.Op{Now: now}
	resp, err := s.beat(op, ctx, req, visible)
	if err != nil {
		op = &effect.Op{Now: now} // a refused heartbeat changes nothing
		resp = kmsg.NewPtrConsumerGroupHeartbeatResponse()
		resp.ErrorCode, resp.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
	}
	resp.Version = ctx.Version
	return result(op, resp), nil
}

func (s *Shard) beat(op *effect.Op, ctx RequestContext, req *kmsg.ConsumerGroupHeartbeatRequest, visible func(string) bool) (*kmsg.ConsumerGroupHeartbeatResponse, error) {
	if err := s.cfg.Consumer.Admits(ctx.Version, req); err != nil {
		return nil, err
	}
	if req.MemberID == "" {
		req.MemberID = s.consumer.NewID()
	}
	joins := req.MemberEpoch == 0
	switch g := s.find(req.Group).(type) {
	case *consumer.Group:
		return g.Beat(op, ctx.client(), req, visible)
	case nil:
		if joins {
			return consumer.New(s.consumer, req.Group).Beat(op, ctx.client(), req, visible)
		}
	case *classic.Group:
		if joins && g.IsEmpty() {
			g.Tombstones(op)
			return consumer.New(s.consumer, req.Group).Beat(op, ctx.client(), req, visible)
		}
		if joins {
			return s.beatUpgrade(op, g, ctx.client(), req, visible)
		}
		return nil, wire.Errorf(kerr.GroupIDNotFound, "Group %s is not a consumer group.", req.Group)
	default:
		return nil, wire.Errorf(kerr.GroupIDNotFound, "Group %s is not a consumer group.", req.Group)
	}
	return nil, wire.Errorf(kerr.GroupIDNotFound, "Group %s not found.", req.Group)
}

// ConsumerGroupDescribe describes consumer groups, one answer per id in their order.
func (s *Shard) ConsumerGroupDescribe(ids []string) []kmsg.ConsumerGroupDescribeResponseGroup {
	out := make([]kmsg.ConsumerGroupDescribeResponseGroup, len(ids))
	for i, id := range ids {
		d := kmsg.NewConsumerGroupDescribeResponseGroup()
		d.Group, d.Members = id, []kmsg.ConsumerGroupDescribeResponseGroupMember{}
		switch g := s.find(id).(type) {
		case *consumer.Group:
			g.Describe(&d)
		case nil:
			d.ErrorCode, d.ErrorMessage = kerr.GroupIDNotFound.Code, kmsg.StringPtr("Group "+id+" not found.")
		default:
			d.ErrorCode, d.ErrorMessage = kerr.GroupIDNotFound.Code, kmsg.StringPtr("Group "+id+" is not a consumer group.")
		}
		out[i] = d
	}
	return out
}

// taskOwner is a group whose members may commit for what has been theirs all along, though they are an epoch behind.
type taskOwner interface {
	CheckPartition(who effect.Commit, topic string, id schema.UUID, partition int32) bool
}

// checkPartition gives the group's last word on a commit for one partition: refused is what it said of the member.
func (s *Shard) checkPartition(group string, who effect.Commit, refused error, topic string, id schema.UUID, partition int32) error {
	if errors.Is(refused, kerr.StaleMemberEpoch) {
		if g, ok := s.find(group).(taskOwner); ok && g.CheckPartition(who, topic, id, partition) {
			return nil
		}
	}
	return refused
}

// replayConsumer replays a record of a consumer group; false for one that is none. A group that is there as a simple
// one, for its offsets came first, is a consumer group from here on.
func (s *Shard) replayConsumer(rec coordinator.Record) bool {
	id, ok := consumerGroupOf(rec.Key)
	if !ok {
		return false
	}
	g, ok := s.find(id).(*consumer.Group)
	if !ok {
		if rec.Value == nil {
			return true
		}
		g = consumer.New(s.consumer, id)
		s.put(g)
	}
	if g.Replay(rec.Key, rec.Value) {
		s.remove(id, 0)
	}
	return true
}

func consumerGroupOf(key schema.Message) (string, bool) {
	switch k := key.(type) {
	case *schema.ConsumerGroupMetadataKey:
		return k.GroupID, true
	case *schema.ConsumerGroupPartitionMetadataKey: // of Kafka before 4.1: the hash tells the same
		return k.GroupID, true
	case *schema.ConsumerGroupMemberMetadataKey:
		return k.GroupID, true
	case *schema.ConsumerGroupTargetAssignmentMetadataKey:
		return k.GroupID, true
	case *schema.ConsumerGroupTargetAssignmentMemberKey:
		return k.GroupID, true
	case *schema.ConsumerGroupCurrentMemberAssignmentKey:
		return k.GroupID, true
	case *schema.ConsumerGroupRegularExpressionKey:
		return k.GroupID, true
	}
	return "", false
}

// tellConsumers brings a change of the metadata to the consumer groups.
func (s *Shard) tellConsumers(img *metadata.Image, delta *metadata.Delta) {
	s.consumer.Image = img
	if delta == nil {
		return
	}
	for _, g := range s.groups {
		if c, ok := g.(*consumer.Group); ok {
			c.OnImage(delta)
		}
	}
}
