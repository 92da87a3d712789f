package api

import (
	"context"
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/network"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/private"
)

// Stage says when a handler answers.
type Stage int8

// Inline handlers have answered when they return; parked ones may answer later. Both run in the order of the connection.
const (
	Inline Stage = iota
	Parked
)

// row is one API: dispatch, ApiVersions, authorisation, memory estimate and metric label at once.
type row struct {
	Key, Min, Max int16
	Name          string
	Stage         Stage
	Access        Access
	// Memory is how many times the frame's size a request takes while it is handled, and what it takes at least.
	Memory Memory
	handle func(s *Server, r *network.Request) error
}

// Access names what a client must be allowed to do for this API, for the authorisation table and docs/apis.md. Resources
// that the request names are checked one by one, the cluster once.
type Access struct{ Operation, Resource string }

// Memory is an estimate: Times the frame's bytes plus Bytes.
type Memory struct {
	Times int64
	Bytes int64
}

// Call is one request under way.
type Call struct {
	*Server
	Req     *network.Request
	Version int16
}

// Reply answers. It may be called from any goroutine, once.
func (c *Call) Reply(resp kmsg.Response) {
	resp.SetVersion(c.Version)
	c.Req.Respond(resp)
}

// Context ends when the client's connection does.
func (c *Call) Context() context.Context { return c.Req.Conn.Context() }

// client is who asks, for the group coordinator.
func (c *Call) client() group.RequestContext {
	host, _, err := net.SplitHostPort(c.Req.Conn.RemoteAddr().String())
	if err != nil {
		host = c.Req.Conn.RemoteAddr().String()
	}
	rc := group.RequestContext{ClientHost: "/" + host, Version: c.Version}
	if c.Req.Header.ClientID != nil {
		rc.ClientID = *c.Req.Header.ClientID
	}
	return rc
}

// typed makes a row's handler of one that takes a decoded request.
func typed[Q kmsg.Request](h func(c *Call, q Q)) func(s *Server, r *network.Request) error {
	return func(s *Server, r *network.Request) error {
		req, err := wire.DecodeRequest(r.Header.Key, r.Header.Version, r.Body)
		if err != nil {
			return err
		}
		q, ok := req.(Q)
		if !ok {
			return fmt.Errorf("BUG: API %d decodes to %T", r.Header.Key, req)
		}
		h(&Call{Server: s, Req: r, Version: r.Header.Version}, q)
		return nil
	}
}

// Dispatch is the network's way in: it runs the ordered half of the request's handler.
func (s *Server) Dispatch(r *network.Request) {
	key, version := r.Header.Key, r.Header.Version
	if key == apiVersionsKey && s.tooNewApiVersions(r) {
		return
	}
	if private.Is(key) && s.ofCluster(r.Conn) {
		if err := s.private(r); err != nil {
			r.CloseConn(err)
		}
		return
	}
	w := s.row(key)
	if w == nil {
		r.CloseConn(fmt.Errorf("API key %d is not served here", key))
		return
	}
	if w.clusterOnly() && !s.ofCluster(r.Conn) {
		r.CloseConn(fmt.Errorf("%s is served on the listener %s only", w.Name, s.ClusterListener))
		return
	}
	if version < w.Min || version > w.Max {
		r.CloseConn(fmt.Errorf("%s version %d is not served here; versions %d to %d are", w.Name, version, w.Min, w.Max))
		return
	}
	if s.forward(w, r) {
		return
	}
	if err := w.handle(s, r); err != nil {
		r.CloseConn(fmt.Errorf("%s version %d: %w", w.Name, version, err))
	}
}

// Estimate is the network's memory gate: what handling a request will take.
func (s *Server) Estimate(key, _ int16, frameBytes int) int64 {
	w := s.row(key)
	if w == nil {
		return int64(frameBytes)
	}
	m := w.Memory
	return int64(frameBytes)*max(m.Times, 1) + m.Bytes
}

// Name is an API's name for logs and metrics.
func (s *Server) Name(key int16) string {
	if w := s.row(key); w != nil {
		return w.Name
	}
	return "unknown"
}

// row finds an API, nil for one that is not served.
func (s *Server) row(key int16) *row {
	if key >= 0 && int(key) < len(s.rows) {
		return s.rows[key]
	}
	for i := range toolTable {
		if toolTable[i].Key == key {
			return &toolTable[i]
		}
	}
	return nil
}
