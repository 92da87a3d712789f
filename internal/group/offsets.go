package group

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/wire/schema"
)

// position is one committed offset.
type position struct {
	offset   int64
	commitMs int64
	expireMs int64 // -1: as the group's retention says
	logged   int64 // where its record is in the log: of two commits the later one counts
	topicID  schema.UUID
	epoch    int32 // leader epoch of the last record read, -1 unknown
	metadata string
}

// slot names what an offset is of.
type slot struct {
	group, topic string
	partition    int32
}

// offsets are the committed offsets of all groups, and those of transactions that are not decided. The latter cannot
// be read, but a reader who asks for stable offsets has to wait for them.
type offsets struct {
	byGroup map[string]map[string]map[int32]position // group, topic, partition
	pending map[int64]map[slot]position              // by producer id
	// How many producers have a pending offset for a slot, and how many pending offsets a group has.
	open      map[slot]int
	openGroup map[string]int
}

func newOffsets() offsets {
	return offsets{
		byGroup: map[string]map[string]map[int32]position{}, pending: map[int64]map[slot]position{},
		open: map[slot]int{}, openGroup: map[string]int{},
	}
}

func (o *offsets) get(k slot) (position, bool) {
	p, ok := o.byGroup[k.group][k.topic][k.partition]
	return p, ok
}

func (o *offsets) put(k slot, p position) {
	topics := o.byGroup[k.group]
	if topics == nil {
		topics = map[string]map[int32]position{}
		o.byGroup[k.group] = topics
	}
	parts := topics[k.topic]
	if parts == nil {
		parts = map[int32]position{}
		topics[k.topic] = parts
	}
	parts[k.partition] = p
}

// remove forgets an offset, and what transactions would make of it.
func (o *offsets) remove(k slot) {
	if topics := o.byGroup[k.group]; topics != nil {
		delete(topics[k.topic], k.partition)
		if len(topics[k.topic]) == 0 {
			delete(topics, k.topic)
		}
		if len(topics) == 0 {
			delete(o.byGroup, k.group)
		}
	}
	if o.open[k] == 0 {
		return
	}
	for pid, slots := range o.pending {
		if _, ok := slots[k]; ok {
			o.unpend(pid, k)
		}
	}
}

// pend keeps an offset until its transaction is decided.
func (o *offsets) pend(pid int64, k slot, p position) {
	slots := o.pending[pid]
	if slots == nil {
		slots = map[slot]position{}
		o.pending[pid] = slots
	}
	if _, ok := slots[k]; !ok {
		o.open[k]++
		o.openGroup[k.group]++
	}
	slots[k] = p
}

func (o *offsets) unpend(pid int64, k slot) {
	delete(o.pending[pid], k)
	if len(o.pending[pid]) == 0 {
		delete(o.pending, pid)
	}
	if o.open[k]--; o.open[k] == 0 {
		delete(o.open, k)
	}
	if o.openGroup[k.group]--; o.openGroup[k.group] == 0 {
		delete(o.openGroup, k.group)
	}
}

// end decides a producer's transaction. A plain commit that came after the transactional one stays.
func (o *offsets) end(pid int64, commit bool) {
	for k, p := range o.pending[pid] {
		if commit {
			if now, ok := o.get(k); !ok || p.logged > now.logged {
				o.put(k, p)
			}
		}
		o.unpend(pid, k)
	}
}

// slots are all slots of a group, committed and pending, in order.
func (o *offsets) slots(group string) []slot {
	var ks []slot
	for topic, parts := range o.byGroup[group] {
		for p := range parts {
			ks = append(ks, slot{group, topic, p})
		}
	}
	if o.openGroup[group] > 0 {
		for k := range o.open {
			if _, both := o.get(k); k.group == group && !both {
				ks = append(ks, k)
			}
		}
	}
	slices.SortFunc(ks, slot.compare)
	return ks
}

func (k slot) compare(l slot) int {
	return cmp.Or(strings.Compare(k.group, l.group), strings.Compare(k.topic, l.topic), cmp.Compare(k.partition, l.partition))
}

// Versions of OffsetCommitValue: 4 carries the topic id; 1 is the only one that carries a time of expiry.
const (
	commitVersion       = 4
	commitExpireVersion = 1
)

// record is the position as the log keeps it.
func (p position) record(k slot) coordinator.Record {
	v := &schema.OffsetCommitValue{
		Offset: p.offset, LeaderEpoch: p.epoch, Metadata: p.metadata, CommitTimestamp: p.commitMs, ExpireTimestamp: p.expireMs, TopicID: p.topicID,
	}
	version := int16(commitVersion)
	if p.expireMs >= 0 {
		version = commitExpireVersion
	}
	return coordinator.Record{Key: &schema.OffsetCommitKey{Group: k.group, Topic: k.topic, Partition: k.partition}, Value: v, ValueVersion: version}
}

// tombstone is the record that forgets an offset.
func (k slot) tombstone() coordinator.Record {
	return coordinator.Record{Key: &schema.OffsetCommitKey{Group: k.group, Topic: k.topic, Partition: k.partition}}
}
