package observer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/metadata"
)

// Log takes what is committed. An error ends the observer: this node cannot go on without its metadata.
type Log interface {
	// Apply takes the batch that follows the one before.
	Apply(c Commit) error
	// Install takes a snapshot in place of everything before its position.
	Install(img *metadata.Image) error
}

// Options say whom an observer follows, and for whom.
type Options struct {
	Node      int32 // this node, as the leader shall know it
	Directory [16]byte
	ClusterID string
	// Bootstrap are the addresses at which controllers are looked for while the leader is not known.
	Bootstrap []string
	// Ask sends a request and waits for its answer; the request says its version. It must end with ctx.
	Ask func(ctx context.Context, to Node, req kmsg.Request) (kmsg.Response, error)
	// Address finds the address of a node that an answer named without one; may be nil.
	Address func(node int32) string
	Log     Log
	// OnLeader is told who leads the log now, -1 for unknown; may be nil. It must not block.
	OnLeader func(node, epoch int32, addr string)
	Clock    clock.Clock
	Logger   *slog.Logger
	// MaxWait is how long the leader may keep a fetch open while nothing is committed; Patience what an answer may take beyond that.
	MaxWait, Patience time.Duration
	// Backoff is the wait after the first failure; it doubles up to MaxBackoff.
	Backoff, MaxBackoff time.Duration
}

// Observer follows the log.
type Observer struct {
	o    Options
	core *core
	seat int // of Bootstrap, whom to ask next

	mu     sync.Mutex
	leader Node
	epoch  int32
}

// New makes an observer that stands before offset next; epoch is that of the batch before it, 0 when there is none.
func New(o Options, next int64, epoch int32) *Observer {
	if o.Address == nil {
		o.Address = func(int32) string { return "" }
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&o.MaxWait, 500 * time.Millisecond}, {&o.Patience, 2 * time.Second}, {&o.Backoff, 20 * time.Millisecond}, {&o.MaxBackoff, time.Second}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	ob := &Observer{o: o, leader: Node{ID: -1}, epoch: -1}
	ob.core = newCore(&ob.o, next, epoch)
	return ob
}

// Leader is who leads the log as far as is known, with the id -1 while nobody is, and the epoch.
func (o *Observer) Leader() (Node, int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.leader, o.epoch
}

// Run follows until ctx ends, which is no error, or the Log refuses what is committed.
func (o *Observer) Run(ctx context.Context) error {
	backoff := o.o.Backoff
	told := false
	for ctx.Err() == nil {
		begun := o.o.Clock.Now()
		out, err := o.round(ctx)
		if err != nil {
			return err
		}
		o.announce()
		if out.progress {
			if told = false; out.idle && o.o.Clock.Since(begun) < o.o.MaxWait/4 { // a leader that does not keep fetches open
				o.pause(ctx, backoff)
			}
			backoff = o.o.Backoff
			continue
		}
		if ctx.Err() != nil {
			break
		}
		if out.err != nil {
			level := slog.LevelWarn
			switch {
			case errors.Is(out.err, ErrDiverged):
				level = slog.LevelError
			case told: // one failure leads to the next
				level = slog.LevelDebug
			}
			told = true
			o.o.Logger.Log(ctx, level, "the metadata log cannot be followed; it is tried again", "err", out.err)
		}
		o.pause(ctx, backoff)
		backoff = min(2*backoff, o.o.MaxBackoff)
	}
	return nil
}

// round is one request and its answer.
func (o *Observer) round(ctx context.Context) (outcome, error) {
	to := Node{o.core.leader, o.core.addr}
	if to.Addr == "" {
		if len(o.o.Bootstrap) == 0 {
			return outcome{err: errors.New("no controller's address is known")}, nil
		}
		to = Node{-1, o.o.Bootstrap[o.seat%len(o.o.Bootstrap)]}
		o.seat++
	}
	ask, cancel := context.WithTimeout(ctx, o.o.MaxWait+o.o.Patience)
	resp, err := o.o.Ask(ask, to, o.core.request())
	cancel()
	if err != nil {
		o.core.failed(to)
		return outcome{err: fmt.Errorf("node %d at %s: %w", to.ID, to.Addr, err)}, nil
	}
	out := o.core.answer(to, resp)
	if out.err != nil && !errors.Is(out.err, ErrDiverged) {
		o.core.failed(to)
	}
	if out.image != nil {
		if err := o.o.Log.Install(out.image); err != nil {
			return out, fmt.Errorf("metadata snapshot of offset %d: %w", out.image.Offset(), err)
		}
	}
	for _, c := range out.commits {
		if err := o.o.Log.Apply(c); err != nil {
			return out, fmt.Errorf("metadata log at offset %d: %w", c.Base, err)
		}
	}
	return out, nil
}

// announce tells of a change of leadership.
func (o *Observer) announce() {
	now := Node{o.core.leader, o.core.addr}
	o.mu.Lock()
	changed := o.leader != now || o.epoch != o.core.epoch
	o.leader, o.epoch = now, o.core.epoch
	o.mu.Unlock()
	if changed && o.o.OnLeader != nil {
		o.o.OnLeader(now.ID, o.core.epoch, now.Addr)
	}
}

func (o *Observer) pause(ctx context.Context, d time.Duration) {
	t := o.o.Clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C():
	}
}
