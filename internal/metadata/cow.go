package metadata

import (
	"hash/maphash"
	"iter"
)

// shardCount is how many parts a Map has: a change copies one part.
const shardCount = 256

// Map is an immutable map from which changed copies are made cheaply. The zero Map is empty.
type Map[K comparable, V any] struct {
	shards *[shardCount]map[K]V
	n      int
	seed   maphash.Seed
}

// Len is the number of keys.
func (m Map[K, V]) Len() int { return m.n }

func (m Map[K, V]) shard(k K) uint8 { return uint8(maphash.Comparable(m.seed, k)) }

// Get finds k.
func (m Map[K, V]) Get(k K) (v V, ok bool) {
	if m.n == 0 {
		return v, false
	}
	v, ok = m.shards[m.shard(k)][k]
	return v, ok
}

// All walks the map in no particular order.
func (m Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if m.shards == nil {
			return
		}
		for _, s := range m.shards {
			for k, v := range s {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// editor changes a copy of a Map. The Map that it started from stays as it was.
type editor[K comparable, V any] struct {
	m     Map[K, V]
	owned *[shardCount]bool // nil until the first change
}

func edit[K comparable, V any](m Map[K, V]) editor[K, V] { return editor[K, V]{m: m} }

func (e *editor[K, V]) own(k K) map[K]V {
	if e.owned == nil {
		e.owned = new([shardCount]bool)
		shards := new([shardCount]map[K]V)
		if e.m.shards != nil {
			*shards = *e.m.shards
		} else {
			e.m.seed = maphash.MakeSeed()
		}
		e.m.shards = shards
	}
	i := e.m.shard(k)
	if !e.owned[i] {
		e.owned[i] = true
		old := e.m.shards[i]
		fresh := make(map[K]V, len(old)+1)
		for k, v := range old {
			fresh[k] = v
		}
		e.m.shards[i] = fresh
	}
	return e.m.shards[i]
}

func (e *editor[K, V]) set(k K, v V) {
	s := e.own(k)
	before := len(s)
	s[k] = v
	e.m.n += len(s) - before
}

func (e *editor[K, V]) delete(k K) {
	if _, ok := e.m.Get(k); !ok {
		return
	}
	s := e.own(k)
	delete(s, k)
	e.m.n--
}

// freeze gives the map as it is now; later changes copy again.
func (e *editor[K, V]) freeze() Map[K, V] {
	e.owned = nil
	return e.m
}
