package log

import "math"

// visibleFrom says that the first record whose time is at or after before stands at offset and has the time until: up to a cutoff of
// that, nothing changes.
type visibleFrom struct{ before, until, offset int64 }

// ExpiredBefore is the time, in milliseconds, of the oldest record that readers may see; math.MinInt64 where they see all that is there.
func (l *Log) ExpiredBefore() int64 {
	cfg := l.cfg.Load()
	if !cfg.RetentionExact || !cfg.Delete || cfg.RetentionMs < 0 {
		return math.MinInt64
	}
	return l.m.o.Clock.Now().UnixMilli() - cfg.RetentionMs
}

// Visible is where a consumer that wants from begins to read: with exact retention the first record that is young enough, where that is
// behind from. It is bound.Offset where there is none. Retention goes from the front of the log: a record too old behind a young one
// is seen, and followers see everything.
func (l *Log) Visible(from int64, bound OffsetMeta) (int64, error) {
	cutoff := l.ExpiredBefore()
	if cutoff == math.MinInt64 || from < l.LogStartOffset() || from >= bound.Offset {
		return from, nil
	}
	if v := l.visible.Load(); v != nil && v.before <= cutoff && cutoff <= v.until {
		return min(max(from, v.offset), bound.Offset), nil
	}
	found, ok, err := l.OffsetForTimestamp(cutoff, bound)
	if err != nil {
		return 0, err
	}
	if !ok {
		return bound.Offset, nil
	}
	l.visible.Store(&visibleFrom{before: cutoff, until: found.Timestamp, offset: found.Offset})
	return max(from, found.Offset), nil
}
