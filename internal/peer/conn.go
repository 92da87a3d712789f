package peer

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// conn is one connection. Requests are written by whoever asks, under a lock; one goroutine reads the answers.
type conn struct {
	nc        net.Conn
	format    *kmsg.RequestFormatter
	maxAnswer int
	versions  map[int16]versionRange // set before anybody else sees the connection

	writing sync.Mutex
	buf     []byte

	mu      sync.Mutex
	next    int32
	waiting map[int32]chan<- answer
	err     error // why the connection is closed
}

type versionRange struct{ min, max int16 }

type answer struct {
	body []byte
	err  error
}

// firstPrivateKey is the first key of the requests that only nodes of this project know; they are in no table of versions.
const firstPrivateKey = 20000

func newConn(nc net.Conn, o Options) *conn {
	return &conn{nc: nc, format: kmsg.NewRequestFormatter(kmsg.FormatterClientID(o.ClientID)), maxAnswer: o.MaxResponseBytes, waiting: map[int32]chan<- answer{}}
}

func (c *conn) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err == nil
}

func (c *conn) closedByUs() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Is(c.err, ErrClosed)
}

// close ends the connection; everybody who waits gets err. The first reason stays.
func (c *conn) close(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	waiting := c.waiting
	c.waiting = nil
	c.mu.Unlock()
	_ = c.nc.Close()
	for _, ch := range waiting {
		ch <- answer{err: err}
	}
}

// negotiate learns which versions the other side knows.
func (c *conn) negotiate(ctx context.Context) error {
	req := kmsg.NewPtrApiVersionsRequest()
	req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = 3, "ottla", "1"
	r, err := c.send(ctx, req)
	if err != nil {
		return err
	}
	resp := r.(*kmsg.ApiVersionsResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return fmt.Errorf("which versions it knows: %w", err)
	}
	c.versions = make(map[int16]versionRange, len(resp.ApiKeys))
	for _, k := range resp.ApiKeys {
		c.versions[k.ApiKey] = versionRange{k.MinVersion, k.MaxVersion}
	}
	return nil
}

func (c *conn) roundTrip(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	if req.Key() < firstPrivateKey {
		r, ok := c.versions[req.Key()]
		if !ok {
			return nil, fmt.Errorf("the other side does not know this request: %w", kerr.UnsupportedVersion)
		}
		v := min(req.MaxVersion(), r.max)
		if asked := req.GetVersion(); asked > 0 {
			v = min(v, asked)
		}
		if _, fixed := req.(*raw); fixed && v != req.GetVersion() {
			v = -1
		}
		if v < r.min {
			return nil, fmt.Errorf("the other side knows versions %d-%d of this request: %w", r.min, r.max, kerr.UnsupportedVersion)
		}
		req.SetVersion(v)
	}
	return c.send(ctx, req)
}

func (c *conn) send(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	ch := make(chan answer, 1)
	c.mu.Lock()
	if err := c.err; err != nil {
		c.mu.Unlock()
		return nil, err
	}
	id := c.next
	c.next++
	c.waiting[id] = ch
	c.mu.Unlock()
	if err := c.write(ctx, req, id); err != nil {
		c.close(err)
		return nil, err
	}
	select {
	case a := <-ch:
		if a.err != nil {
			return nil, a.err
		}
		return decode(req, a.body)
	case <-ctx.Done():
		// The answer is still awaited in its place in the order; whoever reads it throws it away.
		return nil, context.Cause(ctx)
	}
}

func (c *conn) write(ctx context.Context, req kmsg.Request, id int32) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.buf = c.format.AppendRequest(c.buf[:0], req, id)
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.nc.SetWriteDeadline(deadline); err != nil {
			return err
		}
	}
	_, err := c.nc.Write(c.buf)
	if cap(c.buf) > 1<<20 {
		c.buf = nil
	}
	return err
}

// read hands answers to those who wait, until the connection ends.
func (c *conn) read() {
	c.close(c.readAll())
}

func (c *conn) readAll() error {
	r := bufio.NewReaderSize(c.nc, 64<<10)
	var head [8]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return fmt.Errorf("the connection ended: %w", err)
		}
		n := int(int32(binary.BigEndian.Uint32(head[:])))
		if n < 4 || n > c.maxAnswer {
			return fmt.Errorf("an answer of %d bytes: at most %d are taken", n, c.maxAnswer)
		}
		body := make([]byte, n-4)
		if _, err := io.ReadFull(r, body); err != nil {
			return fmt.Errorf("the connection ended within an answer: %w", err)
		}
		id := int32(binary.BigEndian.Uint32(head[4:]))
		c.mu.Lock()
		ch, ok := c.waiting[id]
		delete(c.waiting, id)
		c.mu.Unlock()
		if !ok {
			return fmt.Errorf("an answer to request %d, which was not asked", id)
		}
		ch <- answer{body: body}
	}
}

// decode reads an answer whose header's correlation id is taken off.
func decode(req kmsg.Request, body []byte) (kmsg.Response, error) {
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if resp.IsFlexible() && req.Key() != 18 { // ApiVersions answers always have the old header
		rest, err := skipTags(body)
		if err != nil {
			return nil, err
		}
		body = rest
	}
	if err := resp.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("an answer that cannot be read: %w", err)
	}
	return resp, nil
}

var errTags = errors.New("an answer with a damaged header")

func skipTags(b []byte) ([]byte, error) {
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)) {
		return nil, errTags
	}
	b = b[used:]
	for range n {
		for i := range 2 { // tag, size
			v, used := binary.Uvarint(b)
			if used <= 0 {
				return nil, errTags
			}
			if b = b[used:]; i == 1 {
				if v > uint64(len(b)) {
					return nil, errTags
				}
				b = b[v:]
			}
		}
	}
	return b, nil
}
