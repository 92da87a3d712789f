package network

import (
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"syscall"

	"github.com/ottla/ottla/internal/invariant"
	"github.com/ottla/ottla/internal/wire"
)

const (
	batchRequests = 64
	// gatherBytes is how much is collected for one write.
	gatherBytes = 256 << 10
	gatherParts = 64
	// sendfileBytesMin is the smallest region that is sent by sendfile: below, one copy is cheaper than one more call.
	sendfileBytesMin = 64 << 10
)

// writer is what a goroutine needs while it writes for a connection.
type writer struct {
	c     *Conn
	batch [batchRequests]*Request
	parts [gatherParts][]byte // waiting to be written
	bufs  net.Buffers         // window over parts for one writev
	n     int                 // parts in use
	bytes int
	held  []*wire.Buffer // copies of regions among parts
	file  fileSender
}

func newWriter() any {
	w := &writer{}
	w.file.init()
	return w
}

// drainInBackground is drain as a goroutine, which the server's wg counts already.
func (c *Conn) drainInBackground() {
	defer c.srv.wg.Done()
	c.drain()
}

// drain writes answered requests in order until the first one is unanswered. REQUIRES: the caller owns c.writing.
func (c *Conn) drain() {
	w := c.srv.writers.Get().(*writer)
	w.c = c
	defer func() {
		if p := recover(); p != nil {
			c.close(reasonPanic, &panicError{value: p, stack: debug.Stack()})
			w.abandon() // and leave w itself to the garbage collector
			return
		}
		w.c = nil
		c.srv.writers.Put(w)
	}()
	for done := 0; ; {
		n := c.take(w.batch[:], done)
		if n == 0 {
			return
		}
		done = n
		why, err := w.writeBatch(n)
		w.letGo()
		for _, r := range w.batch[:n] {
			r.drop()
		}
		if err != nil {
			c.fail(why, err)
		}
	}
}

// take counts the first done requests of batch as written and takes the next answered ones. Where there are none the caller is
// no longer the writer.
func (c *Conn) take(batch []*Request, done int) (n int) {
	c.mu.Lock()
	for i, r := range batch[:done] {
		c.inFlight--
		c.inFlightBytes -= r.bytes
		batch[i] = nil
	}
	for n < len(batch) && c.head != nil && c.head.answered && !c.closed {
		r := c.head
		if c.head = r.next; c.head == nil {
			c.tail = nil
		}
		r.next = nil
		batch[n] = r
		n++
	}
	c.writing = n > 0
	if done > 0 {
		c.slot.Signal()
	}
	end := c.inFlight == 0 && c.srv.draining.Load() && !c.dispatching
	c.mu.Unlock()
	if end {
		c.close(reasonShutdown, nil)
	}
	return n
}

func (w *writer) writeBatch(n int) (why reason, err error) {
	for _, r := range w.batch[:n] {
		if r.closing != nil {
			if err := w.flush(false); err != nil {
				return reasonIO, err
			}
			return reasonRequest, r.closing
		}
		if r.out == nil {
			continue
		}
		if err := w.write(r.out); err != nil {
			return reasonIO, err
		}
		w.c.srv.m.responseBytes.Add(r.out.size)
	}
	return reasonIO, w.flush(false)
}

// fail closes the connection after an error of writing.
func (c *Conn) fail(why reason, err error) {
	var p *panicError
	switch {
	case errors.As(err, &p):
		why = reasonPanic
	case why == reasonIO && gone(err):
		why, err = reasonClient, nil
	}
	c.close(why, err)
}

// gone says whether err only means that the peer has left, or that we have closed the connection ourselves.
func gone(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)
}

func (w *writer) write(o *Out) error {
	at := 0
	for _, p := range o.regions {
		if err := w.add(o.B[at:p.at]); err != nil {
			return err
		}
		at = p.at
		if err := w.addRegion(p.region); err != nil {
			return err
		}
	}
	return w.add(o.B[at:])
}

// add puts b behind what waits to be written. b must stay as it is until the next flush.
func (w *writer) add(b []byte) error {
	for len(b) > 0 {
		k := min(len(b), gatherBytes-w.bytes)
		w.parts[w.n] = b[:k]
		w.n++
		w.bytes += k
		b = b[k:]
		if w.bytes == gatherBytes || w.n == gatherParts {
			if err := w.flush(false); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writer) addRegion(g Region) error {
	n := int64(g.Len())
	if n == 0 {
		return nil
	}
	if w.c.raw != nil && canSendfile && n >= sendfileBytesMin {
		if f, off, m := g.Range(); f != nil {
			invariant.Assert(m == n, "a region of %d bytes has a range of %d", n, m)
			if err := w.flush(true); err != nil {
				return err
			}
			return w.sendFile(f, off, n)
		}
	}
	for off := int64(0); off < n; {
		k := min(n-off, int64(gatherBytes-w.bytes))
		buf := wire.GetBuffer(int(k))
		w.held = append(w.held, buf)
		if read, err := g.ReadAt(buf.Bytes(), off); read < int(k) {
			return fmt.Errorf("read %d bytes for a response: %w", k, err)
		}
		off += k
		if err := w.add(buf.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// flush writes what waits. more says that bytes follow at once, so that the last segment need not leave before them.
func (w *writer) flush(more bool) (err error) {
	if w.n == 0 {
		return nil
	}
	c := w.c
	c.inside.Store(true)
	switch {
	case more && w.n == 1:
		err = w.sendMore(w.parts[0])
	case w.n == 1:
		_, err = c.nc.Write(w.parts[0])
	case c.raw != nil:
		w.bufs = w.parts[:w.n]
		_, err = w.bufs.WriteTo(c.nc)
	default:
		joined := wire.GetBuffer(w.bytes)
		at := 0
		for _, p := range w.parts[:w.n] {
			at += copy(joined.Bytes()[at:], p)
		}
		_, err = c.nc.Write(joined.Bytes())
		joined.Release()
	}
	c.inside.Store(false)
	c.wrote.Add(1)
	w.letGo()
	return err
}

// letGo forgets what waits to be written.
func (w *writer) letGo() {
	clear(w.parts[:w.n])
	w.bufs, w.n, w.bytes = nil, 0, 0
	for i, b := range w.held {
		b.Release()
		w.held[i] = nil
	}
	w.held = w.held[:0]
}

// abandon gives back what the requests of the batch are charged, and nothing else: after a panic nobody knows what is whole.
func (w *writer) abandon() {
	for _, r := range w.batch {
		if r != nil {
			r.out = nil
			r.drop()
		}
	}
}
