// Package vnet is a network inside the process: listeners and buffered connections without sockets. It knows
// addresses, byte streams and deadlines; it must never know what the bytes mean or who speaks.
//
// A connection blocks only on condition variables, so a broker and its clients can live in a testing/synctest bubble,
// where a real socket would stop virtual time. Closing one end lets the other read what was already written.
package vnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// bufferBytes bounds what one direction of a connection holds before its writer waits.
const bufferBytes = 64 << 10

// Time is where deadlines get time from.
type Time struct {
	Now func() time.Time
	// AfterFunc runs f in its own goroutine after d; stop is time.Timer's Stop.
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
}

// Addr is an address of the network, host:port.
type Addr string

// Network is "tcp": clients decide by it how to print and split addresses.
func (Addr) Network() string { return "tcp" }

func (a Addr) String() string { return string(a) }

// Network connects dialers and listeners by address.
type Network struct {
	time Time

	mu        sync.Mutex
	listeners map[string]*Listener
	nextPort  int
}

// New makes a network without listeners.
func New(t Time) *Network {
	return &Network{time: t, listeners: make(map[string]*Listener), nextPort: 49152}
}

// Listen opens addr (host:port; port 0 takes a free one).
func (n *Network) Listen(addr string) (*Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", addr, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for port == "0" {
		p := strconv.Itoa(n.nextPort)
		n.nextPort++
		if n.listeners[net.JoinHostPort(host, p)] == nil {
			port = p
		}
	}
	addr = net.JoinHostPort(host, port)
	if n.listeners[addr] != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, syscall.EADDRINUSE)
	}
	l := &Listener{net: n, addr: Addr(addr)}
	l.ready.L = &l.mu
	n.listeners[addr] = l
	return l, nil
}

// Dial connects to a listener of the network. It has the shape of net.Dialer.DialContext; the
// name of the network is ignored.
func (n *Network) Dial(ctx context.Context, _, addr string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n.mu.Lock()
	l := n.listeners[addr]
	from := Addr("127.0.0.1:" + strconv.Itoa(n.nextPort))
	n.nextPort++
	n.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: "tcp", Addr: Addr(addr), Err: syscall.ECONNREFUSED}
	if l == nil {
		return nil, refused
	}
	client, server := Pipe(n.time, from, l.addr)
	if !l.deliver(server) {
		_ = client.Close()
		return nil, refused
	}
	return client, nil
}

// Listener accepts the connections dialled to its address.
type Listener struct {
	net  *Network
	addr Addr

	mu     sync.Mutex
	ready  sync.Cond
	queue  []*Conn
	closed bool
}

// backlog bounds the connections that wait for Accept; more are refused.
const backlog = 1024

func (l *Listener) deliver(c *Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.queue) >= backlog {
		return false
	}
	l.queue = append(l.queue, c)
	l.ready.Signal()
	return true
}

// Accept waits for the next connection; net.ErrClosed after Close.
func (l *Listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 && !l.closed {
		l.ready.Wait()
	}
	if l.closed {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
	}
	c := l.queue[0]
	l.queue = l.queue[1:]
	return c, nil
}

// Close gives the address back and closes the connections that were not accepted.
func (l *Listener) Close() error {
	l.net.mu.Lock()
	if l.net.listeners[string(l.addr)] == l {
		delete(l.net.listeners, string(l.addr))
	}
	l.net.mu.Unlock()
	l.mu.Lock()
	queue := l.queue
	l.queue, l.closed = nil, true
	l.ready.Broadcast()
	l.mu.Unlock()
	for _, c := range queue {
		_ = c.Close()
	}
	return nil
}

// Addr is the address listened on.
func (l *Listener) Addr() net.Addr { return l.addr }

// Conn is one end of an in-memory connection.
type Conn struct {
	in, out       *stream
	local, remote Addr
}

// Pipe makes a connection between two addresses.
func Pipe(t Time, client, server Addr) (clientEnd, serverEnd *Conn) {
	up, down := newStream(t), newStream(t)
	return &Conn{in: down, out: up, local: client, remote: server}, &Conn{in: up, out: down, local: server, remote: client}
}

func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	return n, c.wrap("read", err)
}

func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	return n, c.wrap("write", err)
}

// CloseWrite tells the peer that nothing more will come.
func (c *Conn) CloseWrite() error {
	c.out.closeWrite()
	return nil
}

// Close ends both directions: the peer reads what is buffered, then io.EOF, and its writes fail.
func (c *Conn) Close() error {
	c.out.closeWrite()
	c.in.closeRead()
	c.out.forbidWrite()
	return nil
}

// LocalAddr is the address of this end; for an accepted connection the one that was dialled.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the address of the other end.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline fails reads after t with os.ErrDeadlineExceeded; the zero time lifts it.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.readLimit, t)
	return nil
}

// SetWriteDeadline is SetReadDeadline for writes.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writeLimit, t)
	return nil
}

func (c *Conn) wrap(op string, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) {
		return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
	}
	return err
}
