package consumer

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/assignor"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/group/topichash"
	"github.com/ottla/ottla/internal/wire/schema"
)

// draft is what an operation makes of a group: the group with the records that the operation has written so far, which
// are replayed only when it is done.
type draft struct {
	g  *Group
	op *effect.Op

	changed     map[string]*Member // nil: gone
	regexes     map[string]*resolved
	epoch       int32
	hash        int64
	targetEpoch int32
	targets     map[string]map[UUID][]int32 // those that are others than the group's
	freed       map[UUID]map[int32]bool     // had a member that is gone
}

func (g *Group) draft(op *effect.Op) *draft {
	return &draft{
		g: g, op: op, changed: map[string]*Member{}, regexes: map[string]*resolved{}, epoch: g.epoch, hash: g.hash, targetEpoch: g.targetEpoch,
		targets: map[string]map[UUID][]int32{}, freed: map[UUID]map[int32]bool{},
	}
}

// members are the draft's members by id.
func (d *draft) members() []*Member {
	out := make([]*Member, 0, len(d.g.members)+1)
	for id, m := range d.g.members {
		if c, ok := d.changed[id]; ok {
			m = c
		}
		if m != nil {
			out = append(out, m)
		}
	}
	for id, m := range d.changed {
		if d.g.members[id] == nil && m != nil {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b *Member) int { return strings.Compare(a.ID, b.ID) })
	return out
}

func (d *draft) regex(expr string) *resolved {
	if r, ok := d.regexes[expr]; ok {
		return r
	}
	return d.g.regexes[expr]
}

func (d *draft) target(id string) map[UUID][]int32 {
	if t, ok := d.targets[id]; ok {
		return t
	}
	return d.g.target[id]
}

// topics are all that a member subscribes to, by name or expression, in order.
func (d *draft) topics(m *Member) []string {
	if m.Regex == "" {
		return m.Topics
	}
	r := d.regex(m.Regex)
	if r == nil {
		return m.Topics
	}
	return union(m.Topics, r.topics)
}

func union(a, b []string) []string {
	switch {
	case len(a) == 0:
		return b
	case len(b) == 0:
		return a
	}
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// put changes a member's metadata.
func (d *draft) put(m *Member) {
	d.changed[m.ID] = m
	d.op.Write(m.record(d.g.id))
}

// bump is the next group epoch, for the metadata as it is now.
func (d *draft) bump(hash int64) {
	d.epoch++
	d.hash = hash
	d.writeEpoch()
}

func (d *draft) writeEpoch() {
	d.op.Write(coordinator.Record{
		Key:   &schema.ConsumerGroupMetadataKey{GroupID: d.g.id},
		Value: &schema.ConsumerGroupMetadataValue{Epoch: d.epoch, MetadataHash: d.hash},
	})
}

// currentHash is the hash of what the members subscribe to, as it is now.
func (d *draft) currentHash() int64 {
	all := map[string]struct{}{}
	seen := map[string]bool{}
	for _, m := range d.members() {
		for _, t := range m.Topics {
			all[t] = struct{}{}
		}
		if m.Regex != "" && !seen[m.Regex] {
			seen[m.Regex] = true
			if r := d.regex(m.Regex); r != nil {
				for _, t := range r.topics {
					all[t] = struct{}{}
				}
			}
		}
	}
	return topichash.Group(d.g.env.Image, slices.Sorted(maps.Keys(all)))
}

// assignorName is the assignor that most members ask for; where none asks, the broker's first.
func (g *Group) assignorName(members []*Member) string {
	votes := map[string]int{}
	for _, m := range members {
		if m.Assignor != nil && g.env.Config.supportsAssignor(*m.Assignor) {
			votes[*m.Assignor]++
		}
	}
	best := ""
	for _, a := range g.env.Config.Assignors {
		if votes[a] > votes[best] {
			best = a
		}
	}
	if best == "" && len(g.env.Config.Assignors) > 0 {
		best = g.env.Config.Assignors[0]
	}
	return best
}

// assign makes a target assignment for the group epoch, where that is due: not before the interval is over, unless
// now is wanted, and not before the topics are known.
func (d *draft) assign(now bool) {
	g := d.g
	if d.epoch <= d.targetEpoch || g.env.Image == nil {
		return
	}
	if since := time.Duration(d.op.NowMs()-g.targetMs) * time.Millisecond; !now && since >= 0 && since < g.assignmentInterval() {
		return
	}
	members := d.members()
	in := assignor.Input{Partitions: map[UUID]int32{}}
	ids := map[string]UUID{}
	for _, m := range members {
		am := assignor.Member{ID: m.ID, Current: d.target(m.ID)}
		if m.InstanceID != nil {
			am.Instance = *m.InstanceID
		}
		for _, name := range d.topics(m) {
			id, ok := ids[name]
			if !ok {
				if t := g.env.Image.Topic(name); t != nil {
					id = t.ID
					in.Partitions[id] = int32(len(t.Partitions))
				}
				ids[name] = id
			}
			if id != (UUID{}) {
				am.Topics = append(am.Topics, id)
			}
		}
		in.Members = append(in.Members, am)
	}
	f, ok := assignor.ByName(g.assignorName(members))
	if !ok {
		f = assignor.Uniform
	}
	out := f(in)
	for _, m := range members {
		a := out[m.ID]
		if old, had := g.target[m.ID]; had && maps.EqualFunc(a, old, slices.Equal[[]int32]) || !had && len(a) == 0 {
			d.targets[m.ID] = a
			continue
		}
		d.setTarget(m.ID, a)
	}
	d.targetEpoch = d.epoch
	d.writeTargetEpoch(d.op.NowMs())
	g.env.Rebalances++
	g.env.Log.Info("group has a new target assignment", "group", g.id, "epoch", d.epoch, "members", len(members))
}

func (d *draft) setTarget(id string, a map[UUID][]int32) {
	d.targets[id] = a
	v := &schema.ConsumerGroupTargetAssignmentMemberValue{}
	for _, t := range sortedIDs(a) {
		v.TopicPartitions = append(v.TopicPartitions, schema.ConsumerGroupTargetAssignmentMemberValueTopicPartition{TopicID: t, Partitions: a[t]})
	}
	d.op.Write(coordinator.Record{Key: &schema.ConsumerGroupTargetAssignmentMemberKey{GroupID: d.g.id, MemberID: id}, Value: v})
}

func (d *draft) writeTargetEpoch(ms int64) {
	d.op.Write(coordinator.Record{
		Key:   &schema.ConsumerGroupTargetAssignmentMetadataKey{GroupID: d.g.id},
		Value: &schema.ConsumerGroupTargetAssignmentMetadataValue{AssignmentEpoch: d.targetEpoch, AssignmentTimestamp: ms},
	})
}

// taken tells whether another member has a partition, or has yet to give it up.
func (d *draft) taken(by string, t UUID, p int32) bool {
	o, ok := d.g.owner[t][p]
	return ok && o != by && !d.freed[t][p]
}
