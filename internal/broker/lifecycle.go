package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
)

// lifecycle keeps a broker known to the active controller of its cluster: it registers, sends heartbeats, and asks to leave (KIP-631).
type lifecycle struct {
	c        *cluster
	r        controller.Registration
	health   *health // nil where nobody else could lead
	sick     bool    // as of the last heartbeat
	interval time.Duration
	epoch    atomic.Int64
	// incarnation is that of r: another one each time the cluster has forgotten this broker.
	incarnation atomic.Pointer[metadata.UUID]
	leaving     atomic.Bool
	serving     atomic.Bool // as of the last heartbeat

	// A broker leads what it led for a session after the controller has last heard of it: nobody else does before. heard is when the last
	// heartbeat that was answered was sent; of run alone, when the last one was sent and when this process last stood still.
	session       time.Duration
	heard         atomic.Pointer[time.Time]
	last, stalled time.Time

	unfenced, gone chan struct{} // closed when the broker first serves, and when it may go
	failed         chan error    // why the cluster does not take this broker
	once, goneOnce sync.Once
}

func newLifecycle(c *cluster, o Options, r controller.Registration) *lifecycle {
	l := &lifecycle{c: c, r: r, interval: ms(int64(config.BrokerHeartbeatIntervalMs.Get(o.Values))), session: ms(int64(config.BrokerSessionTimeoutMs.Get(o.Values))), unfenced: make(chan struct{}), gone: make(chan struct{}), failed: make(chan error, 1)}
	l.epoch.Store(-1)
	l.incarnation.Store(&r.Incarnation)
	return l
}

// registration is how this broker introduces itself.
func (b *Broker) registration(o Options, node int32) controller.Registration {
	r := controller.Registration{Broker: node, ClusterID: b.clusterID, Incarnation: newID(), Endpoints: endpoints(o), Features: controller.SupportedFeatures()}
	if rack := config.BrokerRack.Get(o.Values); rack != "" {
		r.Rack = &rack
	}
	for _, d := range o.LogDirs {
		r.LogDirs = append(r.LogDirs, b.store.DirectoryID(d))
	}
	return r
}

// run registers and sends heartbeats until ctx ends.
func (l *lifecycle) run(ctx context.Context) {
	pause, refused := l.interval, 0
	for ctx.Err() == nil {
		var err error
		if l.epoch.Load() < 0 {
			err = l.register(ctx)
		} else {
			err = l.beat(ctx)
		}
		if err == nil {
			if pause, refused = l.interval, 0; !l.serving.Load() && !l.sick {
				pause = min(l.interval, startInterval) // the broker has something to wait for
			}
		} else if refused++; l.leaving.Load() && refused >= leaveTries {
			l.goneOnce.Do(func() { close(l.gone) }) // the whole cluster may be stopping
		} else if ctx.Err() == nil {
			if refused >= quietTries || !errors.Is(err, kerr.NotController) {
				l.c.logger.Warn("the active controller could not be told that this broker lives; it is tried again", "error", err)
			}
			if pause = min(max(pause, 20*time.Millisecond)*3/2, time.Second); refused < quietTries {
				pause = startInterval
			}
		}
		t := l.c.clock.NewTimer(pause)
		select {
		case <-t.C():
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// selfTrust is how long after a standstill an active controller does not take its own word: by then its quorum has told it if it was replaced.
const selfTrust = 2 * time.Second

// leads says whether this broker may believe that it leads what it led last.
func (l *lifecycle) leads() bool {
	if l.c.sole {
		return true
	}
	at := l.heard.Load()
	return at != nil && l.c.clock.Since(*at) < l.session
}

// renew notes that a heartbeat which was sent at a time has been answered.
func (l *lifecycle) renew(sent time.Time) {
	if t, err := l.c.controllerTarget(); err != nil || t.Node == l.c.node {
		if !l.stalled.IsZero() && l.c.clock.Since(l.stalled) < selfTrust {
			return
		}
	}
	l.heard.Store(&sent)
}

// requestTimeout bounds one exchange with the controller: a silent one may have been replaced.
const requestTimeout = 2 * time.Second

func (l *lifecycle) ask(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return l.c.Controller(ctx, req)
}

func (l *lifecycle) register(ctx context.Context) error {
	r, err := l.ask(ctx, controller.RegistrationRequest(l.r))
	if err != nil {
		return err
	}
	resp := r.(*kmsg.BrokerRegistrationResponse)
	switch err := kerr.ErrorForCode(resp.ErrorCode); {
	case err == nil:
		l.epoch.Store(resp.BrokerEpoch)
		l.c.logger.Info("registered with the active controller", "node", l.r.Broker, "epoch", resp.BrokerEpoch)
		return nil
	case errors.Is(err, kerr.NotController), errors.Is(err, kerr.DuplicateBrokerRegistration), kerr.IsRetriable(err):
		return fmt.Errorf("registration: %w", err)
	default:
		err = fmt.Errorf("the cluster does not take this broker (node %d of cluster %s): %w", l.r.Broker, l.r.ClusterID, err)
		select {
		case l.failed <- err:
		default:
		}
		return err
	}
}

func (l *lifecycle) beat(ctx context.Context) error {
	req := kmsg.NewPtrBrokerHeartbeatRequest()
	req.BrokerID, req.BrokerEpoch, req.CurrentMetadataOffset, req.WantShutdown = l.r.Broker, l.epoch.Load(), l.c.image().Offset(), l.leaving.Load()
	if l.health != nil {
		if req.WantFence = l.health.sick(); req.WantFence && !l.sick {
			l.c.logger.Error("no folder of this broker can be written to; it asks to be fenced, so that others lead until that is over", "node", l.r.Broker)
		}
		l.sick, req.OfflineLogDirs = req.WantFence, l.health.offline()
	}
	sent := l.c.clock.Now()
	if !l.last.IsZero() && sent.Sub(l.last) > l.session/2 {
		l.stalled = sent
	}
	l.last = sent
	r, err := l.ask(ctx, req)
	if err != nil {
		return err
	}
	resp := r.(*kmsg.BrokerHeartbeatResponse)
	switch err := kerr.ErrorForCode(resp.ErrorCode); {
	case errors.Is(err, kerr.StaleBrokerEpoch), errors.Is(err, kerr.BrokerIDNotRegistered):
		id := newID()
		l.r.Incarnation = id
		l.incarnation.Store(&id)
		l.epoch.Store(-1)
		return fmt.Errorf("heartbeat: %w", err)
	case err != nil:
		return fmt.Errorf("heartbeat: %w", err)
	}
	l.serving.Store(!resp.IsFenced)
	if !resp.IsFenced {
		l.renew(sent)
		l.once.Do(func() { close(l.unfenced) })
	}
	if resp.ShouldShutdown {
		l.goneOnce.Do(func() { close(l.gone) })
	}
	return nil
}

// ready waits until the broker serves, or will not.
func (l *lifecycle) ready(ctx context.Context) error {
	select {
	case <-l.unfenced:
		return nil
	case err := <-l.failed:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the cluster has not let this broker serve: %w", context.Cause(ctx))
	}
}

// startInterval is the pause between heartbeats of a broker that is fenced.
const startInterval = 10 * time.Millisecond

// quietTries is how often the active controller may be unknown before that is worth a line in the log: at a start it always is.
const quietTries = 10

// leaveTries is how often in a row a broker that stops asks a controller that does not answer.
const leaveTries = 4

// leaveTimeout bounds a controlled shutdown: what it could not move by then is moved when the broker is gone.
const leaveTimeout = 10 * time.Second

// leave hands leaderships over before the broker stops.
func (l *lifecycle) leave(ctx context.Context) {
	if l.epoch.Load() < 0 {
		return
	}
	l.leaving.Store(true)
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	select {
	case <-l.gone:
	case <-ctx.Done():
		l.c.logger.Warn("leaderships could not all be handed over before the stop", "node", l.r.Broker)
	}
}

// leaveAlone hands leaderships over where this node is the active controller itself.
func (c *cluster) leaveAlone(ctx context.Context, epoch int64) {
	others := func(img *metadata.Image) bool {
		for _, b := range img.Brokers() {
			if b.ID != c.node && !b.Fenced {
				return true
			}
		}
		return false
	}
	if !others(c.image()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	for ctx.Err() == nil {
		gone, err := c.brain.loop.Do(ctx, func(img *metadata.Image, now time.Time) ([]metadata.Versioned, any, error) {
			req := kmsg.NewPtrBrokerHeartbeatRequest()
			req.BrokerID, req.BrokerEpoch, req.CurrentMetadataOffset, req.WantShutdown = c.node, epoch, img.Offset(), true
			records, resp := c.brain.ctl.Heartbeat(img, req, c.brain.env(now))
			return records, resp.ShouldShutdown || resp.ErrorCode != 0, nil
		})
		if err != nil || gone == true {
			return
		}
		t := c.clock.NewTimer(tickInterval)
		select {
		case <-t.C():
		case <-ctx.Done():
			t.Stop()
		}
	}
}
