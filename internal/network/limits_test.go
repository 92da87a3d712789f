package network

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestMaxConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, false, Options{MaxConnections: 2})
		defer r.stop()
		a, b, c := r.dial(), r.dial(), r.dial()
		for _, x := range []*client{a, b, c} {
			x.send(frame(1, nil))
		}
		a.want(1, nil)
		b.want(1, nil)
		synctest.Wait()
		if n := r.s.listeners[0].open.Load(); n != 2 {
			t.Fatalf("%d open", n)
		}
		a.Close()
		c.want(1, nil)
		if !strings.Contains(r.log.String(), "raise max.connections") {
			t.Fatal(r.log.String())
		}
	})
}

func TestPerIP(t *testing.T) {
	overrides, err := ParsePerIPOverrides("10.0.0.1:0, 127.0.0.1:2,[::1]:3")
	if err != nil || overrides[netip.MustParseAddr("::1")] != 3 {
		t.Fatal(overrides, err)
	}
	both(t, func(t *testing.T, tcp bool) {
		r := start(t, tcp, Options{MaxConnectionsPerIP: 1, PerIPOverrides: overrides})
		a, b := r.dial(), r.dial()
		for _, x := range []*client{a, b} {
			x.send(frame(1, nil))
			x.want(1, nil)
		}
		r.dial().wantClosed()
		eventually(t, "log", func() bool { return strings.Contains(r.log.String(), "max.connections.per.ip") })
		a.Close()
		eventually(t, "a place is free again", func() bool {
			c := r.dial()
			if _, err := c.Write(frame(1, nil)); err != nil {
				return false
			}
			_, _, err := c.receive()
			return err == nil
		})
	})
	for _, bad := range []string{"localhost:1", "1.2.3.4", "1.2.3.4:x", "1.2.3.4:-1"} {
		if _, err := ParsePerIPOverrides(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestCreationRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, false, Options{MaxConnectionsPerSec: 10})
		defer r.stop()
		began := time.Now()
		for range 100 {
			c := r.dial()
			c.send(frame(1, nil))
			c.want(1, nil)
		}
		if d := time.Since(began); d < 8*time.Second || d > 11*time.Second {
			t.Fatalf("100 connections at 10 a second took %v", d)
		}
	})
}

// failingListener fails like a system without file descriptors.
type failingListener struct {
	net.Listener
	mu   sync.Mutex
	left int
}

func (l *failingListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left > 0 {
		l.left--
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

func TestAcceptFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, false, Options{})
		defer r.stop()
		s, err := New(Options{Dispatch: echo, Listeners: []ListenerConfig{{Endpoint: Endpoint{Name: "X"}, Listen: func() (net.Listener, error) {
			l, err := r.net.Listen("x:1")
			return &failingListener{Listener: l, left: 5}, err
		}}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		nc, err := r.net.Dial(t.Context(), "", "x:1")
		if err != nil {
			t.Fatal(err)
		}
		c := &client{Conn: nc, t: t}
		c.send(frame(1, nil))
		c.want(1, nil)
		nc.Close()
		if n := s.m.acceptFail.Load(); n != 5 {
			t.Fatalf("%d failures counted", n)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestListenFails(t *testing.T) {
	r := start(t, true, Options{})
	port := r.s.Addr("PLAINTEXT").(*net.TCPAddr).Port
	s, err := New(Options{Dispatch: echo, Listeners: []ListenerConfig{{Endpoint: Endpoint{Name: "A"}}, {Endpoint: Endpoint{Name: "B", Host: "127.0.0.1", Port: port}}}})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Start()
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "B://127.0.0.1:"+strconv.Itoa(port)) {
		t.Fatal(err)
	}
	if s.Close(t.Context()) != nil {
		t.Fatal("close after a failed start")
	}
	if err := r.s.ServeConn("NOPE", r.dial()); err == nil {
		t.Fatal("served on a listener that is not there")
	}
	if _, err := New(Options{}); err == nil {
		t.Fatal("no dispatch")
	}
}

// An unauthenticated connection is held to small frames until its handler lifts the limit.
func TestFrameLimit(t *testing.T) {
	r := start(t, false, Options{})
	s, err := New(Options{Dispatch: func(q *Request) {
		if q.Header.CorrelationID == 2 {
			q.Conn.SetFrameLimit(0)
		}
		echo(q)
	}, Listeners: []ListenerConfig{{Endpoint: Endpoint{Name: "S", Protocol: SASLPlaintext}, Listen: func() (net.Listener, error) { return r.net.Listen("s:1") }}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	dial := func() *client {
		nc, err := r.net.Dial(t.Context(), "", "s:1")
		if err != nil {
			t.Fatal(err)
		}
		return &client{Conn: nc, t: t}
	}
	big := make([]byte, 70_000)
	a := dial()
	a.Write(frame(1, big))
	a.wantClosed()
	b := dial()
	b.send(frame(2, nil))
	b.want(2, nil)
	b.send(frame(3, big))
	b.want(3, big)
	b.Close()
}

// Thousands of connections at work, and what they cost when they rest.
func TestManyConnections(t *testing.T) {
	n := 2000
	if testing.Short() {
		n = 200
	}
	r := start(t, true, Options{IdleTimeout: -1})
	base := memory()
	conns := make([]*client, n)
	for i := range conns {
		conns[i] = r.dial()
	}
	for round := range 2 {
		for i, c := range conns {
			c.send(frame(int32(i), []byte{byte(round)}))
		}
		for i, c := range conns {
			c.want(int32(i), []byte{byte(round)})
		}
	}
	per := (memory() - base) / int64(n)
	t.Logf("%d bytes a connection, its client's end included", per)
	if per > 10_000 {
		t.Errorf("an idle connection costs %d bytes with its client's end", per)
	}
	for _, c := range conns {
		c.Close()
	}
	eventually(t, "all are gone", func() bool { return r.s.listeners[0].open.Load() == 0 })
	r.settled()
}

// memory is what the heap and the goroutines' stacks take.
func memory() int64 {
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// Garbage and half frames from many clients at once leave nothing behind.
func TestHalfOpenCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, false, Options{})
		defer r.stop()
		for i := range 200 {
			c := r.dial()
			whole := frame(1, make([]byte, 500_000))
			go func() {
				c.Write(whole[:i*len(whole)/200])
				if i%3 == 0 {
					c.Close()
				}
				io.Copy(io.Discard, c)
			}()
		}
		synctest.Wait()
		if u := r.s.gate.used.Load(); u > 200*(500_000+stepBytes) {
			t.Fatalf("%d bytes charged", u)
		}
		<-time.After(20 * time.Minute)
		synctest.Wait()
		if n := r.s.listeners[0].open.Load(); n != 0 {
			t.Fatalf("%d connections are left", n)
		}
		r.settled()
	})
}
