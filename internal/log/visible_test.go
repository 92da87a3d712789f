package log

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/vfs"
)

// setClock shows a time that the test sets; its timers are real.
type setClock struct {
	clock.Real
	ms atomic.Int64
}

func (c *setClock) Now() time.Time { return time.UnixMilli(c.ms.Load()) }

// If this fails, exact retention shows records past their time, hides younger ones, or works where it was not asked for.
func TestExactRetention(t *testing.T) {
	c := &setClock{}
	m := slowManagerAt(t, vfs.NewMem(), c, "/data")
	defer closeManager(t, m)
	cfg := DefaultConfig()
	cfg.RetentionMs = 1000
	l := open(t, m, 1, cfg)
	for _, ts := range []int64{5000, 5010, 4000, 6000} { // one is late
		b := record.NewBuilder(record.BuilderOptions{})
		b.Append(ts, nil, []byte("v"), nil)
		w := newWatch(l)
		if _, err := l.Append(b.Finish(), AppendOptions{Origin: Coordinator}); err != nil {
			t.Fatal(err)
		}
		if err := w.wait(l.LogEnd().Offset); err != nil {
			t.Fatal(err)
		}
	}
	look := func(now, from int64) int64 {
		t.Helper()
		c.ms.Store(now)
		at, err := l.Visible(from, l.HighWatermark())
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	if at := look(1<<40, 0); at != 0 {
		t.Fatalf("not asked for, and offset %d is the first that is seen", at)
	}
	cfg.RetentionExact = true
	l.UpdateConfig(cfg)
	for _, c := range []struct{ now, from, want int64 }{
		{5999, 0, 0}, {6000, 0, 0}, {6001, 0, 1}, {6010, 0, 1}, {6010, 2, 2}, {6011, 0, 3}, {6011, 3, 3}, {7000, 1, 3}, {7001, 0, 4}, {7001, 4, 4},
		{6000, 0, 0}, // the clock went back
	} {
		if at := look(c.now, c.from); at != c.want {
			t.Errorf("at %d a reader of %d begins at %d, not %d", c.now, c.from, at, c.want)
		}
	}
	if err := l.TruncateTo(1); err != nil {
		t.Fatal(err)
	}
	if at := look(6011, 0); at != 1 {
		t.Errorf("after the truncation a reader begins at %d", at)
	}
}
