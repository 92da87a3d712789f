package classic

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/wire/schema"
)

// client is a consumer that remembers what it was told, as a real one does.
type client struct {
	name     string
	instance *string
	version  int16
	id       string
	gen      int32
	leads    []string // the members it has to assign to
	busy     bool     // a request of it waits
}

// swarm is a group under clients that do what they like.
type swarm struct {
	*world
	clients []*client
	leader  map[int32]string  // who was given the members of a generation
	parts   map[string]string // what a member of a generation was assigned
	byName  map[string]*client
}

func newSwarm(t *rapid.T) *swarm {
	cfg := DefaultConfig()
	cfg.MaxSize = rapid.SampledFrom([]int{2, 3, 1000}).Draw(t, "max size")
	cfg.InitialDelay = rapid.SampledFrom([]time.Duration{0, 3 * time.Second}).Draw(t, "delay")
	cfg.FreshJoin = 40 * time.Second
	s := &swarm{world: newWorld(t, cfg), leader: map[int32]string{}, parts: map[string]string{}, byName: map[string]*client{}}
	for i := range 5 {
		c := &client{name: fmt.Sprintf("c%d", i), version: rapid.SampledFrom([]int16{3, 8, 9}).Draw(t, "version")}
		if i >= 3 {
			c.instance = kmsg.StringPtr(fmt.Sprintf("i%d", i))
		}
		s.clients = append(s.clients, c)
		s.byName[c.name] = c
	}
	s.heard = s.hear
	return s
}

// hear is a client's end of an answer.
func (s *swarm) hear(who string, reply any) {
	kind, name, _ := strings.Cut(who, " ")
	name, id, _ := strings.Cut(name, "/")
	gen, id, _ := strings.Cut(id, "/")
	c := s.byName[name]
	c.busy = false
	switch r := reply.(type) {
	case *kmsg.JoinGroupResponse:
		switch {
		case r.ErrorCode == kerr.MemberIDRequired.Code:
			c.id = r.MemberID
		case r.ErrorCode == 0:
			c.id, c.gen, c.leads = r.MemberID, r.Generation, nil
			if len(r.Members) > 0 && !r.SkipAssignment {
				if was := s.leader[r.Generation]; was != "" && was != r.MemberID {
					s.t.Fatalf("generation %d is led by %s and by %s", r.Generation, was, r.MemberID)
				}
				s.leader[r.Generation] = r.MemberID
				for _, m := range r.Members {
					c.leads = append(c.leads, m.MemberID)
				}
			}
		case r.ErrorCode == kerr.UnknownMemberID.Code || r.ErrorCode == kerr.FencedInstanceID.Code || r.ErrorCode == kerr.GroupMaxSizeReached.Code:
			c.id = ""
		}
	case *kmsg.SyncGroupResponse:
		if r.ErrorCode == 0 {
			key := fmt.Sprintf("%s/%s", gen, id)
			if was, ok := s.parts[key]; ok && was != string(r.MemberAssignment) {
				s.t.Fatalf("%s %s: assigned %q, then %q", kind, key, was, r.MemberAssignment)
			}
			s.parts[key] = string(r.MemberAssignment)
		}
	}
}

func (s *swarm) pick(t *rapid.T) *client { return rapid.SampledFrom(s.clients).Draw(t, "client") }

func (s *swarm) join(t *rapid.T) {
	c := s.pick(t)
	if c.busy && c.instance == nil && c.id == "" {
		return // a client does not join twice at a time, unless it has given up
	}
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.InstanceID, req.ProtocolType = "g", c.instance, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, rapid.SampledFrom([]int32{5_000, 20_000}).Draw(t, "rebalance")
	if c.id != "" && rapid.IntRange(0, 4).Draw(t, "restarted") > 0 {
		req.MemberID = c.id
	}
	names := rapid.SampledFrom([][]string{{"range"}, {"range", "sticky"}, {"sticky", "range"}}).Draw(t, "names")
	for _, n := range names {
		req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: n, Metadata: []byte(c.name)})
	}
	c.busy = true
	s.tok++
	tok := s.tok
	s.waiting[tok] = "join " + c.name
	s.do(func(op *effect.Op) { s.g.Join(op, tok, Client{ID: c.name, Version: c.version}, req) })
}

func (s *swarm) sync(t *rapid.T) {
	c := s.pick(t)
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.InstanceID, req.MemberID, req.Generation = "g", c.instance, c.id, c.gen
	for _, m := range c.leads {
		req.GroupAssignment = append(req.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: m, MemberAssignment: []byte(fmt.Sprint(m, "@", c.gen))})
	}
	c.busy = true
	s.tok++
	tok := s.tok
	s.waiting[tok] = fmt.Sprintf("sync %s/%d/%s", c.name, c.gen, c.id)
	s.do(func(op *effect.Op) { s.g.Sync(op, tok, 5, req) })
}

// loads checks that the log's group is the live one, where no rebalance is under way.
func (s *swarm) loads() {
	if s.logged == nil || s.g.state != Stable && s.g.state != Empty || s.logged.Generation != s.g.generation {
		return
	}
	a, b := s.g.Record(), Load(s.env, "g", s.logged).Record()
	av, _ := schema.AppendCoordinatorValue(nil, a.Value, a.ValueVersion)
	bv, _ := schema.AppendCoordinatorValue(nil, b.Value, b.ValueVersion)
	if !bytes.Equal(av, bv) {
		s.t.Fatalf("live %+v, from the log %+v", a.Value, b.Value)
	}
}

// However clients behave: every request is answered once, a generation has one leader and one assignment, the log has
// what a stable group is, and a group that everybody forsakes is empty in the end.
func TestSwarm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSwarm(t)
		t.Repeat(map[string]func(*rapid.T){
			"join":  s.join,
			"join2": s.join,
			"sync":  s.sync,
			"sync2": s.sync,
			"heartbeat": func(t *rapid.T) {
				c := s.pick(t)
				s.do(func(op *effect.Op) {
					s.g.Heartbeat(op, &kmsg.HeartbeatRequest{Group: "g", Generation: c.gen, MemberID: c.id, InstanceID: c.instance})
				})
			},
			"leave": func(t *rapid.T) {
				c := s.pick(t)
				s.do(func(op *effect.Op) {
					s.g.Leave(op, []kmsg.LeaveGroupRequestMember{{MemberID: c.id, InstanceID: c.instance}})
				})
			},
			"advance": func(t *rapid.T) {
				s.advance(time.Duration(rapid.IntRange(1, 12_000).Draw(t, "ms")) * time.Millisecond)
			},
			"": func(*rapid.T) { s.loads() },
		})
		s.advance(time.Hour)
		if s.g.state != Empty || len(s.waiting) != 0 || len(s.g.pending) != 0 || len(s.timers) != 0 {
			t.Fatalf("in the end: %s, %d wait, %d ids given out, timers %v", s.g.state, len(s.waiting), len(s.g.pending), s.timers)
		}
		s.loads()
	})
}
