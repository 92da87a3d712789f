package metadata

import (
	"maps"
	"slices"

	"github.com/ottla/ottla/internal/wire/schema"
)

// change notes that a topic changes.
func (d *Delta) change(id UUID, old *Topic) *TopicChange {
	c := d.touched[id]
	if c == nil {
		c = &TopicChange{Old: d.base.TopicByID(id), New: old, changed: map[int32]bool{}}
		d.touched[id] = c
	}
	return c
}

func (d *Delta) put(c *TopicChange, t *Topic) {
	c.New = t
	d.topics.set(t.Name, t)
	d.topicsByID.set(t.ID, t)
}

func (d *Delta) topicRecord(r *schema.TopicRecord) error {
	if t, ok := d.topics.m.Get(r.Name); ok {
		return d.fail(r, "topic %s exists with id %x", r.Name, t.ID)
	}
	if _, ok := d.topicsByID.m.Get(r.TopicID); ok {
		return d.fail(r, "topic id %x is taken", r.TopicID)
	}
	d.put(d.change(r.TopicID, nil), &Topic{Name: r.Name, ID: r.TopicID})
	return nil
}

func (d *Delta) removeTopic(r *schema.RemoveTopicRecord) error {
	t, ok := d.topicsByID.m.Get(r.TopicID)
	if !ok {
		return d.fail(r, "no topic has id %x", r.TopicID)
	}
	c := d.change(t.ID, t)
	c.New = nil
	for n := range t.Partitions {
		c.changed[int32(n)] = true
	}
	d.topics.delete(t.Name)
	d.topicsByID.delete(t.ID)
	d.next.partitions -= len(t.Partitions)
	res := Resource{TopicConfig, t.Name}
	if _, ok := d.configs.m.Get(res); ok {
		d.configs.delete(res)
		d.resources[res] = true
	}
	return nil
}

// fresh is a copy of a topic that this delta may change: the topic itself when it has made the copy before.
func (d *Delta) fresh(t *Topic) (*Topic, *TopicChange) {
	c := d.change(t.ID, t)
	out := &Topic{Name: t.Name, ID: t.ID, Partitions: slices.Clone(t.Partitions)}
	d.put(c, out)
	return out, c
}

func (d *Delta) partitionRecord(r *schema.PartitionRecord) error {
	t, ok := d.topicsByID.m.Get(r.TopicID)
	if !ok {
		return d.fail(r, "no topic has id %x", r.TopicID)
	}
	if r.PartitionID < 0 || r.PartitionID >= maxPartitions {
		return d.fail(r, "partition %d of topic %s", r.PartitionID, t.Name)
	}
	if len(r.Directories) != 0 && len(r.Directories) != len(r.Replicas) {
		return d.fail(r, "partition %d of topic %s: %d replicas on %d directories", r.PartitionID, t.Name, len(r.Replicas), len(r.Directories))
	}
	// Partitions are appended one by one, into spare room that this delta made itself: no older topic reads beyond
	// its own length.
	parts := t.Partitions
	n := int(r.PartitionID)
	switch {
	case n < len(parts):
		parts = slices.Clone(parts)
	case d.touched[t.ID] == nil:
		parts = slices.Clip(parts)
	}
	c := d.change(t.ID, t)
	for len(parts) <= n {
		parts = append(parts, nil)
		d.next.partitions++
	}
	parts[n] = &Partition{
		Replicas: r.Replicas, ISR: r.Isr, Removing: r.RemovingReplicas, Adding: r.AddingReplicas, Directories: r.Directories,
		ELR: r.EligibleLeaderReplicas, LastKnownELR: r.LastKnownElr, Leader: r.Leader, LeaderEpoch: r.LeaderEpoch,
		PartitionEpoch: r.PartitionEpoch, RecoveryState: r.LeaderRecoveryState,
	}
	c.changed[r.PartitionID] = true
	d.put(c, &Topic{Name: t.Name, ID: t.ID, Partitions: parts})
	return nil
}

func (d *Delta) partitionChange(r *schema.PartitionChangeRecord) error {
	t, ok := d.topicsByID.m.Get(r.TopicID)
	if !ok {
		return d.fail(r, "no topic has id %x", r.TopicID)
	}
	old := t.Partition(r.PartitionID)
	if old == nil {
		return d.fail(r, "topic %s has no partition %d", t.Name, r.PartitionID)
	}
	p := *old
	if r.Isr != nil {
		p.ISR = r.Isr
	}
	if r.Replicas != nil {
		p.Replicas = r.Replicas
	}
	if r.RemovingReplicas != nil {
		p.Removing = r.RemovingReplicas
	}
	if r.AddingReplicas != nil {
		p.Adding = r.AddingReplicas
	}
	if r.Directories != nil {
		p.Directories = r.Directories
	}
	if r.EligibleLeaderReplicas != nil {
		p.ELR = r.EligibleLeaderReplicas
	}
	if r.LastKnownElr != nil {
		p.LastKnownELR = r.LastKnownElr
	}
	if r.LeaderRecoveryState >= 0 {
		p.RecoveryState = r.LeaderRecoveryState
	}
	if r.Leader != noLeaderChange {
		p.Leader = r.Leader
		p.LeaderEpoch++
	}
	p.PartitionEpoch++
	nt, c := d.fresh(t)
	nt.Partitions[r.PartitionID] = &p
	c.changed[r.PartitionID] = true
	return nil
}

// noLeaderChange in a PartitionChangeRecord leaves leader and leader epoch as they are.
const noLeaderChange = -2

func (d *Delta) clearELR(r *schema.ClearElrRecord) error {
	var topics []*Topic
	if r.TopicName == "" {
		for _, t := range d.topics.m.All() {
			topics = append(topics, t)
		}
	} else if t, ok := d.topics.m.Get(r.TopicName); ok {
		topics = append(topics, t)
	} else {
		return d.fail(r, "there is no topic %s", r.TopicName)
	}
	for _, t := range topics {
		var nt *Topic
		var c *TopicChange
		for n, p := range t.Partitions {
			if p == nil || len(p.ELR)+len(p.LastKnownELR) == 0 {
				continue
			}
			if nt == nil {
				nt, c = d.fresh(t)
			}
			cp := *p
			cp.ELR, cp.LastKnownELR = nil, nil
			cp.PartitionEpoch++
			nt.Partitions[n] = &cp
			c.changed[int32(n)] = true
		}
	}
	return nil
}

func (d *Delta) configRecord(r *schema.ConfigRecord) {
	res := Resource{r.ResourceType, r.ResourceName}
	d.resources[res] = true
	old, _ := d.configs.m.Get(res)
	set := maps.Clone(old)
	if set == nil {
		set = map[string]string{}
	}
	if r.Value != nil {
		set[r.Name] = *r.Value
	} else {
		delete(set, r.Name)
	}
	if len(set) == 0 {
		d.configs.delete(res)
		return
	}
	d.configs.set(res, set)
}

func (d *Delta) brokers(id int32) map[int32]*Broker {
	if !d.ownBrokers {
		d.next.brokers, d.ownBrokers = maps.Clone(d.next.brokers), true
	}
	d.nodes[id] = true
	return d.next.brokers
}

func (d *Delta) registerBroker(r *schema.RegisterBrokerRecord) {
	b := &Broker{ID: r.BrokerID, Epoch: r.BrokerEpoch, IncarnationID: r.IncarnationID, Rack: r.Rack, LogDirs: r.LogDirs, Cordoned: r.CordonedLogDirs,
		Fenced: r.Fenced, InControlledShutdown: r.InControlledShutdown, MigratingZk: r.IsMigratingZkBroker}
	for _, e := range r.EndPoints {
		b.Endpoints = append(b.Endpoints, Endpoint{e.Name, e.Host, e.Port, e.SecurityProtocol})
	}
	for _, f := range r.Features {
		b.Features = append(b.Features, FeatureRange{f.Name, f.MinSupportedVersion, f.MaxSupportedVersion})
	}
	d.brokers(b.ID)[b.ID] = b
}

func (d *Delta) changeBroker(m schema.Message, id int32, f func(*Broker)) error {
	old := d.next.brokers[id]
	if old == nil {
		return d.fail(m, "broker %d is not registered", id)
	}
	b := *old
	f(&b)
	d.brokers(id)[id] = &b
	return nil
}

// applyRegistrationChange: fenced and controlled shutdown are 1 to set, -1 to clear, 0 to leave.
func applyRegistrationChange(b *Broker, r *schema.BrokerRegistrationChangeRecord) {
	switch r.Fenced {
	case 1:
		b.Fenced = true
	case -1:
		b.Fenced = false
	}
	if r.InControlledShutdown == 1 {
		b.InControlledShutdown = true
	}
	if len(r.LogDirs) > 0 {
		b.LogDirs = r.LogDirs
	}
	if r.CordonedLogDirs != nil {
		b.Cordoned = r.CordonedLogDirs
	}
}
