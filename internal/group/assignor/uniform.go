package assignor

import (
	"cmp"
	"container/heap"
	"slices"
)

// Uniform gives all members equally many partitions, as far as their subscriptions allow, and moves no more than it
// must for that: a member keeps what it has unless others would have less than their share.
//
// Where all members subscribe to the same topics their shares differ by one at most. Where they do not, no partition
// can be moved to another subscriber of its topic that has at least two less.
func Uniform(in Input) map[string]Assignment {
	in = in.ordered()
	if len(in.Members) == 0 {
		return map[string]Assignment{}
	}
	ids, subs := in.topics()
	same := true
	for _, t := range ids {
		same = same && len(subs[t]) == len(in.Members)
	}
	u := &uniform{in: &in, ids: ids, subs: subs, given: make([][]tp, len(in.Members))}
	u.keep()
	if same {
		u.even()
	} else {
		u.uneven()
	}
	return gather(&in, u.given)
}

type uniform struct {
	in    *Input
	ids   []TopicID
	subs  map[TopicID][]int
	given [][]tp // by member
	free  []tp   // without member, in order
}

// keep lets every member have what it had, of topics that are there and that it still subscribes to. The rest is free.
func (u *uniform) keep() {
	taken := map[tp]struct{}{}
	for i := range u.in.Members {
		m := &u.in.Members[i]
		for _, t := range m.Topics {
			for _, p := range m.Current[t] {
				at := tp{t, p}
				if _, twice := taken[at]; twice || p < 0 || p >= u.in.Partitions[t] {
					continue
				}
				taken[at] = struct{}{}
				u.given[i] = append(u.given[i], at)
			}
		}
		slices.SortFunc(u.given[i], compareTP)
	}
	for _, t := range u.ids {
		for p := range u.in.Partitions[t] {
			if _, ok := taken[tp{t, p}]; !ok {
				u.free = append(u.free, tp{t, p})
			}
		}
	}
}

// even shares among members that may all have everything: who has more than its share gives the rest back, and the
// members below their share take in turn.
func (u *uniform) even() {
	total := len(u.free)
	for i := range u.given {
		total += len(u.given[i])
	}
	share, more := total/len(u.given), total%len(u.given)
	quota := make([]int, len(u.given))
	for i := range u.given { // one more goes to those who have it already
		quota[i] = share
		if more > 0 && len(u.given[i]) > share {
			quota[i]++
			more--
		}
		if len(u.given[i]) > quota[i] {
			u.free = append(u.free, u.given[i][quota[i]:]...)
			u.given[i] = u.given[i][:quota[i]]
		}
	}
	slices.SortFunc(u.free, compareTP)
	for i := range u.given {
		if more > 0 && quota[i] == share {
			quota[i]++
			more--
		}
	}
	for len(u.free) > 0 {
		for i := range u.given {
			if len(u.free) > 0 && len(u.given[i]) < quota[i] {
				u.given[i] = append(u.given[i], u.free[0])
				u.free = u.free[1:]
			}
		}
	}
}

// uneven gives each free partition to the subscriber with the least, topics with few subscribers first, and then
// evens out, one partition at a time from a subscriber with much to one with little. Every move lowers the sum of the
// squares of what members have, so it ends.
func (u *uniform) uneven() {
	byTopic := map[TopicID][]tp{}
	for _, p := range u.free {
		byTopic[p.topic] = append(byTopic[p.topic], p)
	}
	order := slices.Clone(u.ids)
	slices.SortStableFunc(order, func(a, b TopicID) int { return cmp.Compare(len(u.subs[a]), len(u.subs[b])) })
	for _, t := range order {
		if len(byTopic[t]) == 0 {
			continue
		}
		h := &byLoad{u: u, who: slices.Clone(u.subs[t])}
		heap.Init(h)
		for _, p := range byTopic[t] {
			u.given[h.who[0]] = append(u.given[h.who[0]], p)
			heap.Fix(h, 0)
		}
	}
	held := make([]map[TopicID][]int32, len(u.given)) // the same, by topic
	load := make([]int, len(u.given))
	for i := range u.given {
		slices.SortFunc(u.given[i], compareTP)
		held[i] = map[TopicID][]int32{}
		load[i] = len(u.given[i])
		for _, p := range u.given[i] {
			held[i][p.topic] = append(held[i][p.topic], p.partition)
		}
	}
	for moved := true; moved; {
		moved = false
		for _, t := range order {
			for u.level(t, held, load) {
				moved = true
			}
		}
	}
	for i := range u.given {
		u.given[i] = u.given[i][:0]
		for t, ps := range held[i] {
			for _, p := range ps {
				u.given[i] = append(u.given[i], tp{t, p})
			}
		}
	}
}

// level moves one partition of the topic, if that evens out.
func (u *uniform) level(t TopicID, held []map[TopicID][]int32, load []int) bool {
	most, least := -1, -1
	for _, i := range u.subs[t] {
		if len(held[i][t]) > 0 && (most < 0 || load[i] > load[most]) {
			most = i
		}
		if least < 0 || load[i] < load[least] {
			least = i
		}
	}
	if most < 0 || load[most] < load[least]+2 {
		return false
	}
	ps := held[most][t]
	held[least][t] = append(held[least][t], ps[len(ps)-1])
	held[most][t] = ps[:len(ps)-1]
	load[most]--
	load[least]++
	return true
}

// byLoad is a heap of members, the one with the least on top.
type byLoad struct {
	u   *uniform
	who []int
}

func (h *byLoad) Len() int { return len(h.who) }
func (h *byLoad) Less(a, b int) bool {
	i, j := h.who[a], h.who[b]
	return cmp.Or(cmp.Compare(len(h.u.given[i]), len(h.u.given[j])), cmp.Compare(i, j)) < 0
}
func (h *byLoad) Swap(a, b int) { h.who[a], h.who[b] = h.who[b], h.who[a] }
func (h *byLoad) Push(x any)    { h.who = append(h.who, x.(int)) }
func (h *byLoad) Pop() any {
	x := h.who[len(h.who)-1]
	h.who = h.who[:len(h.who)-1]
	return x
}
