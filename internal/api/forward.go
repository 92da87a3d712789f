package api

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/network"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/private"
)

// forwarded says whether a request changes the metadata, which only the active controller does: any other node passes it on.
func (w *row) forwarded() bool {
	switch w.Key {
	case private.RestoreMetadataKey, 19, 20, 33, 37, 43, 44, 45, 55, 57, 64, 80, 81, 94:
		return true
	}
	return false
}

// bytesBody is the body of a response as another node encoded it.
type bytesBody []byte

// AppendTo implements network.Body.
func (b bytesBody) AppendTo(dst []byte) []byte { return append(dst, b...) }

// forward passes a request on to the active controller where this node is not it; false where it is to be handled here.
func (s *Server) forward(w *row, r *network.Request) bool {
	if !w.forwarded() || s.Cluster.Active() || aboutLoggers(r) {
		return false
	}
	body := bytes.Clone(r.Body) // the answer may come when the request's buffer is gone
	s.Cluster.Forward(w.Key, r.Header.Version, body, func(answer []byte, err error) {
		if err == nil {
			r.Respond(bytesBody(answer))
			return
		}
		s.Logger.Warn("a request could not be passed on to the active controller", "request", w.Name, "error", err)
		// Clients take the end of their connection for a reason to try again, which every answer with an error would not be.
		r.CloseConn(fmt.Errorf("%s could not be passed on to the active controller: %w", w.Name, err))
	})
	return true
}

// aboutLoggers says whether a request alters the log levels of a broker, which are not in the metadata.
func aboutLoggers(r *network.Request) bool {
	if r.Header.Key != 44 {
		return false
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.SetVersion(r.Header.Version)
	if req.ReadFrom(r.Body) != nil {
		return false
	}
	for _, res := range req.Resources {
		if res.ResourceType == kmsg.ConfigResourceTypeBrokerLogger {
			return true
		}
	}
	return false
}

// private answers requests that only nodes send each other.
func (s *Server) private(r *network.Request) error {
	var q private.Request
	if err := q.ReadFrom(r.Body); err != nil {
		return err
	}
	reply := func(payload any, err error) {
		resp := &private.Response{API: r.Header.Key}
		if err == nil {
			resp.Payload, err = json.Marshal(payload)
		}
		if err != nil {
			resp.ErrorCode, resp.Message = wire.CodeOf(err), wire.MessageOf(err)
		}
		r.Respond(resp)
	}
	switch r.Header.Key {
	case private.Raft:
		err := s.Cluster.Quorum(bytes.Clone(q.Payload))
		reply(nil, err)
		return nil
	case private.Join:
		s.join(r, q.Payload, reply)
		return nil
	}
	return fmt.Errorf("private request %d is not served here", r.Header.Key)
}

// join gives a new node its place: an id of its own.
func (s *Server) join(r *network.Request, payload []byte, reply func(any, error)) {
	if !s.Cluster.Active() {
		s.Cluster.Forward(r.Header.Key, 0, bytes.Clone(r.Body), func(answer []byte, err error) {
			if err != nil {
				reply(nil, wire.Errorf(kerr.NotController, "the active controller could not be asked: %v", err))
				return
			}
			r.Respond(bytesBody(answer))
		})
		return
	}
	var ask struct {
		NodeID    int32  `json:"nodeId"`
		ClusterID string `json:"clusterId"`
	}
	if err := json.Unmarshal(payload, &ask); err != nil {
		reply(nil, wire.Errorf(kerr.InvalidRequest, "what a new node asks cannot be read: %v", err))
		return
	}
	var id int32
	var refused error
	var cluster string
	s.Controller.Submit("join", func(c *controller.Controller, img *metadata.Image, _ controller.Env) controller.Records {
		id, refused = c.Join(img, ask.NodeID, ask.ClusterID)
		cluster = img.ClusterID()
		return nil
	}, func(err error) {
		if err == nil {
			err = refused
		}
		reply(map[string]any{"clusterId": cluster, "nodeId": id}, err)
	})
}
