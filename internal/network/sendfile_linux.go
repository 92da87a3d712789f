package network

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const canSendfile = true

// sendfileBytes bounds one call, so that the sweep sees progress.
const sendfileBytes = 1 << 20

// fileSender holds the arguments of one transfer for the callback of the raw connection, which is made once.
type fileSender struct {
	c    *Conn
	b    []byte // bytes to send first, with more to come
	file int
	off  int64
	n    int64
	err  error
	f    func(fd uintptr) bool
}

func (s *fileSender) init() { s.f = s.ready }

// sendMore writes b; the kernel waits for what follows before it sends a segment that is not full.
func (w *writer) sendMore(b []byte) error {
	w.file.b = b
	return w.file.run(w.c)
}

// sendFile sends n bytes of f from off. The offset is explicit: other goroutines read the same file.
func (w *writer) sendFile(f *os.File, off, n int64) error {
	w.file.file, w.file.off, w.file.n = int(f.Fd()), off, n
	w.c.inside.Store(true)
	err := w.file.run(w.c)
	w.c.inside.Store(false)
	w.c.srv.m.sendfileBytes.Add(n - w.file.n)
	w.file.n = 0
	return err
}

func (s *fileSender) run(c *Conn) error {
	s.c, s.err = c, nil
	err := c.raw.Write(s.f)
	if err == nil {
		err = s.err
	}
	s.c, s.b = nil, nil
	return err
}

// ready sends as much as the socket takes; false where it is full.
func (s *fileSender) ready(fd uintptr) bool {
	for len(s.b) > 0 || s.n > 0 {
		var n int
		var err error
		if len(s.b) > 0 {
			n, err = unix.SendmsgN(int(fd), s.b, nil, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL)
		} else {
			n, err = unix.Sendfile(int(fd), s.file, &s.off, int(min(s.n, sendfileBytes)))
		}
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return false
		case err != nil:
			s.err = os.NewSyscallError("sendfile", err)
			return true
		case n == 0:
			s.err = fmt.Errorf("sendfile: the file ends %d bytes before the region does: %w", s.n, io.ErrUnexpectedEOF)
			return true
		}
		if len(s.b) > 0 {
			s.b = s.b[n:]
		} else {
			s.n -= int64(n)
		}
		s.c.wrote.Add(1)
	}
	return true
}
