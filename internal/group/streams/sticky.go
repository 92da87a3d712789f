package streams

import (
	"cmp"
	"slices"
	"strings"
)

// The assignor. It keeps tasks where they are, evens out what each member has to do (tasks with state and without each
// for themselves), and gives what is new to where the state is, then to the process with the least to do, one with an
// idle member first. Standbys go to other processes than their active task, spread over the rack tags where there are
// any.

// assignInput is what an assignment is made of.
type assignInput struct {
	members  []assignMember // by id
	subs     []configuredSub
	standbys int
	rackTags []string
}

type assignMember struct {
	id, process string
	tag         func(key string) (string, bool)
	had         Roles
	offsets     map[Task]int64 // of changelogs it has on disk
}

type slot struct {
	*assignMember
	proc  *process
	n     int
	roles Roles
}

type process struct {
	id        string
	slots     []*slot
	n         int
	stateless int
	has       map[Task]bool
}

func (p *process) load() float64 { return float64(p.n) / float64(len(p.slots)) }

// least is the member with the fewest tasks.
func (p *process) least() *slot {
	return slices.MinFunc(p.slots, func(a, b *slot) int { return cmp.Compare(a.n, b.n) })
}

// quota is how many tasks each member should have at most, so that all have about the same. Those who have their share
// are out of the sum, so that the rest is evened out among the others.
type quota struct{ total, members, each int }

func newQuota(total, members int) quota {
	q := quota{total: total, members: members}
	q.share()
	return q
}

func (q *quota) share() {
	q.each = 0
	if q.members > 0 {
		q.each = (q.total + q.members - 1) / q.members
	}
}

func (q *quota) reached(n int) {
	if n == q.each {
		q.members--
		q.total -= n
		q.share()
	}
}

type assigner struct {
	in                    assignInput
	slots                 []*slot
	processes             []*process
	wasActive             map[Task]*slot
	wasStandby            map[Task][]*slot // those who have its state, the best first
	stateful, active, all quota
	owner                 map[Task]*process
}

// assignTasks makes the target assignment of a topology that is ready.
func assignTasks(in assignInput) map[string]Roles {
	a := &assigner{in: in, wasActive: map[Task]*slot{}, wasStandby: map[Task][]*slot{}, owner: map[Task]*process{}}
	a.prepare()
	var stateful, stateless []Task
	for i := range in.subs {
		s := &in.subs[i]
		for p := range s.tasks {
			if s.stateful {
				stateful = append(stateful, Task{s.id, p})
			} else {
				stateless = append(stateless, Task{s.id, p})
			}
		}
	}
	n := len(a.slots)
	a.stateful, a.active = newQuota(len(stateful), n), newQuota(len(stateful)+len(stateless), n)
	a.all = newQuota(len(stateful)*(1+in.standbys)+len(stateless), n)
	if n > 0 {
		a.giveActive(stateful, true)
		a.giveActive(stateless, false)
		a.giveStandbys(stateful)
	}
	out := make(map[string]Roles, n)
	for _, s := range a.slots {
		out[s.id] = s.roles
	}
	return out
}

func (a *assigner) prepare() {
	byID := map[string]*process{}
	type candidate struct {
		s    *slot
		kept bool
		at   int64
	}
	candidates := map[Task][]candidate{}
	for i := range a.in.members {
		m := &a.in.members[i]
		p := byID[m.process]
		if p == nil {
			p = &process{id: m.process, has: map[Task]bool{}}
			byID[m.process] = p
			a.processes = append(a.processes, p)
		}
		s := &slot{assignMember: m, proc: p, roles: noRoles()}
		p.slots, a.slots = append(p.slots, s), append(a.slots, s)
		for t := range m.had[Active].all() {
			a.wasActive[t] = s
		}
		for _, r := range []Role{Standby, Warmup} {
			for t := range m.had[r].all() {
				candidates[t] = append(candidates[t], candidate{s, true, m.offsets[t]})
			}
		}
		for t, at := range m.offsets {
			if !m.had[Standby].has(t) && !m.had[Warmup].has(t) {
				candidates[t] = append(candidates[t], candidate{s, false, at})
			}
		}
	}
	for t, list := range candidates {
		slices.SortFunc(list, func(x, y candidate) int {
			if x.kept != y.kept {
				if x.kept {
					return -1
				}
				return 1
			}
			return cmp.Or(cmp.Compare(y.at, x.at), strings.Compare(x.s.id, y.s.id))
		})
		for _, c := range list {
			a.wasStandby[t] = append(a.wasStandby[t], c.s)
		}
	}
}

func byPartition(x, y Task) int {
	return cmp.Or(cmp.Compare(x.Partition, y.Partition), strings.Compare(x.Subtopology, y.Subtopology))
}

func bySubtopology(x, y Task) int {
	return cmp.Or(strings.Compare(x.Subtopology, y.Subtopology), cmp.Compare(x.Partition, y.Partition))
}

func (a *assigner) giveActive(tasks []Task, stateful bool) {
	tasks = slices.Clone(tasks)
	slices.SortFunc(tasks, byPartition)
	fits := func(s *slot) bool {
		if stateful {
			return s.n < a.stateful.each
		}
		return s.n < a.active.each
	}
	left := slices.DeleteFunc(tasks, func(t Task) bool {
		s := a.wasActive[t]
		if s == nil || !fits(s) {
			return false
		}
		a.give(s, t, Active, stateful, true)
		return true
	})
	left = slices.DeleteFunc(left, func(t Task) bool {
		s := leastLoaded(a.wasStandby[t], func(*slot) bool { return true })
		if s == nil || !fits(s) {
			return false
		}
		a.give(s, t, Active, stateful, true)
		return true
	})
	slices.SortFunc(left, bySubtopology)
	for _, t := range left {
		p := slices.MinFunc(a.processes, func(x, y *process) int {
			return cmp.Or(cmp.Compare(x.load(), y.load()), cmp.Compare(x.least().n, y.least().n), cmp.Compare(float64(x.stateless)/float64(len(x.slots)), float64(y.stateless)/float64(len(y.slots))))
		})
		a.give(p.least(), t, Active, stateful, false)
	}
}

// leastLoaded is the first of the members that may have the task, unless a later one has less to do, and so has its
// process.
func leastLoaded(list []*slot, may func(*slot) bool) *slot {
	var best *slot
	for _, s := range list {
		if may(s) && (best == nil || s.proc.load() < best.proc.load() && s.n < best.n) {
			best = s
		}
	}
	return best
}

func (a *assigner) give(s *slot, t Task, r Role, stateful, counts bool) {
	s.n++
	s.proc.n++
	s.proc.has[t] = true
	s.roles[r].add(t, 0)
	if r == Active {
		if stateful {
			a.owner[t] = s.proc
		} else {
			s.proc.stateless++
		}
		if stateful && counts {
			a.stateful.reached(s.n)
		}
		a.active.reached(s.n)
	}
	a.all.reached(s.n)
}

func (a *assigner) giveStandbys(tasks []Task) {
	if a.in.standbys == 0 {
		return
	}
	tasks = slices.Clone(tasks)
	slices.SortFunc(tasks, func(x, y Task) int { return byPartition(y, x) })
	type open struct {
		t Task
		n int
	}
	var left []open
	for _, t := range tasks {
		n := a.spread(t)
		for ; n < a.in.standbys; n++ {
			may := func(s *slot) bool { return !s.proc.has[t] }
			s := a.wasActive[t]
			if s == nil || !may(s) || s.n >= a.all.each {
				s = leastLoaded(a.wasStandby[t], may)
			}
			if s == nil || s.n >= a.all.each {
				left = append(left, open{t, a.in.standbys - n})
				break
			}
			a.give(s, t, Standby, true, true)
		}
	}
	slices.SortFunc(left, func(x, y open) int { return bySubtopology(y.t, x.t) })
	for _, o := range left {
		for range o.n {
			var best *process
			for _, p := range a.processes {
				if !p.has[o.t] && (best == nil || p.load() < best.load()) {
					best = p
				}
			}
			if best == nil {
				break // there are fewer processes than copies wanted
			}
			a.give(best.least(), o.t, Standby, true, true)
		}
	}
}

// spread places standbys where they have other rack tags than every copy before them, and tells how many it could.
func (a *assigner) spread(t Task) (placed int) {
	if len(a.in.rackTags) == 0 {
		return 0
	}
	used := []*process{a.owner[t]}
	rank := func(p *process) int {
		if s := a.wasActive[t]; s != nil && s.proc == p {
			return 0
		}
		if i := slices.IndexFunc(a.wasStandby[t], func(s *slot) bool { return s.proc == p }); i >= 0 {
			return 1 + i
		}
		return 1 << 30
	}
	for ; placed < a.in.standbys; placed++ {
		var best *process
		var bestNew int
		for _, p := range a.processes {
			if p.has[t] || p.least().n >= a.all.each {
				continue
			}
			fresh := a.freshTags(p, used)
			if fresh == 0 {
				continue
			}
			if best == nil || cmp.Or(cmp.Compare(bestNew, fresh), cmp.Compare(rank(p), rank(best)), cmp.Compare(p.load(), best.load())) < 0 {
				best, bestNew = p, fresh
			}
		}
		if best == nil {
			return placed
		}
		s := best.least()
		for _, had := range append([]*slot{a.wasActive[t]}, a.wasStandby[t]...) {
			if had != nil && had.proc == best && had.n < a.all.each {
				s = had
				break
			}
		}
		a.give(s, t, Standby, true, true)
		used = append(used, best)
	}
	return placed
}

// freshTags counts the rack tags of a process that no process with a copy shares.
func (a *assigner) freshTags(p *process, used []*process) (n int) {
	for _, key := range a.in.rackTags {
		v, ok := p.slots[0].tag(key)
		if !ok {
			continue
		}
		if !slices.ContainsFunc(used, func(u *process) bool {
			w, has := u.slots[0].tag(key)
			return has && w == v
		}) {
			n++
		}
	}
	return n
}
