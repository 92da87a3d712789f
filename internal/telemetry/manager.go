package telemetry

import (
	"container/list"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire"
)

const (
	// maxInstances bounds the client instances that are remembered; the one that was silent longest is forgotten first.
	maxInstances = 16384
	// forgetAfter is the least silence after which an instance is forgotten.
	forgetAfter = time.Minute
	// forgetIntervals is that silence in push intervals.
	forgetIntervals = 3
)

// Codecs are those that pushes may be compressed with, as told to clients, the first being what we like best.
func Codecs() []int8 { return []int8{4, 3, 1, 2} }

// Options are what telemetry is made of.
type Options struct {
	Values     *config.Values
	Clock      clock.Clock
	NewID      func() metadata.UUID
	Registerer prometheus.Registerer // may be nil
}

// Manager answers the two requests of KIP-714 and keeps what was pushed. It is safe for use by many goroutines.
type Manager struct {
	clock    clock.Clock
	newID    func() metadata.UUID
	values   *config.Values
	maxBytes int
	pages    *pages
	stats    *stats

	mu        sync.Mutex
	subs      map[string]*subscription
	version   int // of subs
	instances map[metadata.UUID]*list.Element
	order     *list.List // of *instance, the one heard of last in front
}

// instance is one client instance.
type instance struct {
	id             metadata.UUID
	wanted         wanted
	subscription   int32
	version        int // of the subscriptions that wanted was made from
	heard          time.Time
	lastGet        time.Time
	lastPush       time.Time
	terminating    bool
	mayAskTooEarly bool
}

func (i *instance) interval() time.Duration {
	return time.Duration(i.wanted.intervalMs) * time.Millisecond
}

func (i *instance) forgotten(now time.Time) bool {
	return now.Sub(i.heard) > max(forgetAfter, forgetIntervals*i.interval())
}

// New makes the manager; OnMetadata brings the subscriptions.
func New(o Options) *Manager {
	m := &Manager{clock: o.Clock, newID: o.NewID, values: o.Values, maxBytes: int(config.TelemetryMaxBytes.Get(o.Values)),
		pages: newPages(int(config.TelemetrySeriesMax.Get(o.Values)), int(config.TelemetryClientSeriesMax.Get(o.Values))),
		subs:  map[string]*subscription{}, instances: map[metadata.UUID]*list.Element{}, order: list.New()}
	m.stats = newStats(o.Registerer, m)
	return m
}

// Name is that of a publisher.
func (m *Manager) Name() string { return "telemetry" }

// OnMetadata takes changes of client-metrics settings over.
func (m *Manager) OnMetadata(delta *metadata.Delta, img *metadata.Image) {
	for _, r := range delta.Configs() {
		if r.Type != metadata.ClientMetricsConfig {
			continue
		}
		set := img.Config(r.Type, r.Name)
		var s *subscription
		if len(set) > 0 {
			s = compile(m.values.ClientMetrics(set))
		}
		m.mu.Lock()
		if s == nil {
			delete(m.subs, r.Name)
		} else {
			m.subs[r.Name] = s
		}
		m.version++
		m.mu.Unlock()
	}
}

// Subscription is the answer to a client that asks what to push.
type Subscription struct {
	InstanceID metadata.UUID
	ID         int32
	IntervalMs int32
	MaxBytes   int32
	Metrics    []string
}

// Get tells a client what to push. id is zero for a client that has no instance id yet: it gets one.
func (m *Manager) Get(c Client, id metadata.UUID) (Subscription, error) {
	now := m.clock.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for id == (metadata.UUID{}) {
		if id = m.newID(); m.instances[id] != nil {
			id = metadata.UUID{}
		}
	}
	i := m.instance(now, id, &c)
	latest := i.lastGet
	if i.lastPush.After(latest) {
		latest = i.lastPush
	}
	if !latest.IsZero() && now.Sub(latest) < i.interval() {
		if !i.mayAskTooEarly {
			m.stats.count("throttled")
			return Subscription{}, kerr.ThrottlingQuotaExceeded
		}
	} else {
		i.lastGet = now
	}
	i.mayAskTooEarly = false
	return Subscription{InstanceID: id, ID: i.subscription, IntervalMs: i.wanted.intervalMs, MaxBytes: int32(m.maxBytes), Metrics: slices.Clone(i.wanted.metrics)}, nil
}

// Push is what a client pushes.
type Push struct {
	InstanceID   metadata.UUID
	Subscription int32
	Terminating  bool
	Codec        int8
	Metrics      []byte
}

// Push takes metrics over, or says with a protocol error why not. It keeps nothing of p.Metrics.
func (m *Manager) Push(c Client, p Push) error {
	w, err := m.admit(&c, &p)
	m.stats.count(outcome(err))
	if err != nil || len(w.metrics) == 0 {
		return err // nobody is looked at who was not asked for anything
	}
	ttl := max(forgetAfter, forgetIntervals*time.Duration(w.intervalMs)*time.Millisecond)
	if len(p.Metrics) == 0 {
		m.pages.touch(m.clock.Now(), p.InstanceID, ttl)
		return nil
	}
	if err = m.take(&c, &p, ttl); err != nil {
		m.stats.count("invalid")
		return wire.Errorf(kerr.InvalidRecord, "Client %s pushed metrics that cannot be read: %v", c.ID, err)
	}
	return nil
}

// admit checks a push against the rules and notes that it happened.
func (m *Manager) admit(c *Client, p *Push) (wanted, error) {
	now := m.clock.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if reserved(p.InstanceID) {
		return wanted{}, wire.Errorf(kerr.InvalidRequest, "Invalid request from the client [%s], invalid client instance id", c.ID)
	}
	i := m.instance(now, p.InstanceID, c)
	err := i.mayPush(now, p, m.maxBytes)
	i.terminating = p.Terminating
	i.mayAskTooEarly = err == kerr.UnknownSubscriptionID || err == kerr.UnsupportedCompressionType
	return i.wanted, err
}

// reserved ids are zero and those that Kafka keeps for itself.
func reserved(id metadata.UUID) bool {
	return id == (metadata.UUID{}) || id == metadata.UUID{15: 1}
}

// mayPush decides on a push. A push that was asked for counts as one although it is refused for what is in it.
func (i *instance) mayPush(now time.Time, p *Push, maxBytes int) error {
	if i.terminating {
		return wire.Errorf(kerr.InvalidRequest, "Client instance %s has said that it terminates; nothing more is taken from it.", idText(i.id))
	}
	// The first push after a get may come at any time: clients spread it.
	if i.lastGet.After(i.lastPush) || i.lastPush.IsZero() || now.Sub(i.lastPush) >= i.interval() {
		i.lastPush = now
	} else if !p.Terminating {
		return kerr.ThrottlingQuotaExceeded
	}
	switch {
	case p.Subscription != i.subscription:
		return kerr.UnknownSubscriptionID
	case p.Codec != 0 && !slices.Contains(Codecs(), p.Codec):
		return kerr.UnsupportedCompressionType
	case len(p.Metrics) > maxBytes:
		return kerr.TelemetryTooLarge
	}
	return nil
}

// take decodes metrics and puts them on the client's page.
func (m *Manager) take(c *Client, p *Push, ttl time.Duration) error {
	raw, err := record.Unpack(record.Codec(p.Codec), p.Metrics, m.maxBytes)
	if err != nil {
		return err
	}
	data, err := decode(raw)
	if err != nil {
		return err
	}
	m.stats.bytes.Add(float64(len(raw)))
	dropped := m.pages.put(m.clock.Now(), p.InstanceID, c, ttl, data)
	m.stats.dropped.Add(float64(dropped))
	return nil
}

// instance finds a client instance or makes it. One that was made from older subscriptions is made anew.
func (m *Manager) instance(now time.Time, id metadata.UUID, c *Client) *instance {
	m.forget(now)
	if e := m.instances[id]; e != nil {
		i := e.Value.(*instance)
		if i.version == m.version && !i.forgotten(now) {
			i.heard = now
			m.order.MoveToFront(e)
			return i
		}
		m.drop(e)
	}
	if len(m.instances) == maxInstances {
		m.drop(m.order.Back())
	}
	i := &instance{id: id, version: m.version, heard: now, wanted: wantedOf(m.subs, id, c)}
	i.subscription = i.wanted.subscriptionID(id)
	m.instances[id] = m.order.PushFront(i)
	return i
}

// forget drops the instances that have been silent for long.
func (m *Manager) forget(now time.Time) {
	for e := m.order.Back(); e != nil && e.Value.(*instance).forgotten(now); e = m.order.Back() {
		m.drop(e)
	}
}

func (m *Manager) drop(e *list.Element) {
	m.order.Remove(e)
	delete(m.instances, e.Value.(*instance).id)
}

func (m *Manager) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(m.clock.Now())
	return len(m.instances)
}
