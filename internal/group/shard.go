// Package group is the group coordinator of one partition of __consumer_offsets: which groups there are, of which
// kind, and the offsets they have committed. It knows Kafka's record formats of that topic and the requests of the
// group APIs; it must never know other partitions, permissions, which topics exist, the log, a clock or a socket.
//
// Shard implements coordinator.Shard: an operation looks at the state and returns records and a reply; the records
// are replayed on the state, appended, and the reply goes out when they are committed. Offsets and the existence of a
// group change by replay only. The rebalance of a classic group is the exception that Kafka makes too: it lives in
// memory and only its outcome is written, so its operations change it at once, and replay of its record does nothing
// while the shard is live. Where an append fails the frame loads the shard anew from the log.
//
// Topic names and ids: the caller (the api layer) resolves them, since it needs names to authorise. Requests come
// with the name set, and with the id where the caller knows it (zero otherwise); topics and partitions that do not
// exist have been answered before (UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID). Answers carry both.
//
// Expiry: offsets do not expire by age unless offsets.retention.minutes is set explicitly, because a consumer that
// comes back after a long holiday should find its place. A commit that asks for a retention time of its own (requests
// up to version 4) gets it. Empty groups without offsets are removed at every offsets.retention.check.interval.ms.
package group

import (
	"log/slog"
	"time"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/classic"
	"github.com/ottla/ottla/internal/group/consumer"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/group/share"
	"github.com/ottla/ottla/internal/group/streams"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Config is what the broker's settings say about groups.
type Config struct {
	Classic  classic.Config
	Consumer consumer.Config
	Streams  streams.Config
	Share    share.Config
	// MaxMetadataBytes (offset.metadata.max.bytes) bounds the text beside a committed offset.
	MaxMetadataBytes int
	// OffsetsRetention (offsets.retention.minutes) is the age at which offsets expire; 0: never, the default.
	OffsetsRetention time.Duration
	// ExpiryInterval (offsets.retention.check.interval.ms) is how often the shard looks for what has expired.
	ExpiryInterval time.Duration
}

// DefaultConfig is Kafka's, but for offsets, which stay, and the first rebalance, which does not wait.
func DefaultConfig() Config {
	return Config{Classic: classic.DefaultConfig(), Consumer: consumer.DefaultConfig(), Streams: streams.DefaultConfig(), Share: share.DefaultConfig(), MaxMetadataBytes: 4096, ExpiryInterval: 10 * time.Minute}
}

// Options are what a shard is made of.
type Options struct {
	Config Config
	// NewID gives a text that no other call gives, to make member ids of.
	NewID func() string
	Log   *slog.Logger
}

// RequestContext is who asks.
type RequestContext struct {
	ClientID   string
	ClientHost string // as Kafka shows it: "/127.0.0.1"
	Version    int16  // of the request
}

func (c RequestContext) client() classic.Client {
	return classic.Client{ID: c.ClientID, Host: c.ClientHost, Version: c.Version}
}

// Shard is the state of one partition of __consumer_offsets. The frame calls it from one goroutine at a time.
type Shard struct {
	cfg      Config
	log      *slog.Logger
	classic  *classic.Env
	consumer *consumer.Env
	streams  *streams.Env
	share    *share.Env
	newborn  *streams.Group // made by an operation whose records are about to be replayed
	newShare *share.Group   // likewise

	registry
	offsets offsets

	live    bool           // loaded: from now on operations come, and replay follows them
	lost    map[topic]bool // topics deleted, whose offsets have to go
	lostIDs map[schema.UUID]bool
	skipped int // records that this release does not know
	stats   Stats
}

// New is an empty shard.
func New(o Options) *Shard {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Shard{
		cfg: o.Config, log: o.Log,
		classic:  &classic.Env{Config: o.Config.Classic, NewID: o.NewID, Log: o.Log},
		consumer: &consumer.Env{Config: o.Config.Consumer, Classic: o.Config.Classic, NewID: o.NewID, Log: o.Log},
		streams:  &streams.Env{Config: o.Config.Streams, Log: o.Log},
		share:    &share.Env{Config: o.Config.Share, Log: o.Log},
		registry: newRegistry(), offsets: newOffsets(), lost: map[topic]bool{}, lostIDs: map[schema.UUID]bool{},
	}
	s.consumer.Downgrade = s.downgrade
	return s
}

// topic is a topic that is gone. Offsets committed by older clients or Kafka releases know its name only.
type topic struct {
	name string
	id   schema.UUID // zero: by name
}

// maxNameBytes bounds ids and names that go into records, whose strings have a 16 bit length.
const maxNameBytes = 32_000

// result is an operation's outcome with its reply at hand.
func result[T any](op *effect.Op, reply T) coordinator.Result[T] {
	return coordinator.Result[T]{Records: op.Records, Reply: reply, Timers: op.Timers, Deliveries: op.Deliveries, OnRefused: op.Refused}
}

// parkable is the outcome of an operation that answers tok, now or later: a reply among the deliveries is this
// request's own.
func parkable[T any](op *effect.Op, tok coordinator.Token) coordinator.Result[T] {
	for i, d := range op.Deliveries {
		if d.Token == tok {
			op.Deliveries = append(op.Deliveries[:i:i], op.Deliveries[i+1:]...)
			return result(op, d.Reply.(T))
		}
	}
	var none T
	r := result(op, none)
	r.Parked = true
	return r
}
