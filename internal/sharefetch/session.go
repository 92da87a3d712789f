package sharefetch

import (
	"context"
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/wire"
)

// Session epochs with a meaning of their own.
const (
	EpochInitial = 0  // opens a session
	EpochFinal   = -1 // closes it and gives back what the member holds
)

// PartitionID names a partition as requests do.
type PartitionID struct {
	TopicID   [16]byte
	Partition int32
}

// session is what one member reads from this broker. Guarded by Manager.mu.
type session struct {
	epoch int32 // of the next request
	parts []PartitionID
	stop  func() bool // ends the watch over the connection
}

// begin finds the session of a request, or opens it, and gives the partitions to read, those among them that are not here too:
// they may come, and until they do or are forgotten every answer says so.
func (m *Manager) begin(r *Request) ([]PartitionID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errClosing
	}
	if r.Epoch == EpochInitial {
		return m.open(r), m.full(r)
	}
	s, err := m.session(r.Group, r.Member, r.Epoch)
	if err != nil || r.Epoch == EpochFinal {
		return nil, err
	}
	s.forget(r.Forgotten)
	if !r.AcknowledgeOnly {
		s.add(r.Partitions)
	}
	if s.epoch++; s.epoch == math.MaxInt32 {
		s.epoch = 1
	}
	return append([]PartitionID(nil), s.parts...), nil
}

// full says that a session could not be opened.
func (m *Manager) full(r *Request) error {
	if g := m.groups[r.Group]; g != nil && g.sessions[r.Member] != nil {
		return nil
	}
	return wire.Errorf(kerr.ShareSessionLimitReached, "%d share sessions are open, as many as group.share.max.share.sessions allows", m.count)
}

// open opens a session, in place of the one the member had; mu is held. It stays away where there are too many.
func (m *Manager) open(r *Request) []PartitionID {
	g := m.group(r.Group)
	old := g.sessions[r.Member]
	if old != nil {
		old.stop()
	} else if m.count >= m.o.MaxSessions {
		m.tidy(r.Group, g)
		return nil
	} else {
		m.count++
	}
	s := &session{epoch: 1}
	s.add(r.Partitions)
	group, member := r.Group, r.Member
	s.stop = context.AfterFunc(r.Conn, func() { m.leave(group, member, s) })
	g.sessions[r.Member] = s
	return append([]PartitionID(nil), s.parts...)
}

// session finds the session that a request of this epoch belongs to; mu is held.
func (m *Manager) session(group, member string, epoch int32) (*session, error) {
	var s *session
	if g := m.groups[group]; g != nil {
		s = g.sessions[member]
	}
	if s == nil {
		return nil, wire.Errorf(kerr.ShareSessionNotFound, "member %s of group %s has no share session here", member, group)
	}
	if epoch != EpochFinal && s.epoch != epoch {
		return nil, wire.Errorf(kerr.InvalidShareSessionEpoch, "the share session of member %s is at epoch %d, the request at %d", member, s.epoch, epoch)
	}
	return s, nil
}

func (s *session) add(named []Named) {
	for i := range named {
		if !slices.Contains(s.parts, named[i].ID) {
			s.parts = append(s.parts, named[i].ID)
		}
	}
}

func (s *session) forget(ids []PartitionID) {
	s.parts = slices.DeleteFunc(s.parts, func(id PartitionID) bool { return slices.Contains(ids, id) })
}

// leave closes a session, if it is still the member's, and gives back what the member holds. s is nil where any will do.
func (m *Manager) leave(groupID, member string, s *session) {
	m.mu.Lock()
	g := m.groups[groupID]
	if g == nil || g.sessions[member] == nil || s != nil && g.sessions[member] != s {
		m.mu.Unlock()
		return
	}
	g.sessions[member].stop()
	delete(g.sessions, member)
	m.count--
	idle := len(g.sessions) == 0
	m.tidy(groupID, g)
	m.mu.Unlock()
	for _, p := range m.ofGroup(groupID) {
		p.release(member)
		if idle {
			p.setIdle(true)
		}
	}
}

// Sessions is the number of open share sessions.
func (m *Manager) Sessions() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}
