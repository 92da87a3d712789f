package consumer

import (
	"maps"
	"slices"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Records are the group as the log keeps it, all of it: replayed on nothing they make the group.
func (g *Group) Records() []coordinator.Record {
	op := &effect.Op{}
	d := g.draft(op)
	members := g.Members()
	for _, m := range members {
		op.Write(m.record(g.id))
	}
	for _, expr := range sortedKeys(g.regexes) {
		op.Write(g.regexes[expr].record(g.id, expr))
	}
	d.writeEpoch()
	for _, id := range slices.Sorted(maps.Keys(g.target)) {
		d.setTarget(id, g.target[id])
	}
	d.writeTargetEpoch(g.targetMs)
	for _, m := range members {
		op.Write(m.current(g.id))
	}
	return op.Records
}

func (r *resolved) record(group, expr string) coordinator.Record {
	return coordinator.Record{
		Key:   &schema.ConsumerGroupRegularExpressionKey{GroupID: group, RegularExpression: expr},
		Value: &schema.ConsumerGroupRegularExpressionValue{Topics: r.topics, Version: r.version, Timestamp: r.ms},
	}
}
