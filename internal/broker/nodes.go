package broker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/peer"
)

// nodes is the way of this broker's parts to other nodes. Until use there is none.
type nodes struct {
	self  int32
	clock clock.Clock
	way   atomic.Pointer[cluster]

	ctx    context.Context
	cancel context.CancelFunc
	mu     sync.Mutex
	closed bool
	busy   sync.WaitGroup
}

func newNodes(self int32, clk clock.Clock) *nodes {
	n := &nodes{self: self, clock: clk}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n
}

var errAlone = errors.New("this broker has no way to other nodes")

// Ask sends a request to a node and waits for the answer. Kinds of requests have connections of their own: an answer that waits for followers
// does not hold up others.
func (n *nodes) Ask(ctx context.Context, node int32, req kmsg.Request) (kmsg.Response, error) {
	c := n.way.Load()
	if c == nil {
		return nil, errAlone
	}
	return c.peers.Request(ctx, peer.Target{Node: node, Lane: kmsg.NameForKey(req.Key())}, req)
}

// use sets the way.
func (n *nodes) use(c *cluster) { n.way.Store(c) }

// How long the active controller is looked for, and the pause between two looks.
const (
	controllerPatience = 10 * time.Second
	controllerPause    = 20 * time.Millisecond
)

// ToController sends a request to the active controller on another node, until one answers that is. refused reads NOT_CONTROLLER out of an
// answer. done is called once, from another goroutine.
func (n *nodes) ToController(req kmsg.Request, refused func(kmsg.Response) bool, done func(kmsg.Response, error)) {
	n.spawn(func() { done(n.toController(req, refused)) }, func() { done(nil, errAlone) })
}

func (n *nodes) toController(req kmsg.Request, refused func(kmsg.Response) bool) (kmsg.Response, error) {
	ctx, cancel := context.WithTimeout(n.ctx, controllerPatience)
	defer cancel()
	var err error = kerr.NotController
	for ctx.Err() == nil {
		c := n.way.Load()
		if c == nil {
			return nil, errAlone
		}
		var resp kmsg.Response
		if resp, err = c.Controller(ctx, req); err == nil && !refused(resp) {
			return resp, nil
		}
		t := n.clock.NewTimer(controllerPause)
		select {
		case <-t.C():
		case <-ctx.Done():
			t.Stop()
		}
	}
	if err == nil {
		err = kerr.NotController
	}
	return nil, err
}

// produceWait is how long the leader of a partition may take.
const produceWait = 30 * time.Second

// Produce appends a batch to a partition that another broker leads; done is called once all replicas in sync have it, from another goroutine.
func (n *nodes) Produce(node int32, topic string, partition int32, batch []byte, done func(error)) {
	q := kmsg.NewPtrProduceRequest()
	q.SetVersion(12)
	q.Acks, q.TimeoutMillis = -1, int32(produceWait/time.Millisecond)
	t, p := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, batch
	t.Topic, t.Partitions = topic, append(t.Partitions, p)
	q.Topics = append(q.Topics, t)
	n.spawn(func() {
		ctx, cancel := context.WithTimeout(n.ctx, produceWait)
		defer cancel()
		resp, err := n.Ask(ctx, node, q)
		if r, ok := resp.(*kmsg.ProduceResponse); ok && err == nil {
			if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
				err = kerr.UnknownServerError
			} else {
				err = kerr.ErrorForCode(r.Topics[0].Partitions[0].ErrorCode)
			}
		}
		done(err)
	}, func() { done(errAlone) })
}

// spawn runs f on a goroutine that close waits for, or refused where it is too late.
func (n *nodes) spawn(f, refused func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		go refused()
		return
	}
	n.busy.Go(f)
}

func (n *nodes) close() {
	n.cancel()
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.busy.Wait()
}
