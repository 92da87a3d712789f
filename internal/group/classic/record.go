package classic

import (
	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/wire/schema"
)

// recordVersion of GroupMetadataValue: the last that is not flexible, as Kafka writes it.
const recordVersion = 3

// Record is the group as the log keeps it.
func (g *Group) Record() coordinator.Record {
	v := &schema.GroupMetadataValue{
		ProtocolType: g.protocolType, Generation: g.generation, CurrentStateTimestamp: g.stateMs,
		Protocol: optional(g.protocol), Leader: optional(g.leader),
	}
	for _, m := range g.members {
		v.Members = append(v.Members, schema.GroupMetadataValueMemberMetadata{
			MemberID: m.ID, GroupInstanceID: m.InstanceID, ClientID: m.ClientID, ClientHost: m.ClientHost,
			RebalanceTimeout: m.RebalanceMs, SessionTimeout: m.SessionMs,
			Subscription: notNil(m.metadata(g.protocol)), Assignment: notNil(m.Assignment),
		})
	}
	return coordinator.Record{Key: &schema.GroupMetadataKey{Group: g.id}, Value: v, ValueVersion: recordVersion}
}

// Birth is the record of a new group before its first generation.
func (g *Group) Birth() coordinator.Record {
	v := &schema.GroupMetadataValue{CurrentStateTimestamp: g.stateMs}
	return coordinator.Record{Key: &schema.GroupMetadataKey{Group: g.id}, Value: v, ValueVersion: recordVersion}
}

// Tombstones are the records that end the group.
func (g *Group) Tombstones(op *effect.Op) {
	op.Write(coordinator.Record{Key: &schema.GroupMetadataKey{Group: g.id}})
}

// Load is the group that a record describes.
func Load(env *Env, id string, v *schema.GroupMetadataValue) *Group {
	g := New(env, id, v.CurrentStateTimestamp)
	g.generation = v.Generation
	g.protocolType = v.ProtocolType
	if v.Protocol != nil {
		g.protocol = *v.Protocol
	}
	for i := range v.Members {
		rm := &v.Members[i]
		if g.byID[rm.MemberID] != nil {
			continue // a broken record must not stop the partition from loading
		}
		m := &Member{
			ID: rm.MemberID, InstanceID: rm.GroupInstanceID, ClientID: rm.ClientID, ClientHost: rm.ClientHost,
			SessionMs: rm.SessionTimeout, RebalanceMs: rm.RebalanceTimeout,
			Protocols:  []Protocol{{Name: g.protocol, Metadata: append([]byte{}, rm.Subscription...)}},
			Assignment: append([]byte{}, rm.Assignment...),
		}
		if m.RebalanceMs == -1 { // before version 1 there was one timeout for both
			m.RebalanceMs = m.SessionMs
		}
		if m.InstanceID != nil && g.static[*m.InstanceID] != "" {
			continue
		}
		g.add(m, g.protocolType)
	}
	g.leader = ""
	if v.Leader != nil {
		g.leader = *v.Leader
	}
	if len(g.members) > 0 {
		g.state, g.previous = Stable, CompletingRebalance
	}
	g.resubscribe()
	return g
}

// Start begins the sessions of a group that has just been loaded: everybody has a full one, whoever coordinated
// before. A group above the size limit, which may have been lowered, rebalances.
func (g *Group) Start(op *effect.Op) {
	for _, m := range g.members {
		g.touchSession(op, m)
	}
	if len(g.members) > g.env.Config.MaxSize {
		g.prepare(op, "loaded with more members than group.max.size allows")
	}
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
