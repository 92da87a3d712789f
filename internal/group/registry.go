package group

import (
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/classic"
	"github.com/ottla/ottla/internal/group/consumer"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/group/share"
	"github.com/ottla/ottla/internal/group/streams"
	"github.com/ottla/ottla/internal/wire"
)

// Group is what the shard asks of a group of any kind: one package per kind, one value per group. Errors are protocol
// errors.
type Group interface {
	ID() string
	Kind() effect.Kind
	// StateName and ProtocolType are what ListGroups shows.
	StateName() string
	ProtocolType() string
	Size() int
	// IsEmpty: no member, and none under way, so that the group may vanish once it has no offsets.
	IsEmpty() bool

	// CheckCommit, CheckFetch, CheckOffsetDelete and CheckDelete say whether the offsets may be committed, read,
	// deleted, and the group be deleted.
	CheckCommit(effect.Commit) error
	CheckFetch(memberID *string, memberEpoch int32) error
	CheckOffsetDelete() error
	CheckDelete() error
	// Subscribed tells whether a member reads the topic; Retention how the group's offsets age.
	Subscribed(topic string) bool
	Retention() effect.Retention
	// Touch is told of a member's commit, which keeps it alive in the classic protocol.
	Touch(op *effect.Op, memberID string)

	// Tombstones writes what ends the group in the log. The group goes when they are replayed.
	Tombstones(op *effect.Op)
	// Start arms the timers of a group that has just been loaded; OnTimer is told when one fires.
	Start(op *effect.Op)
	OnTimer(op *effect.Op, name string)
	// Kill is told that the group is no more.
	Kill(nowMs int64)
}

// ClassicProtocol is a group that takes the requests of the classic protocol: a classic one, or a consumer group
// while its members move from one protocol to the other.
type ClassicProtocol interface {
	Group
	Join(op *effect.Op, tok coordinator.Token, client classic.Client, req *kmsg.JoinGroupRequest)
	Sync(op *effect.Op, tok coordinator.Token, version int16, req *kmsg.SyncGroupRequest)
	Heartbeat(op *effect.Op, req *kmsg.HeartbeatRequest) *kerr.Error
	Leave(op *effect.Op, leaving []kmsg.LeaveGroupRequestMember) []kmsg.LeaveGroupResponseMember
}

var (
	_ Group           = (*classic.Group)(nil)
	_ ClassicProtocol = (*classic.Group)(nil)
	_ ClassicProtocol = (*consumer.Group)(nil)
	_ Group           = (*streams.Group)(nil)
	_ Group           = (*share.Group)(nil)
)

// registry finds groups by id. A group id belongs to one kind at a time.
type registry struct {
	groups map[string]Group
}

func newRegistry() registry { return registry{groups: map[string]Group{}} }

func (r *registry) find(id string) Group { return r.groups[id] }

// get is find for requests that need the group to exist.
func (r *registry) get(id string) (Group, error) {
	if g := r.groups[id]; g != nil {
		return g, nil
	}
	return nil, wire.Errorf(kerr.GroupIDNotFound, "Group %s not found.", id)
}

// put makes g the group of its id, in place of one of another kind.
func (r *registry) put(g Group) { r.groups[g.ID()] = g }

func (r *registry) remove(id string, nowMs int64) {
	if g := r.groups[id]; g != nil {
		g.Kill(nowMs)
		delete(r.groups, id)
	}
}

// sorted is every group by id, so that answers and records do not depend on the map's order.
func (r *registry) sorted() []Group {
	gs := make([]Group, 0, len(r.groups))
	for _, g := range r.groups {
		gs = append(gs, g)
	}
	slices.SortFunc(gs, func(a, b Group) int { return strings.Compare(a.ID(), b.ID()) })
	return gs
}
