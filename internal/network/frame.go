package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/ottla/ottla/internal/wire"
)

const (
	// windowBytes is what one read takes at most before the size of the frame is known: most requests arrive whole in it.
	windowBytes = 4096
	// stepBytes is the memory that an announced frame gets before any of its bytes have arrived.
	stepBytes = 64 << 10
	// trustBytesMax bounds what a connection whose frames have been large before gets at once.
	trustBytesMax = 16 << 20
	// readBytes bounds one read of a frame's rest.
	readBytes = 1 << 20
)

// window holds the bytes read ahead. On a TCP socket they stand in a pooled buffer that the connection has only while there are
// any; elsewhere just the frame's size is read ahead, into small.
type window struct {
	buf   *wire.Buffer
	r, w  int
	small [wire.FrameSizeBytes]byte
}

func (v *window) n() int { return v.w - v.r }

func (v *window) bytes() []byte {
	if v.buf != nil {
		return v.buf.Bytes()[v.r:v.w]
	}
	return v.small[v.r:v.w]
}

// take copies the next bytes into p.
func (v *window) take(p []byte) int {
	n := copy(p, v.bytes())
	v.r += n
	if v.r == v.w {
		v.release()
	}
	return n
}

// size takes the frame's size prefix. REQUIRES: n() >= 4.
func (v *window) size() int {
	n := int(int32(binary.BigEndian.Uint32(v.bytes())))
	v.r += wire.FrameSizeBytes
	if v.r == v.w {
		v.release()
	}
	return n
}

func (v *window) release() {
	if v.buf != nil {
		v.buf.Release()
		v.buf = nil
	}
	v.r, v.w = 0, 0
}

// room makes space behind what is there.
func (v *window) room() []byte {
	if v.buf == nil {
		v.buf = wire.GetBuffer(windowBytes)
	}
	b := v.buf.Bytes()
	if v.r > 0 {
		copy(b, b[v.r:v.w])
		v.r, v.w = 0, v.w-v.r
	}
	return b[v.w:]
}

// fill waits for more bytes of the window.
func (c *Conn) fill() error {
	if c.raw != nil {
		return c.fillRaw()
	}
	n, err := c.nc.Read(c.win.small[c.win.w:])
	c.win.w += n
	if n > 0 {
		return nil
	}
	return err
}

// checkSize refuses sizes that no frame has; first is the connection's first, where another protocol shows.
func (c *Conn) checkSize(n int, first bool) error {
	limit := c.srv.opts.MaxRequestBytes
	if c.frameLimit > 0 {
		limit = c.frameLimit
	}
	if n > 0 && n <= limit {
		return nil
	}
	if first {
		if err := foreign(n, c.listener.Name); err != nil {
			return err
		}
	}
	switch {
	case n <= 0:
		return &closeError{reason: reasonMalformed, err: fmt.Errorf("a frame of size %d; the peer does not speak the Kafka protocol, or lost its place in the stream", n)}
	case c.frameLimit > 0:
		return &closeError{reason: reasonTooLarge, err: fmt.Errorf("a request of %d bytes on a connection that has not authenticated, where %d is the limit; check the client's security.protocol", n, limit)}
	default:
		return &closeError{reason: reasonTooLarge, err: fmt.Errorf("a request of %d bytes; the limit is socket.request.max.bytes = %d: raise it, or send less in one request", n, limit)}
	}
}

// readFrame reads the frame of n bytes. Its memory is charged to the gate: all of it at once where it is small or the
// connection's frames have been that large before, else in steps as the bytes arrive.
func (c *Conn) readFrame(n int) (*wire.Buffer, error) {
	g := c.srv.gate
	size := min(n, max(stepBytes, c.trust))
	if err := c.charge(int64(size), false); err != nil {
		return nil, err
	}
	buf := wire.GetBuffer(size)
	filled := 0
	for {
		k, err := c.readInto(buf.Bytes()[filled:])
		filled += k
		if err == nil && size == n {
			break
		}
		next := min(n, 4*size)
		if err == nil {
			err = c.charge(int64(next-size), true)
		}
		if err != nil {
			buf.Release()
			g.release(int64(size))
			g.complete(c)
			if errors.Is(err, io.EOF) {
				err = &closeError{reason: reasonMalformed, err: fmt.Errorf("the client closed the connection after %d of a frame's %d bytes", filled, n)}
			}
			return nil, err
		}
		grown := wire.GetBuffer(next)
		copy(grown.Bytes(), buf.Bytes())
		buf.Release()
		buf, size = grown, next
	}
	if n > stepBytes {
		g.complete(c)
		c.trust = max(c.trust, min(2*n, trustBytesMax))
	}
	return buf, nil
}

// charge takes n bytes of request memory, waiting where there are none.
func (c *Conn) charge(n int64, growing bool) error {
	g := c.srv.gate
	if g.tryAcquire(n) {
		return nil
	}
	c.flush() // what is answered may be what the memory waits for
	c.phase.Store(phaseBusy)
	if err := g.acquire(c, n, growing); err != nil {
		return net.ErrClosed
	}
	c.phase.Store(phaseFrame)
	return nil
}

// readInto fills p from the window and the connection. Requests that were dispatched before are written before it waits.
func (c *Conn) readInto(p []byte) (int, error) {
	filled := c.win.take(p)
	if filled == len(p) {
		return filled, nil
	}
	c.flush()
	c.phase.Store(phaseFrame)
	for filled < len(p) {
		n, err := c.nc.Read(p[filled:min(len(p), filled+readBytes)])
		filled += n
		c.got.Add(int64(n))
		if err != nil && filled < len(p) {
			return filled, err
		}
	}
	return filled, nil
}
