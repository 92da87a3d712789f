package network

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/ottla/ottla/internal/clock"
)

const (
	logBurst  = 10
	logWindow = 10 * time.Second
)

// limitedLog writes at most logBurst lines of one reason within logWindow, and says how many it left out: clients that
// are refused come back at once, and a log that they can fill is a fault of its own.
type limitedLog struct {
	log *slog.Logger
	clk clock.Clock

	mu    sync.Mutex
	since [reasons]time.Time
	lines [reasons]int
}

func newLimitedLog(l *slog.Logger, clk clock.Clock) *limitedLog { return &limitedLog{log: l, clk: clk} }

// allow says whether a line is to be written now; the caller then writes it.
func (l *limitedLog) allow(level slog.Level, why reason) bool {
	if !l.log.Enabled(context.Background(), level) {
		return false
	}
	now := l.clk.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since[why].IsZero() || now.Sub(l.since[why]) >= logWindow {
		return true
	}
	if l.lines[why] < logBurst {
		return true
	}
	l.lines[why]++
	return false
}

// write writes a line that was allowed.
func (l *limitedLog) write(level slog.Level, why reason, msg string, attrs ...any) {
	now := l.clk.Now()
	l.mu.Lock()
	if left := l.lines[why] - logBurst; now.Sub(l.since[why]) >= logWindow {
		if left > 0 {
			attrs = append(attrs, "left_out_before", left)
		}
		l.since[why], l.lines[why] = now, 0
	}
	l.lines[why]++
	l.mu.Unlock()
	l.log.Log(context.Background(), level, msg, attrs...)
}
