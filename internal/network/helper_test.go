package network

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/vnet"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// rawBody is a response body as it stands.
type rawBody []byte

func (b rawBody) AppendTo(dst []byte) []byte { return append(dst, b...) }

func echo(r *Request) { r.Respond(rawBody(r.Body)) }

// logBuffer is a log that tests read.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type rig struct {
	t    testing.TB
	s    *Server
	net  *vnet.Network
	log  *logBuffer
	reg  *prometheus.Registry
	tcp  bool
	stop func()
}

var virtualTime = vnet.Time{Now: time.Now, AfterFunc: func(d time.Duration, f func()) func() bool { return clock.Real{}.AfterFunc(d, f).Stop }}

// start runs a server with one listener, in memory or on the loopback interface.
func start(t testing.TB, tcp bool, o Options) *rig {
	r := &rig{t: t, net: vnet.New(virtualTime), log: &logBuffer{}, reg: prometheus.NewRegistry(), tcp: tcp}
	lc := ListenerConfig{Endpoint: Endpoint{Name: "PLAINTEXT", Protocol: Plaintext, Host: "127.0.0.1"}}
	if !tcp {
		lc.Listen = func() (net.Listener, error) { return r.net.Listen("127.0.0.1:9092") }
	}
	o.Listeners = []ListenerConfig{lc}
	o.Logger = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.Registerer = r.reg
	if o.Dispatch == nil {
		o.Dispatch = echo
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	r.s = s
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			_ = s.Close(ctx)
		})
	}
	t.Cleanup(r.stop)
	return r
}

func (r *rig) dial() *client {
	r.t.Helper()
	addr := r.s.Addr("PLAINTEXT").String()
	var nc net.Conn
	var err error
	if r.tcp {
		nc, err = net.Dial("tcp", addr)
	} else {
		nc, err = r.net.Dial(context.Background(), "tcp", addr)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { nc.Close() })
	return &client{Conn: nc, t: r.t}
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// settled checks that nothing is charged or counted any more.
func (r *rig) settled() {
	r.t.Helper()
	eventually(r.t, "no memory charged and no request in flight", func() bool { return r.s.gate.used.Load() == 0 && r.s.m.inFlight.Load() == 0 })
	if q := r.s.gate.queue.Load(); q != 0 {
		r.t.Fatalf("%d waiters are left at the gate", q)
	}
}

type client struct {
	net.Conn
	t testing.TB
}

// frame makes a request frame: Metadata v1, which has a header without tagged fields.
func frame(corr int32, body []byte) []byte { return frameOf(3, 1, corr, body) }

func frameOf(key, version int16, corr int32, body []byte) []byte {
	b := make([]byte, 4, 64+len(body))
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, uint32(corr))
	b = append(b, 0, 4, 't', 'e', 's', 't')
	b = append(b, body...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func (c *client) send(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

func (c *client) receive() (corr int32, body []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return 0, nil, err
	}
	body = make([]byte, int(binary.BigEndian.Uint32(head[:]))-4)
	_, err = io.ReadFull(c, body)
	return int32(binary.BigEndian.Uint32(head[4:])), body, err
}

func (c *client) want(corr int32, body []byte) {
	c.t.Helper()
	got, b, err := c.receive()
	if err != nil || got != corr || !bytes.Equal(b, body) {
		c.t.Fatalf("response %d with %d bytes (%v), want %d with %d bytes", got, len(b), err, corr, len(body))
	}
}

// wantClosed checks that the server closes without an answer.
func (c *client) wantClosed() {
	c.t.Helper()
	b, err := io.ReadAll(c)
	if len(b) > 0 {
		c.t.Fatalf("answered %q", b)
	}
	_ = err // EOF or a reset: both are closed
}

// full says whether further lines of this reason are left out.
func (l *limitedLog) full(why reason) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines[why] >= logBurst
}
