package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/metadata/observer"
	"github.com/ottla/ottla/internal/metadata/quorum"
	"github.com/ottla/ottla/internal/metadata/store"
	"github.com/ottla/ottla/internal/peer"
	"github.com/ottla/ottla/internal/replica"
	"github.com/ottla/ottla/internal/wire/private"
)

// identity is which node of which cluster this is; -1 and "" where the store is to find or make it.
type identity struct {
	node    int32
	cluster string
}

// joinAnswer is what a new node is told.
type joinAnswer struct {
	ClusterID string `json:"clusterId"`
	NodeID    int32  `json:"nodeId"`
}

// identify finds out whether this node follows others, and asks for its place where it is new.
func (b *Broker) identify(ctx context.Context, o Options) (identity, error) {
	id := identity{o.NodeID, config.ClusterID.Get(o.Values)}
	dir := config.MetadataLogDir.Get(o.Values)
	if dir == "" {
		dir = o.LogDirs[0]
	}
	meta, known, err := store.ReadMeta(o.FS, dir)
	if err != nil {
		return id, err
	}
	// With both roles, as in the configuration that Kafka comes with, the controller named is this process itself.
	if len(config.ControllerQuorumBootstrapServers.Get(o.Values)) > 0 && !slices.Contains(config.ProcessRoles.Get(o.Values), "controller") {
		return b.identifyGuest(ctx, o, id, meta)
	}
	if known && meta.ClusterID != "" {
		if meta.NodeID >= 0 {
			id.node = meta.NodeID
		}
		b.follows = store.Followed(o.FS, dir, meta.NodeID) || len(o.Join) > 0
		if b.votes = votes(o, dir, b.follows); b.votes {
			b.follows = false
		}
		return id, nil
	}
	if len(o.Join) == 0 {
		b.votes = votes(o, dir, false)
		return id, nil
	}
	b.follows = true
	answer, err := askToJoin(ctx, o, id)
	if err != nil {
		return id, err
	}
	o.Logger.Info("a new node of a cluster", "cluster", answer.ClusterID, "node", answer.NodeID)
	return identity{answer.NodeID, answer.ClusterID}, nil
}

// askToJoin asks the addresses, one after the other, until one answers or ctx ends.
func askToJoin(ctx context.Context, o Options, id identity) (joinAnswer, error) {
	c := peer.New(peer.Options{ClientID: "ottla-new-node", Clock: o.Clock, Logger: o.Logger, Dial: func(ctx context.Context, t peer.Target) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", t.Addr)
	}})
	defer c.Close()
	payload, err := json.Marshal(struct {
		NodeID    int32  `json:"nodeId"` // that the new node would like to be; -1 for any
		ClusterID string `json:"clusterId"`
	}{id.node, id.cluster})
	if err != nil {
		return joinAnswer{}, err
	}
	pause := 50 * time.Millisecond
	for {
		var errs []error
		for _, addr := range o.Join {
			one, cancel := context.WithTimeout(ctx, requestTimeout)
			a, err := joinAt(one, c, addr, payload)
			cancel()
			if err == nil {
				return a, nil
			}
			errs = append(errs, err)
			var final *refusedJoin
			if errors.As(err, &final) {
				return a, err
			}
		}
		o.Logger.Warn("no node of the cluster could be asked for a place; it is tried again", "error", errors.Join(errs...))
		t := o.Clock.NewTimer(pause)
		select {
		case <-t.C():
		case <-ctx.Done():
			t.Stop()
			return joinAnswer{}, fmt.Errorf("join the cluster: %w", errors.Join(errs...))
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// refusedJoin is an answer that asking again does not change.
type refusedJoin struct{ why string }

func (e *refusedJoin) Error() string { return e.why }

func joinAt(ctx context.Context, c *peer.Client, addr string, payload []byte) (joinAnswer, error) {
	var a joinAnswer
	r, err := c.Request(ctx, peer.Target{Addr: addr}, &private.Request{API: private.Join, Payload: payload})
	if err != nil {
		return a, fmt.Errorf("%s does not take new nodes (is it the address of the listener on which the nodes speak to each other?): %w", addr, err)
	}
	resp := r.(*private.Response)
	switch err := kerr.ErrorForCode(resp.ErrorCode); {
	case err == nil:
	case kerr.IsRetriable(err):
		return a, fmt.Errorf("%s: %w", addr, err)
	default:
		why := err.Error()
		if resp.Message != nil {
			why = *resp.Message
		}
		return a, &refusedJoin{fmt.Sprintf("%s refuses this node: %s", addr, why)}
	}
	if err := json.Unmarshal(resp.Payload, &a); err != nil {
		return a, fmt.Errorf("the answer of %s: %w", addr, err)
	}
	return a, nil
}

// setStraysAside takes directories of partitions that the metadata does not know out of the way.
func (b *Broker) setStraysAside(replicas *replica.Manager) {
	img := b.loop.Image()
	if err := replicas.SetStraysAside(func(tp log.TopicPartition) bool { return img.Partition(tp.Topic, tp.Partition) != nil }); err != nil {
		b.logger.Error("directories of unknown partitions could not be set aside; they stay as they are", "error", err)
	}
}

// readyTimeout bounds how long the start of a node waits for its cluster to let it serve.
const readyTimeout = 60 * time.Second

// takePart makes this node one of its cluster: it follows the metadata log and sends heartbeats, or as the only voter listens to the others'.
func (b *Broker) takePart(ctx context.Context, life *lifecycle, replicas *replica.Manager) error {
	c := b.cluster
	b.onStop("cluster", func(context.Context) error { c.close(); return nil })
	c.background(c.tick)
	if c.sole {
		b.onStop("leaderships", func(ctx context.Context) error { c.leaveAlone(ctx, life.epoch.Load()); return nil })
		return nil
	}
	b.onStop("quorum", func(context.Context) error { return c.voter.close() })
	if b.votes {
		if err := c.voter.begin(); err != nil {
			return err
		}
		c.host.Load().Begin()
	} else {
		c.voter.observe()
	}
	c.background(c.voter.watch)
	life.health.start()
	b.onStop("disk probes", func(context.Context) error { life.health.close(); return nil })
	c.background(life.run)
	b.onStop("leaderships", func(ctx context.Context) error { life.leave(ctx); c.voter.transfer(ctx); return nil })
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := life.ready(ctx); err != nil {
		return err
	}
	b.setStraysAside(replicas)
	c.background(func(ctx context.Context) { _ = replicas.OpenAll(ctx, openAtOnce) }) // failures are logged and kept with the partition
	return nil
}

// openAtOnce is how many logs are opened at a time before anybody asks for them.
const openAtOnce = 2

// newVoter makes this node's part in the quorum, of which it may be a member now, later or never.
func (b *Broker) newVoter(o Options, node int32) *voter {
	v := &voter{
		c: b.cluster, store: b.store, loop: b.loop, o: o, self: quorum.Member{Node: node, Dir: b.store.DirectoryID(o.LogDirs[0])}, guest: b.guest,
		senders: map[peer.Target]*sender{}, stable: map[int32]time.Time{},
	}
	v.makeObserver = func() *observer.Observer {
		bootstrap := append([]string{}, o.Join...)
		if b.guest {
			bootstrap = append(bootstrap, config.ControllerQuorumBootstrapServers.Get(o.Values)...)
		}
		for _, br := range b.loop.Image().Brokers() {
			if e, ok := br.Endpoint(b.cluster.listener); ok && br.ID != node && !b.guest {
				bootstrap = append(bootstrap, net.JoinHostPort(e.Host, fmt.Sprint(e.Port)))
			}
		}
		address := b.cluster.address
		if b.guest { // its controllers are no brokers, though they may have the same ids
			address = nil
		}
		return observer.New(observer.Options{
			Node: node, Directory: b.store.Voter(), ClusterID: b.clusterID, Bootstrap: bootstrap, Clock: o.Clock, Logger: o.Logger,
			Ask: func(ctx context.Context, to observer.Node, req kmsg.Request) (kmsg.Response, error) {
				return b.cluster.peers.Request(ctx, peer.Target{Node: to.ID, Addr: to.Addr, Lane: "metadata"}, req)
			},
			Address: address, Log: fetched{v},
		}, b.store.Committed(), max(0, b.store.Image().Epoch()))
	}
	return v
}
