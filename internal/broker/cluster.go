package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/api"
	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/metadata/observer"
	"github.com/ottla/ottla/internal/metadata/quorum"
	"github.com/ottla/ottla/internal/metadata/store"
	"github.com/ottla/ottla/internal/peer"
)

// cluster is this node among others: how it reaches them, and who is the active controller.
type cluster struct {
	node     int32
	listener string // on which nodes speak to each other
	clock    clock.Clock
	logger   *slog.Logger
	peers    *peer.Client
	serve    func(listener string, nc net.Conn) error
	image    func() *metadata.Image
	brain    *brain
	voter    *voter                            // nil where sole
	dir      metadata.UUID                     // of the metadata log
	sole     bool                              // this node is its own controller: there is no quorum
	observer atomic.Pointer[observer.Observer] // nil while nothing has to be fetched
	host     atomic.Pointer[quorum.Host]       // nil where this node is no member of a quorum

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	mu      sync.Mutex
	closed  bool
	goneAt  map[int32]time.Time // when the process of a node ended, as its connection told
}

func newCluster(o Options, node int32, image func() *metadata.Image, serve func(string, net.Conn) error) *cluster {
	c := &cluster{node: node, listener: clusterListener(o), clock: o.Clock, logger: o.Logger, serve: serve, image: image, goneAt: map[int32]time.Time{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.peers = peer.New(peer.Options{ClientID: "ottla-node-" + itoa(node), Clock: o.Clock, Logger: o.Logger, Dial: c.dial, Gone: c.gone})
	return c
}

// dial connects to the cluster listener of a node, or to an address that is not known as a node's yet.
func (c *cluster) dial(ctx context.Context, t peer.Target) (net.Conn, error) {
	addr := t.Addr
	if addr == "" && t.Node == c.node {
		ours, theirs := net.Pipe()
		if err := c.serve(c.listener, theirs); err != nil {
			return nil, errors.Join(err, ours.Close())
		}
		return ours, nil
	}
	if addr == "" {
		if addr = c.address(t.Node); addr == "" {
			return nil, fmt.Errorf("the address of node %d on the listener %s is not known", t.Node, c.listener)
		}
	}
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

// address is where a node listens for others, "" where that is not known.
func (c *cluster) address(node int32) string {
	b := c.image().Broker(node)
	if b == nil {
		return ""
	}
	e, ok := b.Endpoint(c.listener)
	if !ok {
		return ""
	}
	return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
}

// gone hears that a node's process ended.
func (c *cluster) gone(node int32) {
	if host := c.host.Load(); host != nil {
		host.PeerGone(node)
	}
	c.mu.Lock()
	c.goneAt[node] = c.clock.Now()
	c.mu.Unlock()
	if c.Active() {
		c.logger.Warn("a node closed its connection and listens no more; it is taken for dead", "node", node)
		c.fenceGone(node)
	}
}

// goneMemory is how long the end of a node's process is remembered for the next active controller, which may be this node in a moment.
const goneMemory = 3 * time.Second

// fenceRemembered fences the nodes whose end this node saw shortly before it became the active controller.
func (c *cluster) fenceRemembered() {
	c.mu.Lock()
	var gone []int32
	for node, at := range c.goneAt {
		if c.clock.Since(at) < goneMemory {
			gone = append(gone, node)
		}
	}
	clear(c.goneAt)
	c.mu.Unlock()
	for _, node := range gone {
		c.fenceGone(node)
	}
}

func (c *cluster) fenceGone(node int32) {
	c.brain.loop.Submit(func(img *metadata.Image, now time.Time) ([]metadata.Versioned, any, error) {
		return c.brain.ctl.BrokerGone(img, node, c.brain.env(now)), nil, nil
	}, func(any, error) {})
}

// controllerTarget is the active controller as far as this node knows.
func (c *cluster) controllerTarget() (peer.Target, error) {
	if c.Active() {
		return peer.Node(c.node), nil
	}
	if host := c.host.Load(); host != nil {
		if leader := host.Status().Leader; leader >= 0 && leader != c.node {
			return peer.Target{Node: leader, Lane: "controller"}, nil
		}
	}
	if o := c.observer.Load(); o != nil {
		if leader, _ := o.Leader(); leader.ID >= 0 || leader.Addr != "" {
			return peer.Target{Node: leader.ID, Addr: leader.Addr, Lane: "controller"}, nil
		}
	}
	return peer.Target{}, fmt.Errorf("the active controller is not known: %w", kerr.NotController)
}

// Controller asks the active controller, wherever it is.
func (c *cluster) Controller(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	t, err := c.controllerTarget()
	if err != nil {
		return nil, err
	}
	return c.peers.Request(ctx, t, req)
}

// Active says whether this node is the active controller.
func (c *cluster) Active() bool {
	if c.sole {
		return true
	}
	host := c.host.Load()
	return host != nil && host.Status().Active
}

// forwardTimeout bounds a request on its way over the active controller; clients have their own patience.
const forwardTimeout = 30 * time.Second

// Forward has a client's request answered by the active controller. done runs once, on another goroutine.
func (c *cluster) Forward(key, version int16, body []byte, done func([]byte, error)) {
	ok := c.background(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
		defer cancel()
		t, err := c.controllerTarget()
		if err != nil {
			done(nil, err)
			return
		}
		done(c.peers.Forward(ctx, t, key, version, body))
	})
	if !ok {
		done(nil, kerr.NotController)
	}
}

// background runs f until the cluster is closed; false when it is.
func (c *cluster) background(f func(ctx context.Context)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.running.Go(func() { f(c.ctx) })
	return true
}

func (c *cluster) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.peers.Close()
	c.running.Wait()
}

// tickInterval is how often the active controller looks for brokers that fell silent.
const tickInterval = 50 * time.Millisecond

// tick runs the active controller's own work while there are other brokers.
func (c *cluster) tick(ctx context.Context) {
	t := c.clock.NewTimer(tickInterval)
	defer func() { t.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C():
		}
		if brokers := c.image().Brokers(); c.Active() && len(brokers) > 1 {
			for _, b := range brokers {
				if b.ID != c.node && !b.Fenced {
					c.peers.Keep(peer.Target{Node: b.ID, Lane: "watch"})
				}
			}
			if c.voter != nil {
				c.voter.chooseVoters(c.image())
			}
			c.brain.loop.Submit(func(img *metadata.Image, now time.Time) ([]metadata.Versioned, any, error) {
				return c.brain.ctl.Tick(img, c.brain.env(now)), nil, nil
			}, func(any, error) {})
		}
		t = c.clock.NewTimer(tickInterval)
	}
}

// CreateTopics has topics created by the active controller; done runs once they are known here, or could not be created.
func (b *brain) CreateTopics(name string, req *kmsg.CreateTopicsRequest, done func(resp *kmsg.CreateTopicsResponse, err error)) {
	if b.cluster == nil || b.cluster.Active() {
		var resp *kmsg.CreateTopicsResponse
		b.Submit(name, func(ctl *controller.Controller, img *metadata.Image, env controller.Env) (records controller.Records) {
			records, resp = ctl.CreateTopics(img, req, env)
			return records
		}, func(err error) { done(resp, err) })
		return
	}
	ok := b.cluster.background(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
		defer cancel()
		r, err := b.cluster.Controller(ctx, req)
		if err != nil {
			done(nil, err)
			return
		}
		resp := r.(*kmsg.CreateTopicsResponse)
		b.cluster.await(ctx, func(img *metadata.Image) bool {
			for _, t := range resp.Topics {
				if t.ErrorCode == 0 && img.Topic(t.Topic) == nil {
					return false
				}
			}
			return true
		})
		done(resp, nil)
	})
	if !ok {
		done(nil, kerr.NotController)
	}
}

// awaitPause is how often an image that is waited for is looked at.
const awaitPause = 2 * time.Millisecond

// await returns when the image is as ok wants it, or ctx ends.
func (c *cluster) await(ctx context.Context, ok func(*metadata.Image) bool) {
	for !ok(c.image()) {
		t := c.clock.NewTimer(awaitPause)
		select {
		case <-t.C():
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// leader is who leads the metadata log as far as this node knows, and the newest epoch.
func (c *cluster) leader(s *store.Store) (node, epoch int32) {
	if c.sole {
		return c.node, s.Epoch()
	}
	if host := c.host.Load(); host != nil {
		if st := host.Status(); st.Leader >= 0 {
			return st.Leader, st.Epoch
		}
	}
	if o := c.observer.Load(); o != nil {
		l, e := o.Leader()
		return l.ID, e
	}
	return -1, s.Epoch()
}

// Propose implements metadata.Proposer: the quorum commits, or the store alone where there is none.
func (b *Broker) Propose(records []metadata.Versioned, done func(base int64, err error)) {
	switch host := b.cluster.host.Load(); {
	case b.cluster.sole:
		b.store.Propose(records, done)
	case host != nil:
		host.Propose(records, done)
	default:
		done(-1, errors.Join(kerr.NotController, metadata.ErrNotWritten))
	}
}

// Quorum takes messages of another member of the metadata quorum.
func (c *cluster) Quorum(frame []byte) error {
	if c.sole {
		return errors.New("this node is its own controller and takes no messages of a quorum")
	}
	return c.voter.Deliver(frame)
}

// Members implements api.Cluster.
func (c *cluster) Members(done func([]api.Member)) {
	member := func(id int32, dir metadata.UUID) api.Member {
		m := api.Member{ID: id, Dir: dir, Voter: true, Heard: true, Listener: c.listener}
		if b := c.image().Broker(id); b != nil {
			if e, ok := b.Endpoint(c.listener); ok {
				m.Host, m.Port = e.Host, e.Port
			}
		}
		return m
	}
	host := c.host.Load()
	if host == nil {
		done([]api.Member{member(c.node, c.dir)})
		return
	}
	described := host.Describe(func(all []quorum.MemberState) {
		out := make([]api.Member, 0, len(all))
		for _, s := range all {
			m := member(s.Node, s.Dir)
			m.Voter, m.Behind, m.Heard = s.Voter, s.Behind, s.Heard
			out = append(out, m)
		}
		done(out)
	})
	if !described {
		done(nil)
	}
}

// RemoveVoter implements api.Cluster.
func (c *cluster) RemoveVoter(node int32, dir [16]byte, done func(error)) {
	host := c.host.Load()
	if host == nil {
		done(kerr.NotController)
		return
	}
	host.Remove(quorum.Member{Node: node, Dir: dir}, done)
}
