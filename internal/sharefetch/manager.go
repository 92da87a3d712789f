// Package sharefetch is the shell around share-partitions on the broker that leads their logs: it loads them, reads what
// members are given, keeps share sessions, parks fetches, lets leases run out and writes what was decided (KIP-932). It knows
// logs, the pure share-partition and its persister; it must never know the wire format of a request or how groups are formed.
package sharefetch

import (
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/purgatory"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/share"
	"github.com/ottla/ottla/internal/timewheel"
)

// View is a partition that this broker leads.
type View struct {
	TP          log.TopicPartition
	Log         *log.Log
	LeaderEpoch int32
}

// Source gives the partitions that this broker leads.
type Source interface {
	// Resolve names a partition. UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION.
	Resolve(topicID [16]byte, partition int32) (log.TopicPartition, error)
	// Open gives its log, opened at first use; NOT_LEADER_OR_FOLLOWER and what opening a log can give.
	Open(tp log.TopicPartition, topicID [16]byte) (View, error)
}

// GroupSettings are a share group's configs.
type GroupSettings struct {
	share.Settings
	ReadCommitted bool
	Reset         Reset
	// DeadLetterTopic is the topic that gets what the group cannot use; empty is none. CopyRecords puts key and value into it.
	DeadLetterTopic string
	CopyRecords     bool
}

// Reset says where a group begins in a partition that it has not read yet: Latest, Earliest, or Ago before now.
type Reset struct {
	Earliest, ByDuration bool
	Ago                  time.Duration
}

// DeadLetters is the way to dead-letter topics.
type DeadLetters interface {
	// Prepare makes sure that topic may take the dead letters of group: it exists, or is made, and its configs allow it. done gets
	// the number of its partitions and the largest batch it takes. An error that is no *kerr.Error will not go away by itself.
	Prepare(group, topic string, done func(partitions int32, maxBatchBytes int, err error))
	// Append appends a batch; done comes once it is committed.
	Append(topic string, partition int32, batch []byte, done func(error))
}

// Options are what a Manager is made of; all but Registerer are required.
type Options struct {
	Source      Source
	Persister   share.Persister
	DeadLetters DeadLetters
	Wheel       *timewheel.Wheel
	Clock       clock.Clock
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
	// Settings gives the newest settings of a group.
	Settings func(group string) GroupSettings
	// MaxSessions is the number of share sessions that may be open at a time.
	MaxSessions int
}

// waitKey is what a parked fetch waits for: news in a partition's log (group ""), or of a share-partition.
type waitKey struct {
	group     string
	topic     string
	partition int32
}

// Manager holds the share-partitions and share sessions of this broker.
type Manager struct {
	o       Options
	fetches *purgatory.Purgatory[waitKey]
	metrics *metrics
	seed    maphash.Seed

	mu     sync.Mutex // guards what follows; never held together with a partition's
	groups map[string]*group
	count  int // sessions in all groups
	closed bool

	draining atomic.Bool   // fetches wait no more
	closing  chan struct{} // closed by Close
	running  sync.WaitGroup
}

// group is what a share group has on this broker.
type group struct {
	partitions map[partitionKey]*partition
	sessions   map[string]*session
}

type partitionKey struct {
	topicID [16]byte
	index   int32
}

// New makes a manager of nothing.
func New(o Options) *Manager {
	return &Manager{
		o: o, groups: map[string]*group{}, closing: make(chan struct{}), seed: maphash.MakeSeed(), metrics: newMetrics(o.Registerer),
		fetches: purgatory.New[waitKey]("share_fetch", o.Wheel, o.Registerer),
	}
}

func (m *Manager) now() int64 { return m.o.Clock.Now().UnixMilli() }

// Committed is told of a high watermark that moved. It does not block.
func (m *Manager) Committed(tp log.TopicPartition) {
	m.fetches.TouchLater(waitKey{topic: tp.Topic, partition: tp.Partition})
}

// partition finds or loads a share-partition.
func (m *Manager) partition(groupID string, topicID [16]byte, tp log.TopicPartition) *partition {
	k := partitionKey{topicID, tp.Partition}
	m.mu.Lock()
	g := m.group(groupID)
	p := g.partitions[k]
	if p != nil {
		m.mu.Unlock()
		return p
	}
	p = newPartition(m, groupID, topicID, tp)
	g.partitions[k] = p
	m.mu.Unlock()
	p.load()
	return p
}

// known is the share-partition if it is loaded or loading.
func (m *Manager) known(groupID string, topicID [16]byte, index int32) *partition {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.groups[groupID]; g != nil {
		return g.partitions[partitionKey{topicID, index}]
	}
	return nil
}

// group finds or makes a group; mu is held.
func (m *Manager) group(id string) *group {
	g := m.groups[id]
	if g == nil {
		g = &group{partitions: map[partitionKey]*partition{}, sessions: map[string]*session{}}
		m.groups[id] = g
	}
	return g
}

// forget takes a share-partition out, so that the next request loads it anew.
func (m *Manager) forget(p *partition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.groups[p.key.Group]
	if g == nil {
		return
	}
	k := partitionKey{p.key.TopicID, p.key.Partition}
	if g.partitions[k] == p {
		delete(g.partitions, k)
	}
	m.tidy(p.key.Group, g)
}

// tidy drops a group of which nothing is left; mu is held.
func (m *Manager) tidy(id string, g *group) {
	if len(g.partitions) == 0 && len(g.sessions) == 0 {
		delete(m.groups, id)
	}
}

// ofGroup lists a group's share-partitions.
func (m *Manager) ofGroup(id string) []*partition {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.groups[id]
	if g == nil {
		return nil
	}
	out := make([]*partition, 0, len(g.partitions))
	for _, p := range g.partitions {
		out = append(out, p)
	}
	return out
}

// Drop ends the share-partitions of a partition that this broker does not lead any more.
func (m *Manager) Drop(topicID [16]byte, index int32) {
	m.mu.Lock()
	var gone []*partition
	for id, g := range m.groups {
		k := partitionKey{topicID, index}
		if p := g.partitions[k]; p != nil {
			gone = append(gone, p)
			delete(g.partitions, k)
			m.tidy(id, g)
		}
	}
	m.mu.Unlock()
	for _, p := range gone {
		p.fail(errNotLeader)
	}
}

// Drain answers every fetch that waits, with what there is; none waits from now on.
func (m *Manager) Drain() {
	m.draining.Store(true)
	m.mu.Lock()
	var keys []waitKey
	for id, g := range m.groups {
		for _, p := range g.partitions {
			keys = append(keys, waitKey{id, p.tp.Topic, p.tp.Partition})
		}
	}
	m.mu.Unlock()
	for _, k := range keys {
		m.fetches.Touch(k)
	}
}

// Close ends the share-partitions and returns once nothing of the manager runs. Leases end with it: nothing of them was written.
func (m *Manager) Close() {
	m.Drain()
	m.mu.Lock()
	if !m.closed {
		close(m.closing)
	}
	m.closed = true
	var all []*partition
	for _, g := range m.groups {
		for _, p := range g.partitions {
			all = append(all, p)
		}
	}
	m.groups, m.count = map[string]*group{}, 0
	m.mu.Unlock()
	for _, p := range all {
		p.fail(errClosing)
	}
	m.running.Wait()
}

// limits bound what a compressed batch may unpack to.
var limits = record.Limits{MaxDecompressedBytes: 256 << 20}
