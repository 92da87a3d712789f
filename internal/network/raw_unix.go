//go:build unix

package network

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// rawConn gives access to a plain TCP socket, nil for other connections.
func rawConn(nc net.Conn) syscall.RawConn {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// fillRaw reads into the window as soon as the socket is readable. The window has a buffer only then: a connection that
// waits for its next request holds none.
func (c *Conn) fillRaw() error {
	if c.rawRead == nil {
		c.rawRead = c.readReady
	}
	c.rawN, c.rawErr = 0, nil
	if err := c.raw.Read(c.rawRead); err != nil {
		return err
	}
	if c.rawErr == nil && c.rawN == 0 {
		return io.EOF
	}
	return c.rawErr
}

// readReady tries to read; false where the socket has nothing yet.
func (c *Conn) readReady(fd uintptr) bool {
	v := &c.win
	held := v.buf != nil
	p := v.room()
	for {
		n, err := unix.Read(int(fd), p)
		if err == unix.EINTR {
			continue
		}
		if err == nil {
			c.rawN = n
			v.w += n
		}
		if c.rawN == 0 && !held {
			v.release()
		}
		if err == unix.EAGAIN {
			return false
		}
		c.rawErr = err
		return true
	}
}
