package broker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/remote"
	"github.com/ottla/ottla/internal/replica"
	"github.com/ottla/ottla/internal/sharecoord"
	"github.com/ottla/ottla/internal/sharestate"
	"github.com/ottla/ottla/internal/txn"
	"github.com/ottla/ottla/internal/wire/schema"
)

// coordinators are this broker's: of groups, transactions and the state of queues, with their ways to those of other brokers.
type coordinators struct {
	node        int32
	groups      *coordinator.Runtime[*group.Shard]
	txns        *coordinator.Runtime[*txn.Shard]
	states      *sharestate.Runtime
	ends        *markers
	joins       *remote.Transactions
	sent        *remote.Markers
	shareStates *sharestate.Client
	appends     lanes
	life        atomic.Pointer[lifecycle] // nil until this broker is about to take part in its cluster
}

// leads says whether this broker may believe that it leads what it led last.
func (c *coordinators) leads() bool {
	l := c.life.Load()
	return l == nil || l.leads()
}

// joinPatience bounds how long a produce waits for the coordinator of its transaction on another broker; its client asks again after that.
const joinPatience = 5 * time.Second

func newCoordinators(o Options, node int32, image func() *metadata.Image, replicas *replica.Manager, others *nodes) *coordinators {
	c := &coordinators{node: node}
	c.groups = coordinator.New(coordinator.Options[*group.Shard]{
		Name: "group", Topic: offsetsTopic, Log: newCoordinatorLog(offsetsTopic, replicas, o.Clock), Decode: schema.ReadGroupRecord,
		NewShard: func(int32) *group.Shard {
			return group.New(group.Options{Config: groupConfig(o.Values), NewID: memberID, Log: o.Logger})
		},
		Clock: o.Clock, Logger: o.Logger, Registerer: o.Registerer,
		WriteTimeout: ms(int64(config.OffsetsCommitTimeoutMs.Get(o.Values))), LoadBytes: int(config.OffsetsLoadBufferSize.Get(o.Values)),
		Codec: record.Codec(config.OffsetsTopicCompressionCodec.Get(o.Values)), Leads: c.leads,
	})
	c.sent = remote.NewMarkers(others.Ask)
	c.ends = newMarkers(o, image)
	c.txns = newTransactions(o, replicas, c.ends)
	c.ends.node, c.ends.txns, c.ends.groups, c.ends.replicas, c.ends.sent = node, c.txns, c.groups, replicas, c.sent
	c.joins = remote.NewTransactions(remote.TransactionsOptions{
		Node: node, Image: image, Runtime: c.txns, Ask: others.Ask, Clock: o.Clock, Patience: joinPatience,
		Backoff: ms(int64(config.AddPartitionsRetryBackoffMs.Get(o.Values))), BackoffMax: ms(int64(config.AddPartitionsRetryBackoffMaxMs.Get(o.Values))),
	})
	c.states = newShareStates(o, replicas)
	c.shareStates = newShareClient(o, node, c.states, image, replicas, others)
	return c
}

// committed tells them how far a partition is committed.
func (c *coordinators) committed(tp log.TopicPartition, hw int64) {
	switch tp.Topic {
	case offsetsTopic:
		c.groups.OnHighWatermark(tp.Partition, hw)
	case transactionTopic:
		c.txns.OnHighWatermark(tp.Partition, hw)
	case sharestate.Topic:
		c.states.OnHighWatermark(tp.Partition, hw)
	}
}

func (c *coordinators) publishers() []metadata.Publisher {
	return []metadata.Publisher{
		&shardPublisher[*group.Shard]{"groups", offsetsTopic, c.node, c.groups},
		&shardPublisher[*txn.Shard]{"transactions", transactionTopic, c.node, c.txns},
		&shardPublisher[*sharecoord.Shard]{"share-states", sharestate.Topic, c.node, c.states},
	}
}

// close answers what waits for other members or for commits; the network would wait for it else.
func (c *coordinators) close(onStop func(name string, f func(ctx context.Context) error)) {
	onStop("groups", c.groups.Close)
	onStop("appends that waited", func(context.Context) error { c.appends.close(); return nil })
	onStop("transactions", c.txns.Close)
	onStop("transactions of other brokers", func(context.Context) error { c.joins.Close(); return nil })
	onStop("transaction markers", func(context.Context) error { c.ends.close(); c.sent.Close(); return nil })
	onStop("share states", c.states.Close)
	onStop("share state client", c.shareStates.Close)
}

// shardPublisher loads and unloads the shards of a coordinator's topic with the leadership of its partitions, and tells them of the cluster.
type shardPublisher[S coordinator.Shard] struct {
	name, topic string
	node        int32
	shards      *coordinator.Runtime[S]
}

func (p *shardPublisher[S]) Name() string { return p.name }

func (p *shardPublisher[S]) OnMetadata(delta *metadata.Delta, img *metadata.Image) {
	p.shards.OnMetadata(delta, img)
	for _, c := range delta.Local(p.node) {
		if c.Topic.Name != p.topic {
			continue
		}
		switch {
		case c.New == nil:
			p.shards.Unload(c.Partition, -1)
		case c.New.Leader == p.node:
			p.shards.Load(c.Partition, c.New.LeaderEpoch)
		default:
			p.shards.Unload(c.Partition, c.New.LeaderEpoch)
		}
	}
}
