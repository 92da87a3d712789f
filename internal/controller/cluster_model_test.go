package controller

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/ottla/ottla/internal/metadata"
)

// clusterModel plays brokers against the controller and remembers, for every partition, who truly holds everything that was committed.
type clusterModel struct {
	*world
	rt      *rapid.T
	now     int64
	epochs  map[int32]int64
	dirs    map[int32]metadata.UUID
	reached map[int32]int64 // metadata offset that a broker has read
	// complete are the replicas that hold all that was committed; lost that nobody may.
	complete map[string][]map[int32]bool
	lost     map[string][]bool
	forced   bool // the step was allowed to elect whom it likes
}

const modelBrokers = 4

func (m *clusterModel) env() Env { return Env{NowMs: m.now, MonoMs: m.now, NewID: m.id} }

func (m *clusterModel) broker() int32 {
	return int32(rapid.IntRange(1, modelBrokers).Draw(m.rt, "broker"))
}

func (m *clusterModel) topics() []*metadata.Topic { return m.img.SortedTopics() }

// partition draws a partition; false when there is none.
func (m *clusterModel) partition() (*metadata.Topic, int32, bool) {
	ts := m.topics()
	if len(ts) == 0 {
		return nil, 0, false
	}
	t := ts[rapid.IntRange(0, len(ts)-1).Draw(m.rt, "topic")]
	return t, int32(rapid.IntRange(0, len(t.Partitions)-1).Draw(m.rt, "partition")), true
}

func (m *clusterModel) register() {
	id := m.broker()
	if _, ok := m.dirs[id]; !ok {
		m.dirs[id] = m.id()
	}
	dir, unclean := m.dirs[id], false
	switch rapid.IntRange(0, 9).Draw(m.rt, "how") {
	case 0:
		dir = m.id() // another disk
	case 1:
		unclean = true
	}
	r := Registration{Broker: id, ClusterID: "cluster", Incarnation: m.id(), LogDirs: []metadata.UUID{dir}, Features: SupportedFeatures(), Unclean: unclean}
	records, epoch, err := m.c.RegisterBroker(m.img, r, m.env())
	if err != nil {
		return
	}
	if dir != m.dirs[id] || unclean {
		for name, parts := range m.complete {
			for n := range parts {
				delete(parts[n], id)
				m.forget(name, int32(n))
			}
		}
	}
	m.dirs[id], m.epochs[id], m.reached[id] = dir, epoch, -1
	m.write(records)
}

// forget leaves only replicas complete; where there is none any more the records are lost with their last disk.
func (m *clusterModel) forget(topic string, n int32) {
	t := m.img.Topic(topic)
	complete := m.complete[topic][n]
	for id := range complete {
		if !t.Partitions[n].Holds(id) {
			delete(complete, id)
		}
	}
	if len(complete) == 0 {
		m.lost[topic][n] = true
	}
}

func (m *clusterModel) heartbeat() {
	id := m.broker()
	req := kmsg.NewPtrBrokerHeartbeatRequest()
	req.BrokerID, req.BrokerEpoch = id, m.epochs[id]
	if rapid.IntRange(0, 9).Draw(m.rt, "stale") == 0 {
		req.BrokerEpoch--
	}
	if rapid.IntRange(0, 3).Draw(m.rt, "read") > 0 {
		m.reached[id] = m.img.Offset()
	}
	req.CurrentMetadataOffset = m.reached[id]
	req.WantShutdown = rapid.IntRange(0, 9).Draw(m.rt, "leave") == 0
	req.WantFence = rapid.IntRange(0, 19).Draw(m.rt, "fence") == 0
	records, _ := m.c.Heartbeat(m.img, req, m.env())
	m.write(records)
}

func (m *clusterModel) create() {
	if len(m.topics()) >= 4 {
		return
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.SetVersion(7)
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic = "t" + itoa(int32(m.ids))
	rt.NumPartitions, rt.ReplicationFactor = int32(rapid.IntRange(1, 3).Draw(m.rt, "partitions")), int16(rapid.IntRange(1, 3).Draw(m.rt, "copies"))
	value := itoa(int32(rapid.IntRange(1, 3).Draw(m.rt, "min")))
	c := kmsg.NewCreateTopicsRequestTopicConfig()
	c.Name, c.Value = "min.insync.replicas", &value
	rt.Configs = append(rt.Configs, c)
	req.Topics = append(req.Topics, rt)
	records, resp := m.c.CreateTopics(m.img, req, m.env())
	m.write(records)
	if resp.Topics[0].ErrorCode != 0 {
		return
	}
	t := m.img.Topic(rt.Topic)
	for _, p := range t.Partitions {
		all := map[int32]bool{}
		for _, r := range p.Replicas {
			all[r] = true // nothing is committed yet
		}
		m.complete[rt.Topic] = append(m.complete[rt.Topic], all)
		m.lost[rt.Topic] = append(m.lost[rt.Topic], false)
	}
}

// commit is a record that everybody in sync has: only they are complete from then on.
func (m *clusterModel) commit() {
	t, n, ok := m.partition()
	if !ok {
		return
	}
	p := t.Partitions[n]
	if p.Leader < 0 || !active(m.img, p.Leader) || len(p.ISR) < min(m.c.minISRof(m.img, t.Name), len(p.Replicas)) {
		return
	}
	only := map[int32]bool{}
	for _, id := range p.ISR {
		only[id] = true
	}
	m.complete[t.Name][n], m.lost[t.Name][n] = only, false
}

func (m *clusterModel) alter() {
	t, n, ok := m.partition()
	if !ok {
		return
	}
	p := t.Partitions[n]
	if p.Leader < 0 {
		return
	}
	req := kmsg.NewPtrAlterPartitionRequest()
	req.SetVersion(3)
	req.BrokerID, req.BrokerEpoch = p.Leader, m.epochs[p.Leader]
	q := kmsg.NewAlterPartitionRequestTopicPartition()
	q.Partition, q.LeaderEpoch, q.PartitionEpoch = n, p.LeaderEpoch, p.PartitionEpoch
	stale := false
	switch rapid.IntRange(0, 9).Draw(m.rt, "stale") {
	case 0:
		q.LeaderEpoch--
		stale = true
	case 1:
		q.PartitionEpoch--
		stale = true
	}
	var isr []int32
	for _, id := range p.Replicas {
		if id == p.Leader || rapid.IntRange(0, 2).Draw(m.rt, "in sync") > 0 {
			isr = append(isr, id)
			s := kmsg.NewAlterPartitionRequestTopicPartitionNewEpochISR()
			s.BrokerID, s.BrokerEpoch = id, m.epochs[id]
			q.NewEpochISR = append(q.NewEpochISR, s)
		}
	}
	rt := kmsg.NewAlterPartitionRequestTopic()
	rt.TopicID = t.ID
	rt.Partitions = append(rt.Partitions, q)
	req.Topics = append(req.Topics, rt)
	records, resp := m.c.AlterPartition(m.img, req, m.env())
	if stale && len(records) > 0 {
		m.rt.Fatalf("a leader with old epochs changed %s-%d", t.Name, n)
	}
	m.write(records)
	if resp.ErrorCode == 0 && resp.Topics[0].Partitions[0].ErrorCode == 0 {
		now := m.img.Topic(t.Name).Partitions[n]
		got := resp.Topics[0].Partitions[0]
		if !slices.Equal(got.ISR, now.ISR) || got.PartitionEpoch != now.PartitionEpoch || got.LeaderEpoch != now.LeaderEpoch || got.LeaderID != now.Leader {
			m.rt.Fatalf("the answer %+v is not what became of it: %+v", got, now)
		}
	}
	if len(records) > 0 {
		for _, id := range isr { // a leader takes in only who has everything
			m.complete[t.Name][n][id] = true
		}
	}
}

func (m *clusterModel) reassign() {
	t, n, ok := m.partition()
	if !ok {
		return
	}
	req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	rt, rp := kmsg.NewAlterPartitionAssignmentsRequestTopic(), kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
	rt.Topic, rp.Partition = t.Name, n
	if rapid.IntRange(0, 2).Draw(m.rt, "cancel") > 0 {
		rp.Replicas = []int32{}
		for id := int32(1); id <= modelBrokers; id++ {
			if rapid.Bool().Draw(m.rt, "target") && m.img.Broker(id) != nil {
				rp.Replicas = append(rp.Replicas, id)
			}
		}
		if len(rp.Replicas) == 0 {
			return
		}
	}
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	req.AllowReplicationFactorChange = true
	records, _ := m.c.AlterPartitionReassignments(m.img, req, m.env())
	m.write(records)
}

func (m *clusterModel) elect() {
	req := kmsg.NewPtrElectLeadersRequest()
	req.SetVersion(2)
	req.ElectionType = int8(rapid.IntRange(0, 1).Draw(m.rt, "type"))
	m.forced = req.ElectionType == uncleanElection
	records, _ := m.c.ElectLeaders(m.img, req, m.env())
	m.write(records)
}

// check compares the image after a step with the one before it.
func (m *clusterModel) check(before *metadata.Image) {
	for _, t := range m.topics() {
		for n, p := range t.Partitions {
			m.checkPartition(t, int32(n), before.Partition(t.Name, int32(n)), p)
		}
	}
}

func (m *clusterModel) checkPartition(t *metadata.Topic, n int32, was, p *metadata.Partition) {
	fail := func(format string, args ...any) {
		m.rt.Fatalf("%s-%d: "+format+"\nwas %+v\nnow %+v", append([]any{t.Name, n}, append(args, was, p)...)...)
	}
	if p.Leader >= 0 && !slices.Contains(p.ISR, p.Leader) {
		fail("the leader is not in sync")
	}
	if !isSubset(p.ISR, p.Replicas) || !isSubset(p.ELR, p.Replicas) {
		fail("who is in sync or eligible is no replica, or named twice")
	}
	if slices.ContainsFunc(p.ELR, func(id int32) bool { return slices.Contains(p.ISR, id) }) {
		fail("in sync and eligible at once")
	}
	if len(p.ISR) >= min(m.c.minISRof(m.img, t.Name), len(p.Replicas)) && len(p.ELR) > 0 {
		fail("eligible replicas although enough are in sync")
	}
	for _, id := range p.ISR {
		if b := m.img.Broker(id); (b == nil || b.Fenced) && !alone(p) {
			fail("broker %d is fenced and in sync", id)
		}
	}
	if p.Leader < 0 {
		for _, id := range slices.Concat(p.ISR, p.ELR) {
			if active(m.img, id) {
				fail("nobody leads although %d could", id)
			}
		}
	}
	if was == nil {
		return
	}
	if p.LeaderEpoch < was.LeaderEpoch || p.PartitionEpoch < was.PartitionEpoch || p != was && p.PartitionEpoch == was.PartitionEpoch {
		fail("an epoch went back or stood still")
	}
	if p.Leader == was.Leader || p.Leader < 0 {
		return
	}
	if p.LeaderEpoch <= was.LeaderEpoch {
		fail("another leader in the same epoch")
	}
	m.forget(t.Name, n)
	complete := m.complete[t.Name][n]
	switch {
	case m.forced && p.RecoveryState == recovering:
		m.complete[t.Name][n], m.lost[t.Name][n] = map[int32]bool{p.Leader: true}, false
	case !complete[p.Leader] && !m.lost[t.Name][n] && !alone(p):
		fail("broker %d leads without all that was committed; %v have it", p.Leader, complete)
	}
}

// If this fails, the controller can elect a leader that lacks acknowledged records, let two lead in one epoch, or leave a partition without
// a leader that could have one.
func TestClusterModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &clusterModel{world: newWorld(t, 9, nil), rt: rt, epochs: map[int32]int64{}, dirs: map[int32]metadata.UUID{}, reached: map[int32]int64{}, complete: map[string][]map[int32]bool{}, lost: map[string][]bool{}}
		actions := []struct {
			name string
			f    func()
		}{
			{"register", m.register}, {"heartbeat", m.heartbeat}, {"heartbeat", m.heartbeat}, {"heartbeat", m.heartbeat}, {"heartbeat", m.heartbeat}, {"create", m.create}, {"commit", m.commit}, {"commit", m.commit},
			{"alter", m.alter}, {"alter", m.alter}, {"reassign", m.reassign}, {"elect", m.elect},
			{"time", func() {
				m.now += int64(rapid.IntRange(10, 700).Draw(rt, "ms"))
				m.write(m.c.Tick(m.img, m.env()))
			}},
			{"gone", func() { m.write(m.c.BrokerGone(m.img, m.broker(), m.env())) }},
			{"controller", func() {
				m.c = New(9, m.static)
				m.c.Activated(m.img, m.env())
			}},
		}
		for range rapid.IntRange(20, 120).Draw(rt, "steps") {
			before := m.img
			m.forced = false
			a := actions[rapid.IntRange(0, len(actions)-1).Draw(rt, "action")]
			a.f()
			m.check(before)
		}
	})
}
