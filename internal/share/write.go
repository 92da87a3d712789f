package share

// DeadLetter is a range of records that has to be copied to the dead-letter topic; DeadLettered ends its way.
type DeadLetter struct {
	First, Last int64
	Count       int16
	Cause       Cause
}

// Gathering is the number of the write that will carry the changes made now.
func (p *Partition) Gathering() uint32 { return p.gen }

// Changed says that a write would carry something.
func (p *Partition) Changed() bool { return p.changed }

// Writing says that a write is under way.
func (p *Partition) Writing() bool { return p.writing != 0 }

// TakeWrite gives the changes gathered so far as one write and its number, and begins to gather the next. ok is false where there is
// nothing to write or a write is under way. Epochs are the caller's to fill in.
func (p *Partition) TakeWrite() (w StateWrite, gen uint32, ok bool) {
	if p.writing != 0 || !p.changed {
		return w, 0, false
	}
	gen = p.gen
	p.writing, p.changed = gen, false
	if p.gen++; p.gen == 0 {
		p.gen = 1
	}
	decided := func(r *run) bool { return r.state.Terminal() && (r.gen == 0 || r.gen == gen) }
	w.StartOffset = p.start
	i := 0
	for i < len(p.runs) && decided(&p.runs[i]) {
		w.StartOffset = p.runs[i].last + 1
		p.runs[i].dirty = false
		i++
	}
	for ; i < len(p.runs); i++ {
		r := &p.runs[i]
		if decided(r) {
			w.DeliveryCompleteCount += int32(r.last - r.first + 1)
		}
		if r.gen != gen && !r.dirty {
			continue
		}
		b := StateBatch{FirstOffset: r.first, LastOffset: r.last, DeliveryState: r.state, DeliveryCount: r.count}
		if r.state == Acquired { // its lease ran out and it was leased again before this write
			b.DeliveryState, b.DeliveryCount = Available, r.count-1
		}
		r.dirty = false
		w.add(b)
	}
	return w, gen, true
}

// add adds a batch behind the others, joined to the last where that says the same.
func (w *StateWrite) add(b StateBatch) {
	if n := len(w.Batches); n > 0 {
		l := &w.Batches[n-1]
		if l.LastOffset+1 == b.FirstOffset && l.DeliveryState == b.DeliveryState && l.DeliveryCount == b.DeliveryCount {
			l.LastOffset = b.LastOffset
			return
		}
	}
	w.Batches = append(w.Batches, b)
}

// WriteDone ends the write under way: its changes count from now on, or are undone. started is the start that was written.
// It gives the dead letters that may go out now.
func (p *Partition) WriteDone(ok bool, started int64) []DeadLetter {
	gen := p.writing
	p.writing = 0
	if ok {
		p.persisted = max(p.persisted, started)
	}
	for i := range p.runs {
		r := &p.runs[i]
		if r.gen != gen {
			continue
		}
		r.gen = 0
		if !ok && r.was != (before{}) { // what nobody waits for has nothing to go back to
			r.state, r.holder, r.until, r.cause = r.was.state, r.was.holder, r.was.until, NoCause
		}
		r.was = before{}
		if r.state == Archiving {
			p.letters = append(p.letters, DeadLetter{First: r.first, Last: r.last, Count: r.count, Cause: r.cause})
		}
	}
	p.tidy()
	return p.TakeLetters()
}

// TakeLetters gives the dead letters that have not been given out.
func (p *Partition) TakeLetters() []DeadLetter {
	l := p.letters
	p.letters = nil
	return l
}

// DeadLettered archives records whose dead letters are written, or that nobody can write.
func (p *Partition) DeadLettered(first, last int64, now int64) {
	first = max(first, p.start)
	if first > last {
		return
	}
	from, to := p.isolate(first, last)
	for i := from; i < to; i++ {
		r := &p.runs[i]
		if r.state != Archiving || !r.settled() {
			continue
		}
		p.change(r, Archived, now)
		r.was = before{}
	}
	p.tidy()
}
