package log

import (
	"context"
	"errors"
	"os"
	"time"
)

// The scrub reads what is stored and verifies its checksums, so that damage is known before a consumer or a new replica needs the bytes.
// Reads verify what an earlier run has written anyway, once; the scrub also finds what went bad since, and what nobody reads.
// It goes through the logs without end, spread over an interval, and starts at another log each time a broker starts.

// ScrubOptions bound the scrub.
type ScrubOptions struct {
	// Interval is the time in which everything is verified once; 0 is never. Asked before each log, so that it may change.
	Interval func() time.Duration
	// BytesPerSecond is the most that is read; asked as Interval is.
	BytesPerSecond func() int64
}

const (
	// scrubChunk is how much is verified before the scrub looks whether it is ahead of its pace.
	scrubChunk = 1 << 20
	// scrubPause is the pause between passes at least, and where there is nothing to do.
	scrubPause = time.Minute
	// scrubSlowest is the pace below which spreading a pass is not worth the while, bytes per second.
	scrubSlowest = 64 << 10
)

type scrub struct {
	m      *Manager
	o      ScrubOptions
	budget time.Time // when the bytes read so far are paid for
	known  map[*segment]bool
}

// scrubbing is the scrub's goroutine.
func (m *Manager) scrubbing(ctx context.Context) {
	s := &scrub{m: m, o: m.o.Scrub, known: map[*segment]bool{}}
	for {
		if err := s.wait(ctx, scrubPause); err != nil {
			return
		}
		if s.o.Interval() <= 0 {
			continue
		}
		logs := m.open()
		if len(logs) == 0 {
			continue
		}
		first := int(m.o.Clock.Now().UnixNano() % int64(len(logs)))
		s.pass(ctx, append(logs[first:len(logs):len(logs)], logs[:first]...))
	}
}

func (s *scrub) wait(ctx context.Context, d time.Duration) error {
	t := s.m.o.Clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C():
		return nil
	}
}

// pass verifies all logs once, at the pace that takes the interval.
func (s *scrub) pass(ctx context.Context, logs []*Log) {
	var total int64
	for _, l := range logs {
		total += l.Size()
	}
	began := s.m.o.Clock.Now()
	seen := map[*segment]bool{}
	for _, l := range logs {
		rate := total / max(int64(s.o.Interval()/time.Second), 1)
		rate = min(max(rate, scrubSlowest), s.o.BytesPerSecond())
		for _, seg := range *l.segs.Load() {
			if l.isUnborn.Load() || seg.size.Load() == 0 {
				continue
			}
			if s.known[seg] && !seg.mended.Swap(false) {
				seen[seg] = true // said once; it stays refused
				continue
			}
			damaged, err := s.segment(ctx, l, seg, rate)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil && !errors.Is(err, os.ErrClosed):
				s.m.o.Logger.Warn("a segment could not be verified; it is tried again in the next pass", "partition", l.tp.String(), "segment", segmentName(seg.base)+logSuffix, "error", err)
			case damaged:
				seen[seg] = true
			}
		}
	}
	s.known = seen
	if total > 0 {
		s.m.o.Logger.Info("stored records were verified", "partitions", len(logs), "bytes", total, "damaged_segments", len(seen), "took", s.m.o.Clock.Now().Sub(began))
	}
}

// segment verifies the part of a segment that the disk has: what is not synced yet cannot have gone bad on it.
func (s *scrub) segment(ctx context.Context, l *Log, seg *segment, rate int64) (damaged bool, err error) {
	for pos, limit := int64(0), l.durableIn(seg); pos < limit; {
		if err := s.pay(ctx, min(scrubChunk, limit-pos), rate); err != nil {
			return false, err
		}
		next, err := verifyChunk(seg, pos, limit)
		if errors.Is(err, os.ErrClosed) || noFiles(err) {
			return false, err
		}
		if limit = min(limit, l.durableIn(seg)); err != nil && next < limit {
			seg.distrust()
			_ = l.unreadable(seg, next, seg.base, err) // says it and counts it
			return true, nil
		}
		s.m.metrics.scrubbed.Add(float64(next - pos))
		pos = max(next, pos+1)
	}
	return false, nil
}

// verifyChunk verifies whole batches from pos on, at least one, and says where the next begins; the error says what is wrong there.
func verifyChunk(seg *segment, pos, limit int64) (next int64, err error) {
	f, err := seg.log.acquire()
	if err != nil {
		return pos, err
	}
	defer seg.log.release()
	next, err = verify(f, pos, min(pos+scrubChunk, limit))
	if err == nil && next == pos {
		// The batch is larger than a chunk, or its size is what is damaged.
		if next, err = verify(f, pos, limit); err == nil && next == pos {
			err = errNotWhole
		}
	}
	return next, err
}

// pay waits until n more bytes fit the rate.
func (s *scrub) pay(ctx context.Context, n, rate int64) error {
	now := s.m.o.Clock.Now()
	if s.budget.Before(now) {
		s.budget = now
	}
	s.budget = s.budget.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	if ahead := s.budget.Sub(now); ahead > 0 {
		return s.wait(ctx, ahead)
	}
	return ctx.Err()
}

// durableIn is how many bytes of a segment are durable in it.
func (l *Log) durableIn(s *segment) int64 {
	l.opMu.Lock()
	defer l.opMu.Unlock()
	return min(s.synced, s.size.Load())
}
