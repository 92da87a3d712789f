package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ottla/ottla/internal/clock"
)

// UnauthenticatedFrameBytes bounds the frames of a connection that has not authenticated yet.
const UnauthenticatedFrameBytes = 64 << 10

// ListenerConfig is one listener.
type ListenerConfig struct {
	Endpoint
	// Listen opens the listener; nil listens on TCP at Endpoint's address.
	Listen func() (net.Listener, error)
	// MaxConnections of this listener, 0 = no limit of its own.
	MaxConnections int
}

// Options is what a server needs. Zero limits mean the defaults.
type Options struct {
	Listeners  []ListenerConfig
	Dispatch   Dispatch
	Estimate   Estimate // nil: a request costs its frame
	Clock      clock.Clock
	Logger     *slog.Logger
	Registerer prometheus.Registerer // may be nil

	MaxRequestBytes  int           // socket.request.max.bytes; 100 MiB
	MemoryBytes      int64         // queued.max.request.bytes; 512 MiB
	MaxInFlight      int           // requests of one connection that may wait for their responses; 128
	MaxInFlightBytes int64         // their bytes and those of unread responses, one request always allowed; 64 MiB, a quarter of MemoryBytes at most
	IdleTimeout      time.Duration // connections.max.idle.ms; 10 min, negative = never
	FrameTimeout     time.Duration // for a frame to arrive once begun, plus a second for every 16 KiB that have; 30 s
	WriteTimeout     time.Duration // for a client to take 256 KiB of a response; 30 s

	MaxConnections       int                // max.connections; 0 = no limit
	MaxConnectionsPerIP  int                // max.connections.per.ip; 0 = no limit
	PerIPOverrides       map[netip.Addr]int // max.connections.per.ip.overrides
	MaxConnectionsPerSec int                // max.connection.creation.rate of a listener; 0 = no limit
	SendBufferBytes      int                // socket.send.buffer.bytes; 0 or less = as the system sizes it
	ReceiveBufferBytes   int                // socket.receive.buffer.bytes; 0 or less = as the system sizes it
	KeepAlive            time.Duration      // between probes of an idle TCP connection; 60 s, negative = none
}

func (o *Options) defaults() {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	defD := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	def(&o.MaxRequestBytes, 100<<20)
	def(&o.MaxInFlight, 128)
	if o.MemoryBytes <= 0 {
		o.MemoryBytes = 512 << 20
	}
	if o.MaxInFlightBytes <= 0 {
		o.MaxInFlightBytes = min(64<<20, o.MemoryBytes/4)
	}
	defD(&o.IdleTimeout, 10*time.Minute)
	defD(&o.FrameTimeout, 30*time.Second)
	defD(&o.WriteTimeout, 30*time.Second)
	defD(&o.KeepAlive, time.Minute)
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Server owns listeners and their connections.
type Server struct {
	opts     Options
	clk      clock.Clock
	log      *limitedLog
	dispatch Dispatch
	estimate Estimate
	gate     *gate
	m        metrics
	ctx      context.Context
	cancel   context.CancelFunc
	draining atomic.Bool
	stop     chan struct{} // closed when accepting ends
	nextID   atomic.Uint64
	wg       sync.WaitGroup // all goroutines but the sweeper's
	outs     sync.Pool
	writers  sync.Pool

	listeners []*listener

	mu       sync.Mutex
	free     sync.Cond // signalled when a connection ends, for acceptors at a limit
	conns    map[*Conn]struct{}
	perIP    map[netip.Addr]int
	started  bool
	sweeping bool
	stopped  bool
	sweeper  sync.WaitGroup
}

type listener struct {
	ListenerConfig
	nl       net.Listener
	addr     net.Addr
	open     atomic.Int64
	accepted atomic.Int64
}

// New makes a server; it opens nothing.
func New(o Options) (*Server, error) {
	if o.Dispatch == nil {
		return nil, errors.New("network: no Dispatch given")
	}
	o.defaults()
	s := &Server{opts: o, clk: o.Clock, dispatch: o.Dispatch, estimate: o.Estimate, gate: &gate{limit: o.MemoryBytes},
		conns: make(map[*Conn]struct{}), perIP: make(map[netip.Addr]int), stop: make(chan struct{})}
	s.log = newLimitedLog(o.Logger, o.Clock)
	s.free.L = &s.mu
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.outs.New = func() any { return &Out{srv: s} }
	s.writers.New = newWriter
	for _, lc := range o.Listeners {
		s.listeners = append(s.listeners, &listener{ListenerConfig: lc})
	}
	if err := s.register(o.Registerer); err != nil {
		s.cancel()
		return nil, fmt.Errorf("network: register metrics: %w", err)
	}
	return s, nil
}

// Listen opens every listener without accepting: clients that connect wait until Start. After an error none is open.
func (s *Server) Listen() error {
	for i, l := range s.listeners {
		open := l.Listen
		if open == nil {
			open = func() (net.Listener, error) { return s.listenTCP(l.Address()) }
		}
		nl, err := open()
		if err != nil {
			for _, o := range s.listeners[:i] {
				_ = o.nl.Close()
				o.nl = nil
			}
			return fmt.Errorf("open listener %s: %w; %s", l.Endpoint, err, listenRemedy(err))
		}
		l.nl, l.addr = nl, nl.Addr()
	}
	return nil
}

func (s *Server) listenTCP(addr string) (net.Listener, error) {
	ka := net.KeepAliveConfig{Enable: s.opts.KeepAlive > 0, Idle: s.opts.KeepAlive, Interval: s.opts.KeepAlive / 4, Count: 4}
	lc := net.ListenConfig{KeepAliveConfig: ka}
	if s.opts.KeepAlive < 0 {
		lc.KeepAlive = -1
	}
	return lc.Listen(s.ctx, "tcp", addr)
}

// Addr is the address that a listener is bound to, with its real port; nil where it is unknown or not open.
func (s *Server) Addr(name string) net.Addr {
	for _, l := range s.listeners {
		if l.Name == name {
			return l.addr
		}
	}
	return nil
}

// Start accepts connections; it opens the listeners where Listen has not.
func (s *Server) Start() error {
	s.mu.Lock()
	started := s.started
	s.started = true
	s.mu.Unlock()
	if started {
		return errors.New("network: started twice")
	}
	for _, l := range s.listeners {
		if l.nl == nil {
			if err := s.Listen(); err != nil {
				return err
			}
			break
		}
	}
	for _, l := range s.listeners {
		s.wg.Add(1)
		go s.acceptLoop(l)
	}
	return nil
}

// ServeConn serves a connection that was made elsewhere, in the process for instance, as if the named listener had accepted it.
func (s *Server) ServeConn(listenerName string, nc net.Conn) error {
	for _, l := range s.listeners {
		if l.Name == listenerName {
			s.admit(l, nc)
			return nil
		}
	}
	_ = nc.Close()
	return fmt.Errorf("no listener is named %s", listenerName)
}

// Close stops accepting, lets requests in flight be answered until ctx ends, then closes what is left and waits for every
// goroutine. A handler that never answers does not hold it up beyond ctx.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return nil
	}
	s.stopped = true
	s.draining.Store(true)
	close(s.stop)
	conns := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.free.Broadcast()
	s.mu.Unlock()
	for _, l := range s.listeners {
		if l.nl != nil {
			_ = l.nl.Close()
		}
	}
	for _, c := range conns {
		c.mu.Lock()
		idle := c.inFlight == 0 && !c.dispatching && c.phase.Load() != phaseFrame
		c.slot.Broadcast()
		c.mu.Unlock()
		if idle {
			c.close(reasonShutdown, nil)
		}
	}
	stop := context.AfterFunc(ctx, s.closeAll)
	s.wg.Wait()
	graceful := stop()
	s.closeAll()
	s.cancel()
	s.sweeper.Wait()
	if !graceful {
		return fmt.Errorf("network: %w; the connections left were closed with requests in flight", ctx.Err())
	}
	return nil
}

func (s *Server) closeAll() {
	for _, c := range s.snapshot(nil) {
		c.close(reasonShutdown, nil)
	}
	s.cancel()
}

func (s *Server) snapshot(conns []*Conn) []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

// closed takes a closed connection out and tells why it ended where somebody should know.
func (s *Server) closed(c *Conn, why reason, err error) {
	s.mu.Lock()
	delete(s.conns, c)
	if c.ip.IsValid() {
		if s.perIP[c.ip]--; s.perIP[c.ip] <= 0 {
			delete(s.perIP, c.ip)
		}
	}
	s.free.Broadcast()
	s.mu.Unlock()
	c.listener.open.Add(-1)
	s.m.closed[why].Add(1)
	s.logClosed(c, why, err)
}

func (s *Server) logClosed(c *Conn, why reason, err error) {
	level := slog.LevelWarn
	switch why {
	case reasonClient, reasonShutdown, reasonIdle:
		level = slog.LevelDebug
	case reasonPanic, reasonBug:
		level = slog.LevelError
	}
	if !s.log.allow(level, why) {
		return
	}
	attrs := []any{"client", c.RemoteAddr().String(), "listener", c.listener.Name, "reason", why.String()}
	if name, version := c.ClientSoftware(); name != "" {
		attrs = append(attrs, "software", name+" "+version)
	}
	if err != nil {
		attrs = append(attrs, "why", err.Error())
	}
	var p *panicError
	if errors.As(err, &p) {
		attrs = append(attrs, "stack", string(p.stack))
	}
	s.log.write(level, why, "connection closed", attrs...)
}

// admit makes a connection of nc and serves it, unless a limit says no.
func (s *Server) admit(l *listener, nc net.Conn) {
	c := &Conn{srv: s, listener: l, nc: nc, raw: rawConn(nc), id: s.nextID.Add(1)}
	c.slot.L = &c.mu
	if l.Protocol.SASL() {
		c.frameLimit = UnauthenticatedFrameBytes
	}
	if ap, err := netip.ParseAddrPort(nc.RemoteAddr().String()); err == nil {
		c.ip = ap.Addr().Unmap().WithZone("")
	}
	s.tune(nc)
	s.mu.Lock()
	limit, limited := s.perIPLimit(c.ip)
	if s.stopped || limited && s.perIP[c.ip] >= limit {
		stopped := s.stopped
		s.mu.Unlock()
		_ = nc.Close()
		if !stopped {
			s.m.closed[reasonPerIP].Add(1)
			if s.log.allow(slog.LevelWarn, reasonPerIP) {
				s.log.write(slog.LevelWarn, reasonPerIP, "connection refused", "client", nc.RemoteAddr().String(), "listener", l.Name, "why",
					fmt.Sprintf("its address has %d connections already; max.connections.per.ip and max.connections.per.ip.overrides set the limit", limit))
			}
		}
		return
	}
	s.conns[c] = struct{}{}
	if c.ip.IsValid() {
		s.perIP[c.ip]++
	}
	l.open.Add(1)
	l.accepted.Add(1)
	s.wg.Add(1)
	if !s.sweeping {
		s.sweeping = true
		s.sweeper.Add(1)
		go s.sweepLoop()
	}
	s.mu.Unlock()
	go func() {
		defer s.wg.Done()
		c.serve()
	}()
}

func (s *Server) perIPLimit(ip netip.Addr) (limit int, limited bool) {
	if !ip.IsValid() {
		return 0, false
	}
	if n, ok := s.opts.PerIPOverrides[ip]; ok {
		return n, true
	}
	return s.opts.MaxConnectionsPerIP, s.opts.MaxConnectionsPerIP > 0
}

// tune sets the socket's options. TCP_NODELAY is on as Go leaves it.
func (s *Server) tune(nc net.Conn) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	if n := s.opts.SendBufferBytes; n > 0 {
		_ = tcp.SetWriteBuffer(n)
	}
	if n := s.opts.ReceiveBufferBytes; n > 0 {
		_ = tcp.SetReadBuffer(n)
	}
}

// listenRemedy is what to do about a listener that cannot be opened.
func listenRemedy(err error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another process has the port: stop it, or choose another port in `listeners` (--port; 0 picks a free one)"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine has no such address: `listeners` (--host) takes one of its own, or none for all of them; what clients are told is `advertised.listeners`"
	case errors.Is(err, syscall.EACCES):
		return "this user may not open that port: choose one from 1024 up in `listeners` (--port)"
	case errors.As(err, &dns):
		return "the name in `listeners` (--host) is not known on this machine"
	}
	return "see `listeners`"
}
