// Package fetchsession remembers what a client fetches from one request to the next, so that a request names only what
// changed and an answer only what is new (KIP-227). It knows partitions and offsets; it must never know logs or sockets.
package fetchsession

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/wire"
)

// Session epochs with a meaning of their own.
const (
	EpochInitial = 0  // the client asks for a new session
	EpochFinal   = -1 // the client wants no session, or closes the one it names
)

// Key names a partition as its session does: by id from Fetch v13 on, by name before.
type Key struct {
	Topic     string
	TopicID   [16]byte
	Partition int32
}

// Partition is what a session remembers of a partition.
type Partition struct {
	Key
	FetchOffset        int64
	LogStartOffset     int64
	CurrentLeaderEpoch int32
	LastFetchedEpoch   int32
	MaxBytes           int32

	// What the client was told last; -1 before that.
	sentHighWatermark, sentLogStart int64
	sentError                       bool
}

// Session is one client's. Its methods are for the one fetch that is under way; a second one meets another epoch.
type Session struct {
	id       int32
	topicIDs bool

	size atomic.Int64 // len(order), for those who only count

	mu       sync.Mutex // guards what follows
	epoch    int32
	order    []*Partition
	byKey    map[Key]*Partition
	lastUsed time.Time
	created  time.Time
}

// A client decides how much a session remembers, so that is bounded: a larger one, or one too many, gets none and names its partitions
// every time.
const (
	partitionsPerSession = 200_000
	partitionsInAll      = 1_000_000
)

// Fetch is one request's view of its session.
type Fetch struct {
	session     *Session // nil: no session
	id          int32
	incremental bool
	Partitions  []Partition // what to read, in order
}

// SessionID is what the answer must carry; 0 for none.
func (f *Fetch) SessionID() int32 { return f.id }

// Cache holds the sessions of a broker: at most Slots, the longest unused one giving way to a new one once it has not been
// used for EvictAfter.
type Cache struct {
	slots      int
	evictAfter time.Duration
	newID      func() int32

	perSession, inAll int // partitions

	mu       sync.Mutex
	sessions map[int32]*Session
}

// NewCache makes a cache. newID gives random numbers; ids of 0 and below, and those in use, are passed over.
func NewCache(slots int, evictAfter time.Duration, newID func() int32) *Cache {
	return &Cache{slots: slots, evictAfter: evictAfter, newID: newID, perSession: partitionsPerSession, inAll: partitionsInAll, sessions: map[int32]*Session{}}
}

// Len is the number of sessions.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions)
}

// Begin finds or makes the session of a request. named are the partitions the request names, forgotten those it drops.
func (c *Cache) Begin(now time.Time, id, epoch int32, topicIDs bool, named []Partition, forgotten []Key) (*Fetch, error) {
	if epoch == EpochInitial || epoch == EpochFinal {
		if id != 0 {
			c.remove(id)
		}
		f := &Fetch{Partitions: named}
		if epoch == EpochInitial && len(named) > 0 {
			f.session = c.create(now, topicIDs, named)
		}
		if f.session != nil {
			f.id = f.session.id
		}
		return f, nil
	}
	c.mu.Lock()
	s := c.sessions[id]
	c.mu.Unlock()
	if s == nil {
		return nil, wire.Errorf(kerr.FetchSessionIDNotFound, "fetch session %d is not known here; start a new one", id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != epoch {
		return nil, wire.Errorf(kerr.InvalidFetchSessionEpoch, "fetch session %d is at epoch %d, the request at %d; start a new one", id, s.epoch, epoch)
	}
	if s.topicIDs != topicIDs {
		return nil, wire.Errorf(kerr.FetchSessionTopicIDError, "fetch session %d mixes requests with and without topic ids; start a new one", id)
	}
	if s.apply(named, forgotten); len(s.order) > c.perSession {
		c.remove(id)
		return nil, wire.Errorf(kerr.FetchSessionIDNotFound, "fetch session %d has grown beyond %d partitions; go on without one", id, c.perSession)
	}
	if len(s.order) == 0 {
		c.remove(id)
		return &Fetch{}, nil
	}
	s.lastUsed = now
	s.epoch = nextEpoch(s.epoch)
	f := &Fetch{session: s, id: id, incremental: true, Partitions: make([]Partition, len(s.order))}
	for i, p := range s.order {
		f.Partitions[i] = *p
	}
	return f, nil
}

func nextEpoch(e int32) int32 {
	if e == 1<<31-1 {
		return 1
	}
	return e + 1
}

func (c *Cache) remove(id int32) {
	c.mu.Lock()
	delete(c.sessions, id)
	c.mu.Unlock()
}

func (c *Cache) create(now time.Time, topicIDs bool, named []Partition) *Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sessions) >= c.slots && !c.evict(now) {
		return nil
	}
	all := int64(len(named))
	for _, s := range c.sessions {
		all += s.size.Load()
	}
	if len(named) > c.perSession || all > int64(c.inAll) {
		return nil
	}
	id := c.newID()
	for id <= 0 || c.sessions[id] != nil {
		id = c.newID()
	}
	s := &Session{id: id, topicIDs: topicIDs, epoch: 1, byKey: make(map[Key]*Partition, len(named)), lastUsed: now, created: now}
	s.apply(named, nil)
	c.sessions[id] = s
	return s
}

// evict drops the session that has not been used for longest, if that is long enough.
func (c *Cache) evict(now time.Time) bool {
	var oldest *Session
	var used time.Time
	for _, s := range c.sessions {
		s.mu.Lock()
		u := s.lastUsed
		s.mu.Unlock()
		if oldest == nil || u.Before(used) {
			oldest, used = s, u
		}
	}
	if oldest == nil || now.Sub(used) < c.evictAfter {
		return false
	}
	delete(c.sessions, oldest.id)
	return true
}

// apply takes a request's changes over. REQUIRES: s.mu is held, or s is not shared yet.
func (s *Session) apply(named []Partition, forgotten []Key) {
	for i := range named {
		n := named[i]
		if p := s.byKey[n.Key]; p != nil {
			p.FetchOffset, p.LogStartOffset, p.MaxBytes = n.FetchOffset, n.LogStartOffset, n.MaxBytes
			p.CurrentLeaderEpoch, p.LastFetchedEpoch = n.CurrentLeaderEpoch, n.LastFetchedEpoch
			continue
		}
		n.sentHighWatermark, n.sentLogStart = -1, -1
		s.byKey[n.Key] = &n
		s.order = append(s.order, &n)
	}
	before := len(s.byKey)
	for _, k := range forgotten {
		delete(s.byKey, k)
	}
	if len(s.byKey) < before {
		s.order = slices.DeleteFunc(s.order, func(p *Partition) bool { return s.byKey[p.Key] != p })
	}
	s.size.Store(int64(len(s.order)))
}

// Answer is what a partition's answer holds, as far as the session cares.
type Answer struct {
	HighWatermark, LogStart int64
	Bytes                   int
	Error, Diverging        bool
}

// Finish tells which of the fetch's partitions the answer must name, in the order of f.Partitions, and remembers what they
// say. A full answer names all. Partitions that had data go to the back of the queue, so that every one gets its turn.
func (f *Fetch) Finish(answer func(i int) Answer) []bool {
	include := make([]bool, len(f.Partitions))
	if f.session == nil {
		for i := range include {
			include[i] = true
		}
		return include
	}
	s := f.session
	s.mu.Lock()
	defer s.mu.Unlock()
	moved := make(map[*Partition]bool)
	for i := range f.Partitions {
		p := s.byKey[f.Partitions[i].Key]
		a := answer(i)
		include[i] = !f.incremental || a.Bytes > 0 || a.Error || a.Diverging
		if p == nil {
			continue
		}
		if p.sentHighWatermark != a.HighWatermark || p.sentLogStart != a.LogStart || p.sentError {
			include[i] = true
		}
		p.sentHighWatermark, p.sentLogStart, p.sentError = a.HighWatermark, a.LogStart, a.Error
		if a.Bytes > 0 && f.incremental {
			moved[p] = true
		}
	}
	if len(moved) > 0 && len(moved) < len(s.order) {
		order := make([]*Partition, 0, len(s.order))
		for _, p := range s.order {
			if !moved[p] {
				order = append(order, p)
			}
		}
		for _, p := range s.order {
			if moved[p] {
				order = append(order, p)
			}
		}
		s.order = order
	}
	return include
}
