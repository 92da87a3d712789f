package quorum

// MemberState is a member as the leader sees it.
type MemberState struct {
	Member
	Voter bool
	// Behind is how many entries of the log the member is not known to have, -1 where the leader has not heard of it.
	Behind int64
	Heard  bool // within the last election timeout
}

// Describe gives the members to done, on the host's goroutine. Only the leader knows how far they are; false where the host is closed.
func (h *Host) Describe(done func([]MemberState)) bool {
	return h.do(func(n *Node) { done(n.describe()) })
}

func (n *Node) describe() []MemberState {
	voters, learners := n.Members()
	last, _ := n.storage.LastIndex()
	progress := n.raft.Status().Progress
	state := func(m Member, voter bool) MemberState {
		s := MemberState{Member: m, Voter: voter, Behind: -1}
		if m == n.o.Self {
			s.Behind, s.Heard = 0, true
		} else if p, ok := progress[m.ID()]; ok && p.Match > 0 {
			s.Behind, s.Heard = int64(last)-int64(min(p.Match, last)), p.RecentActive
		}
		return s
	}
	out := make([]MemberState, 0, len(voters)+len(learners))
	for _, m := range voters {
		out = append(out, state(m, true))
	}
	for _, m := range learners {
		out = append(out, state(m, false))
	}
	return out
}
