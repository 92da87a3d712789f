package vnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// stream is one direction of a connection: a ring that grows on demand up to bufferBytes and is given up when empty
// and large, so that idle connections stay small.
type stream struct {
	time Time

	mu         sync.Mutex
	changed    sync.Cond
	ring       []byte
	start, n   int
	eof        bool // the writer has finished
	readClosed bool // the reader has left: writes fail
	writeShut  bool // this end's owner has closed it: its own writes fail with net.ErrClosed
	readLimit  deadline
	writeLimit deadline
}

// deadline is a point in time after which an operation fails.
type deadline struct {
	passed bool
	gen    uint64 // tells the timer of an older deadline that it is no longer meant
	stop   func() bool
}

func newStream(t Time) *stream {
	s := &stream{time: t}
	s.changed.L = &s.mu
	return s
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.readClosed:
			return 0, net.ErrClosed
		case s.readLimit.passed:
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case s.n > 0:
			n := copy(p, s.ring[s.start:min(s.start+s.n, len(s.ring))])
			if n < len(p) && n < s.n {
				n += copy(p[n:], s.ring[:s.n-n])
			}
			s.start, s.n = (s.start+n)%len(s.ring), s.n-n
			if s.n == 0 {
				s.start = 0
				if len(s.ring) > 4096 {
					s.ring = nil
				}
			}
			s.changed.Broadcast()
			return n, nil
		case s.eof:
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

func (s *stream) write(p []byte) (written int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.writeShut || s.eof:
			return written, net.ErrClosed
		case s.readClosed:
			return written, syscall.EPIPE
		case s.writeLimit.passed:
			return written, os.ErrDeadlineExceeded
		case len(p) == 0:
			return written, nil
		}
		if n := min(len(p), bufferBytes-s.n); n > 0 {
			s.put(p[:n])
			p, written = p[n:], written+n
			s.changed.Broadcast()
			continue
		}
		s.changed.Wait()
	}
}

// put appends p, which fits into bufferBytes. REQUIRES: s.mu.
func (s *stream) put(p []byte) {
	if need := s.n + len(p); need > len(s.ring) {
		size := 512
		for size < need {
			size *= 2
		}
		ring := make([]byte, min(size, bufferBytes))
		k := copy(ring, s.ring[s.start:min(s.start+s.n, len(s.ring))])
		copy(ring[k:], s.ring[:s.n-k])
		s.ring, s.start = ring, 0
	}
	at := (s.start + s.n) % len(s.ring)
	k := copy(s.ring[at:], p)
	copy(s.ring, p[k:])
	s.n += len(p)
}

func (s *stream) closeWrite() {
	s.mu.Lock()
	s.eof = true
	s.changed.Broadcast()
	s.mu.Unlock()
}

func (s *stream) forbidWrite() {
	s.mu.Lock()
	s.writeShut = true
	s.stopTimer(&s.writeLimit)
	s.changed.Broadcast()
	s.mu.Unlock()
}

func (s *stream) closeRead() {
	s.mu.Lock()
	s.readClosed = true
	s.ring, s.n = nil, 0
	s.stopTimer(&s.readLimit)
	s.changed.Broadcast()
	s.mu.Unlock()
}

func (s *stream) stopTimer(d *deadline) {
	d.gen++
	if d.stop != nil {
		d.stop()
		d.stop = nil
	}
}

func (s *stream) setDeadline(d *deadline, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopTimer(d)
	d.passed = false
	if t.IsZero() {
		return
	}
	wait := t.Sub(s.time.Now())
	if wait <= 0 {
		d.passed = true
		s.changed.Broadcast()
		return
	}
	gen := d.gen
	d.stop = s.time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if d.gen == gen {
			d.passed = true
			s.changed.Broadcast()
		}
	})
}
