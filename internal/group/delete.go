package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/wire"
)

// DeleteGroups deletes groups without members, with their offsets: one answer per id, in their order. The offsets go
// first in the log, so that a group cut short by a failure can be deleted again.
func (s *Shard) DeleteGroups(now time.Time, _ RequestContext, ids []string) (coordinator.Result[[]kmsg.DeleteGroupsResponseGroup], error) {
	op := &effect.Op{Now: now}
	out := make([]kmsg.DeleteGroupsResponseGroup, len(ids))
	done := map[string]bool{}
	for i, id := range ids {
		out[i] = kmsg.NewDeleteGroupsResponseGroup()
		out[i].Group = id
		g, err := s.get(id)
		if err == nil {
			err = g.CheckDelete()
		}
		if err != nil {
			out[i].ErrorCode, out[i].ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
			continue
		}
		if done[id] {
			continue
		}
		done[id] = true
		s.bury(op, g)
	}
	r := result(op, out)
	r.NonAtomic = true
	return r, nil
}

// bury writes the end of a group and of its offsets.
func (s *Shard) bury(op *effect.Op, g Group) {
	for _, k := range s.offsets.slots(g.ID()) {
		op.Write(k.tombstone())
	}
	g.Tombstones(op)
}

// OffsetDelete deletes offsets of a group that no member reads. Topics that do not exist have been answered by the
// caller.
func (s *Shard) OffsetDelete(now time.Time, ctx RequestContext, req *kmsg.OffsetDeleteRequest) (coordinator.Result[*kmsg.OffsetDeleteResponse], error) {
	op := &effect.Op{Now: now}
	resp := kmsg.NewPtrOffsetDeleteResponse()
	resp.Version = ctx.Version
	g, err := s.get(req.Group)
	if err == nil {
		err = g.CheckOffsetDelete()
	}
	if err != nil {
		resp.ErrorCode = wire.CodeOf(err)
		return result(op, resp), nil
	}
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewOffsetDeleteResponseTopic()
		rt.Topic = t.Topic
		read := g.Subscribed(t.Topic)
		for j := range t.Partitions {
			rp := kmsg.NewOffsetDeleteResponseTopicPartition()
			rp.Partition = t.Partitions[j].Partition
			k := slot{req.Group, t.Topic, rp.Partition}
			if read {
				rp.ErrorCode = kerr.GroupSubscribedToTopic.Code
			} else if _, ok := s.offsets.get(k); ok || s.offsets.open[k] > 0 {
				op.Write(k.tombstone())
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return result(op, resp), nil
}
