package log

import (
	"cmp"
	"errors"
	"runtime"
	"slices"
	"sync"
)

// groupCommitter makes the appends of one log dir durable.
//
// The naive way is a write and an fsync for each append: on two cores and a virtual disk that is some 5,000 a second, whatever
// their size. The next better way is to let the appends that came while an fsync ran share the next one (natural batching: no
// timer, no added wait). That still syncs every segment file that was touched, and with a hundred partitions a round has a
// hundred files. So small appends of all partitions go into one journal: one write, one wait for the disk, however many
// partitions. Their bytes stand in the segment files already, in the page cache; the kernel writes them when it likes, and the
// journal is only read after a crash. Large appends would be written twice that way, which costs more than syncing their one
// segment file; those go directly.
//
//	enqueue ── queue ── run: take all, group by log ──┬── small: frames into the journal, one write ──┬── notify: Log.onDurable
//	                                                  └── large: Log.syncTo, a few at a time ─────────┘
//
// What must hold:
//
//  1. A log is told of a durable end only when every byte of it below that end is in the journal or in its synced segment.
//     A log whose direct sync is under way is busy: what it appends meanwhile waits for the next round (deferred).
//  2. Ends come in order. Both ways end in one channel, which one goroutine empties.
//  3. A journal file is used again only when no log needs it: each file remembers how far every log in it has to be synced, and
//     only the oldest is ever recycled (see journal.go).
//  4. A sync of a segment makes all of it durable, journaled bytes before the direct ones too: so going direct is also a
//     checkpoint, and when no journal file is free everything may go direct. Nothing ever waits for a journal file.
//  5. After the first error nothing is written any more; everybody is told.
type groupCommitter struct {
	o committerOptions
	j *journal

	mu       sync.Mutex
	wake     sync.Cond // queue, closing, counts
	queue    []commitEntry
	spare    []commitEntry
	deferred []commitEntry // of busy logs, in order
	busy     map[*Log]bool
	counts   map[*Log]*counter
	err      error
	started  bool
	closing  bool
	old      []oldFile // of the last run, by sequence, until replayed
	left     bool      // the last run has left files

	// journalTurn is held by whoever writes to the journal: a round, or a marker. Never taken under mu.
	journalTurn sync.Mutex

	notify  chan notice
	directs chan struct{} // one token per direct sync that may run
	group   map[*Log]*round
	rounds  []*round
	running sync.WaitGroup
}

// counter counts a log's entries, so that drain knows what was there before it.
type counter struct{ enqueued, done uint64 }

// round is what one log has in a round.
type round struct {
	log     *Log
	entries []commitEntry
	bytes   int
	direct  bool
}

// notice is a log's new durable end, and how many entries it settles.
type notice struct {
	log     *Log
	end     OffsetMeta
	entries int
	direct  bool
}

// directSyncs is how many segment files are synced at once.
const directSyncs = 6

func newGroupCommitter(o committerOptions) *groupCommitter {
	c := &groupCommitter{
		o: o, j: newJournal(o.FS, o.Dir, o.JournalFiles, o.JournalFileBytes),
		busy: map[*Log]bool{}, counts: map[*Log]*counter{}, group: map[*Log]*round{},
		notify: make(chan notice, 1024), directs: make(chan struct{}, directSyncs),
	}
	c.wake.L = &c.mu
	return c
}

func (c *groupCommitter) replay(apply func(f *journalFrame) error) error {
	files, marks, err := c.j.readOld()
	if err != nil {
		return err
	}
	c.old, c.left = files, len(files) > 0
	return c.j.replayOld(files, marks, apply)
}

func (c *groupCommitter) replayed() {
	c.mu.Lock()
	old := c.old
	c.old = nil
	c.mu.Unlock()
	c.mu.Lock()
	surplus := len(old) + len(c.j.inUse) + len(c.j.free) - c.j.files
	c.mu.Unlock()
	for i, f := range old { // by sequence: the oldest go first, so that no marker goes before what it takes back
		if i < surplus {
			if err := c.o.FS.Remove(c.j.dir + "/" + f.name); err != nil {
				c.o.Logger.Warn("a journal file of the last run could not be removed; it is tried again at the next start", "file", f.name, "error", err)
			}
			continue
		}
		file, err := c.j.open(f.name)
		if err != nil {
			c.fail(err)
			return
		}
		file.sequence = f.sequence
		c.mu.Lock()
		c.j.free = append(c.j.free, file)
		slices.SortFunc(c.j.free, func(a, b *journalFile) int { return cmp.Compare(a.sequence, b.sequence) })
		c.mu.Unlock()
	}
}

func (c *groupCommitter) start() {
	c.mu.Lock()
	c.started = true
	c.mu.Unlock()
	c.running.Add(2)
	go func() { defer c.running.Done(); c.run() }()
	go func() { defer c.running.Done(); c.tell() }()
}

func (c *groupCommitter) enqueue(e commitEntry) {
	c.mu.Lock()
	n := c.counts[e.log]
	if n == nil {
		n = &counter{}
		c.counts[e.log] = n
	}
	n.enqueued++
	c.queue = append(c.queue, e)
	if len(c.queue) == 1 {
		c.wake.Broadcast()
	}
	c.mu.Unlock()
}

// run is the commit goroutine.
func (c *groupCommitter) run() {
	for {
		runtime.Gosched() // whoever is about to append does so first: fewer, larger writes. An idle broker loses nothing by it
		entries, ok := c.take()
		if !ok {
			return
		}
		begun := c.o.Clock.Now()
		c.round(entries)
		c.o.Metrics.rounds.Inc()
		c.o.Metrics.entries.Add(float64(len(entries)))
		c.o.Metrics.syncSeconds.Observe(c.o.Clock.Since(begun).Seconds())
		clear(entries)
		c.mu.Lock()
		c.spare = entries[:0]
		c.mu.Unlock()
	}
}

// take waits for entries of logs that are not busy; false when the committer is closed and nothing is left.
func (c *groupCommitter) take() ([]commitEntry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		var out []commitEntry
		if len(c.queue) > 0 {
			out, c.queue = c.queue, c.spare
			c.spare = nil
		}
		if len(c.deferred) > 0 {
			// Deferred entries are older than the queue's: they come first, for those logs that are free again.
			var still []commitEntry
			ready := make([]commitEntry, 0, len(c.deferred)+len(out))
			for _, e := range c.deferred {
				if c.busy[e.log] {
					still = append(still, e)
				} else {
					ready = append(ready, e)
				}
			}
			c.deferred = still
			out = append(ready, out...)
		}
		if len(c.busy) > 0 {
			kept := out[:0]
			for _, e := range out {
				if c.busy[e.log] {
					c.deferred = append(c.deferred, e)
				} else {
					kept = append(kept, e)
				}
			}
			out = kept
		}
		if len(out) > 0 {
			return out, true
		}
		if c.closing && len(c.deferred) == 0 && len(c.busy) == 0 && len(c.queue) == 0 {
			return nil, false
		}
		c.wake.Wait()
	}
}

// round commits what take gave.
func (c *groupCommitter) round(entries []commitEntry) {
	c.rounds = c.rounds[:0]
	for _, e := range entries {
		r := c.group[e.log]
		if r == nil {
			r = &round{log: e.log}
			c.group[e.log] = r
			c.rounds = append(c.rounds, r)
		}
		r.entries = append(r.entries, e)
		r.bytes += e.size
		r.direct = r.direct || e.direct || e.batches == nil
	}
	clear(c.group)
	if err := c.failed(); err != nil {
		for _, r := range c.rounds {
			c.refuse(r, err)
		}
		return
	}
	var small []*round
	for _, r := range c.rounds {
		if r.direct || r.bytes >= c.o.DirectThresholdBytes {
			c.goDirect(r)
		} else {
			small = append(small, r)
		}
	}
	c.journalAll(small)
}

// journalAll writes the rounds' frames, as many at once as fit.
func (c *groupCommitter) journalAll(rounds []*round) {
	if len(rounds) == 0 {
		return
	}
	c.journalTurn.Lock()
	defer c.journalTurn.Unlock()
	for len(rounds) > 0 {
		n, bytes := 0, 0
		for ; n < len(rounds); n++ {
			size := 0
			for i := range rounds[n].entries {
				size += frameSize(rounds[n].log.tp.Topic, len(rounds[n].entries[i].batches))
			}
			if n > 0 && bytes+size > journalBufferBytes {
				break
			}
			bytes += size
		}
		batch := rounds[:n]
		rounds = rounds[n:]
		file, err := c.room(int64(bytes) + blockSize)
		if err != nil {
			c.fail(err)
		}
		if bytes > journalBufferBytes || file == nil && err == nil {
			for _, r := range batch {
				c.goDirect(r)
			}
			continue
		}
		if err == nil {
			err = c.writeFrames(file, batch)
		}
		for _, r := range batch {
			if err != nil {
				c.refuse(r, err)
				continue
			}
			c.o.Metrics.journalBytes.Add(float64(r.bytes))
			c.notify <- notice{log: r.log, end: r.entries[len(r.entries)-1].end, entries: len(r.entries)}
		}
	}
}

func (c *groupCommitter) writeFrames(file *journalFile, rounds []*round) error {
	buf := c.j.buffer()
	c.mu.Lock()
	for _, r := range rounds {
		last := r.entries[len(r.entries)-1]
		r.log.journaled.Store(true)
		file.pending[r.log] = max(file.pending[r.log], last.end.Offset)
	}
	c.mu.Unlock()
	for _, r := range rounds {
		for i := range r.entries {
			e := &r.entries[i]
			buf = appendFrame(buf, frameData, file.sequence, &journalFrame{TopicPartition: r.log.tp, TopicID: r.log.topicID,
				SegmentBase: e.segmentBase, Pos: e.pos, First: e.first, Next: e.end.Offset, Payload: e.batches})
			release(e)
		}
	}
	if err := c.j.write(file, buf); err != nil {
		c.fail(err)
		return err
	}
	return nil
}

func release(e *commitEntry) {
	if e.owner != nil {
		e.owner.Release()
		e.owner, e.batches = nil, nil
	}
}

// room is a file with so many bytes left, nil where the ring is full.
func (c *groupCommitter) room(bytes int64) (*journalFile, error) {
	c.mu.Lock()
	if n := len(c.j.inUse); n > 0 && c.j.inUse[n-1].used+bytes <= c.j.fileBytes {
		f := c.j.inUse[n-1]
		c.mu.Unlock()
		return f, nil
	}
	c.recycle()
	var f *journalFile
	if len(c.j.free) > 0 {
		f, c.j.free = c.j.free[0], c.j.free[1:]
	}
	full := f == nil && len(c.j.inUse) >= c.j.files
	var behind []*Log
	if len(c.j.inUse) >= max(c.j.files/2, 1) {
		for l := range c.j.inUse[0].pending {
			behind = append(behind, l)
		}
	}
	c.mu.Unlock()
	for _, l := range behind {
		c.o.wantCheckpoint(l)
	}
	if full || bytes > c.j.fileBytes {
		return nil, nil
	}
	if f == nil {
		var err error
		if f, err = c.j.create(); noSpace(err) {
			return nil, nil // no room for a file is no failure of the disk: the segments are synced instead
		} else if err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	c.j.sequence++
	f.sequence, f.used = c.j.sequence, 0
	c.j.inUse = append(c.j.inUse, f)
	c.mu.Unlock()
	return f, nil
}

// recycle frees the oldest files that nobody needs. REQUIRES: c.mu.
func (c *groupCommitter) recycle() {
	for len(c.j.inUse) > 1 && len(c.j.inUse[0].pending) == 0 {
		c.j.free = append(c.j.free, c.j.inUse[0])
		c.j.inUse = c.j.inUse[1:]
	}
}

// goDirect syncs a log's segments on another goroutine; the log is busy until that is done.
func (c *groupCommitter) goDirect(r *round) {
	for i := range r.entries {
		release(&r.entries[i])
	}
	c.mu.Lock()
	c.busy[r.log] = true
	c.mu.Unlock()
	c.directs <- struct{}{}
	c.running.Add(1)
	go func() {
		defer c.running.Done()
		end := r.entries[len(r.entries)-1].end
		err := r.log.syncTo(end)
		<-c.directs
		if err != nil {
			c.fail(err)
			c.refuse(r, err)
		} else {
			c.o.Metrics.directBytes.Add(float64(r.bytes))
			c.checkpointed(r.log, end.Offset)
			c.notify <- notice{log: r.log, end: end, entries: len(r.entries), direct: true}
		}
		c.mu.Lock()
		delete(c.busy, r.log)
		c.wake.Broadcast()
		c.mu.Unlock()
	}()
}

// tell is the goroutine that tells logs what is durable, so that the next write is under way meanwhile.
func (c *groupCommitter) tell() {
	for n := range c.notify {
		n.log.onDurable(n.end)
		c.settle(n.log, n.entries)
	}
}

func (c *groupCommitter) settle(l *Log, entries int) {
	c.mu.Lock()
	if n := c.counts[l]; n != nil {
		n.done += uint64(entries)
		if n.done == n.enqueued {
			delete(c.counts, l)
		}
		c.wake.Broadcast()
	}
	c.mu.Unlock()
}

func (c *groupCommitter) refuse(r *round, err error) {
	for i := range r.entries {
		release(&r.entries[i])
	}
	r.log.onCommitError(err)
	c.settle(r.log, len(r.entries))
}

func (c *groupCommitter) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// fail takes the dir out of service, once.
func (c *groupCommitter) fail(err error) {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = err
	}
	c.wake.Broadcast()
	c.mu.Unlock()
	if first {
		c.o.onError(err)
	}
}

func (c *groupCommitter) drain(l *Log) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.counts[l]
	if n == nil {
		return c.err
	}
	upTo := n.enqueued
	for c.counts[l] == n && n.done < upTo {
		c.wake.Wait()
	}
	return c.err
}

func (c *groupCommitter) truncate(l *Log, to int64) error {
	err := c.mark(l, to)
	c.mu.Lock()
	for _, f := range c.j.inUse {
		if p, ok := f.pending[l]; ok {
			f.pending[l] = min(p, to) // the log may never be as long again
		}
	}
	c.mu.Unlock()
	return err
}

func (c *groupCommitter) drop(l *Log) error { return c.dropAll([]*Log{l}, nil) }

func (c *groupCommitter) dropAll(open []*Log, closed []truncation) error {
	var marks []truncation
	var err error
	for _, l := range open {
		if err = c.drain(l); err != nil {
			break
		}
		if l.journaled.Load() {
			marks = append(marks, truncation{l.tp, l.topicID, -1})
		}
	}
	c.mu.Lock()
	left := c.left
	c.mu.Unlock()
	if left {
		marks = append(marks, closed...)
	}
	if err == nil {
		err = c.writeMarks(marks)
	}
	c.mu.Lock()
	for _, f := range c.j.inUse {
		for _, l := range open {
			delete(f.pending, l)
		}
	}
	c.mu.Unlock()
	return err
}

// mark drains l and writes a truncate marker, where any frame of l may still be in the journal: in a file that is in use, or in one
// that is free or left by the last run and has not been written over.
func (c *groupCommitter) mark(l *Log, to int64) error {
	if err := c.drain(l); err != nil {
		return err
	}
	if !l.journaled.Load() {
		return nil
	}
	return c.writeMarks([]truncation{{l.tp, l.topicID, to}})
}

// truncation is a marker: nothing of the partition at or above to comes back from what stands before it in the journal.
type truncation struct {
	tp TopicPartition
	id [16]byte
	to int64
}

// markBytesMax bounds one write of markers: a few hundred of them, and well below the size of any journal file.
const markBytesMax = 64 << 10

func (c *groupCommitter) writeMarks(marks []truncation) error {
	c.journalTurn.Lock()
	defer c.journalTurn.Unlock()
	for len(marks) > 0 {
		if err := c.failed(); err != nil {
			return err
		}
		n, bytes := 0, 0
		for ; n < len(marks); n++ {
			size := frameSize(marks[n].tp.Topic, 0)
			if n > 0 && bytes+size > markBytesMax {
				break
			}
			bytes += size
		}
		if err := c.writeMarkFrames(marks[:n], bytes); err != nil {
			c.fail(err)
			return err
		}
		marks = marks[n:]
	}
	return nil
}

func (c *groupCommitter) writeMarkFrames(marks []truncation, bytes int) error {
	file, err := c.room(int64(bytes) + 2*blockSize)
	if err == nil && file == nil {
		err = c.extraFile(&file)
	}
	if err != nil {
		return err
	}
	buf := c.j.buffer()
	for _, m := range marks {
		buf = appendFrame(buf, frameTruncate, file.sequence, &journalFrame{TopicPartition: m.tp, TopicID: m.id, First: m.to})
	}
	return c.j.write(file, buf)
}

// extraFile adds a file beyond the ring's size: a marker cannot wait for room.
func (c *groupCommitter) extraFile(file **journalFile) error {
	f, err := c.j.create()
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.j.sequence++
	f.sequence = c.j.sequence
	c.j.inUse = append(c.j.inUse, f)
	c.mu.Unlock()
	*file = f
	return nil
}

func (c *groupCommitter) checkpointed(l *Log, upTo int64) {
	c.mu.Lock()
	for _, f := range c.j.inUse {
		if p, ok := f.pending[l]; ok && p <= upTo {
			delete(f.pending, l)
		}
	}
	c.recycle()
	c.mu.Unlock()
}

func (c *groupCommitter) close() error {
	c.mu.Lock()
	started := c.started
	c.closing = true
	c.wake.Broadcast()
	c.mu.Unlock()
	if started {
		c.waitIdle()
		close(c.notify)
		c.running.Wait()
	}
	var errs []error
	for _, f := range append(c.j.inUse, c.j.free...) {
		errs = append(errs, f.f.Close())
	}
	return errors.Join(append(errs, c.err)...)
}

// waitIdle returns when the run goroutine has nothing left and no direct sync is under way.
func (c *groupCommitter) waitIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue)+len(c.deferred)+len(c.busy)+len(c.counts) > 0 {
		c.wake.Wait()
	}
}

var _ committer = (*groupCommitter)(nil)
