package check

import "sort"

// runs maps numbers to (tag, number) where neighbours mostly map to neighbours: what a log of one writer looks like. It costs
// memory for each break, not for each number.
type runs struct {
	r []run
}

type run struct {
	key, n int64
	tag    int32
	val    int64
}

// find is the index of the first run that ends after key.
func (m *runs) find(key int64) int {
	if n := len(m.r); n > 0 && m.r[n-1].key <= key { // histories mostly go forward
		if key < m.r[n-1].key+m.r[n-1].n {
			return n - 1
		}
		return n
	}
	return sort.Search(len(m.r), func(i int) bool { return key < m.r[i].key+m.r[i].n })
}

// get returns what key maps to.
func (m *runs) get(key int64) (tag int32, val int64, ok bool) {
	i := m.find(key)
	if i == len(m.r) || m.r[i].key > key {
		return 0, 0, false
	}
	return m.r[i].tag, m.r[i].val + key - m.r[i].key, true
}

// put maps key unless it is mapped already; then it returns what it maps to.
func (m *runs) put(key int64, tag int32, val int64) (oldTag int32, oldVal int64, taken bool) {
	i := m.find(key)
	if i < len(m.r) && m.r[i].key <= key {
		return m.r[i].tag, m.r[i].val + key - m.r[i].key, true
	}
	after := i < len(m.r) && m.r[i].key == key+1 && m.r[i].tag == tag && m.r[i].val == val+1
	before := i > 0 && m.r[i-1].key+m.r[i-1].n == key && m.r[i-1].tag == tag && m.r[i-1].val+m.r[i-1].n == val
	switch {
	case before && after:
		m.r[i-1].n += 1 + m.r[i].n
		m.r = append(m.r[:i], m.r[i+1:]...)
	case before:
		m.r[i-1].n++
	case after:
		m.r[i].key, m.r[i].val, m.r[i].n = key, val, m.r[i].n+1
	default:
		m.r = append(m.r, run{})
		copy(m.r[i+1:], m.r[i:])
		m.r[i] = run{key: key, n: 1, tag: tag, val: val}
	}
	return 0, 0, false
}

// each calls fn for every key in order.
func (m *runs) each(fn func(key int64, tag int32, val int64)) {
	for _, r := range m.r {
		for i := range r.n {
			fn(r.key+i, r.tag, r.val+i)
		}
	}
}

func (m *runs) len() (n int64) {
	for _, r := range m.r {
		n += r.n
	}
	return n
}
