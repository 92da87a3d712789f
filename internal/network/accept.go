package network

import (
	"errors"
	"log/slog"
	"net"
	"time"
)

// acceptLoop accepts until the listener is closed. At a limit it leaves further clients in the system's queue.
func (s *Server) acceptLoop(l *listener) {
	defer s.wg.Done()
	var rate pace
	pause := time.Duration(0)
	for {
		if !s.waitForRoom(l) || !s.wait(rate.next(s.clk.Now(), s.opts.MaxConnectionsPerSec), s.stop) {
			return
		}
		nc, err := l.nl.Accept()
		if err == nil {
			pause = 0
			s.admit(l, nc)
			continue
		}
		if errors.Is(err, net.ErrClosed) || s.draining.Load() {
			return
		}
		s.m.acceptFail.Add(1)
		if s.log.allow(slog.LevelError, reasonIO) {
			s.log.write(slog.LevelError, reasonIO, "a listener cannot accept connections and tries again", "listener", l.Name, "why", err.Error(),
				"remedy", "if there are too many open files, raise the limit of the process (ulimit -n, LimitNOFILE) or lower max.connections")
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		if !s.wait(pause, s.stop) {
			return
		}
	}
}

// waitForRoom waits until the limits allow one more connection; false when the server stops.
func (s *Server) waitForRoom(l *listener) bool {
	full := func() bool {
		return s.opts.MaxConnections > 0 && len(s.conns) >= s.opts.MaxConnections || l.MaxConnections > 0 && int(l.open.Load()) >= l.MaxConnections
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if full() && !s.stopped {
		s.m.acceptWaits.Add(1)
		if s.log.allow(slog.LevelWarn, reasonPerIP) {
			s.log.write(slog.LevelWarn, reasonPerIP, "the limit of connections is reached; new clients wait until one leaves", "listener", l.Name,
				"connections", len(s.conns), "remedy", "raise max.connections, or find the clients that open so many")
		}
		for full() && !s.stopped {
			s.free.Wait()
		}
	}
	return !s.stopped
}

// wait waits for d; false when stop is closed before.
func (s *Server) wait(d time.Duration, stop <-chan struct{}) bool {
	if d <= 0 {
		return true
	}
	t := s.clk.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return true
	case <-stop:
		return false
	}
}

// pace spreads events evenly once a burst of a second's worth is used up.
type pace struct{ at time.Time }

// next is how long to wait before the next event.
func (p *pace) next(now time.Time, perSec int) time.Duration {
	if perSec <= 0 {
		return 0
	}
	step := time.Second / time.Duration(perSec)
	if early := now.Add(-time.Second); p.at.Before(early) {
		p.at = early
	}
	p.at = p.at.Add(step)
	return p.at.Sub(now)
}
