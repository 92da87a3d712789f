package group

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/group/classic"
	"github.com/ottla/ottla/internal/group/consumer"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// A group moves between the classic and the consumer protocol while its members do, one by one (KIP-848). The first
// member of the consumer protocol makes a classic group of consumers a consumer group: the classic members stay, are
// told to rebalance, and are served there. When the last member of the consumer protocol goes, it is a classic group
// again, which rebalances. A group without members just becomes what the one who joins needs.

// beatUpgrade lets a member of the consumer protocol join a classic group that has members, which becomes a consumer
// group by it. What it writes makes the new group when it is replayed. Where the log refuses it, and there were requests
// that waited, the shard is loaded again; otherwise nothing has changed.
func (s *Shard) beatUpgrade(op *effect.Op, g *classic.Group, client classic.Client, req *kmsg.ConsumerGroupHeartbeatRequest, visible func(string) bool) (*kmsg.ConsumerGroupHeartbeatResponse, error) {
	next, err := s.upgraded(g)
	if err != nil {
		return nil, err
	}
	beat := &effect.Op{Now: op.Now}
	resp, err := next.Beat(beat, client, req, visible)
	if err != nil {
		return nil, err
	}
	g.Dissolve(op)
	g.Tombstones(op)
	for _, r := range next.Records() {
		op.Write(r)
	}
	next.Start(op)
	op.Records = append(op.Records, beat.Records...)
	op.Timers = append(op.Timers, beat.Timers...)
	s.log.Info("classic group becomes a consumer group", "group", g.ID(), "epoch", g.Generation(), "members", next.Size())
	return resp, nil
}

// upgraded is the consumer group that a classic one would be.
func (s *Shard) upgraded(g *classic.Group) (*consumer.Group, error) {
	cannot := func(why string) error {
		return wire.Errorf(kerr.GroupIDNotFound, "Group %s is not a consumer group, and cannot become one: %s.", g.ID(), why)
	}
	switch {
	case !s.cfg.Consumer.Migration.MayUpgrade():
		return nil, cannot("group.consumer.migration.policy does not allow it")
	case g.ProtocolType() != "consumer":
		return nil, cannot("its members are no consumers")
	case g.Size() >= s.cfg.Consumer.MaxSize:
		return nil, cannot("it has more members than group.consumer.max.size allows")
	case s.consumer.Image == nil:
		return nil, kerr.CoordinatorLoadInProgress
	}
	type partition struct {
		topic schema.UUID
		n     int32
	}
	taken := map[partition]bool{}
	free := func(t schema.UUID, p int32) bool {
		was := taken[partition{t, p}]
		taken[partition{t, p}] = true
		return !was
	}
	var members []*consumer.Member
	for _, m := range g.Members() {
		n, ok := consumer.FromClassic(s.consumer, m, g.Generation(), free)
		if !ok {
			return nil, cannot("the subscription or assignment of member " + m.ID + " cannot be read: is a custom assignor in use?")
		}
		members = append(members, n)
	}
	return consumer.Make(s.consumer, g.ID(), g.Generation(), members), nil
}

// downgrade makes a classic group of a consumer group's classic members. Members of a classic group live in memory, so
// it takes its place at once.
func (s *Shard) downgrade(op *effect.Op, g *consumer.Group, gone []*consumer.Member) {
	protocol, members := g.ToClassic(gone)
	v := &schema.GroupMetadataValue{ProtocolType: "consumer", Generation: g.Epoch(), Protocol: &protocol, CurrentStateTimestamp: op.NowMs()}
	for _, m := range members {
		rm := schema.GroupMetadataValueMemberMetadata{
			MemberID: m.ID, GroupInstanceID: m.InstanceID, ClientID: m.ClientID, ClientHost: m.ClientHost,
			SessionTimeout: m.SessionMs, RebalanceTimeout: m.RebalanceMs, Assignment: m.Assignment,
		}
		for i := range m.Protocols {
			if m.Protocols[i].Name == protocol {
				rm.Subscription = m.Protocols[i].Metadata
			}
		}
		v.Members = append(v.Members, rm)
	}
	v.Leader = &members[0].ID
	next := classic.Load(s.classic, g.ID(), v)
	g.Tombstones(op)
	op.Write(next.Record())
	next.Start(op)
	s.put(next)
	op.Refused = func(error) { s.put(g) }
	next.Rebalance(op, "the last member of the consumer protocol is gone")
	s.log.Info("consumer group becomes a classic group", "group", g.ID(), "generation", next.Generation(), "members", len(members))
}
