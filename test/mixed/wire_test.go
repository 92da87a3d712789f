package mixed

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/metadata/observer"
	"github.com/ottla/ottla/test/peer"
)

// lines keeps one connection to each address.
type lines struct {
	mu    sync.Mutex
	conns map[string]net.Conn
	seen  []string // names of the requests
}

func newLines(t *testing.T) *lines {
	l := &lines{conns: map[string]net.Conn{}}
	t.Cleanup(func() {
		for _, c := range l.conns {
			c.Close()
		}
	})
	return l
}

func (l *lines) asked(name string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.seen {
		if s == name {
			n++
		}
	}
	return n
}

// ask sends one request; the observer has no two under way.
func (l *lines) ask(ctx context.Context, to observer.Node, req kmsg.Request) (resp kmsg.Response, err error) {
	l.mu.Lock()
	c := l.conns[to.Addr]
	delete(l.conns, to.Addr)
	l.seen = append(l.seen, kmsg.NameForKey(req.Key()))
	l.mu.Unlock()
	if c == nil {
		var d net.Dialer
		if c, err = d.DialContext(ctx, "tcp", to.Addr); err != nil {
			return nil, err
		}
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if err != nil || !stop() {
			c.Close()
			return
		}
		l.mu.Lock()
		l.conns[to.Addr] = c
		l.mu.Unlock()
	}()
	if _, err := c.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("observer")).AppendRequest(nil, req, 7)); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, err
	}
	skip := 4
	if req.IsFlexible() {
		skip = 5 // no tags in the header
	}
	if len(b) < skip {
		return nil, fmt.Errorf("answer of %d bytes", len(b))
	}
	resp = req.ResponseKind()
	return resp, resp.ReadFrom(b[skip:])
}

// kafka gives Kafka's jars, or skips.
func kafka(t *testing.T) *peer.Kafka {
	t.Helper()
	if testing.Short() {
		t.Skip("starts JVMs")
	}
	k, err := peer.FetchKafka()
	if errors.Is(err, peer.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func eventually(t *testing.T, within time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-tick.C
	}
}
