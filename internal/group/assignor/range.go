package assignor

import (
	"cmp"
	"slices"
	"strings"
)

// Range gives each member one run of neighbouring partitions of every topic, the first members one more where it does
// not come out even. Members that subscribe to the same topics with equally many partitions get the same partitions
// of each, so that what belongs together by key can be joined. Static members keep their place by instance id.
func Range(in Input) map[string]Assignment {
	in = in.ordered()
	order := make([]int, len(in.Members)) // static members by instance, then the others
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		a, b := &in.Members[i], &in.Members[j]
		return cmp.Or(cmp.Compare(dynamic(a), dynamic(b)), strings.Compare(a.Instance, b.Instance))
	})
	place := make([]int, len(order))
	for at, i := range order {
		place[i] = at
	}
	given := make([][]tp, len(in.Members))
	ids, subs := in.topics()
	for _, t := range ids {
		who := subs[t]
		slices.SortFunc(who, func(i, j int) int { return cmp.Compare(place[i], place[j]) })
		n := int(in.Partitions[t])
		each, more := n/len(who), n%len(who)
		next := int32(0)
		for at, i := range who {
			take := each
			if at < more {
				take++
			}
			for range take {
				given[i] = append(given[i], tp{t, next})
				next++
			}
		}
	}
	return gather(&in, given)
}

func dynamic(m *Member) int {
	if m.Instance == "" {
		return 1
	}
	return 0
}
