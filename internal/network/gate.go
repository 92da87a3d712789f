package network

import (
	"errors"
	"sync"
	"sync/atomic"
)

// gate bounds the memory of the requests that are being read and handled, over all connections.
//
// A frame enters while less than the limit is in use, so that one frame larger than what is left (or than the whole
// limit) still gets through: at most one frame more than the limit is in use. Those that do not fit wait in order of
// arrival. A frame that is charged in steps, as its bytes arrive, already holds memory while it waits for more: such
// waiters come first, and if the limit is reached by frames none of which is complete, one of them at a time may draw
// over it, or they would wait for each other for ever. Responses that are larger than was thought are charged as they are made,
// so that nothing enters until they have been read.
type gate struct {
	limit int64
	used  atomic.Int64
	queue atomic.Int64 // waiters, so that the fast paths take no lock
	waits atomic.Int64 // how often one waited, for the metrics
	// answers is the part of used that responses take beyond what their requests were charged. It always comes free: they are
	// read, or their connections closed.
	answers atomic.Int64

	mu       sync.Mutex
	growing  []*gateWaiter
	entering []*gateWaiter
	over     *Conn // the connection that may draw over the limit
}

type gateWaiter struct {
	c     *Conn
	n     int64
	ready chan struct{}
	in    bool // admitted; guarded by gate.mu
}

var errGateClosed = errors.New("the connection was closed while it waited for request memory")

// tryAcquire charges n bytes where that needs no wait.
func (g *gate) tryAcquire(n int64) bool {
	if g.queue.Load() != 0 {
		return false
	}
	for {
		u := g.used.Load()
		if u >= g.limit {
			return false
		}
		if g.used.CompareAndSwap(u, u+n) {
			return true
		}
	}
}

// acquire charges n bytes for c, waiting for its turn; growing says that c holds memory already.
func (g *gate) acquire(c *Conn, n int64, growing bool) error {
	if n <= 0 || g.tryAcquire(n) {
		return nil
	}
	done := c.done()
	w := &gateWaiter{c: c, n: n, ready: make(chan struct{})}
	g.waits.Add(1)
	g.queue.Add(1)
	g.mu.Lock()
	if growing {
		g.growing = append(g.growing, w)
	} else {
		g.entering = append(g.entering, w)
	}
	g.admit()
	g.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-done:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.in { // admitted just now
		return nil
	}
	g.queue.Add(-1)
	g.growing, g.entering = without(g.growing, w), without(g.entering, w)
	g.admit()
	return errGateClosed
}

// force charges n bytes that are there already, whatever the limit: others wait until they are gone.
func (g *gate) force(n int64) {
	if n > 0 {
		g.answers.Add(n)
		g.used.Add(n)
	}
}

// unforce gives back what force has charged.
func (g *gate) unforce(n int64) {
	if n > 0 {
		g.answers.Add(-n)
		g.release(n)
	}
}

// pressed says whether somebody waits for memory.
func (g *gate) pressed() bool { return g.queue.Load() > 0 }

// release gives n bytes back.
func (g *gate) release(n int64) {
	if n == 0 {
		return
	}
	g.used.Add(-n)
	if g.queue.Load() != 0 {
		g.mu.Lock()
		g.admit()
		g.mu.Unlock()
	}
}

// complete says that c's frame has arrived whole or will not: its right to draw over the limit passes on.
func (g *gate) complete(c *Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over == c {
		g.over = nil
		g.admit()
	}
}

// admit lets in whom it can. REQUIRES: g.mu.
func (g *gate) admit() {
	for len(g.growing) > 0 {
		w := g.growing[0]
		if g.used.Load() >= g.limit {
			if g.over == nil && g.answers.Load() > 0 {
				break
			}
			if g.over != nil && g.over != w.c {
				// The one that may go over might stand further back.
				i := indexOf(g.growing, g.over)
				if i < 0 {
					return
				}
				w = g.growing[i]
			}
			g.over = w.c
		}
		g.growing = without(g.growing, w)
		g.let(w)
	}
	for len(g.entering) > 0 && g.used.Load() < g.limit {
		w := g.entering[0]
		g.entering = without(g.entering, w)
		g.let(w)
	}
}

func (g *gate) let(w *gateWaiter) {
	g.used.Add(w.n)
	g.queue.Add(-1)
	w.in = true
	close(w.ready)
}

func indexOf(ws []*gateWaiter, c *Conn) int {
	for i, w := range ws {
		if w.c == c {
			return i
		}
	}
	return -1
}

func without(ws []*gateWaiter, w *gateWaiter) []*gateWaiter {
	for i := range ws {
		if ws[i] == w {
			copy(ws[i:], ws[i+1:])
			ws[len(ws)-1] = nil
			return ws[:len(ws)-1]
		}
	}
	return ws
}
