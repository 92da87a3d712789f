package peer

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// raw is a request whose body is not looked into: somebody else's, on its way to the node that can answer it.
type raw struct {
	key, version   int16
	flexible, tags bool // of the request's and of the response's header
	body           []byte
}

func (r *raw) Key() int16                 { return r.key }
func (r *raw) MaxVersion() int16          { return r.version }
func (*raw) SetVersion(int16)             {}
func (r *raw) GetVersion() int16          { return r.version }
func (r *raw) IsFlexible() bool           { return r.flexible }
func (r *raw) AppendTo(dst []byte) []byte { return append(dst, r.body...) }
func (r *raw) ReadFrom(b []byte) error    { r.body = b; return nil }
func (r *raw) RequestKind() kmsg.Request  { return r }
func (r *raw) ResponseKind() kmsg.Response {
	return &raw{key: r.key, version: r.version, flexible: r.tags}
}

// Forward sends the body of a request as it is and gives the body of the answer.
func (c *Client) Forward(ctx context.Context, t Target, key, version int16, body []byte) ([]byte, error) {
	q := &raw{key: key, version: version, body: body}
	if key < firstPrivateKey {
		like := kmsg.RequestForKey(key)
		if like == nil {
			return nil, fmt.Errorf("request %d: %w", key, kerr.UnsupportedVersion)
		}
		like.SetVersion(version)
		answer := like.ResponseKind()
		answer.SetVersion(version)
		q.flexible, q.tags = like.IsFlexible(), answer.IsFlexible()
	}
	resp, err := c.Request(ctx, t, q)
	if err != nil {
		return nil, err
	}
	if v := resp.GetVersion(); v != version {
		return nil, fmt.Errorf("request %d: %w", key, kerr.UnsupportedVersion)
	}
	return resp.(*raw).body, nil
}

// Keep sees to it that there is a connection to a target: one is begun in the background where there is none. Who keeps a connection
// learns at once when the process at its other end dies.
func (c *Client) Keep(t Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.keeping[t] {
		return
	}
	if s := c.slots[t]; s != nil && s.mu.TryLock() {
		there := s.conn != nil && s.conn.alive()
		s.mu.Unlock()
		if there {
			return
		}
	}
	if c.keeping == nil {
		c.keeping = map[Target]bool{}
	}
	c.keeping[t] = true
	c.running.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, c.o.DialTimeout)
		defer cancel()
		_, _ = c.connection(ctx, t) // tried again with the next call
		c.mu.Lock()
		delete(c.keeping, t)
		c.mu.Unlock()
	})
}
