package consumer

import (
	"bytes"
	"maps"
	"slices"

	"github.com/ottla/ottla/internal/wire/schema"
)

// UUID names a topic.
type UUID = schema.UUID

// Partitions are partitions by topic, each with the epoch at which it was given to its member. They never change:
// those who want others make them anew.
type Partitions map[UUID]map[int32]int32

func (ps Partitions) has(t UUID, p int32) bool {
	_, ok := ps[t][p]
	return ok
}

func (ps Partitions) add(t UUID, p, epoch int32) {
	m := ps[t]
	if m == nil {
		m = map[int32]int32{}
		ps[t] = m
	}
	m[p] = epoch
}

func (ps Partitions) equal(o Partitions) bool {
	return maps.EqualFunc(ps, o, maps.Equal[map[int32]int32, map[int32]int32])
}

// samePartitions is equal without the epochs.
func (ps Partitions) samePartitions(o Partitions) bool {
	return maps.EqualFunc(ps, o, func(a, b map[int32]int32) bool {
		if len(a) != len(b) {
			return false
		}
		for p := range a {
			if _, ok := b[p]; !ok {
				return false
			}
		}
		return true
	})
}

func (ps Partitions) plus(o Partitions) Partitions {
	if len(o) == 0 {
		return ps
	}
	out := Partitions{}
	for _, from := range []Partitions{ps, o} {
		for t, m := range from {
			for p, e := range m {
				out.add(t, p, e)
			}
		}
	}
	return out
}

// topics are the topics in order.
func (ps Partitions) topics() []UUID { return sortedIDs(ps) }

// of are the partitions of a topic in order.
func (ps Partitions) of(t UUID) []int32 { return slices.Sorted(maps.Keys(ps[t])) }

func sortedIDs[V any](m map[UUID]V) []UUID {
	return slices.SortedFunc(maps.Keys(m), func(a, b UUID) int { return bytes.Compare(a[:], b[:]) })
}

// owned is what a member says it holds; nil where it did not say.
type owned map[UUID][]int32

// holdsAny tells whether the member holds any of ps. One that does not say what it holds may hold all.
func (o owned) holdsAny(ps Partitions) bool {
	if o == nil {
		return len(ps) > 0
	}
	for t, list := range o {
		for _, p := range list {
			if ps.has(t, p) {
				return true
			}
		}
	}
	return false
}

// within tells whether the member says what it holds, and all of it is in ps.
func (o owned) within(ps Partitions) bool {
	if o == nil {
		return false
	}
	for t, list := range o {
		for _, p := range list {
			if !ps.has(t, p) {
				return false
			}
		}
	}
	return true
}
