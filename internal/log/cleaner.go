package log

import (
	"context"
	"crypto/md5" // fingerprints of keys, as in Kafka; nothing secret
	"math"
	"path"
	"time"
)

// Compaction keeps, of every key, the last record. A pass over a log
//
//  1. takes the sealed segments that lie wholly below the last stable offset and are old enough, syncs them, and reads the part that no
//     pass has seen yet (the dirty part) into a map from key to last offset;
//  2. writes the segments from the log start up to there anew without the records that the map supersedes, without those of aborted
//     transactions and without tombstones past their time; neighbours that fit into one segment become one;
//  3. puts the new segment in the old ones' place (see cleaner_swap.go), and notes in cleaner-offset-checkpoint up to where the log is
//     clean.
//
// Offsets never change, batches that lose nothing are copied as they are, and the last batch of a producer stays even if empty, so that
// its sequence numbers are known. The marker of a transaction of which no record is left stays for delete.retention.ms, for readers
// that have seen its beginning, and then goes too.
const (
	cleanerOffsetFile = "cleaner-offset-checkpoint"

	// cleanerEntryBytes is about what a key takes in the map.
	cleanerEntryBytes = 64
)

// CleanerOptions bound the work of compaction.
type CleanerOptions struct {
	Disabled       bool
	Backoff        time.Duration // log.cleaner.backoff.ms; 15 s
	MapBytes       int64         // log.cleaner.dedupe.buffer.size; 128 MiB. Taken as needed
	BytesPerSecond float64       // log.cleaner.io.max.bytes.per.second; 0 is no bound
}

func (o CleanerOptions) withDefaults() CleanerOptions {
	def(&o.Backoff, 15*time.Second)
	def(&o.MapBytes, 128<<20)
	return o
}

// cleaner cleans the compacted logs of a manager, one at a time.
type cleaner struct {
	m      *Manager
	o      CleanerOptions
	clean  map[TopicPartition]int64 // first offset that no pass has seen
	failed map[*Log]bool            // met damage: left alone until the restart
	budget time.Time                // when the bytes read and written so far are paid for
}

// cleaning is the cleaner's goroutine.
func (m *Manager) cleaning(ctx context.Context) {
	c := &cleaner{m: m, o: m.o.Cleaner, clean: map[TopicPartition]int64{}, failed: map[*Log]bool{}}
	for _, d := range m.dirs {
		if b, err := readFile(m.o.FS, path.Join(d.path, cleanerOffsetFile), maxCheckpointBytes); err == nil {
			if at, err := parseOffsets(b); err == nil {
				for tp, o := range at {
					c.clean[tp] = o
				}
			}
		}
	}
	t := m.o.Clock.NewTimer(c.o.Backoff)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C():
		}
		if m.o.CleanerNow != nil {
			c.o = m.o.CleanerNow().withDefaults()
		}
		for _, l := range m.open() {
			if ctx.Err() != nil {
				return
			}
			if l.cfg.Load().Compact && !c.failed[l] && !l.isUnborn.Load() {
				c.consider(ctx, l)
			}
		}
		t.Reset(c.o.Backoff)
	}
}

// consider cleans a log that is dirty enough.
func (c *cleaner) consider(ctx context.Context, l *Log) {
	segs, end := c.cleanable(l)
	if end == 0 {
		return
	}
	dirty := max(c.clean[l.tp], l.LogStartOffset())
	if dirty > end {
		dirty = l.LogStartOffset() // the log was emptied since
	}
	if !c.worth(l, segs, dirty) {
		return
	}
	if err := c.pass(ctx, l, segs, dirty); err != nil {
		if ctx.Err() == nil {
			c.failed[l] = true
			c.m.o.Logger.Error("a log could not be compacted and is left as it is until the broker restarts", "partition", l.tp.String(), "error", err)
		}
	}
}

// cleanable are the segments that a pass may touch, and where they end.
func (c *cleaner) cleanable(l *Log) (segs []*segment, end int64) {
	all := *l.segs.Load()
	cfg := l.cfg.Load()
	stable := l.LastStable().Offset
	now := c.m.o.Clock.Now().UnixMilli()
	for i, s := range all[:len(all)-1] {
		next := all[i+1].base
		if next > stable || cfg.MinCompactionLagMs > 0 && s.maxTs.Load() > now-cfg.MinCompactionLagMs {
			break
		}
		segs, end = append(segs, s), next
	}
	return segs, end
}

// worth says whether the dirty part is large enough against the whole, or too old to wait (max.compaction.lag.ms).
func (c *cleaner) worth(l *Log, segs []*segment, dirty int64) bool {
	cfg := l.cfg.Load()
	var total, unseen int64
	oldest := int64(-1)
	for _, s := range segs {
		total += s.size.Load()
		if s.last.Load() >= dirty {
			unseen += s.size.Load()
			if oldest < 0 {
				oldest = s.firstTs.Load()
			}
		}
	}
	if total == 0 {
		return false
	}
	now := c.m.o.Clock.Now().UnixMilli()
	if unseen == 0 {
		return c.tombstonesDue(l, segs, now)
	}
	return float64(unseen)/float64(total) >= cfg.MinCleanableDirtyRatio || oldest >= 0 && now-oldest > cfg.MaxCompactionLagMs
}

// tombstonesDue says whether a clean log holds tombstones whose time is over.
func (c *cleaner) tombstonesDue(l *Log, segs []*segment, now int64) bool {
	for _, s := range segs {
		if h := s.horizon.Load(); h > 0 && h <= now {
			return true
		}
	}
	return false
}

// pass cleans the segments. dirty is the first offset that no pass has seen.
func (c *cleaner) pass(ctx context.Context, l *Log, segs []*segment, dirty int64) error {
	last := segs[len(segs)-1]
	end := last.last.Load() + 1
	if err := l.syncTo(OffsetMeta{Offset: end, SegmentBase: last.base, Position: last.size.Load()}); err != nil {
		return l.fail(err)
	}
	// A replay of the journal writes at positions that the cleaned files no longer have: the point must say that it need not.
	if err := c.m.writePoints(l.dir.Load(), true); err != nil {
		return err
	}
	p := &cleaningPass{c: c, ctx: ctx, l: l, now: c.m.o.Clock.Now().UnixMilli(), latest: map[[md5.Size]byte]int64{}, live: map[int64]bool{}, end: end}
	p.producerLast, p.markerLast = l.lastOffsets()
	for _, s := range *l.segs.Load() { // the end of a transaction may stand behind what is cleaned
		entries, err := s.txn.list()
		if err != nil {
			return err
		}
		p.aborted = append(p.aborted, entries...)
	}
	for _, s := range segs {
		if s.last.Load() < dirty {
			continue
		}
		if err := p.index(s, dirty); err != nil {
			return err
		}
		if p.full {
			break
		}
	}
	var before, after int64
	for _, group := range groups(l.cfg.Load(), segs, p.end) {
		b, a, err := p.rewrite(group)
		if err != nil {
			return err
		}
		before, after = before+b, after+a
	}
	c.clean[l.tp] = p.end
	c.m.o.Logger.Debug("compacted", "partition", l.tp.String(), "up_to", p.end, "bytes_before", before, "bytes_after", after)
	return c.checkpoint(l.dir.Load())
}

// groups puts neighbours together whose segments fit into one.
func groups(cfg *Config, segs []*segment, end int64) (out [][]*segment) {
	var bytes int64
	for _, s := range segs {
		if s.base >= end {
			break
		}
		n := len(out)
		bytes += s.size.Load()
		if n == 0 || bytes > cfg.SegmentBytes || s.last.Load()-out[n-1][0].base > math.MaxInt32 {
			out, bytes = append(out, []*segment{s}), s.size.Load()
			continue
		}
		out[n-1] = append(out[n-1], s)
	}
	return out
}

// checkpoint writes how far the logs of a dir are clean.
func (c *cleaner) checkpoint(d *dir) error {
	var lines []offsetLine
	for _, l := range c.m.open() {
		if o, ok := c.clean[l.tp]; ok && l.dir.Load() == d {
			lines = append(lines, offsetLine{l.tp, o})
		}
	}
	return writeFile(c.m.o.FS, path.Join(d.path, cleanerOffsetFile), appendOffsets(nil, lines), true)
}

// throttle waits until n more bytes of work are allowed.
func (c *cleaner) throttle(ctx context.Context, n int64) error {
	if c.o.BytesPerSecond <= 0 {
		return ctx.Err()
	}
	now := c.m.o.Clock.Now()
	if c.budget.Before(now) {
		c.budget = now
	}
	c.budget = c.budget.Add(time.Duration(float64(n) / c.o.BytesPerSecond * float64(time.Second)))
	wait := c.budget.Sub(now)
	if wait < 10*time.Millisecond {
		return ctx.Err()
	}
	t := c.m.o.Clock.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C():
		return nil
	}
}

// lastOffsets is each producer's last data batch's last offset, and the epoch of those that are known by a marker only.
func (l *Log) lastOffsets() (data map[int64]int64, markers map[int64]int16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	data, markers = map[int64]int64{}, map[int64]int16{}
	for id, p := range l.producers.byID {
		if n := len(p.batches); n > 0 {
			data[id] = p.batches[n-1].lastOffset
		} else {
			markers[id] = p.epoch
		}
	}
	return data, markers
}
