package streams

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/wire/schema"
)

// draft is what an operation makes of a group: the group with the records that the operation has written so far, which
// are replayed only when it is done.
type draft struct {
	g  *Group
	op *effect.Op

	changed     map[string]*Member // nil: gone
	topology    *topology
	configured  *configured
	epoch       int32
	hash        int64
	validated   int32
	configs     map[string]string
	targetEpoch int32
	targets     map[string]Roles // those that are others than the group's
}

func (g *Group) draft(op *effect.Op) *draft {
	return &draft{
		g: g, op: op, changed: map[string]*Member{}, topology: g.topology, configured: g.configured, epoch: g.epoch, hash: g.hash, validated: g.validated,
		configs: g.configs, targetEpoch: g.targetEpoch, targets: map[string]Roles{},
	}
}

// members are the draft's members by id.
func (d *draft) members() []*Member {
	out := make([]*Member, 0, len(d.g.members)+1)
	for id := range d.g.members {
		if m := d.member(id); m != nil {
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

func (d *draft) member(id string) *Member {
	if m, ok := d.changed[id]; ok {
		return m
	}
	return d.g.members[id]
}

func (d *draft) target(id string) Roles {
	if t, ok := d.targets[id]; ok {
		return t
	}
	if t, ok := d.g.target[id]; ok {
		return t
	}
	return noRoles()
}

// put changes a member's metadata.
func (d *draft) put(m *Member) {
	d.changed[m.ID] = m
	d.op.Write(m.record(d.g.id))
}

func (d *draft) writeEpoch() {
	v := &schema.StreamsGroupMetadataValue{
		Epoch: d.epoch, MetadataHash: d.hash, ValidatedTopologyEpoch: d.validated,
		StoredDescriptionTopologyEpoch: d.g.described, FailedDescriptionTopologyEpoch: d.g.failed,
		LastAssignmentConfigs: []schema.StreamsGroupMetadataValueLastAssignmentConfig{},
	}
	for _, k := range slices.Sorted(maps.Keys(d.configs)) {
		v.LastAssignmentConfigs = append(v.LastAssignmentConfigs, schema.StreamsGroupMetadataValueLastAssignmentConfig{Key: k, Value: d.configs[k]})
	}
	d.op.Write(coordinator.Record{Key: &schema.StreamsGroupMetadataKey{GroupID: d.g.id}, Value: v})
}

func (d *draft) writeTargetEpoch(ms int64) {
	d.op.Write(coordinator.Record{
		Key:   &schema.StreamsGroupTargetAssignmentMetadataKey{GroupID: d.g.id},
		Value: &schema.StreamsGroupTargetAssignmentMetadataValue{AssignmentEpoch: d.targetEpoch, AssignmentTimestamp: ms},
	})
}

func (d *draft) setTarget(id string, r Roles) {
	d.targets[id] = r
	list := func(ts Tasks) []schema.StreamsGroupTargetAssignmentMemberValueTaskIDs {
		out := make([]schema.StreamsGroupTargetAssignmentMemberValueTaskIDs, 0, len(ts))
		for _, sub := range ts.subtopologies() {
			out = append(out, schema.StreamsGroupTargetAssignmentMemberValueTaskIDs{SubtopologyID: sub, Partitions: ts.of(sub)})
		}
		return out
	}
	d.op.Write(coordinator.Record{
		Key:   &schema.StreamsGroupTargetAssignmentMemberKey{GroupID: d.g.id, MemberID: id},
		Value: &schema.StreamsGroupTargetAssignmentMemberValue{ActiveTasks: list(r[Active]), StandbyTasks: list(r[Standby]), WarmupTasks: list(r[Warmup])},
	})
}

// Why an assignment is late, as clients are told.
const (
	delayInitial  = "Assignment delayed due to the configured initial rebalance delay."
	delayInterval = "Assignment delayed due to the configured assignment interval."
)

// assign makes a target assignment for the group epoch where that is due, and gives what a member is to move to; late
// says why there is none yet.
func (d *draft) assign(id string) (epoch int32, target Roles, late string) {
	if d.epoch > d.targetEpoch {
		since := time.Duration(d.op.NowMs()-d.g.targetMs) * time.Millisecond
		switch {
		case d.g.waiting:
			return max(firstEpoch, d.targetEpoch), noRoles(), delayInitial
		case since >= 0 && since < d.g.assignmentInterval():
			return d.targetEpoch, d.target(id), delayInterval
		default:
			d.makeTarget()
		}
	}
	return d.targetEpoch, d.target(id), ""
}

func (d *draft) makeTarget() {
	members := d.members()
	out := map[string]Roles{}
	if d.configured.ready() {
		in := assignInput{subs: d.configured.subs, standbys: d.g.standbys(), rackTags: d.g.rackTags()}
		for _, m := range members {
			am := assignMember{id: m.ID, process: m.ProcessID, tag: m.tag, had: d.target(m.ID)}
			if p := d.g.offsets[m.ID]; p != nil {
				am.offsets = p.at
			}
			in.members = append(in.members, am)
		}
		out = assignTasks(in)
	}
	for _, m := range members {
		want, ok := out[m.ID]
		if !ok {
			want = noRoles()
		}
		if old, had := d.g.target[m.ID]; had && want.same(&old) {
			d.targets[m.ID] = old
			continue
		}
		d.setTarget(m.ID, want)
	}
	d.targetEpoch = d.epoch
	made := d.op.NowMs()
	if !d.configured.ready() {
		made = 0 // nothing was worked out: the next one, with the topics in place, need not wait
	}
	d.writeTargetEpoch(made)
	d.g.env.Rebalances++
	d.g.env.Log.Info("streams group has a new target assignment", "group", d.g.id, "epoch", d.epoch, "members", len(members))
}

// gone tells whether a member has left within the draft.
func (d *draft) gone(id string) bool {
	m, ok := d.changed[id]
	return ok && m == nil
}

// taken tells whether a task is not to be had yet by a member in a role.
func (d *draft) taken(m *Member, r Role, t Task) bool {
	for id, process := range d.g.holders[Active][t] {
		if id != m.ID && !d.gone(id) && (r == Active || process == m.ProcessID) {
			return true
		}
	}
	for _, copyRole := range []Role{Standby, Warmup} {
		for id, process := range d.g.holders[copyRole][t] {
			if id != m.ID && !d.gone(id) && process == m.ProcessID {
				return true
			}
		}
	}
	return false
}
