// Package peer is how a node speaks to other nodes: one pipelined connection for each node and lane, opened when it is first needed and again
// after it broke, with the versions that both sides know.
//
// It knows nodes, addresses, frames and Kafka's requests. It must never know what a request is about, nor which node is the right one
// to ask.
package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/clock"
)

// Target names whom to ask: a node, or an address as long as no node is known there.
type Target struct {
	Node int32  // used when Addr is ""
	Addr string // host:port
	// Lane separates requests that must not wait for each other: a connection answers in order, and some answers take long.
	Lane string
}

// Node is the target of a node's ordinary lane.
func Node(id int32) Target { return Target{Node: id} }

func (t Target) String() string {
	if t.Addr != "" {
		return t.Addr
	}
	return fmt.Sprintf("node %d", t.Node)
}

// Options are what a Client is made of; Dial and Clock are required.
type Options struct {
	ClientID string
	Clock    clock.Clock
	Logger   *slog.Logger
	// Dial connects to a target and proves who this node is.
	Dial func(ctx context.Context, t Target) (net.Conn, error)
	// Gone is told of a node whose connection broke and that refuses new ones: its process is dead, as far as this machine can see. It runs
	// on a goroutine of the client.
	Gone func(node int32)
	// Timeout bounds a request whose context has no deadline; 0 is 30 s. DialTimeout bounds the connection and its first exchange; 0 is 5 s.
	Timeout, DialTimeout time.Duration
	// MaxResponseBytes bounds a response; 0 is 128 MiB.
	MaxResponseBytes int
}

// Client holds the connections to other nodes. It is safe for concurrent use.
type Client struct {
	o       Options
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	slots   map[Target]*slot
	keeping map[Target]bool // connections that Keep has begun
	closed  bool
}

// slot is the place of one connection.
type slot struct {
	mu   sync.Mutex // held while the connection is made
	conn *conn
}

// ErrClosed is in the error of a request to a closed client.
var ErrClosed = errors.New("the client of other nodes is closed")

// New makes a client without connections.
func New(o Options) *Client {
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = 5 * time.Second
	}
	if o.MaxResponseBytes <= 0 {
		o.MaxResponseBytes = 128 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Client{o: o, ctx: ctx, cancel: cancel, slots: map[Target]*slot{}}
}

// Request sends a request and waits for its answer. The version is the newest that both sides know, at most the one that is set when
// it is not 0. An error means that it is not known whether the other side has handled the request.
func (c *Client) Request(ctx context.Context, t Target, req kmsg.Request) (kmsg.Response, error) {
	ctx, cancel := c.bounded(ctx, c.o.Timeout)
	defer cancel()
	conn, err := c.connection(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", t, err)
	}
	resp, err := conn.roundTrip(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("ask %s (%s): %w", t, kmsg.NameForKey(req.Key()), err)
	}
	return resp, nil
}

// bounded gives a context that ends with the client too.
func (c *Client) bounded(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	var cancel context.CancelFunc
	if _, has := ctx.Deadline(); has {
		ctx, cancel = context.WithCancel(ctx)
	} else {
		ctx, cancel = context.WithTimeout(ctx, d)
	}
	stop := context.AfterFunc(c.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

func (c *Client) connection(ctx context.Context, t Target) (*conn, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, ErrClosed
	}
	s := c.slots[t]
	if s == nil {
		s = &slot{}
		c.slots[t] = s
	}
	c.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil && s.conn.alive() {
		return s.conn, nil
	}
	s.conn = nil
	dial, cancel := context.WithTimeout(ctx, c.o.DialTimeout)
	defer cancel()
	nc, err := c.o.Dial(dial, t)
	if err != nil {
		return nil, err
	}
	conn := newConn(nc, c.o)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		_ = nc.Close()
		return nil, ErrClosed
	}
	c.running.Go(func() {
		conn.read()
		c.broken(t, conn)
	})
	c.mu.Unlock()
	if err := conn.negotiate(dial); err != nil {
		conn.close(err)
		return nil, err
	}
	s.conn = conn
	return conn, nil
}

// A process that ends closes its connections before its listener: what refuses comes a little later.
const (
	redials     = 4
	redialPause = 8 * time.Millisecond
)

// broken looks whether a node whose connection ended still listens.
func (c *Client) broken(t Target, conn *conn) {
	if c.o.Gone == nil || t.Addr != "" || conn.closedByUs() {
		return
	}
	for range redials {
		ctx, cancel := context.WithTimeout(c.ctx, c.o.DialTimeout)
		nc, err := c.o.Dial(ctx, t)
		cancel()
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			c.o.Gone(t.Node)
			return
		case err == nil:
			_ = nc.Close()
		}
		timer := c.o.Clock.NewTimer(redialPause)
		select {
		case <-timer.C():
		case <-c.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// Forget closes the connections to a node, whose address may have changed.
func (c *Client) Forget(node int32) {
	c.mu.Lock()
	var gone []*slot
	for t, s := range c.slots {
		if t.Addr == "" && t.Node == node {
			gone = append(gone, s)
			delete(c.slots, t)
		}
	}
	c.mu.Unlock()
	for _, s := range gone {
		s.shut()
	}
}

func (s *slot) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.close(ErrClosed)
	}
}

// Close ends all connections and waits for their goroutines.
func (c *Client) Close() {
	c.cancel()
	c.mu.Lock()
	c.closed = true
	slots := c.slots
	c.slots = nil
	c.mu.Unlock()
	for _, s := range slots {
		s.shut()
	}
	c.running.Wait()
}
