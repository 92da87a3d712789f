package streams

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/group/topichash"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Heartbeat is the answer to a heartbeat.
type Heartbeat struct {
	Response *kmsg.StreamsGroupHeartbeatResponse
	// Create are the internal topics that the topology needs and nobody has made yet.
	Create []kmsg.CreateTopicsRequestTopic
}

// Beat takes one heartbeat, which is also how members join and leave.
func (g *Group) Beat(op *effect.Op, client Client, req *kmsg.StreamsGroupHeartbeatRequest) (*Heartbeat, error) {
	if req.MemberEpoch == leaveEpoch || req.MemberEpoch == leaveStaticEpoch {
		return g.leave(op, req)
	}
	if g.env.Image == nil {
		return nil, kerr.CoordinatorLoadInProgress
	}
	d := g.draft(op)
	old, from, err := d.find(req)
	if err != nil {
		return nil, err
	}
	m := updated(old, client, req)
	if err := d.takeTopology(req.Topology); err != nil {
		return nil, err
	}
	first := len(g.members) == 0
	changed := d.join(old, from, m)
	if from != nil {
		m = d.member(m.ID) // with what it takes over
	}
	if err := d.fit(req, changed); err != nil {
		return nil, err
	}
	d.report(req, m)
	if first && !g.waiting && g.initialDelay() > 0 {
		g.waiting = true
		op.Arm(g.id, timerInitial, g.initialDelay())
	}
	epoch, target, late := d.assign(m.ID)
	n := d.reconcile(m, holdings(req), epoch, d.refine(m, target))
	d.move(m, n)
	op.Arm(g.id, timerSession+m.ID, g.session())
	if req.ShutdownApplication {
		g.shutdown = m.ID
	}
	return d.answer(client, req, old, m, n, late), nil
}

// join puts a member, in place of old, or of from, a static one whose place it takes, into the group. It tells whether
// the group has to be assigned anew.
func (d *draft) join(old, from, m *Member) (changed bool) {
	before := old
	if from != nil {
		target := d.target(from.ID)
		d.bury(from)
		d.g.disarm(d.op, from)
		if target.size() > 0 {
			d.setTarget(m.ID, target)
		}
		m.Epoch, m.Previous, m.State, m.Assigned, m.Revoking = joinEpoch, joinEpoch, MemberStable, from.Assigned, noRoles()
		before = from.clone()
		before.ID = m.ID
	}
	if !old.sameMetadata(m) {
		d.put(m)
	}
	return !before.sameShape(m)
}

// takeTopology makes the topology of a member who joins that of the group, where it has none yet. One that is behind the
// group's is told so by its status.
func (d *draft) takeTopology(req *kmsg.StreamsGroupHeartbeatRequestTopology) error {
	switch {
	case req == nil && d.topology == nil:
		return wire.Errorf(kerr.FencedMemberEpoch, "Group %s has no topology: the member must rejoin and say it again.", d.g.id)
	case req == nil:
		return nil
	}
	t := topologyOf(req)
	switch {
	case d.topology == nil:
		d.topology, d.configured = t, nil
		d.op.Write(coordinator.Record{Key: &schema.StreamsGroupTopologyKey{GroupID: d.g.id}, Value: t})
		d.g.env.Log.Info("streams group has a topology", "group", d.g.id, "epoch", t.Epoch, "subtopologies", len(t.Subtopologies))
	case d.topology.Epoch > t.Epoch:
	case !sameTopology(d.topology, t):
		return wire.Errorf(kerr.InvalidRequest, "Topology updates are not supported yet.")
	}
	return nil
}

// fit looks at whether the topology's topics are there, and begins a new group epoch where anything has changed.
func (d *draft) fit(req *kmsg.StreamsGroupHeartbeatRequest, changed bool) error {
	g := d.g
	bump := changed
	if d.configured == nil || g.refresh {
		if hash := topichash.Group(g.env.Image, topicNames(d.topology)); hash != d.hash {
			d.hash, bump = hash, true
		}
		c, err := configure(d.topology, g.env.Image)
		if err != nil {
			return err
		}
		d.configured = c
		g.configured, g.refresh = c, false
		d.op.Refused = func(error) { g.configured, g.refresh = nil, true } // the topology may not have been written
	}
	validated := int32(noEpoch)
	if d.configured.ready() {
		validated = d.topology.Epoch
		for _, list := range [][]kmsg.TaskIDs{req.ActiveTasks, req.StandbyTasks, req.WarmupTasks} {
			if err := d.configured.checkTasks(list); err != nil {
				return err
			}
		}
	}
	configs := g.assignmentConfigs()
	if bump || validated != d.validated || !maps.Equal(configs, d.configs) {
		d.validated, d.configs = validated, configs
		d.epoch++
		d.writeEpoch()
	}
	return nil
}

func (c *configured) checkTasks(list []kmsg.TaskIDs) error {
	for i := range list {
		s := c.sub(list[i].SubtopologyID)
		if s == nil {
			return wire.Errorf(kerr.InvalidRequest, "Subtopology %s does not exist in the topology.", list[i].SubtopologyID)
		}
		for _, p := range list[i].Partitions {
			if p < 0 || p >= s.tasks {
				return wire.Errorf(kerr.InvalidRequest, "Task %d for subtopology %s is invalid. Number of tasks for this subtopology: %d", p, s.id, s.tasks)
			}
		}
	}
	return nil
}

// report notes how far the member says it has come with its changelogs.
func (d *draft) report(req *kmsg.StreamsGroupHeartbeatRequest, m *Member) {
	if req.TaskOffsets == nil && req.TaskEndOffsets == nil {
		return
	}
	p := &progress{}
	if old := d.g.offsets[m.ID]; old != nil {
		*p = *old
	}
	of := func(list []kmsg.TaskOffset) map[Task]int64 {
		out := make(map[Task]int64, len(list))
		for i := range list {
			out[Task{strings.Clone(list[i].SubtopologyID), list[i].Partition}] = list[i].Offset
		}
		return out
	}
	if req.TaskOffsets != nil {
		p.at = of(req.TaskOffsets)
	}
	if req.TaskEndOffsets != nil {
		p.end = of(req.TaskEndOffsets)
	}
	d.g.offsets[m.ID] = p
}

// answer tells the member what it has to know: n is what it is now, m what it was before its assignment moved, old what
// it was before it said anything.
func (d *draft) answer(client Client, req *kmsg.StreamsGroupHeartbeatRequest, old, m, n *Member, late string) *Heartbeat {
	g := d.g
	resp := kmsg.NewPtrStreamsGroupHeartbeatResponse()
	resp.MemberID, resp.MemberEpoch, resp.HeartbeatIntervalMillis, resp.TaskOffsetIntervalMillis = n.ID, n.Epoch, g.heartbeatMs(), g.taskOffsetMs()
	resp.AcceptableRecoveryLag = g.acceptableLag()
	moved := !n.Assigned.same(&m.Assigned)
	// Who joins, says everything or is an epoch behind has not seen the last answer.
	if moved || req.MemberEpoch < m.Epoch || req.RebalanceTimeoutMillis != -1 && holdings(req) != nil {
		resp.ActiveTasks, resp.StandbyTasks, resp.WarmupTasks = n.Assigned[Active].wire(), n.Assigned[Standby].wire(), n.Assigned[Warmup].wire()
	}
	if !equalPtr(old.Endpoint, n.Endpoint) || moved && n.Endpoint != nil {
		g.endpoints++
	}
	resp.EndpointInformationEpoch = g.endpoints
	if req.EndpointInformationEpoch != g.endpoints {
		resp.PartitionsByUserEndpoint = d.endpoints()
	}
	resp.TopologyDescriptionRequired = client.Version >= descriptionRequiredVersion && g.descEpoch != d.topology.Epoch && n.TopologyEpoch == d.topology.Epoch
	resp.Status = d.status(client, n, late)
	return &Heartbeat{Response: resp, Create: d.configured.create}
}

func (d *draft) status(client Client, m *Member, late string) []kmsg.StreamsGroupHeartbeatResponseStatus {
	out := []kmsg.StreamsGroupHeartbeatResponseStatus{}
	if m.TopologyEpoch < d.topology.Epoch {
		out = append(out, *statusOf(statusStaleTopology, fmt.Sprintf("The member's topology epoch %d is behind the group's topology epoch %d.", m.TopologyEpoch, d.topology.Epoch)))
	}
	if late != "" {
		out = append(out, *statusOf(statusAssignmentDelayed, late))
	}
	if s := d.configured.status; s != nil {
		why := *s
		if why.StatusCode == statusMissingInternal && d.g.createFault != "" {
			why.StatusDetail += "; Creation failed: " + d.g.createFault + "."
		}
		out = append(out, why)
	}
	if d.g.shutdown != "" {
		out = append(out, *statusOf(statusShutdown, "Streams group member "+d.g.shutdown+" encountered a fatal error and requested a shutdown for the entire application."))
	}
	if client.Version >= missingClientTagsVersion {
		var missing []string
		for _, key := range d.g.rackTags() {
			if _, ok := m.tag(key); !ok {
				missing = append(missing, key)
			}
		}
		if len(missing) > 0 {
			out = append(out, *statusOf(statusMissingClientTags, "Missing required client tags for rack-aware standby assignment: ["+strings.Join(missing, ", ")+"]. Configure them via 'client.tag.<tagKey>' in your Streams config."))
		}
	}
	return out
}

// endpoints tells where interactive queries find what: one entry for each member that has an endpoint.
func (d *draft) endpoints() []kmsg.StreamsGroupHeartbeatResponsePartitionsByUserEndpoint {
	out := []kmsg.StreamsGroupHeartbeatResponsePartitionsByUserEndpoint{}
	for _, m := range d.members() {
		if m.Endpoint == nil {
			continue
		}
		e := kmsg.NewStreamsGroupHeartbeatResponsePartitionsByUserEndpoint()
		e.UserEndpoint.Host, e.UserEndpoint.Port = m.Endpoint.Host, m.Endpoint.Port
		for _, tp := range d.inputsOf(m.Assigned[Active]) {
			p := kmsg.NewStreamsGroupHeartbeatResponsePartitionsByUserEndpointActivePartition()
			p.Topic, p.Partitions = tp.topic, tp.partitions
			e.ActivePartitions = append(e.ActivePartitions, p)
		}
		for _, r := range []Role{Standby, Warmup} {
			for _, tp := range d.inputsOf(m.Assigned[r]) {
				p := kmsg.NewStreamsGroupHeartbeatResponsePartitionsByUserEndpointStandbyPartition()
				p.Topic, p.Partitions = tp.topic, tp.partitions
				e.StandbyPartitions = append(e.StandbyPartitions, p)
			}
		}
		out = append(out, e)
	}
	return out
}

type topicPartitions struct {
	topic      string
	partitions []int32
}

// inputsOf are the partitions of source topics that tasks read.
func (d *draft) inputsOf(ts Tasks) (out []topicPartitions) {
	for _, sub := range ts.subtopologies() {
		c := d.configured.sub(sub)
		if c == nil {
			continue
		}
		for _, topic := range inputs(c.source) {
			t := d.g.env.Image.Topic(topic)
			if t == nil {
				continue
			}
			ps := slices.DeleteFunc(ts.of(sub), func(p int32) bool { return int(p) >= len(t.Partitions) })
			out = append(out, topicPartitions{topic, ps})
		}
	}
	return out
}
