package share

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/ottla/ottla/internal/wire/schema"
)

// Partition is one partition of a topic.
type Partition struct {
	Topic schema.UUID
	Index int32
}

func (p Partition) compare(o Partition) int {
	return cmp.Or(bytes.Compare(p.Topic[:], o.Topic[:]), cmp.Compare(p.Index, o.Index))
}

// Partitions are a set of partitions.
type Partitions map[Partition]bool

func (ps Partitions) sorted() []Partition {
	return slices.SortedFunc(maps.Keys(ps), Partition.compare)
}

// byTopic calls f for every topic of the set in order, with its partitions in order.
func (ps Partitions) byTopic(f func(topic schema.UUID, indexes []int32)) {
	list := ps.sorted()
	for i := 0; i < len(list); {
		var indexes []int32
		t := list[i].Topic
		for ; i < len(list) && list[i].Topic == t; i++ {
			indexes = append(indexes, list[i].Index)
		}
		f(t, indexes)
	}
}

// assignSimple spreads partitions over the members that read their topics. Every partition has at least one reader, and every
// member something to read: where members are many, several read a partition. reads gives the members of a topic in order; had
// is what members have now, which they keep as far as the spread stays even.
func assignSimple(all []Partition, reads map[schema.UUID][]string, had map[string]Partitions) map[string]Partitions {
	out := map[string]Partitions{}
	// Topics with the same readers are one pool.
	pools := map[string][]Partition{}
	for _, p := range all {
		if ms := reads[p.Topic]; len(ms) > 0 {
			k := strings.Join(ms, "\x00")
			pools[k] = append(pools[k], p)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(pools)) {
		pool := pools[k]
		assignPool(pool, reads[pool[0].Topic], had, out)
	}
	return out
}

func assignPool(pool []Partition, members []string, had, out map[string]Partitions) {
	slots := max(len(pool), len(members)) // readers of all partitions together
	count, quota := map[string]int{}, map[string]int{}
	readers := map[Partition]int{}
	wanted := map[Partition]int{}
	for i, p := range pool {
		wanted[p] = share(slots, len(pool), i)
	}
	// Those who have most keep most, so that the least moves.
	order := slices.Clone(members)
	kept := map[string]int{}
	for _, m := range members {
		for _, p := range pool {
			if had[m][p] {
				kept[m]++
			}
		}
	}
	slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(kept[b], kept[a]) })
	for i, m := range order {
		quota[m] = share(slots, len(members), i)
		if out[m] == nil {
			out[m] = Partitions{}
		}
	}
	give := func(m string, p Partition) {
		out[m][p] = true
		count[m]++
		readers[p]++
	}
	for _, m := range members {
		for _, p := range pool {
			if had[m][p] && count[m] < quota[m] && readers[p] < wanted[p] {
				give(m, p)
			}
		}
	}
	next := 0
	for _, p := range pool {
		for tried := 0; readers[p] < wanted[p] && tried < len(members); next, tried = next+1, tried+1 {
			if m := members[next%len(members)]; count[m] < quota[m] && !out[m][p] {
				give(m, p)
			}
		}
	}
	// A member whose free place is at a partition that it reads already takes part in another.
	for _, m := range members {
		for i := 0; count[m] == 0 && i < len(pool); i++ {
			give(m, pool[i])
		}
	}
	for _, p := range pool {
		if readers[p] == 0 {
			give(slices.MinFunc(members, func(a, b string) int { return cmp.Compare(count[a], count[b]) }), p)
		}
	}
}

// share is the i-th of parts that slots fall into as evenly as they can.
func share(slots, parts, i int) int {
	n := slots / parts
	if i < slots%parts {
		n++
	}
	return n
}
