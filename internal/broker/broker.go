// Package broker makes one broker out of all rooms: it constructs them with their dependencies, starts them in order and stops
// them in reverse. It is the only place that knows everybody; it must never do their work.
package broker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ottla/ottla/internal/api"
	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/metadata/feed"
	"github.com/ottla/ottla/internal/metadata/loop"
	"github.com/ottla/ottla/internal/metadata/quorum"
	"github.com/ottla/ottla/internal/metadata/store"
	"github.com/ottla/ottla/internal/network"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/replica"
	"github.com/ottla/ottla/internal/replica/fetchsession"
	"github.com/ottla/ottla/internal/sharefetch"
	"github.com/ottla/ottla/internal/telemetry"
	"github.com/ottla/ottla/internal/timewheel"
	"github.com/ottla/ottla/internal/vfs"
	"github.com/ottla/ottla/internal/web"
)

// Options are what a broker is made of.
type Options struct {
	FS         vfs.FS
	Clock      clock.Clock
	Values     *config.Values // static settings
	LogDirs    []string
	NodeID     int32 // -1: as the data says, or 1
	Listeners  []network.ListenerConfig
	Advertised []network.Endpoint
	Logger     *slog.Logger
	Level      *slog.LevelVar
	Registerer prometheus.Registerer // may be nil
	Gatherer   prometheus.Gatherer   // of what Registerer gets, for the page of metrics; may be nil
	// Join are addresses of nodes of a cluster that this node shall be part of, on the listener where nodes speak to each other. Where the
	// data belongs to a cluster already they only say where to look first.
	Join []string
	// HTTPAnyPort takes another port where the HTTP listener's is in use.
	HTTPAnyPort bool
}

// Broker is a running broker.
type Broker struct {
	logger    *slog.Logger
	store     *store.Store
	loop      *loop.Loop
	feed      *feed.Feed // the metadata log for other nodes
	cluster   *cluster
	life      atomic.Pointer[lifecycle]
	guest     bool // the cluster's controllers are other processes than its brokers, as with Apache Kafka
	votes     bool // this node keeps the metadata log as a member of a quorum
	follows   bool // this node is no voter: it follows the metadata log of others
	server    *network.Server
	api       *api.Server // set before the server starts
	web       *web.Server // nil without an HTTP listener
	first     string      // name of the first listener
	stops     []stop
	cancel    context.CancelFunc
	running   sync.WaitGroup
	clusterID string
}

// stop ends one part; they run in reverse order of the starts.
type stop struct {
	name string
	f    func(ctx context.Context) error
}

// Start starts a broker; when it returns, its listeners answer.
func Start(ctx context.Context, o Options) (*Broker, error) {
	b := &Broker{logger: o.Logger}
	if err := b.start(ctx, o); err != nil {
		return nil, errors.Join(err, b.Close(context.WithoutCancel(ctx)))
	}
	return b, nil
}

func (b *Broker) onStop(name string, f func(ctx context.Context) error) {
	b.stops = append(b.stops, stop{name, f})
}

func (b *Broker) start(ctx context.Context, o Options) error {
	for _, k := range []config.IntKey{config.OffsetsTopicCompressionCodec, config.ShareTopicCompressionCodec} {
		if n := k.Get(o.Values); !record.Codec(n).Known() {
			return fmt.Errorf("%s is %d; the codecs are 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd", k.Name, n)
		}
	}
	settings := newSettings(o.Values, func() *metadata.Image { return b.loop.Image() })
	logs, err := log.NewManager(logOptions(o, settings.broker))
	if err != nil {
		return err
	}
	b.onStop("logs", logs.Close)
	identity, err := b.identify(ctx, o)
	if err != nil {
		return err
	}
	b.store, err = store.Open(store.Options{
		FS: o.FS, Clock: o.Clock, Logger: o.Logger, LogDirs: o.LogDirs, Dir: config.MetadataLogDir.Get(o.Values), NodeID: identity.node,
		ClusterID: identity.cluster, Follow: b.follows || b.votes, NewID: newID, Endpoints: endpoints(o), Bootstrap: controller.Bootstrap(),
		SegmentBytes: metadataSegmentBytes(o.Values), SnapshotBytes: config.MetadataLogMaxRecordBytesBetweenSnapshots.Get(o.Values),
		SnapshotInterval: ms(config.MetadataLogMaxSnapshotIntervalMs.Get(o.Values)),
		RetentionBytes:   config.MetadataMaxRetentionBytes.Get(o.Values), RetentionTime: ms(config.MetadataMaxRetentionMs.Get(o.Values)),
	})
	if err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	b.onStop("metadata", func(context.Context) error { return b.store.Close() })
	b.clusterID = b.store.ClusterID()
	if dir := path.Join(metadataDir(o), store.LogDir); b.votes && !quorum.Exists(o.FS, dir) {
		self := quorum.Member{Node: b.store.NodeID(), Dir: b.store.DirectoryID(o.LogDirs[0])}
		if err := firstOfCluster(b.store.Image(), self.Node, dir); err != nil {
			return err
		}
		if err := quorum.Bootstrap(o.FS, dir, self, b.store.Committed(), b.store.Epoch()); err != nil {
			return fmt.Errorf("metadata quorum: %w", err)
		}
	}
	if err := logs.Start(); err != nil {
		return err
	}
	wheel := timewheel.New(o.Clock, time.Millisecond)
	wheel.Start()
	b.onStop("timers", func(context.Context) error { wheel.Close(); return nil })
	return b.startServing(ctx, o, settings, logs, wheel)
}

// startServing builds everything above the disks.
func (b *Broker) startServing(ctx context.Context, o Options, settings *settings, logs *log.Manager, wheel *timewheel.Wheel) error {
	node := b.store.NodeID()
	image := func() *metadata.Image { return b.loop.Image() }
	settings.node = itoa(node)
	settings.refresh(b.store.Image())
	var coords *coordinators
	var shares *sharefetch.Manager
	replicas := replica.NewManager(replica.Options{
		Logs: logs, Wheel: wheel, Logger: o.Logger, Registerer: o.Registerer, TopicConfig: settings.logConfig,
		Node: node, Clock: o.Clock, Image: image, Replication: settings.replication, Fetching: settings.fetching, RackAware: settings.rackAware, Throttles: settings.throttles, Throttled: settings.throttled,
		BrokerEpoch: b.brokerEpoch, Ask: b.askReplica, AlterPartition: b.alterPartition, Leads: b.leads,
		OnCommitted: func(tp log.TopicPartition, hw int64) {
			coords.committed(tp, hw)
			shares.Committed(tp)
		},
	})
	others := newNodes(node, o.Clock)
	coords = newCoordinators(o, node, image, replicas, others)
	brain := &brain{ctl: controller.New(node, o.Values), begun: o.Clock.Now()}
	b.cluster = newCluster(o, node, image, func(l string, nc net.Conn) error { return b.server.ServeConn(l, nc) })
	b.cluster.brain, brain.cluster, b.cluster.dir = brain, b.cluster, b.store.Voter()
	others.use(b.cluster)
	shares = sharefetch.New(sharefetch.Options{
		Source: &shareSource{image, replicas}, Persister: coords.shareStates, Settings: settings.shareGroup, Wheel: wheel, Clock: o.Clock, Logger: o.Logger, Registerer: o.Registerer,
		DeadLetters: &deadLetters{settings: settings, image: image, replicas: replicas, ctl: brain, nodes: others, clock: o.Clock},
		MaxSessions: int(config.GroupShareMaxShareSessions.Get(o.Values)),
	})
	pushed := telemetry.New(telemetry.Options{Values: o.Values, Clock: o.Clock, NewID: newID, Registerer: o.Registerer})
	b.feed = feed.New(feed.Options{Log: b.store, Node: node, Clock: o.Clock, Leader: func() (int32, int32) { return b.cluster.leader(b.store) }})
	b.loop = loop.New(loop.Options{
		Image: b.store.Image(), Proposer: b, Clock: o.Clock, Logger: o.Logger, Committed: func(img *metadata.Image) { b.store.MaybeSnapshot(img); b.feed.Changed() },
		Publishers: []metadata.Publisher{&settingsPublisher{settings, o.Logger}, &gate{
			inner: slices.Concat([]metadata.Publisher{&replicaPublisher{node, replicas}}, coords.publishers(), []metadata.Publisher{&sharePublisher{node, shares}}), opens: b.serves,
		}, pushed},
	})
	brain.loop = b.loop
	if b.cluster.sole = !b.follows && !b.votes; !b.cluster.sole {
		b.loop.SetPassive()
		b.cluster.voter = b.newVoter(o, node)
	}
	if err := b.loop.Start(); err != nil {
		return err
	}
	b.onStop("controller", func(context.Context) error { b.loop.Close(); return nil })
	b.onStop("replicas", func(context.Context) error { replicas.Close(); return nil })
	if err := b.listen(&o); err != nil {
		return err
	}
	life := newLifecycle(b.cluster, o, b.registration(o, node))
	if !b.cluster.sole {
		life.health = newHealth(o, logs, b.store.DirectoryID, func() bool { return onlyCopy(image(), node) })
	}
	coords.life.Store(life)
	b.life.Store(life)
	if b.cluster.sole {
		b.setStraysAside(replicas)
		epoch, err := b.register(ctx, life.r, brain)
		if err != nil {
			return err
		}
		life.epoch.Store(epoch)
	}
	server := api.New(api.Deps{
		NodeID: node, Image: image, Values: settings.broker, TopicValues: settings.topic, Controller: brain, Cluster: b.cluster, Quorum: b.store, Feed: b.feed, ClusterListener: clusterListener(o), Replicas: replicas, Logs: logs,
		Groups: coords.groups, Txns: coords.txns, Joins: coords.joins, Markers: coords.ends, Appends: &coords.appends, Shares: shares, ShareStates: coords.shareStates,
		Sessions: fetchsession.NewCache(int(config.MaxIncrementalFetchSessionCacheSlots.Get(o.Values)), 2*time.Minute, sessionID), ReplicaSessions: fetchsession.NewCache(math.MaxInt16, 2*time.Minute, sessionID),
		ProducerIDs: &producerIDs{ctl: brain, nodes: others, node: node, epoch: life.epoch.Load},
		Loggers:     newLoggers(o.Level), Telemetry: pushed, Clock: o.Clock, Logger: o.Logger, Advertised: advertised(o),
	})
	b.api = server
	if err := b.server.Start(); err != nil {
		return err
	}
	b.onStop("network", b.server.Close)
	// What waits for records or for other members is answered first, else the network would wait for it.
	coords.close(b.onStop)
	b.onStop("requests to other nodes", func(context.Context) error { others.close(); return nil })
	b.onStop("share groups", func(context.Context) error { shares.Close(); return nil })
	b.onStop("metadata feed", func(context.Context) error { b.feed.Close(); return nil })
	b.onStop("waiting fetches", func(context.Context) error { replicas.Drain(); return nil })
	background, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	b.running.Go(func() {
		_ = replicas.OpenAll(background, int(config.NumRecoveryThreadsPerDataDir.Get(o.Values))) // failures are logged and kept with the partition
	})
	b.onStop("background", func(context.Context) error { cancel(); b.running.Wait(); return nil })
	if err := b.takePart(ctx, life, replicas); err != nil {
		return err
	}
	return b.serveWeb(o, logs, pushed)
}

// listen opens the listeners, so that their ports are known; nobody is answered yet.
func (b *Broker) listen(o *Options) error {
	v := o.Values
	overrides, err := network.ParsePerIPOverrides(config.MaxConnectionsPerIPOverrides.Get(v))
	if err != nil {
		return err
	}
	b.server, err = network.New(network.Options{
		Listeners: o.Listeners,
		Dispatch:  func(r *network.Request) { b.api.Dispatch(r) }, Estimate: func(key, version int16, n int) int64 { return b.api.Estimate(key, version, n) },
		Clock: o.Clock, Logger: o.Logger, Registerer: o.Registerer,
		MaxRequestBytes: int(config.SocketRequestMaxBytes.Get(v)), MemoryBytes: config.RequestMemoryBytes.Get(v), MaxInFlight: int(config.ConnectionRequestsMax.Get(v)),
		IdleTimeout: ms(config.ConnectionsMaxIdleMs.Get(v)), FrameTimeout: ms(int64(config.RequestReadTimeoutMs.Get(v))),
		MaxConnections: limit(config.MaxConnections.Get(v)), MaxConnectionsPerIP: limit(config.MaxConnectionsPerIP.Get(v)), PerIPOverrides: overrides,
		MaxConnectionsPerSec: limit(config.MaxConnectionCreationRate.Get(v)),
	})
	if err != nil {
		return err
	}
	if err := b.server.Listen(); err != nil {
		return err
	}
	o.Listeners = slices.Clone(o.Listeners)
	for i := range o.Listeners {
		l := &o.Listeners[i]
		if addr, ok := b.server.Addr(l.Name).(*net.TCPAddr); ok {
			l.Port = addr.Port
		}
	}
	b.first = o.Listeners[0].Name
	return nil
}

// clusterListener is the name of the listener on which the nodes of a cluster speak to each other.
func clusterListener(o Options) string {
	if name := config.InterBrokerListenerName.Get(o.Values); name != "" {
		return name
	}
	for _, l := range o.Listeners {
		if l.Name == "CLUSTER" {
			return l.Name
		}
	}
	return o.Listeners[0].Name
}

func sessionID() int32 { return int32(random32() & math.MaxInt32) }

// limit reads a bound whose largest value means that there is none.
func limit[T int32 | int](n T) int {
	if int64(n) >= math.MaxInt32 {
		return 0
	}
	return int(n)
}

// register introduces this broker to the cluster whose only voter it is, and lifts its fence. It gives the broker's epoch.
func (b *Broker) register(ctx context.Context, r controller.Registration, brain *brain) (int64, error) {
	var epoch int64
	steps := []func(c *controller.Controller, img *metadata.Image, env controller.Env) (controller.Records, error){
		func(c *controller.Controller, img *metadata.Image, env controller.Env) (rs controller.Records, err error) {
			rs, epoch, err = c.RegisterBroker(img, r, env)
			return rs, err
		},
		func(c *controller.Controller, img *metadata.Image, _ controller.Env) (controller.Records, error) {
			return c.UnfenceBroker(img, r.Broker, epoch)
		},
	}
	for _, step := range steps {
		_, err := b.loop.Do(ctx, func(img *metadata.Image, now time.Time) ([]metadata.Versioned, any, error) {
			records, err := step(brain.ctl, img, brain.env(now))
			return records, nil, err
		})
		if err != nil {
			return 0, fmt.Errorf("registration of this broker: %w", err)
		}
	}
	return epoch, nil
}

// Addr is the address of the first listener.
func (b *Broker) Addr() net.Addr { return b.server.Addr(b.first) }

// ServeConn serves a connection made inside the process, as if the first listener had accepted it.
func (b *Broker) ServeConn(nc net.Conn) error { return b.server.ServeConn(b.first, nc) }

// ClusterID is the id of the cluster.
func (b *Broker) ClusterID() string { return b.clusterID }

// closeTimeout bounds how long one part may take to stop.
const closeTimeout = 30 * time.Second

// Close stops everything, last started first. Logs are flushed and marked as closed cleanly.
func (b *Broker) Close(ctx context.Context) error {
	var errs []error
	for i := len(b.stops) - 1; i >= 0; i-- {
		s := b.stops[i]
		part, cancel := context.WithTimeout(ctx, closeTimeout)
		if err := s.f(part); err != nil {
			errs = append(errs, fmt.Errorf("stop of %s: %w", s.name, err))
		}
		cancel()
	}
	b.stops = nil
	return errors.Join(errs...)
}

func memberID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
