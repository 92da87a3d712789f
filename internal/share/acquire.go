package share

// Batch is one batch of the log that was read for a lease: the offsets it spans and whether its records are for readers.
type Batch struct {
	First, Last int64
	Skip        bool // a control batch, or of an aborted transaction: nobody gets it
	// Keys are the records' keys, under KeyOrder only.
	Keys []Key
}

// Key is one record's key.
type Key struct {
	Offset int64
	Hash   uint64
	Null   bool
}

// Request asks for records.
type Request struct {
	Member     string
	Now        int64
	From       int64   // where the read began
	UpTo       int64   // the last offset that the read covered; offsets up to it that no batch spans do not exist
	Batches    []Batch // in offset order
	MaxRecords int
	BatchSize  int  // records after which a new range begins at the next batch, for the client's convenience
	Strict     bool // never more than MaxRecords, though a batch is cut (KIP-1206); otherwise whole batches
}

// Lease is a range of records that was given to a member.
type Lease struct {
	First, Last int64
	Count       int16
}

// Acquire leases records to a member.
func (p *Partition) Acquire(r *Request) []Lease {
	p.closeGaps(r)
	if p.s.KeyOrder {
		return p.acquireByKey(r)
	}
	t := taking{p: p, r: r, left: r.MaxRecords, limit: -1}
	t.again()
	if t.left > 0 && !t.alone {
		t.fresh()
	}
	p.tidy()
	return t.leases
}

// taking is one Acquire under way.
type taking struct {
	p      *Partition
	r      *Request
	batch  int // the batch that holds or follows where we are
	left   int
	leases []Lease
	limit  int64 // records that may still come while suspected ones are among them; -1: no bound
	alone  bool  // nothing may follow
}

// batchEnd is the last offset of the batch that holds offset.
func (t *taking) batchEnd(offset int64) int64 {
	for t.batch < len(t.r.Batches) && t.r.Batches[t.batch].Last < offset {
		t.batch++
	}
	if t.batch < len(t.r.Batches) {
		return max(t.r.Batches[t.batch].Last, offset)
	}
	return offset
}

// again leases what has come back.
func (t *taking) again() {
	p := t.p
	for i := p.find(t.r.From); i < len(p.runs) && t.left > 0 && !t.alone; i++ {
		if p.runs[i].first > t.r.UpTo {
			return
		}
		if !p.free(&p.runs[i], t.r.Now) {
			continue
		}
		last, ok := t.share(&p.runs[i])
		if !ok {
			return
		}
		first := max(p.runs[i].first, t.r.From)
		last = min(last, t.r.UpTo)
		if last < first {
			return
		}
		from, _ := p.isolate(first, last)
		i = from
		t.lease(&p.runs[i])
	}
}

// share decides how much of an available run may go. A record that has failed before may fail because it is bad; so that it
// takes few others with it, suspected records go in halves of halves, and alone at the last attempt (Kafka 4.4).
func (t *taking) share(r *run) (last int64, ok bool) {
	limit := t.p.s.DeliveryLimit
	suspect := max(2, (limit+1)/2)
	n := int64(t.left)
	if r.count >= suspect {
		if limit > 2 && r.count == limit-1 {
			if len(t.leases) > 0 {
				return 0, false
			}
			t.alone = true
			return r.first, true
		}
		if t.limit < 0 {
			t.limit = max(1, (r.last-r.first+1)>>(r.count-suspect+1))
		}
	}
	if t.limit >= 0 {
		if t.limit == 0 {
			return 0, false
		}
		n = min(n, t.limit)
		last = min(r.first+n-1, r.last)
		t.limit -= last - r.first + 1
		t.alone = t.limit == 0
		return last, true
	}
	last = r.first + n - 1
	if last >= r.last {
		return r.last, true
	}
	if !t.r.Strict {
		last = min(t.batchEnd(last), r.last)
	}
	return last, true
}

// lease gives a whole run to the member.
func (t *taking) lease(r *run) {
	r.state, r.holder, r.until, r.was = Acquired, t.r.Member, t.r.Now+t.p.s.LockMs, before{}
	r.count++
	t.left -= int(r.last - r.first + 1)
	t.tell(r.first, r.last, r.count)
}

// tell adds a range to the answer, cut where a batch ends and BatchSize is reached.
func (t *taking) tell(first, last int64, count int16) {
	if t.r.BatchSize <= 0 || last-first < int64(t.r.BatchSize) {
		t.leases = append(t.leases, Lease{first, last, count})
		return
	}
	for i := range t.r.Batches {
		b := &t.r.Batches[i]
		if b.Last < first {
			continue
		}
		if b.Last >= last {
			break
		}
		if b.Last-first+1 >= int64(t.r.BatchSize) {
			t.leases = append(t.leases, Lease{first, b.Last, count})
			first = b.Last + 1
		}
	}
	t.leases = append(t.leases, Lease{first, last, count})
}

// fresh leases records that nobody has had yet.
func (t *taking) fresh() {
	p := t.p
	room := p.room()
	if t.r.UpTo < p.end || room == 0 || len(t.leases) > 0 && t.limit >= 0 {
		return
	}
	n := min(int64(t.left), room)
	for i := range t.r.Batches {
		b := &t.r.Batches[i]
		if b.Last < p.end {
			continue
		}
		if b.First > p.end {
			p.append(run{first: p.end, last: b.First - 1, state: Archived})
		}
		if b.Skip {
			p.append(run{first: p.end, last: b.Last, state: Archived})
			continue
		}
		if n <= 0 {
			return
		}
		last := b.Last
		if t.r.Strict {
			last = min(last, p.end+n-1)
		}
		n -= last - p.end + 1
		p.append(run{first: p.end, last: last, state: Acquired, count: 1, holder: t.r.Member, until: t.r.Now + p.s.LockMs})
		t.left -= int(last - p.runs[len(p.runs)-1].first + 1)
		t.fresher(p.runs[len(p.runs)-1].first, last)
	}
}

// fresher adds a new range to the answer: to the one before where that has not reached BatchSize.
func (t *taking) fresher(first, last int64) {
	if n := len(t.leases); n > 0 {
		l := &t.leases[n-1]
		if l.Count == 1 && l.Last+1 == first && (t.r.BatchSize <= 0 || l.Last-l.First+1 < int64(t.r.BatchSize)) {
			l.Last = last
			return
		}
	}
	t.leases = append(t.leases, Lease{first, last, 1})
}

// append puts a run behind the others.
func (p *Partition) append(r run) {
	p.runs = append(p.runs, r)
	p.end = r.last + 1
}

// closeGaps archives available offsets in the range read that hold no record for anybody: compaction or DeleteRecords took them,
// or they are markers and aborted records. Nothing is written for that: reading finds it again.
func (p *Partition) closeGaps(r *Request) {
	at := max(r.From, p.start)
	for i := range r.Batches {
		b := &r.Batches[i]
		p.closeGap(at, b.First-1)
		if b.Skip {
			p.closeGap(max(at, b.First), b.Last)
		}
		at = max(at, b.Last+1)
	}
	p.closeGap(at, r.UpTo)
}

func (p *Partition) closeGap(first, last int64) {
	last = min(last, p.end-1)
	if first > last {
		return
	}
	for i := p.find(first); i < len(p.runs) && p.runs[i].first <= last; i++ {
		if p.runs[i].state != Available || !p.runs[i].settled() {
			continue
		}
		from, _ := p.isolate(max(first, p.runs[i].first), min(last, p.runs[i].last))
		i = from
		p.runs[i] = run{first: p.runs[i].first, last: p.runs[i].last, state: Archived, count: p.runs[i].count}
	}
}
