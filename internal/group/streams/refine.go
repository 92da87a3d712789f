package streams

// A task with state that moves to another process would stand still there until its state has been restored. Where the
// member that is to have it says how far it has come with changelogs, the task stays with its owner meanwhile, and the
// member gets it as a warm-up task first. Members that report nothing (clients before Kafka 4.4) get their tasks at once,
// as the coordinator could never tell when they are ready.

// refine is what a member is to move to now, on its way to target.
func (d *draft) refine(m *Member, target Roles) Roles {
	budget := d.g.warmups()
	if budget == 0 || !d.configured.ready() || !d.anyReports() {
		return target
	}
	out := Roles{Tasks{}, Tasks{}, Tasks{}}
	for r := range target {
		for t := range target[r].all() {
			out[r].add(t, 0)
		}
	}
	owner := map[Task]*Member{}
	members := d.members()
	for _, o := range members {
		for t := range o.Assigned[Active].all() {
			owner[t] = o
		}
	}
	for _, next := range members {
		for t := range d.target(next.ID)[Active].all() {
			o := owner[t]
			if o == nil || o.ID == next.ID || !d.staged(t, o, next) {
				continue
			}
			if o.ID == m.ID {
				out[Active].add(t, 0)
				delete(out[Standby][t.Subtopology], t.Partition)
			}
			if next.ID == m.ID {
				delete(out[Active][t.Subtopology], t.Partition)
				if budget > 0 {
					out[Warmup].add(t, 0)
				}
			}
			budget--
		}
	}
	for r := range out {
		for sub, ps := range out[r] {
			if len(ps) == 0 {
				delete(out[r], sub)
			}
		}
	}
	return out
}

func (d *draft) anyReports() bool {
	for _, p := range d.g.offsets {
		if p.at != nil {
			return true
		}
	}
	return false
}

// staged tells whether a task stays with its owner until next has its state.
func (d *draft) staged(t Task, owner, next *Member) bool {
	s := d.configured.sub(t.Subtopology)
	p := d.g.offsets[next.ID]
	if s == nil || !s.stateful || owner.ProcessID == next.ProcessID || p == nil || p.at == nil || owner.Epoch == leaveStaticEpoch {
		return false
	}
	at, known := p.at[t]
	end, knownEnd := p.end[t]
	return !known || !knownEnd || end-at > d.g.acceptableLag()
}
