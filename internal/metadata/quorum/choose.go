package quorum

import "slices"

// Choose says how the members of a quorum should change: three vote once three nodes are up, five once five are; their number never
// shrinks for those who are away. Learners get their vote together, so that there are never two voters for longer than a moment. Who is no
// node of the cluster any more, or came back with another directory, leaves when a majority can do without. Who is drained gives its vote to
// another node, once there is one: promote and remove are then one change.
func Choose(voters, learners, up []Member, known, drained func(node int32) bool) (add, promote, remove []Member) {
	target := 1
	switch {
	case len(up) >= 5:
		target = 5
	case len(up) >= 3:
		target = 3
	}
	target = max(target, len(voters))
	stale := func(m Member) bool {
		return !known(m.Node) || slices.ContainsFunc(up, func(u Member) bool { return u.Node == m.Node && u.Dir != m.Dir })
	}
	for _, m := range learners {
		if stale(m) || drained(m.Node) {
			return nil, nil, []Member{m}
		}
	}
	for _, m := range voters {
		if stale(m) {
			rest := 0
			for _, o := range voters {
				if o != m && slices.Contains(up, o) {
					rest++
				}
			}
			if rest > (len(voters)-1)/2 && len(voters) > 1 {
				return nil, nil, []Member{m}
			}
		}
	}
	var leaving []Member // voters whose vote another is to have
	for _, m := range voters {
		if drained(m.Node) {
			leaving = append(leaving, m)
		}
	}
	staying := len(voters) - len(leaving)
	if staying >= target && target > 1 && len(learners) > 0 {
		return nil, nil, learners[:1] // another was quicker
	}
	in := staying
	for _, m := range learners {
		if slices.Contains(up, m) { // who went away is waited for by nobody
			in++
		}
	}
	for _, m := range up {
		if in < target && !drained(m.Node) && !slices.Contains(voters, m) && !slices.Contains(learners, m) {
			add = append(add, m)
			in++
		}
	}
	if len(add) > 0 {
		return add[:1], nil, nil // one at a time: each is a change of its own
	}
	for _, m := range learners {
		if slices.Contains(up, m) {
			promote = append(promote, m)
		}
	}
	if k := min(len(leaving), len(promote)); k > 0 {
		return nil, promote[:k], leaving[:k]
	}
	if n := len(voters) + len(promote); n%2 == 0 && len(promote) > 0 { // an even number of voters survives no more than one fewer
		promote = promote[:len(promote)-1]
	}
	return nil, promote, nil
}
