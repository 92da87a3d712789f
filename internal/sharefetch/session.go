package sharefetch

import (
	"context"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/log"
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
	parts []sessionPart
	stop  func() bool // ends the watch over the connection
}

type sessionPart struct {
	id PartitionID
	tp log.TopicPartition
}

// begin finds the session of a request, or opens it, and gives the partitions to read. errs holds what is wrong with single ones.
func (m *Manager) begin(r *Request) (parts []sessionPart, errs map[PartitionID]error, err error) {
	resolved := make([]sessionPart, 0, len(r.Partitions))
	for i := range r.Partitions {
		id := r.Partitions[i].ID
		tp, err := m.o.Source.Resolve(id.TopicID, id.Partition)
		if err != nil {
			if errs == nil {
				errs = map[PartitionID]error{}
			}
			errs[id] = err
			continue
		}
		resolved = append(resolved, sessionPart{id, tp})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, nil, errClosing
	}
	if r.Epoch == EpochInitial {
		return m.open(r, resolved), errs, m.full(r)
	}
	s, err := m.session(r.Group, r.Member, r.Epoch)
	if err != nil {
		return nil, nil, err
	}
	if r.Epoch == EpochFinal {
		return nil, errs, nil
	}
	s.forget(r.Forgotten)
	if !r.AcknowledgeOnly {
		s.add(resolved)
	}
	if s.epoch++; s.epoch == math.MaxInt32 {
		s.epoch = 1
	}
	return append([]sessionPart(nil), s.parts...), errs, nil
}

// full says that a session could not be opened.
func (m *Manager) full(r *Request) error {
	if g := m.groups[r.Group]; g != nil && g.sessions[r.Member] != nil {
		return nil
	}
	return wire.Errorf(kerr.ShareSessionLimitReached, "%d share sessions are open, as many as group.share.max.share.sessions allows", m.count)
}

// open opens a session, in place of the one the member had; mu is held. It stays away where there are too many.
func (m *Manager) open(r *Request, parts []sessionPart) []sessionPart {
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
	s.add(parts)
	group, member := r.Group, r.Member
	s.stop = context.AfterFunc(r.Conn, func() { m.leave(group, member, s) })
	g.sessions[r.Member] = s
	return append([]sessionPart(nil), s.parts...)
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

func (s *session) add(parts []sessionPart) {
next:
	for _, p := range parts {
		for i := range s.parts {
			if s.parts[i].id == p.id {
				continue next
			}
		}
		s.parts = append(s.parts, p)
	}
}

func (s *session) forget(ids []PartitionID) {
	for _, id := range ids {
		for i := range s.parts {
			if s.parts[i].id == id {
				s.parts = append(s.parts[:i], s.parts[i+1:]...)
				break
			}
		}
	}
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
