package streams

// reconcile moves a member one step towards target, after what it says it holds. The result is the member itself where
// nothing moves.
func (d *draft) reconcile(m *Member, holds owned, epoch int32, target Roles) *Member {
	switch m.State {
	case MemberStable:
		if m.Epoch == epoch && m.Assigned.same(&target) {
			return m
		}
	case UnrevokedTasks, MemberUnknown:
		if holdsAny(holds, &m.Revoking) {
			return m
		}
	}
	n := m.clone()
	n.Assigned, n.Revoking = noRoles(), noRoles()
	for r := range m.Assigned {
		for t, since := range m.Assigned[r].all() {
			if target[r].has(t) {
				n.Assigned[r].add(t, since)
			} else {
				n.Revoking[r].add(t, since)
			}
		}
	}
	if n.Revoking.size() > 0 && holdsAny(holds, &n.Revoking) {
		n.State, n.Previous = UnrevokedTasks, m.Epoch // the epoch stays until it has given up
		return n
	}
	n.Revoking = noRoles()
	waits := false
	for r := range target {
		for t := range target[r].all() {
			switch {
			case n.Assigned[r].has(t):
			case d.taken(m, Role(r), t):
				waits = true
			case Role(r) == Active:
				n.Assigned[r].add(t, epoch)
			default:
				n.Assigned[r].add(t, 0)
			}
		}
	}
	n.State = MemberStable
	if waits {
		n.State = UnreleasedTasks
	}
	if n.Epoch != epoch {
		n.Previous, n.Epoch = m.Epoch, epoch
	}
	return n
}

// move writes what reconcile has made of a member, and sets the time it has to give up tasks.
func (d *draft) move(m, n *Member) {
	if m == n || m.sameCurrent(n) {
		return
	}
	d.changed[n.ID] = n
	d.op.Write(n.current(d.g.id))
	if n.State == UnrevokedTasks {
		if m.State != UnrevokedTasks || !m.Revoking.equal(&n.Revoking) {
			d.op.Arm(d.g.id, timerRebalance+n.ID, n.rebalanceTimeout())
		}
	} else if m.State == UnrevokedTasks {
		d.op.Cancel(d.g.id, timerRebalance+n.ID)
	}
	if m.Epoch != n.Epoch || m.State != n.State {
		d.g.env.Log.Debug("streams member moves", "group", d.g.id, "member", n.ID, "epoch", n.Epoch, "state", int8(n.State))
	}
}
