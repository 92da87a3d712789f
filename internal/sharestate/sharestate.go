// Package sharestate is the way to the share coordinator: it finds the partition that keeps a share-partition's state, tries
// again while that is being loaded, and keeps the coordinator's topic short. It knows the coordinator's shards and where
// they are; it must never know how records are leased, nor a request.
package sharestate

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/share"
	"github.com/ottla/ottla/internal/sharecoord"
	"github.com/ottla/ottla/internal/wire"
)

// Topic is where states are kept.
const Topic = "__share_group_state"

// Runtime runs the shards.
type Runtime = coordinator.Runtime[*sharecoord.Shard]

// Options are what a Client is made of; all but Ask are required.
type Options struct {
	Runtime *Runtime
	Node    int32
	// Ask sends a request to another node and waits for the answer; nil where there are no others.
	Ask    func(ctx context.Context, node int32, req kmsg.Request) (kmsg.Response, error)
	Image  func() *metadata.Image
	Clock  clock.Clock
	Logger *slog.Logger
	// Cut removes what lies below an offset of a partition of Topic.
	Cut func(partition int32, below int64) error
	// CutEvery is how often that is done (share.coordinator.state.topic.prune.interval.ms).
	CutEvery time.Duration
}

// Client asks the share coordinator. Every call returns at once; its done is called exactly once and must not block.
type Client struct {
	o      Options
	closed atomic.Bool
	cutter atomic.Pointer[clock.Timer]

	ctx    context.Context
	cancel context.CancelFunc
	mu     sync.Mutex // held while closed is set and while busy grows
	busy   sync.WaitGroup
}

// New makes a client and begins to keep the topic short.
func New(o Options) *Client {
	c := &Client{o: o}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.again()
	return c
}

// Close ends it: nothing is tried again.
func (c *Client) Close(context.Context) error {
	c.mu.Lock()
	c.closed.Store(true)
	c.mu.Unlock()
	c.cancel()
	c.busy.Wait()
	if t := c.cutter.Load(); t != nil {
		(*t).Stop()
	}
	return nil
}

func (c *Client) again() {
	t := c.o.Clock.AfterFunc(c.o.CutEvery, c.cut)
	c.cutter.Store(&t)
}

// Home is the partition that keeps a key; false while there is no topic.
func (c *Client) Home(k sharecoord.Key) (int32, bool) {
	t := c.o.Image().Topic(Topic)
	if t == nil {
		return 0, false
	}
	return k.Home(len(t.Partitions)), true
}

// Operation is what a shard is asked to do.
type Operation[T any] func(s *sharecoord.Shard, now time.Time) (coordinator.Result[T], error)

// Do runs an operation on the shard of this broker that keeps a key, once.
func Do[T any](c *Client, name string, k sharecoord.Key, op Operation[T], done func(T, error)) {
	p, ok := c.Home(k)
	if !ok {
		var none T
		done(none, kerr.CoordinatorNotAvailable)
		return
	}
	coordinator.Write(c.o.Runtime, p, name, func(s *sharecoord.Shard, now time.Time, _ coordinator.Token) (coordinator.Result[T], error) {
		return op(s, now)
	}, done)
}

// How long a partition that is being loaded is waited for: about five seconds.
const (
	tries        = 25
	firstPause   = 10 * time.Millisecond
	longestPause = 250 * time.Millisecond
)

// insist runs an operation where a key's state is kept, again and again while that is on its way: op on this broker, the request elsewhere.
func insist[T any](c *Client, name string, k sharecoord.Key, op Operation[T], req kmsg.Request, read func(kmsg.Response) (T, error), done func(T, error)) {
	left, pause := tries, firstPause
	var try func()
	once := func(done func(T, error)) {
		switch node, local := c.home(k); {
		case local:
			Do(c, name, k, op, done)
		case node < 0:
			var none T
			done(none, kerr.CoordinatorNotAvailable)
		default:
			elsewhere(c, node, req, read, done)
		}
	}
	try = func() {
		once(func(v T, err error) {
			if left--; err == nil || left == 0 || c.closed.Load() || !passing(err) {
				done(v, err)
				return
			}
			wait := pause
			pause = min(2*pause, longestPause)
			c.o.Clock.AfterFunc(wait, try)
		})
	}
	try()
}

func passing(err error) bool {
	return errors.Is(err, kerr.CoordinatorNotAvailable) || errors.Is(err, kerr.CoordinatorLoadInProgress) || errors.Is(err, kerr.NotCoordinator)
}

// Key is the coordinator's name for a share-partition.
func Key(k share.PartitionKey) sharecoord.Key {
	return sharecoord.Key{Group: k.Group, TopicID: k.TopicID, Partition: k.Partition}
}

// ReadState is of share.Persister.
func (c *Client) ReadState(k share.PartitionKey, leaderEpoch int32, done func(share.PersistedState, error)) {
	req, read := readElsewhere(Key(k), leaderEpoch)
	insist(c, "share-state-read", Key(k), func(s *sharecoord.Shard, now time.Time) (coordinator.Result[sharecoord.State], error) {
		return s.Read(now, Key(k), leaderEpoch)
	}, req, read, func(s sharecoord.State, err error) {
		out := share.PersistedState{StateEpoch: s.StateEpoch, StartOffset: s.Start}
		for _, b := range s.Batches {
			out.Batches = append(out.Batches, share.StateBatch{FirstOffset: b.First, LastOffset: b.Last, DeliveryState: share.DeliveryState(b.State), DeliveryCount: b.Count})
		}
		done(out, err)
	})
}

// WriteState is of share.Persister.
func (c *Client) WriteState(k share.PartitionKey, w share.StateWrite, done func(error)) {
	change := sharecoord.Write{StateEpoch: w.StateEpoch, LeaderEpoch: w.LeaderEpoch, Start: w.StartOffset, Completed: w.DeliveryCompleteCount}
	for _, b := range w.Batches {
		change.Batches = append(change.Batches, sharecoord.Batch{First: b.FirstOffset, Last: b.LastOffset, State: int8(b.DeliveryState), Count: b.DeliveryCount})
	}
	req, read := writeElsewhere(Key(k), change)
	insist(c, "share-state-write", Key(k), func(s *sharecoord.Shard, now time.Time) (coordinator.Result[struct{}], error) {
		return s.Write(now, Key(k), change)
	}, req, read, func(_ struct{}, err error) { done(err) })
}

// InitializeState is of share.Persister.
func (c *Client) InitializeState(k share.PartitionKey, stateEpoch int32, startOffset int64, done func(error)) {
	req, read := initializeElsewhere(Key(k), stateEpoch, startOffset)
	insist(c, "share-state-initialize", Key(k), func(s *sharecoord.Shard, now time.Time) (coordinator.Result[struct{}], error) {
		return s.Initialize(now, Key(k), stateEpoch, startOffset)
	}, req, read, func(_ struct{}, err error) { done(err) })
}

// Begin begins a state for a group: at start, whatever there was, or, for None, unless it is there already.
func (c *Client) Begin(k sharecoord.Key, stateEpoch int32, start int64, done func(error)) {
	req, read := initializeElsewhere(k, stateEpoch, start)
	insist(c, "share-state-begin", k, func(s *sharecoord.Shard, now time.Time) (coordinator.Result[struct{}], error) {
		if start == sharecoord.None {
			return s.Ensure(now, k, stateEpoch)
		}
		return s.Initialize(now, k, stateEpoch, start)
	}, req, read, func(_ struct{}, err error) { done(err) })
}

// Delete ends a state.
func (c *Client) Delete(k sharecoord.Key, done func(error)) {
	req, read := deleteElsewhere(k)
	insist(c, "share-state-delete", k, func(s *sharecoord.Shard, _ time.Time) (coordinator.Result[struct{}], error) {
		return s.Delete(k)
	}, req, read, func(_ struct{}, err error) { done(err) })
}

// Summary gives a state without its batches.
func (c *Client) Summary(k sharecoord.Key, done func(sharecoord.State, error)) {
	req, read := summaryElsewhere(k)
	insist(c, "share-state-summary", k, func(s *sharecoord.Shard, _ time.Time) (coordinator.Result[sharecoord.State], error) {
		st, err := s.Summary(k)
		return coordinator.Result[sharecoord.State]{Reply: st}, err
	}, req, read, done)
}

// cut removes what no state needs any more.
func (c *Client) cut() {
	if c.closed.Load() {
		return
	}
	for _, p := range c.o.Runtime.Partitions() {
		if p.State != coordinator.Active {
			continue
		}
		coordinator.Read(c.o.Runtime, p.Partition, "share-state-redundant", func(s *sharecoord.Shard, _ time.Time) (int64, error) {
			return s.Redundant(), nil
		}, func(below int64, err error) {
			if err != nil || below <= 0 {
				return
			}
			if err := c.o.Cut(p.Partition, below); err != nil {
				c.o.Logger.Warn("the share coordinator's log could not be cut", "topic", Topic, "partition", p.Partition, "below", below, "error", wire.MessageOf(err))
			}
		})
	}
	c.again()
}
