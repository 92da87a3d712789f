package metadata

import (
	"maps"
	"reflect"
)

// Diff is the delta between two images of which to was not made from from by replay: a node that has fallen behind reads a snapshot.
// It leads to to itself, and lists what differs.
func Diff(from, to *Image) *Delta {
	d := NewDelta(to)
	d.base = from
	for old := range from.Topics() {
		if now := to.TopicByID(old.ID); now == nil || !reflect.DeepEqual(old, now) {
			d.touched[old.ID] = topicChange(old, now)
		}
	}
	for now := range to.Topics() {
		if from.TopicByID(now.ID) == nil {
			d.touched[now.ID] = topicChange(nil, now)
		}
	}
	differing(from.configs, to.configs, func(r Resource) { d.resources[r] = true })
	for id, b := range to.brokers {
		if !reflect.DeepEqual(from.brokers[id], b) {
			d.nodes[id] = true
		}
	}
	for id := range from.brokers {
		if to.brokers[id] == nil {
			d.nodes[id] = true
		}
	}
	mark := func(k Kind, same bool) {
		if !same {
			d.kinds |= k
		}
	}
	mark(FeaturesChanged, maps.Equal(from.features, to.features))
	mark(ControllersChanged, reflect.DeepEqual(from.controllers, to.controllers))
	mark(ProducerIDsChanged, from.NextProducerID() == to.NextProducerID())
	differing(from.acls, to.acls, func(UUID) { d.kinds |= ACLsChanged })
	differing(from.scram, to.scram, func(ScramKey) { d.kinds |= ScramChanged })
	differing(from.tokens, to.tokens, func(string) { d.kinds |= TokensChanged })
	differing(from.quotas, to.quotas, func(string) { d.kinds |= QuotasChanged })
	return d
}

func topicChange(old, now *Topic) *TopicChange {
	c := &TopicChange{Old: old, New: now, changed: map[int32]bool{}}
	n := 0
	for _, t := range []*Topic{old, now} {
		if t != nil {
			n = max(n, len(t.Partitions))
		}
	}
	for p := range int32(n) {
		var a, b *Partition
		if old != nil {
			a = old.Partition(p)
		}
		if now != nil {
			b = now.Partition(p)
		}
		if !reflect.DeepEqual(a, b) {
			c.changed[p] = true
		}
	}
	return c
}

// differing calls f for every key that only one of two maps has, or that has another value in each.
func differing[K comparable, V any](a, b Map[K, V], f func(K)) {
	for k, v := range a.All() {
		if w, ok := b.Get(k); !ok || !reflect.DeepEqual(v, w) {
			f(k)
		}
	}
	for k := range b.All() {
		if _, ok := a.Get(k); !ok {
			f(k)
		}
	}
}
