package network

import (
	"fmt"
	"time"
)

// sweepState is what the sweep remembers of a connection. The connection's own path pays with a few atomic stores and reads no
// clock: the sweep dates what it sees change.
type sweepState struct {
	read, wrote           uint64
	readSince, wroteSince time.Time
}

// slowestBytesPerSec is what a frame's sender must reach beyond FrameTimeout. What counts is what has arrived: announcing a large
// frame buys no time.
const slowestBytesPerSec = 16 << 10

// pressedWriteTimeout is WriteTimeout while requests wait for memory.
const pressedWriteTimeout = 3 * time.Second

// pressedPeriod is how often the sweep looks whether requests wait for memory, and at the connections where they do.
const pressedPeriod = time.Second

// sweepLoop looks at every connection a few times within the shortest timeout. It ends with the last connection.
func (s *Server) sweepLoop() {
	defer s.sweeper.Done()
	period := s.opts.FrameTimeout
	period = min(period, s.opts.WriteTimeout)
	if s.opts.IdleTimeout > 0 {
		period = min(period, s.opts.IdleTimeout)
	}
	period = min(max(period/6, time.Millisecond), 10*time.Second)
	var conns []*Conn
	looked := s.clk.Now()
	for s.wait(min(period, pressedPeriod), s.ctx.Done()) {
		now := s.clk.Now()
		if now.Sub(looked) < period && !s.gate.pressed() && s.connected() {
			continue
		}
		looked = now
		conns = s.snapshot(conns[:0])
		for i, c := range conns {
			c.check(now)
			conns[i] = nil
		}
		s.mu.Lock()
		last := len(s.conns) == 0
		if last {
			s.sweeping = false
		}
		s.mu.Unlock()
		if last {
			return
		}
	}
}

// connected says whether there is any connection.
func (s *Server) connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns) > 0
}

// check closes the connection if its client has been too slow.
func (c *Conn) check(now time.Time) {
	o := &c.srv.opts
	st := &c.sweep
	phase := c.phase.Load()
	if read := c.frames.Load()<<2 | uint64(phase); read != st.read || st.readSince.IsZero() {
		st.read, st.readSince = read, now
	}
	if wrote := c.wrote.Load(); wrote != st.wrote || !c.inside.Load() {
		st.wrote, st.wroteSince = wrote, now
	}
	if phase == phaseIdle && c.waiting() {
		st.readSince = now // it is the client that waits
	}
	age := now.Sub(st.readSince)
	patience := o.WriteTimeout
	if c.srv.gate.pressed() { // others wait for the memory that unread responses take
		patience = min(patience, pressedWriteTimeout)
	}
	switch {
	case now.Sub(st.wroteSince) > patience:
		c.close(reasonSlowReader, fmt.Errorf("the client has not read its responses for %v; it hangs, or its network does", now.Sub(st.wroteSince).Round(time.Millisecond)))
	case phase == phaseFrame:
		got := c.got.Load()
		if age > o.FrameTimeout+time.Duration(got)*time.Second/slowestBytesPerSec {
			c.close(reasonSlowSender, fmt.Errorf("a request has not arrived whole within %v, just %d bytes of it; the client hangs, or its network is too slow for requests of this size",
				age.Round(time.Millisecond), got))
		}
	case phase == phaseIdle && o.IdleTimeout > 0 && age > o.IdleTimeout:
		c.close(reasonIdle, fmt.Errorf("no request for %v (connections.max.idle.ms)", age.Round(time.Millisecond)))
	}
}

// waiting says whether requests are in flight.
func (c *Conn) waiting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inFlight > 0
}
