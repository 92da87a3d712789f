package share

import "slices"

// With KeyOrder every undecided record in flight stands in a run of its own with the hash of its key. A record may be leased
// when no undecided record before it has its key. Two keys of one hash only wait for each other without need.

// nextByKey is Next under KeyOrder: the first record that may go, or whose key is not known.
func (p *Partition) nextByKey(now int64) (from, upTo int64, ok bool) {
	upTo = p.start + int64(p.s.MaxLocks) - 1
	busy := map[uint64]bool{}
	for i := range p.runs {
		r := &p.runs[i]
		if r.over() {
			continue
		}
		if !r.keyed || p.free(r, now) && (r.null || !busy[r.key]) {
			if r.state == Available && r.settled() {
				return r.first, upTo, true
			}
		}
		busy[r.key] = busy[r.key] || r.keyed && !r.null
	}
	if p.room() == 0 {
		return 0, 0, false
	}
	return p.end, upTo, true
}

// acquireByKey is Acquire under KeyOrder.
func (p *Partition) acquireByKey(r *Request) []Lease {
	p.learn(r)
	t := taking{p: p, r: r, left: r.MaxRecords, limit: -1}
	busy := map[uint64]bool{}
	for i := 0; i < len(p.runs) && t.left > 0 && !t.alone; i++ {
		x := &p.runs[i]
		if x.over() {
			continue
		}
		if !x.keyed {
			break // what follows it may be of its key
		}
		if x.first >= r.From && x.last <= r.UpTo && p.free(x, r.Now) && (x.null || !busy[x.key]) {
			if _, ok := t.share(x); !ok {
				break
			}
			t.lease(x)
		}
		busy[x.key] = busy[x.key] || !x.null
	}
	p.tidy()
	return t.leases
}

// learn gives every available record of the range read a run of its own with its key, new ones too.
func (p *Partition) learn(r *Request) {
	for i := range r.Batches {
		b := &r.Batches[i]
		if b.First > p.end && p.room() > 0 {
			p.append(run{first: p.end, last: b.First - 1, state: Archived})
		}
		if b.Skip {
			if b.Last >= p.end && p.room() > 0 {
				p.append(run{first: p.end, last: b.Last, state: Archived})
			}
			continue
		}
		at := b.First
		for _, k := range b.Keys {
			p.learnOne(at, k.Offset-1, Key{}, false)
			p.learnOne(k.Offset, k.Offset, k, true)
			at = k.Offset + 1
		}
		p.learnOne(at, b.Last, Key{}, false)
	}
}

// learnOne learns of the offsets first to last: one record with key k, or none at all.
func (p *Partition) learnOne(first, last int64, k Key, exists bool) {
	first = max(first, p.start)
	if first > last {
		return
	}
	if first < p.end && !exists {
		p.closeGap(first, last)
		first = p.end
	}
	switch {
	case first > last:
	case first >= p.end:
		if p.room() <= 0 {
			return
		}
		if exists {
			p.append(run{first: first, last: last, state: Available, key: k.Hash, null: k.Null, keyed: true})
		} else {
			p.append(run{first: first, last: last, state: Archived})
		}
	default:
		i := p.find(first)
		if p.runs[i].keyed || p.runs[i].state != Available || !p.runs[i].settled() {
			return
		}
		from, _ := p.isolate(first, last)
		x := &p.runs[from]
		x.key, x.null, x.keyed = k.Hash, k.Null, true
	}
}

// keys is for the tests: the holders of every leased key.
func (p *Partition) keys() map[uint64][]string {
	out := map[uint64][]string{}
	for i := range p.runs {
		if r := &p.runs[i]; r.state == Acquired && r.keyed && !r.null {
			out[r.key] = append(out[r.key], r.holder)
		}
	}
	for _, h := range out {
		slices.Sort(h)
	}
	return out
}
