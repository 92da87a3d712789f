package consumer

// reconcile moves a member one step towards its target, after what it says it holds. The result is the member itself
// where nothing moves.
//
// A member that has been given a partition and does not hold it yet may take it at any moment, while its heartbeat is on
// the way; so what it does not hold is free only when it knows that it is to give it up. Where it begins anew (certain),
// what it says is all there is.
func (d *draft) reconcile(m *Member, holds owned, certain bool) *Member {
	switch m.State {
	case MemberStable:
		if m.Epoch == d.targetEpoch && !d.holdsUnsubscribed(m) {
			return m
		}
	case UnrevokedPartitions, MemberUnknown:
		if holds.holdsAny(m.Revoking) {
			return m
		}
	}
	n := m.clone()
	n.Assigned, n.Revoking = Partitions{}, Partitions{}
	target, mine := d.wanted(m)
	for t, list := range m.Assigned {
		for p, epoch := range list {
			if target.has(t, p) {
				n.Assigned.add(t, p, epoch)
			} else {
				n.Revoking.add(t, p, epoch)
			}
		}
	}
	if len(n.Revoking) > 0 && (!certain || holds.holdsAny(n.Revoking)) {
		n.State, n.Previous = UnrevokedPartitions, m.Epoch // the epoch stays until it has given up
		return n
	}
	n.Revoking = Partitions{}
	waits := false
	for t, list := range mine {
		for _, p := range list {
			switch {
			case !target.has(t, p) || n.Assigned.has(t, p):
			case d.taken(m.ID, t, p):
				waits = true
			default:
				n.Assigned.add(t, p, d.targetEpoch)
			}
		}
	}
	n.State = MemberStable
	if waits {
		n.State = UnreleasedPartitions
	}
	if n.Epoch != d.targetEpoch {
		n.Previous, n.Epoch = m.Epoch, d.targetEpoch
	}
	return n
}

// wanted is the member's target without topics that it does not subscribe to any more: those it must give up at once,
// before the next target comes.
func (d *draft) wanted(m *Member) (Partitions, map[UUID][]int32) {
	mine := d.target(m.ID)
	out := Partitions{}
	drop := d.unsubscribed(m)
	for t, list := range mine {
		if drop(t) {
			continue
		}
		for _, p := range list {
			out.add(t, p, 0)
		}
	}
	return out, mine
}

func (d *draft) holdsUnsubscribed(m *Member) bool {
	if d.epoch == d.targetEpoch {
		return false // the target was made for these subscriptions
	}
	drop := d.unsubscribed(m)
	for t := range m.Assigned {
		if drop(t) {
			return true
		}
	}
	return false
}

// unsubscribed tells of topics whether the member does not subscribe to them. Topics that the metadata does not know
// are left to the next target.
func (d *draft) unsubscribed(m *Member) func(UUID) bool {
	if d.epoch == d.targetEpoch || d.g.env.Image == nil {
		return func(UUID) bool { return false }
	}
	reads := map[string]bool{}
	for _, t := range d.topics(m) {
		reads[t] = true
	}
	return func(id UUID) bool {
		t := d.g.env.Image.TopicByID(id)
		return t != nil && !reads[t.Name]
	}
}

// move writes what reconcile has made of a member, and sets the time it has to give up partitions.
func (d *draft) move(m, n *Member) {
	if m == n || m.sameCurrent(n) {
		return
	}
	d.changed[n.ID] = n
	d.op.Write(n.current(d.g.id))
	if n.State == UnrevokedPartitions {
		d.op.Arm(d.g.id, timerRebalance+n.ID, n.rebalanceTimeout())
	} else if m.State == UnrevokedPartitions {
		d.op.Cancel(d.g.id, timerRebalance+n.ID)
	}
	if m.Epoch != n.Epoch || m.State != n.State {
		d.g.env.Log.Debug("member moves", "group", d.g.id, "member", n.ID, "epoch", n.Epoch, "state", int8(n.State))
	}
}
