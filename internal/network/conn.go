package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ottla/ottla/internal/wire"
)

// What the reader of a connection is doing, for the sweep.
const (
	phaseIdle  = iota // waits for the first byte of a frame
	phaseFrame        // a part of a frame has arrived
	phaseBusy         // waits for the broker: memory, requests in flight, a response being written
)

// Conn is one client connection.
type Conn struct {
	srv      *Server
	listener *listener
	nc       net.Conn
	raw      syscall.RawConn // nil where the connection is no plain TCP socket
	id       uint64
	ip       netip.Addr // for the limit per address; the zero Addr where the peer has none

	// The reader's.
	win        window
	rawRead    func(fd uintptr) bool
	rawN       int
	rawErr     error
	parser     wire.HeaderParser
	trust      int // frames up to this size are given their memory at once
	frameLimit int // 0 = the server's

	// Read by the sweep.
	phase  atomic.Uint32
	frames atomic.Uint64 // frames begun
	got    atomic.Int64  // bytes of the frame that have arrived after its first
	wrote  atomic.Uint64 // pieces written
	inside atomic.Bool   // a write is going on
	sweep  sweepState

	mutedUntil atomic.Int64 // wall clock, ns
	software   atomic.Pointer[software]
	principal  atomic.Pointer[any]

	mu            sync.Mutex
	slot          sync.Cond // signalled when requests leave the list, for the reader
	head, tail    *Request
	inFlight      int
	inFlightBytes int64
	dispatching   bool // the reader will look at the list itself
	writing       bool // somebody is the writer
	noMore        bool // a request closes the connection: read no further
	closed        bool
	ctx           context.Context
	cancel        context.CancelFunc
}

type software struct{ name, version string }

// ID is the connection's number, unique in the server's life.
func (c *Conn) ID() uint64 { return c.id }

// RemoteAddr is the client's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// LocalAddr is the address that the client dialled as this machine sees it, also where the listener is bound to every address.
func (c *Conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// ListenerName is the name of the listener that accepted the connection.
func (c *Conn) ListenerName() string { return c.listener.Name }

// Protocol is the listener's security protocol.
func (c *Conn) Protocol() SecurityProtocol { return c.listener.Protocol }

// Context is cancelled when the connection is closed.
func (c *Conn) Context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx == nil { // most connections never need one
		c.ctx, c.cancel = context.WithCancel(c.srv.ctx)
		if c.closed {
			c.cancel()
		}
	}
	return c.ctx
}

func (c *Conn) done() <-chan struct{} { return c.Context().Done() }

// SetClientSoftware keeps what the client said of itself (KIP-511).
func (c *Conn) SetClientSoftware(name, version string) { c.software.Store(&software{name, version}) }

// ClientSoftware is what SetClientSoftware kept, or two empty strings.
func (c *Conn) ClientSoftware() (name, version string) {
	if s := c.software.Load(); s != nil {
		return s.name, s.version
	}
	return "", ""
}

// SetPrincipal keeps who the client has proved to be.
func (c *Conn) SetPrincipal(p any) { c.principal.Store(&p) }

// Principal is what SetPrincipal kept, or nil.
func (c *Conn) Principal() any {
	if p := c.principal.Load(); p != nil {
		return *p
	}
	return nil
}

// SetFrameLimit bounds the frames that follow, 0 = the server's limit. A connection of a SASL listener starts with
// UnauthenticatedFrameBytes. It is called from Dispatch only.
func (c *Conn) SetFrameLimit(bytes int) { c.frameLimit = bytes }

// Mute lets the connection's next request wait for d (KIP-219: a client over its quota is answered at once and then not read).
func (c *Conn) Mute(d time.Duration) { c.mutedUntil.Store(c.srv.clk.Now().Add(d).UnixNano()) }

// Close closes the connection; err stands in the log.
func (c *Conn) Close(err error) { c.close(reasonRequest, err) }

func (c *Conn) serve() {
	reason, err := c.readAll()
	c.win.release()
	c.close(reason, err)
}

// closeError is an end of reading that says its own reason.
type closeError struct {
	reason reason
	err    error
	answer []byte // bytes for a peer that does not speak Kafka
}

func (e *closeError) Error() string { return e.err.Error() }

type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// readAll reads and dispatches frames until the connection ends.
func (c *Conn) readAll() (reason, error) {
	for first := true; ; first = false {
		n, err := c.nextSize()
		if err == nil {
			err = c.checkSize(n, first)
		}
		if err == nil {
			err = c.oneRequest(n)
		}
		if err == nil {
			continue
		}
		c.flush()
		var ce *closeError
		switch {
		case errors.As(err, &ce):
			if ce.answer != nil {
				c.farewell(ce.answer)
			}
			return ce.reason, ce.err
		case errors.Is(err, io.EOF), gone(err):
			return reasonClient, nil
		default:
			return reasonIO, err
		}
	}
}

// nextSize waits for the next frame's size prefix.
func (c *Conn) nextSize() (int, error) {
	if c.win.n() < wire.FrameSizeBytes {
		// Nothing more to dispatch for now: what was answered meanwhile is written before the reader waits.
		c.flush()
		if err := c.waitTurn(); err != nil {
			return 0, err
		}
		if c.win.n() == 0 {
			c.phase.Store(phaseIdle)
		} else {
			c.phase.Store(phaseFrame)
		}
		for c.win.n() < wire.FrameSizeBytes {
			if err := c.fill(); err != nil {
				if c.win.n() > 0 && errors.Is(err, io.EOF) {
					err = &closeError{reason: reasonMalformed, err: fmt.Errorf("the client closed the connection after %d of 4 bytes of a frame's size", c.win.n())}
				}
				return 0, err
			}
			c.phase.Store(phaseFrame)
		}
	}
	n := c.win.size()
	c.got.Store(0)
	c.frames.Add(1)
	c.phase.Store(phaseFrame)
	return n, nil
}

// oneRequest reads the frame of n bytes that follows and dispatches it.
func (c *Conn) oneRequest(n int) error {
	if err := c.waitSlot(int64(n)); err != nil {
		return err
	}
	buf, err := c.readFrame(n)
	if err != nil {
		return err
	}
	c.phase.Store(phaseBusy)
	s := c.srv
	r := &Request{Conn: c, Buffer: buf, bytes: int64(n), frame: int64(n), Received: s.clk.Now()}
	r.Header, r.Body, err = c.parser.Parse(buf.Bytes())
	if err != nil {
		buf.Release()
		s.gate.release(r.frame)
		return &closeError{reason: reasonMalformed, err: fmt.Errorf("request with API key %d, version %d: %w", r.Header.Key, r.Header.Version, err)}
	}
	s.m.requests.Add(1)
	s.m.requestBytes.Add(int64(n) + wire.FrameSizeBytes)
	if s.estimate != nil {
		if extra := s.estimate(r.Header.Key, r.Header.Version, n) - int64(n); extra > 0 {
			if !s.gate.tryAcquire(extra) {
				c.flush()
				err = s.gate.acquire(c, extra, true)
				s.gate.complete(c)
			}
			if err != nil {
				buf.Release()
				s.gate.release(r.frame)
				return err
			}
			r.extra = extra
		}
	}
	if !c.enqueue(r) {
		buf.Release()
		s.gate.release(r.frame + r.extra)
		return net.ErrClosed
	}
	c.dispatch(r)
	return nil
}

func (c *Conn) dispatch(r *Request) {
	defer func() {
		if p := recover(); p != nil {
			c.close(reasonPanic, &panicError{value: p, stack: debug.Stack()})
			r.abandon()
		}
	}()
	c.srv.dispatch(r)
}

// enqueue puts r at the end of the list; false where the connection has been closed.
func (c *Conn) enqueue(r *Request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.dispatching = true
	if c.tail == nil {
		c.head = r
	} else {
		c.tail.next = r
	}
	c.tail = r
	c.inFlight++
	c.inFlightBytes += r.bytes
	c.srv.m.inFlight.Add(1)
	return true
}

// waitSlot waits until one more request of n bytes may be in flight.
func (c *Conn) waitSlot(n int64) error {
	o := &c.srv.opts
	full := func() bool {
		return c.inFlight >= o.MaxInFlight || c.inFlight > 0 && c.inFlightBytes+n > o.MaxInFlightBytes
	}
	c.mu.Lock()
	if full() || c.noMore {
		c.mu.Unlock()
		c.phase.Store(phaseBusy)
		c.flush()
		c.mu.Lock()
		for (full() || c.noMore) && !c.closed {
			c.slot.Wait()
		}
		c.phase.Store(phaseFrame)
	}
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	return nil
}

// waitTurn waits where the next request is not to be read yet: the connection is muted, or one of its requests closes it, or
// the server is shutting down.
func (c *Conn) waitTurn() error {
	if until := c.mutedUntil.Load(); until != 0 {
		c.mutedUntil.CompareAndSwap(until, 0)
		if d := time.Unix(0, until).Sub(c.srv.clk.Now()); d > 0 {
			c.phase.Store(phaseBusy)
			t := c.srv.clk.NewTimer(d)
			select {
			case <-t.C():
			case <-c.done():
			}
			t.Stop()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.noMore || c.inFlight > 0 && c.srv.draining.Load() {
		if c.closed {
			break
		}
		c.phase.Store(phaseBusy)
		c.slot.Wait()
	}
	if c.closed || c.srv.draining.Load() {
		return net.ErrClosed
	}
	return nil
}

// flush ends the reader's stretch of dispatching and writes what has been answered.
func (c *Conn) flush() {
	c.mu.Lock()
	c.dispatching = false
	write := c.claimWriter()
	c.mu.Unlock()
	if write {
		c.phase.Store(phaseBusy)
		c.drain()
	}
}

// claimWriter makes the caller the writer if there is something to write and nobody else does. REQUIRES: c.mu.
func (c *Conn) claimWriter() bool {
	if c.writing || c.dispatching || c.closed || c.head == nil || !c.head.answered {
		return false
	}
	c.writing = true
	return true
}

// close closes the connection once; later calls change nothing.
func (c *Conn) close(why reason, err error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	var answered []*Request // the others' handlers will still answer, into the void
	for r := c.head; r != nil; {
		next := r.next
		r.next = nil
		if r.answered {
			answered = append(answered, r)
		}
		r = next
	}
	c.head, c.tail = nil, nil
	if c.cancel != nil {
		c.cancel()
	}
	c.slot.Broadcast()
	c.mu.Unlock()
	_ = c.nc.Close()
	for _, r := range answered {
		r.drop()
	}
	c.srv.closed(c, why, err)
}

// farewell writes a last answer to a peer that speaks another protocol and lets it arrive: closing with unread bytes would
// reset the connection and take the answer back.
func (c *Conn) farewell(answer []byte) {
	_ = c.nc.SetDeadline(c.srv.clk.Now().Add(farewellTime))
	if _, err := c.nc.Write(answer); err != nil {
		return
	}
	if w, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
	var buf [512]byte
	for range farewellReads {
		if _, err := c.nc.Read(buf[:]); err != nil {
			return
		}
	}
}

const (
	farewellTime  = time.Second
	farewellReads = 64
)
