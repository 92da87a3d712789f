package group

// Stats are what a shard counts for metrics. Counters begin with the shard.
type Stats struct {
	Groups     map[string]map[string]int // kind, state
	Offsets    int                       // committed
	OpenTxns   int                       // producers with pending offsets
	Rebalances uint64                    // generations of classic groups, target assignments of consumer groups
	Commits    uint64                    // offsets accepted, one per partition
	Expired    uint64                    // offsets
}

// Stats looks at every group: it is for scrapes, not for requests.
func (s *Shard) Stats() Stats {
	st := s.stats
	st.Groups = map[string]map[string]int{}
	for _, g := range s.groups {
		kind := g.Kind().String()
		if st.Groups[kind] == nil {
			st.Groups[kind] = map[string]int{}
		}
		st.Groups[kind][g.StateName()]++
	}
	for _, topics := range s.offsets.byGroup {
		for _, parts := range topics {
			st.Offsets += len(parts)
		}
	}
	st.OpenTxns, st.Rebalances = len(s.offsets.pending), s.classic.Rebalances+s.consumer.Rebalances+s.streams.Rebalances+s.share.Rebalances
	return st
}
