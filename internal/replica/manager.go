// Package replica knows the partitions this broker holds: which it leads, up to where they are committed, who waits
// for what. It must never know the wire format of a request, a connection, or how bytes lie on a disk.
//
// Records travel: Partition.Append writes to the log; the log's commit thread makes them durable and calls OnDurable;
// the high watermark moves; waiting produces and fetches are answered. No lock is held over a write or an fsync.
package replica

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/purgatory"
	"github.com/ottla/ottla/internal/replica/core"
	"github.com/ottla/ottla/internal/timewheel"
	"github.com/ottla/ottla/internal/wire"
)

// Options are what a Manager is made of; all but OnCommitted are required.
type Options struct {
	Logs       *log.Manager
	Wheel      *timewheel.Wheel
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// TopicConfig gives the log settings of a topic, from the newest metadata.
	TopicConfig func(topic string) log.Config
	// Leads says whether this broker may believe that it leads what it led last; nil: always.
	Leads func() bool
	// OnCommitted is told of every high watermark that moved (the coordinators listen). It must not block.
	OnCommitted func(tp log.TopicPartition, highWatermark int64)

	// What follows is for a broker that is not alone; each may be left out.

	Node  int32
	Clock clock.Clock // the real one where it is nil
	// Image is the newest metadata.
	Image func() *metadata.Image
	// Replication gives the settings of a topic's in-sync replicas, from the newest metadata.
	Replication func(topic string) core.Settings
	// Fetching gives the settings of this broker's fetchers.
	Fetching func() Fetching
	// BrokerEpoch is the epoch of this broker's registration.
	BrokerEpoch func() int64
	// Ask sends a request to another broker and waits for its answer. Requests of one lane are answered in order.
	Ask func(ctx context.Context, node int32, lane string, req kmsg.Request) (kmsg.Response, error)
	// RackAware says whether readers are sent to a replica in their rack (replica.selector.class).
	RackAware func() bool
	// Throttles gives the bytes a second that throttled replicas that are not in sync may take from this broker and bring to it, and Throttled
	// whether a replica of this broker is (KIP-73).
	Throttles func() (leader, follower int64)
	Throttled func(tp log.TopicPartition) (leader, follower bool)
	// AlterPartition asks the active controller.
	AlterPartition func(ctx context.Context, req *kmsg.AlterPartitionRequest) (*kmsg.AlterPartitionResponse, error)
}

// Manager holds the replicas of this broker.
type Manager struct {
	logs        *log.Manager
	wheel       *timewheel.Wheel
	logger      *slog.Logger
	topicConfig func(topic string) log.Config
	onCommitted func(tp log.TopicPartition, highWatermark int64)
	fetches     *purgatory.Purgatory[log.TopicPartition] // of readers, who wait for the high watermark
	copies      *purgatory.Purgatory[log.TopicPartition] // of followers, who wait for the log's end

	node             int32
	clock            clock.Clock
	born             time.Time
	image            func() *metadata.Image
	topicReplication func(topic string) core.Settings
	fetching         func() Fetching
	brokerEpoch      func() int64
	ask              func(ctx context.Context, node int32, lane string, req kmsg.Request) (kmsg.Response, error)
	rackAware        func() bool
	leads            func() bool
	throttle         throttle
	followers        followers
	isr              isrManager
	fetchers         fetchers

	mu       sync.RWMutex
	parts    map[log.TopicPartition]*Partition
	leaving  map[log.TopicPartition]*deletion // the newest of each name whose files are still there
	queue    []*deletion                      // not begun
	deleting bool                             // a goroutine works on queue
	closed   bool

	draining atomic.Bool // fetches wait no more

	running sync.WaitGroup // goroutines that finish delayed fetches and moves
	ctx     context.Context
	cancel  context.CancelFunc
}

// NewManager makes a manager of no partitions.
func NewManager(o Options) *Manager {
	ctx, cancel := context.WithCancel(context.Background())
	m := &Manager{
		ctx: ctx, cancel: cancel,
		logs: o.Logs, wheel: o.Wheel, logger: o.Logger, topicConfig: o.TopicConfig, onCommitted: o.OnCommitted,
		fetches: purgatory.New[log.TopicPartition]("fetch", o.Wheel, o.Registerer),
		copies:  purgatory.New[log.TopicPartition]("replica fetch", o.Wheel, o.Registerer),
		parts:   map[log.TopicPartition]*Partition{}, leaving: map[log.TopicPartition]*deletion{},
		node: o.Node, clock: o.Clock, image: o.Image, topicReplication: o.Replication, fetching: o.Fetching, brokerEpoch: o.BrokerEpoch, ask: o.Ask, rackAware: o.RackAware, leads: o.Leads,
	}
	if m.clock == nil {
		m.clock = clock.Real{}
	}
	if m.leads == nil {
		m.leads = func() bool { return true }
	}
	if m.fetching == nil {
		m.fetching = func() Fetching { return DefaultFetching() }
	}
	if m.brokerEpoch == nil {
		m.brokerEpoch = func() int64 { return -1 }
	}
	m.born = m.clock.Now()
	m.throttle.rates, m.throttle.of = o.Throttles, o.Throttled
	m.followers.parked = map[int32]map[*delayedFetch]struct{}{}
	m.fetchers.running = map[fetcherKey]*fetcher{}
	m.isr.m, m.isr.alter = m, o.AlterPartition
	return m
}

func (m *Manager) committed(tp log.TopicPartition, hw int64) {
	if m.onCommitted != nil {
		m.onCommitted(tp, hw)
	}
}

// deletion is a dropped partition whose files are on their way out.
type deletion struct {
	p    *Partition
	done chan struct{} // closed when the files are out of sight
}

// Drop ends a partition whose topic was deleted: waiters are told at once. The files go on a goroutine of their own, together with
// those of whatever else is dropped meanwhile: whoever publishes metadata must not wait for the disk. A partition that takes
// the name again opens once they are gone.
func (m *Manager) Drop(tp log.TopicPartition) {
	m.mu.Lock()
	p := m.parts[tp]
	if p == nil {
		m.mu.Unlock()
		return
	}
	delete(m.parts, tp)
	start := false
	if !m.closed { // else the directory stays, and is set aside by the next start
		d := &deletion{p: p, done: make(chan struct{})}
		m.leaving[tp] = d
		m.queue = append(m.queue, d)
		if start = !m.deleting; start {
			m.deleting = true
			m.running.Add(1)
		}
	}
	m.mu.Unlock()
	m.follow(p, p.state.Load(), nil)
	p.shut(wire.Errorf(kerr.UnknownTopicOrPartition, "%s-%d was deleted", tp.Topic, tp.Partition))
	if start {
		go m.deleteDropped()
	}
}

// deleteDropped deletes the files of what was dropped until there is nothing left to delete.
func (m *Manager) deleteDropped() {
	defer m.running.Done()
	for {
		m.mu.Lock()
		batch := m.queue
		m.queue = nil
		m.deleting = len(batch) > 0
		m.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		tps := make([]log.TopicPartition, len(batch))
		for i, d := range batch {
			tps[i] = d.p.tp
			d.p.settleOpening()
		}
		if err := m.logs.DeleteAll(tps); err != nil {
			m.logger.Error("the files of deleted partitions could not all be removed; what is left is set aside at the next start", "partitions", len(tps), "first", tps[0].String(), "error", err)
		}
		m.mu.Lock()
		for _, d := range batch {
			if m.leaving[d.p.tp] == d {
				delete(m.leaving, d.p.tp)
			}
			close(d.done)
		}
		m.mu.Unlock()
	}
}

// UpdateConfig hands the newest settings of a topic to its open logs.
func (m *Manager) UpdateConfig(topic string) {
	var open []*Partition
	m.mu.RLock()
	for tp, p := range m.parts {
		if p.opened.Load() != nil && tp.Topic == topic {
			open = append(open, p)
		}
	}
	m.mu.RUnlock()
	cfg := m.topicConfig(topic)
	for _, p := range open {
		p.opened.Load().UpdateConfig(cfg)
		p.configure()
	}
}

// UpdateAllConfigs hands the newest settings to every open log, after the broker's own defaults have changed.
func (m *Manager) UpdateAllConfigs() {
	m.mu.RLock()
	open := make(map[string][]*Partition)
	for tp, p := range m.parts {
		if p.opened.Load() != nil {
			open[tp.Topic] = append(open[tp.Topic], p)
		}
	}
	m.mu.RUnlock()
	for topic, parts := range open {
		cfg := m.topicConfig(topic)
		for _, p := range parts {
			p.opened.Load().UpdateConfig(cfg)
			p.configure()
		}
	}
}

// Get is the partition this broker leads under that name.
func (m *Manager) Get(tp log.TopicPartition) (*Partition, error) {
	p, err := m.Replica(tp)
	if err == nil && !p.Leads() {
		return nil, p.notLeader()
	}
	return p, err
}

// Replica is this broker's copy of a partition, whoever leads it.
func (m *Manager) Replica(tp log.TopicPartition) (*Partition, error) {
	m.mu.RLock()
	p := m.parts[tp]
	m.mu.RUnlock()
	switch {
	case p != nil:
		return p, nil
	case m.image != nil && m.image().Partition(tp.Topic, tp.Partition) != nil:
		return nil, wire.Errorf(kerr.NotLeaderForPartition, "broker %d has no copy of %s-%d; refresh metadata", m.node, tp.Topic, tp.Partition)
	default:
		return nil, kerr.UnknownTopicOrPartition
	}
}

// Partitions are all replicas of this broker, in no order.
func (m *Manager) Partitions() []*Partition {
	m.mu.RLock()
	defer m.mu.RUnlock()
	all := make([]*Partition, 0, len(m.parts))
	for _, p := range m.parts {
		all = append(all, p)
	}
	return all
}

// SetStraysAside takes the directories of partitions that the metadata does not know at all out of the way; known says which it does,
// whoever leads them at the moment. It is called once, after the first metadata and before anybody is served.
func (m *Manager) SetStraysAside(known func(tp log.TopicPartition) bool) error {
	var strays []log.TopicPartition
	for _, e := range m.logs.Existing() {
		if !known(e.TopicPartition) {
			strays = append(strays, e.TopicPartition)
		}
	}
	if len(strays) == 0 {
		return nil
	}
	return m.logs.SetAside(strays)
}

// OpenAll opens every log that is on disk and not open yet, a few at a time, until ctx ends. Requests do not wait for it:
// a partition asked for in the meantime opens at once.
func (m *Manager) OpenAll(ctx context.Context, parallel int) error {
	var g errgroup.Group
	g.SetLimit(parallel)
	for _, e := range m.logs.Existing() {
		if ctx.Err() != nil {
			break
		}
		p, err := m.Replica(e.TopicPartition)
		if err != nil || p.topicID != e.TopicID {
			continue
		}
		g.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			_, _ = p.Log() // an error is logged there, and remembered as the partition's state
			return nil
		})
	}
	return errors.Join(g.Wait(), ctx.Err())
}

// Drain answers every fetch that waits, with what there is; none waits from now on.
func (m *Manager) Drain() {
	m.draining.Store(true)
	for _, p := range m.Partitions() {
		m.fetches.Touch(p.tp)
		m.copies.Touch(p.tp)
	}
}

// Close ends every wait with an error that clients retry, and returns once nothing of the manager runs.
func (m *Manager) Close() {
	m.cancel()
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.isr.close()
	for _, p := range m.Partitions() {
		p.shut(wire.Errorf(kerr.NotLeaderForPartition, "the broker is shutting down"))
	}
	m.running.Wait()
}

// FetchTimeoutMax bounds the wait a client may ask for.
const FetchTimeoutMax = 24 * time.Hour
