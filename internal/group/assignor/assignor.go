// Package assignor shares partitions out among the members of a group. An assignor is a pure function of who reads
// what, what there is, and what each member had: the same input gives the same output, whatever the order of maps. It
// must never know how a group moves from one assignment to the next, nor where its input comes from.
//
// Promises of all: every partition that anybody subscribed to goes to exactly one member, and only to one that
// subscribed to its topic. Racks are not looked at.
package assignor

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// TopicID names a topic.
type TopicID = [16]byte

// Assignment is partitions by topic, in order.
type Assignment = map[TopicID][]int32

// Member is one member of the group.
type Member struct {
	ID string
	// Instance is the instance id of a static member, "" for none.
	Instance string
	// Topics are those the member subscribes to, each once. Topics that Input does not know are ignored.
	Topics []TopicID
	// Current is what the member had in the last assignment. A partition may be with one member only.
	Current Assignment
}

// Input is what an assignor looks at.
type Input struct {
	Members    []Member
	Partitions map[TopicID]int32 // how many partitions each topic has
}

// Func shares out: an assignment for each member, an empty one where there is nothing.
type Func func(Input) map[string]Assignment

// The names of the assignors, as clients ask for them.
const (
	NameUniform = "uniform"
	NameRange   = "range"
)

// ByName finds an assignor.
func ByName(name string) (Func, bool) {
	switch name {
	case NameUniform:
		return Uniform, true
	case NameRange:
		return Range, true
	}
	return nil, false
}

func compareID(a, b TopicID) int { return bytes.Compare(a[:], b[:]) }

// topics are those that exist and that somebody subscribes to, in order, with their subscribers in order of members.
func (in *Input) topics() ([]TopicID, map[TopicID][]int) {
	subs := map[TopicID][]int{}
	for i := range in.Members {
		for _, t := range in.Members[i].Topics {
			if in.Partitions[t] > 0 {
				subs[t] = append(subs[t], i)
			}
		}
	}
	ids := make([]TopicID, 0, len(subs))
	for t := range subs {
		ids = append(ids, t)
	}
	slices.SortFunc(ids, compareID)
	return ids, subs
}

// ordered is the input with its members in order of id.
func (in Input) ordered() Input {
	in.Members = slices.Clone(in.Members)
	slices.SortFunc(in.Members, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return in
}

// tp is one partition.
type tp struct {
	topic     TopicID
	partition int32
}

func compareTP(a, b tp) int {
	return cmp.Or(compareID(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
}

// gather makes the result of lists of partitions, one per member.
func gather(in *Input, given [][]tp) map[string]Assignment {
	out := make(map[string]Assignment, len(in.Members))
	for i := range in.Members {
		slices.SortFunc(given[i], compareTP)
		a := Assignment{}
		for _, p := range given[i] {
			a[p.topic] = append(a[p.topic], p.partition)
		}
		out[in.Members[i].ID] = a
	}
	return out
}
