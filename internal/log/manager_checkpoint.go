package log

import (
	"context"
	"path"
	"sort"
	"time"
)

// Dirty logs are synced when they hold this much that the disk has not, or for this long, or when the journal asks.
const (
	checkpointBytes = 32 << 20
	checkpointAge   = 5 * time.Second
)

// checkpoints syncs dirty logs, one after the other and never all at once, and writes the checkpoint files, until ctx ends.
func (m *Manager) checkpoints(ctx context.Context, d *dir) {
	tick := m.o.Clock.NewTimer(m.o.CheckpointInterval)
	defer tick.Stop()
	since := map[*Log]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C():
		}
		m.sweep(ctx, d, since)
		if d.failure.Load() != nil {
			return
		}
		if err := m.writePoints(d, false); noSpace(err) {
			d.full.Store(true) // the old files are whole; there will be room again
		} else if err != nil {
			m.offline(d, err)
			return
		}
		tick.Reset(m.o.CheckpointInterval)
	}
}

func (m *Manager) sweep(ctx context.Context, d *dir, since map[*Log]time.Time) {
	now := m.o.Clock.Now()
	for _, l := range m.open() {
		if ctx.Err() != nil {
			return
		}
		if l.dir.Load() != d {
			continue
		}
		dirty := l.dirtyBytes.Load()
		if dirty <= 0 && !l.asked.Load() {
			delete(since, l)
			continue
		}
		first, ok := since[l]
		if !ok {
			first = now
			since[l] = now
		}
		cfg := l.cfg.Load()
		due := l.asked.Load() || dirty >= checkpointBytes || now.Sub(first) >= checkpointAge
		switch cfg.Flush {
		case FlushInterval:
			due = l.asked.Load() || now.Sub(first) >= time.Duration(min(cfg.FlushMs, int64(time.Hour/time.Millisecond)))*time.Millisecond
		case FlushPageCache:
			due = l.asked.Load() // the kernel writes when it likes
		}
		// A finished segment is synced in any mode, so that a recovery has at most the active one to read.
		due = due || l.recoveryPoint.Load() < l.active().base
		if !due {
			continue
		}
		delete(since, l)
		if err := l.checkpoint(false); err != nil {
			return
		}
	}
}

// writePoints writes the checkpoint files that are not as they should be.
func (m *Manager) writePoints(d *dir, all bool) error {
	points, starts := d.pointsDirty.Swap(false), d.startsDirty.Swap(false)
	if !points && !starts && !all {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	err := m.writePointsLocked(d, points || all, starts || all)
	if err != nil {
		d.pointsDirty.Store(true)
		d.startsDirty.Store(true)
	}
	return err
}

// writePointsLocked is REQUIRES: d.mu.
func (m *Manager) writePointsLocked(d *dir, points, starts bool) error {
	if points {
		if err := m.writeOffsets(d, recoveryPointFile, func(l *Log) int64 { return l.recoveryPoint.Load() }, func(p *pointsOf) int64 { return p.recovery }); err != nil {
			return err
		}
		if err := m.writeOffsets(d, highWatermarkFile, func(l *Log) int64 { return l.HighWatermark().Offset }, func(p *pointsOf) int64 { return p.hw }); err != nil {
			return err
		}
	}
	if starts {
		if err := m.writeOffsets(d, logStartFile, (*Log).LogStartOffset, func(p *pointsOf) int64 { return p.start }); err != nil {
			return err
		}
	}
	if points && starts {
		clear(d.stale)
	}
	return nil
}

// writeStarts writes the log start offsets at once: somebody was told that records are gone.
func (m *Manager) writeStarts(d *dir) error {
	d.startsDirty.Store(false)
	d.mu.Lock()
	defer d.mu.Unlock()
	err := m.writePointsLocked(d, false, true)
	if err != nil {
		d.startsDirty.Store(true)
	}
	return err
}

// forgetPoints sees to it that the checkpoint files hold nothing of an earlier topic of that name, whose offsets would be taken for
// the new one's after a crash.
func (m *Manager) forgetPoints(d *dir, tp TopicPartition) error {
	d.mu.Lock()
	stale := d.stale[tp]
	d.mu.Unlock()
	if !stale {
		return nil
	}
	return m.writePoints(d, true)
}

type pointsOf = points

// writeOffsets writes one checkpoint file: what open logs say, and for the others what the last run said. REQUIRES: d.mu.
func (m *Manager) writeOffsets(d *dir, name string, open func(l *Log) int64, closed func(p *pointsOf) int64) error {
	var lines []offsetLine
	seen := map[TopicPartition]bool{}
	for _, l := range m.open() {
		if l.dir.Load() == d {
			seen[l.tp] = true
			if v := open(l); v > 0 || name != logStartFile {
				lines = append(lines, offsetLine{l.tp, v})
			}
		}
	}
	for tp, p := range d.points {
		if v := closed(&p); !seen[tp] && v > 0 {
			lines = append(lines, offsetLine{tp, v})
		}
	}
	sort.Slice(lines, func(i, j int) bool {
		a, b := lines[i].tp, lines[j].tp
		return a.Topic < b.Topic || a.Topic == b.Topic && a.Partition < b.Partition
	})
	return writeFile(m.o.FS, path.Join(d.path, name), appendOffsets(nil, lines), true)
}

// writeClean ends a clean close: all checkpoint files, then the marker.
func (m *Manager) writeClean(d *dir) error {
	if err := m.writePoints(d, true); err != nil {
		return err
	}
	if tp, ok := m.unrecovered(d); ok {
		m.o.Logger.Info("partitions were not recovered in this run; the next start does it, for all of the log dir", "dir", d.path, "one_of_them", tp.String())
		return nil
	}
	return writeFile(m.o.FS, path.Join(d.path, cleanShutdownFile), []byte(`{"version":0,"brokerEpoch":-1}`), true)
}

// unrecovered finds a partition that the last run may have left with a torn end and that nobody has opened since: the marker of a
// clean close would have the next start believe it.
func (m *Manager) unrecovered(d *dir) (TopicPartition, bool) {
	if d.clean {
		return TopicPartition{}, false
	}
	opened := map[TopicPartition]bool{}
	for _, l := range m.open() {
		opened[l.tp] = true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for tp := range d.existing {
		if !opened[tp] {
			return tp, true
		}
	}
	return TopicPartition{}, false
}
