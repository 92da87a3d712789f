package streams

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Task is one partition of a subtopology's work.
type Task struct {
	Subtopology string
	Partition   int32
}

// Tasks are tasks by subtopology, each with the epoch at which it was given to its member (0 where nobody asks). They
// never change: those who want others make them anew.
type Tasks map[string]map[int32]int32

func (ts Tasks) has(t Task) bool {
	_, ok := ts[t.Subtopology][t.Partition]
	return ok
}

func (ts Tasks) add(t Task, epoch int32) {
	m := ts[t.Subtopology]
	if m == nil {
		m = map[int32]int32{}
		ts[t.Subtopology] = m
	}
	m[t.Partition] = epoch
}

func (ts Tasks) equal(o Tasks) bool {
	return maps.EqualFunc(ts, o, maps.Equal[map[int32]int32, map[int32]int32])
}

func (ts Tasks) size() int {
	n := 0
	for _, m := range ts {
		n += len(m)
	}
	return n
}

// same is equal without the epochs.
func (ts Tasks) same(o Tasks) bool {
	return maps.EqualFunc(ts, o, func(a, b map[int32]int32) bool {
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

func (ts Tasks) holdsAny(o Tasks) bool {
	for t := range o.all() {
		if ts.has(t) {
			return true
		}
	}
	return false
}

func (ts Tasks) within(o Tasks) bool {
	for t := range ts.all() {
		if !o.has(t) {
			return false
		}
	}
	return true
}

// all yields every task with its epoch, in order.
func (ts Tasks) all() func(func(Task, int32) bool) {
	return func(yield func(Task, int32) bool) {
		for _, sub := range ts.subtopologies() {
			for _, p := range ts.of(sub) {
				if !yield(Task{sub, p}, ts[sub][p]) {
					return
				}
			}
		}
	}
}

// subtopologies are the subtopologies in order.
func (ts Tasks) subtopologies() []string { return slices.Sorted(maps.Keys(ts)) }

// of are the partitions of a subtopology in order.
func (ts Tasks) of(sub string) []int32 { return slices.Sorted(maps.Keys(ts[sub])) }

func (ts Tasks) wire() []kmsg.TaskIDs {
	out := make([]kmsg.TaskIDs, 0, len(ts))
	for _, sub := range ts.subtopologies() {
		t := kmsg.NewTaskIDs()
		t.SubtopologyID, t.Partitions = sub, ts.of(sub)
		out = append(out, t)
	}
	return out
}

func fromWire(list []kmsg.TaskIDs) Tasks {
	ts := Tasks{}
	for i := range list {
		for _, p := range list[i].Partitions {
			ts.add(Task{list[i].SubtopologyID, p}, 0)
		}
	}
	return ts
}

// Role is what a member does with a task.
type Role uint8

// The roles: process it, keep a copy of its state, or fetch its state to take it over.
const (
	Active Role = iota
	Standby
	Warmup
	numRoles
)

// Roles are a member's tasks by role.
type Roles [numRoles]Tasks

func noRoles() Roles { return Roles{Tasks{}, Tasks{}, Tasks{}} }

func (r *Roles) equal(o *Roles) bool {
	for i := range r {
		if !r[i].equal(o[i]) {
			return false
		}
	}
	return true
}

func (r *Roles) same(o *Roles) bool {
	for i := range r {
		if !r[i].same(o[i]) {
			return false
		}
	}
	return true
}

func (r *Roles) size() int { return r[Active].size() + r[Standby].size() + r[Warmup].size() }

// owned is what a member says it holds; nil where it did not say.
type owned *Roles

func holdings(req *kmsg.StreamsGroupHeartbeatRequest) owned {
	if req.ActiveTasks == nil || req.StandbyTasks == nil || req.WarmupTasks == nil {
		return nil
	}
	return &Roles{fromWire(req.ActiveTasks), fromWire(req.StandbyTasks), fromWire(req.WarmupTasks)}
}

// holdsAny tells whether the member holds any of r. One that does not say what it holds may hold all.
func holdsAny(o owned, r *Roles) bool {
	if o == nil {
		return r.size() > 0
	}
	for i := range r {
		if o[i].holdsAny(r[i]) {
			return true
		}
	}
	return false
}

// within tells whether the member says what it holds, and all of it is in r.
func within(o owned, r *Roles) bool {
	if o == nil {
		return false
	}
	for i := range r {
		if !o[i].within(r[i]) {
			return false
		}
	}
	return true
}
