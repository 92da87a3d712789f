package controller

import (
	"cmp"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// sessions are what the active controller remembers of brokers between their heartbeats. They are not in the log: after a change of the
// active controller every session begins anew, so nobody is fenced for the silence of the change itself.
type sessions struct {
	of       map[int32]*session
	lastTick int64 // of the monotonic clock, ms
}

type session struct {
	epoch   int64
	contact int64 // of the monotonic clock, ms
	offset  int64 // how far the broker has read the metadata
	// fencedAt is the metadata offset that a fenced broker must have read before it serves again, so that it knows what it does not lead any more.
	fencedAt int64
	// leaveAt is the metadata offset that every other broker must have read before a broker that is shutting down may go; -1 where it is not.
	leaveAt int64
}

// Activated forgets every session: this node has just become the active controller.
func (c *Controller) Activated(img *metadata.Image, env Env) {
	c.sessions = sessions{of: map[int32]*session{}, lastTick: env.MonoMs}
	for _, b := range img.Brokers() {
		c.sessions.of[b.ID] = &session{epoch: b.Epoch, contact: env.MonoMs, offset: -1, leaveAt: -1}
	}
}

func (c *Controller) session(b *metadata.Broker, env Env) *session {
	if c.sessions.of == nil {
		c.sessions.of = map[int32]*session{}
	}
	s := c.sessions.of[b.ID]
	if s == nil || s.epoch != b.Epoch {
		s = &session{epoch: b.Epoch, contact: env.MonoMs, offset: -1, leaveAt: -1}
		c.sessions.of[b.ID] = s
	}
	return s
}

func (c *Controller) sessionTimeout(img *metadata.Image) int64 {
	return int64(config.BrokerSessionTimeoutMs.Get(c.Values(img)))
}

// hasSession says whether a broker was heard of within its session timeout.
func (c *Controller) hasSession(img *metadata.Image, id int32, env Env) bool {
	s := c.sessions.of[id]
	return s != nil && env.MonoMs-s.contact < c.sessionTimeout(img)
}

// Heartbeat notes that a broker lives, and moves it along: fenced, serving, shutting down, gone (KIP-631).
func (c *Controller) Heartbeat(img *metadata.Image, req *kmsg.BrokerHeartbeatRequest, env Env) (Records, *kmsg.BrokerHeartbeatResponse) {
	resp := kmsg.NewPtrBrokerHeartbeatResponse()
	resp.IsFenced = false // the schema's default is true
	b, err := checkEpoch(img, req.BrokerID, req.BrokerEpoch)
	if err != nil {
		resp.ErrorCode, resp.IsFenced = wire.CodeOf(err), true
		return nil, resp
	}
	s := c.session(b, env)
	if s.offset < 0 && b.Fenced { // nobody here knows when it was fenced: not later than now
		s.fencedAt = max(s.fencedAt, img.Offset())
	}
	s.contact, s.offset = env.MonoMs, max(s.offset, req.CurrentMetadataOffset)
	caughtUp := req.CurrentMetadataOffset >= max(b.Epoch, s.fencedAt)
	resp.IsCaughtUp = caughtUp
	records := c.changeDirs(img, b, req)
	switch {
	case b.Fenced && req.WantShutdown:
		resp.IsFenced, resp.ShouldShutdown = true, true
	case b.Fenced && (req.WantFence || !caughtUp):
		resp.IsFenced = true
	case b.Fenced:
		records = append(records, c.unfence(img, b)...)
	case req.WantFence && !req.WantShutdown:
		resp.IsFenced = true
		records = append(records, c.fence(img, b, nil)...)
	case req.WantShutdown:
		records = append(records, c.leave(img, b, s, env, resp)...)
	}
	return records, resp
}

// leave is one step of a controlled shutdown: the leaders go first, then the broker, once everybody knows.
func (c *Controller) leave(img *metadata.Image, b *metadata.Broker, s *session, env Env, resp *kmsg.BrokerHeartbeatResponse) Records {
	if !b.InControlledShutdown {
		var records Records
		records.add(&schema.BrokerRegistrationChangeRecord{BrokerID: b.ID, BrokerEpoch: b.Epoch, InControlledShutdown: 1})
		records = append(records, c.without(img, b.ID, nil)...)
		s.leaveAt = img.Offset() + int64(len(records))
		return records
	}
	if s.leaveAt < 0 { // another controller began it
		s.leaveAt = img.Offset()
	}
	if leadsElsewhere(img, b.ID) {
		return c.without(img, b.ID, nil)
	}
	for _, other := range img.Brokers() {
		if other.ID != b.ID && other.ID != c.node && !other.Fenced && c.session(other, env).offset < s.leaveAt {
			return nil
		}
	}
	resp.IsFenced, resp.ShouldShutdown = true, true
	return c.fence(img, b, nil)
}

// leadsElsewhere says whether a broker still leads a partition that somebody else could lead.
func leadsElsewhere(img *metadata.Image, id int32) bool {
	for t := range img.Topics() {
		for _, p := range t.Partitions {
			if p != nil && p.Leader == id && slices.ContainsFunc(p.ISR, func(o int32) bool { return o != id && active(img, o) }) {
				return true
			}
		}
	}
	return false
}

// fence takes a broker out: it is in no ISR and leads nothing, in the same batch (KIP-841). unclean are those whose disks may lack
// what they had.
func (c *Controller) fence(img *metadata.Image, b *metadata.Broker, unclean []int32) Records {
	var records Records
	records.add(&schema.BrokerRegistrationChangeRecord{BrokerID: b.ID, BrokerEpoch: b.Epoch, Fenced: 1})
	records = append(records, c.without(img, b.ID, unclean)...)
	if s := c.sessions.of[b.ID]; s != nil {
		s.fencedAt = img.Offset() + int64(len(records))
	}
	return records
}

// without gives the records that take a broker out of every ISR and leadership. A partition that has no other copy keeps its leader: there
// is nobody to lead it, and its next incarnation gets a new leader epoch.
func (c *Controller) without(img *metadata.Image, id int32, unclean []int32) (records Records) {
	for _, t := range img.SortedTopics() {
		for n, p := range t.Partitions {
			if p == nil || !p.Holds(id) || alone(p) {
				continue
			}
			if p.Leader != id && !slices.Contains(p.ISR, id) && !(len(unclean) > 0 && slices.Contains(p.ELR, id)) {
				continue
			}
			ch := c.newChange(img, t, int32(n))
			ch.isr, ch.unclean = without(p.ISR, id), unclean
			ch.acceptable = func(o int32) bool { return o != id && active(img, o) }
			if r := ch.record(); r != nil {
				records.add(r)
			}
		}
	}
	return records
}

func alone(p *metadata.Partition) bool { return len(p.Replicas) == 1 }

// unfence lets a broker serve: it may lead what has no leader, and what only it holds gets a new leader epoch, for a new incarnation of
// a leader never continues the epoch of the one before.
func (c *Controller) unfence(img *metadata.Image, b *metadata.Broker) Records {
	var records Records
	records.add(&schema.BrokerRegistrationChangeRecord{BrokerID: b.ID, BrokerEpoch: b.Epoch, Fenced: -1})
	up := func(id int32) bool { return id == b.ID || active(img, id) }
	for _, t := range img.SortedTopics() {
		for n, p := range t.Partitions {
			if p == nil || !p.Holds(b.ID) || p.Leader >= 0 && p.Leader != b.ID {
				continue
			}
			ch := c.newChange(img, t, int32(n))
			ch.acceptable, ch.newEpoch = up, p.Leader == b.ID
			ch.dirs = assignedDirs(p, b)
			if r := ch.record(); r != nil {
				records.add(r)
			}
		}
	}
	return records
}

// changeDirs notes directories that failed, and those that take no new copies (KIP-858, KIP-1066).
func (c *Controller) changeDirs(img *metadata.Image, b *metadata.Broker, req *kmsg.BrokerHeartbeatRequest) (records Records) {
	change := &schema.BrokerRegistrationChangeRecord{BrokerID: b.ID, BrokerEpoch: b.Epoch}
	lost := slices.DeleteFunc(slices.Clone(b.LogDirs), func(d metadata.UUID) bool { return !slices.Contains(req.OfflineLogDirs, d) })
	if len(lost) > 0 && len(lost) < len(b.LogDirs) {
		change.LogDirs = slices.DeleteFunc(slices.Clone(b.LogDirs), func(d metadata.UUID) bool { return slices.Contains(lost, d) })
	}
	if req.CordonedLogDirs != nil {
		cordoned := slices.Clone(req.CordonedLogDirs)
		slices.SortFunc(cordoned, func(x, y [16]byte) int { return slices.Compare(x[:], y[:]) })
		old := slices.Clone(b.Cordoned)
		slices.SortFunc(old, func(x, y metadata.UUID) int { return slices.Compare(x[:], y[:]) })
		if !slices.EqualFunc(cordoned, old, func(x [16]byte, y metadata.UUID) bool { return x == y }) {
			change.CordonedLogDirs = cordoned
		}
	}
	if change.LogDirs != nil || change.CordonedLogDirs != nil {
		records.add(change)
	}
	if len(change.LogDirs) == 0 {
		return records
	}
	for _, t := range img.SortedTopics() {
		for n, p := range t.Partitions {
			if p == nil {
				continue
			}
			i := slices.Index(p.Replicas, b.ID)
			if i < 0 || i >= len(p.Directories) || !slices.Contains(lost, p.Directories[i]) {
				continue
			}
			ch := c.newChange(img, t, int32(n))
			ch.isr = without(p.ISR, b.ID)
			ch.unclean = []int32{b.ID} // what was on the disk is gone
			ch.acceptable = func(o int32) bool { return o != b.ID && active(img, o) }
			if r := ch.record(); r != nil {
				records.add(r)
			}
		}
	}
	return records
}

// Tick is called every few tens of milliseconds while this node is the active controller. It fences brokers that have been silent for
// longer than their session, and gives the coordinators' topics more copies when brokers have come.
func (c *Controller) Tick(img *metadata.Image, env Env) (records Records) {
	timeout := c.sessionTimeout(img)
	if gap := env.MonoMs - c.sessions.lastTick; gap > timeout/2 && c.sessions.lastTick > 0 {
		// This process did not run, so it did not hear anybody either: the silence is its own.
		for _, s := range c.sessions.of {
			s.contact += gap
		}
	}
	c.sessions.lastTick = env.MonoMs
	brokers := img.Brokers()
	slices.SortFunc(brokers, func(a, b *metadata.Broker) int { return cmp.Compare(a.ID, b.ID) })
	for _, b := range brokers {
		if b.Fenced || b.ID == c.node { // this process lives
			continue
		}
		if s := c.session(b, env); env.MonoMs-s.contact >= timeout {
			return c.fence(img, b, nil) // one a tick: the next is judged by the image that this one leads to
		}
	}
	return c.growInternal(img)
}

// BrokerGone fences a broker at once: its process ended, as the connection to it and its port say.
func (c *Controller) BrokerGone(img *metadata.Image, broker int32, env Env) Records {
	b := img.Broker(broker)
	if b == nil || b.Fenced || broker == c.node {
		return nil
	}
	c.session(b, env).contact = env.MonoMs - c.sessionTimeout(img)
	return c.fence(img, b, nil)
}

// errDuplicate refuses a second process with the id of one that lives.
func errDuplicate(id int32) error {
	return wire.Errorf(kerr.DuplicateBrokerRegistration, "Another broker is registered with broker id %d and was heard of a moment ago. If it is this one, started again on other disks, try again in a few seconds; else give this one its own id.", id)
}
