package coordinator

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire/schema"
)

// core is the Runtime without its type parameter: the partitions, the workers that run them, the newest image.
type core struct {
	name, topic string
	log         Log
	newShard    func(partition int32) Shard
	decode      func(key, value []byte) (k, v schema.Message, err error)
	clock       clock.Clock
	logger      *slog.Logger
	spawn       func(func())
	leads       func() bool
	metrics     *metrics

	workers, mailboxOps, maxBatchBytes, loadBytes int
	writeTimeout, reloadBackoff                   time.Duration
	codec                                         record.Codec

	tokens  atomic.Uint64
	scratch sync.Pool

	mu         sync.RWMutex // guards what follows; never held while a shard, a log or a done runs
	partitions map[int32]*partition
	image      *metadata.Image
	imageSeq   uint64
	closing    bool

	pool    sync.Mutex // guards what follows; taken inside mu or a mailbox's lock, takes none
	ready   []*partition
	running int // workers
	drained chan struct{}
	sealed  bool // no worker starts again
}

func (c *core) lookup(partition int32) *partition {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.partitions[partition]
}

func (c *core) all() []*partition {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.allLocked()
}

func (c *core) allLocked() []*partition {
	out := make([]*partition, 0, len(c.partitions))
	for _, p := range c.partitions {
		out = append(out, p)
	}
	return out
}

func (c *core) load(number, epoch int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	p := c.partitions[number]
	if p == nil {
		p = newPartition(c, number)
		c.partitions[number] = p
	}
	p.control(func() { p.load(epoch) })
}

// forget takes a closed partition out of the map.
func (c *core) forget(p *partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.partitions[p.number] == p {
		delete(c.partitions, p.number)
	}
}

func (c *core) setImage(img *metadata.Image) (seq uint64, all []*partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.image = img
	c.imageSeq++
	return c.imageSeq, c.allLocked()
}

func (c *core) newestImage() (*metadata.Image, uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.image, c.imageSeq
}

// submit puts an operation into a partition's mailbox, or answers it at once where it cannot run.
func (c *core) submit(number int32, op operation) {
	p := c.lookup(number)
	err := errNotCoordinator(c, number)
	if p != nil {
		if err = p.refusal(); err == nil {
			err = p.put(op)
		}
	}
	if err != nil {
		c.answer(op, err)
	}
}

// answer settles an operation that no partition has run; a done that panics is logged.
func (c *core) answer(op operation, err error) {
	defer c.survive("answering an operation")
	op.settle(c, err)
}

// survive keeps a panic of foreign code from taking a worker down; to be deferred.
func (c *core) survive(doing string) {
	if r := recover(); r != nil {
		c.logger.Error("BUG: a callback panicked; the caller of this operation may wait in vain", "doing", doing, "panic", fmt.Sprint(r), "stack", stack())
	}
}

// schedule lets a worker run a partition.
func (c *core) schedule(p *partition) {
	c.pool.Lock()
	if c.sealed {
		c.pool.Unlock()
		p.turn() // all partitions are closed and all workers gone: what came late is told so here
		return
	}
	c.ready = append(c.ready, p)
	start := c.running < c.workers
	if start {
		c.running++
	}
	c.pool.Unlock()
	if start {
		c.spawn(c.work)
	}
}

// work runs partitions until none has anything to do.
func (c *core) work() {
	for {
		c.pool.Lock()
		if len(c.ready) == 0 {
			c.ready = nil
			c.running--
			c.checkDrained()
			c.pool.Unlock()
			return
		}
		p := c.ready[0]
		c.ready[0] = nil
		c.ready = c.ready[1:]
		c.pool.Unlock()
		p.turn()
	}
}

// checkDrained: REQUIRES pool.
func (c *core) checkDrained() {
	if c.sealed && c.running == 0 {
		select {
		case <-c.drained:
		default:
			close(c.drained)
		}
	}
}

func (c *core) close(ctx context.Context) error {
	c.mu.Lock()
	all := c.allLocked()
	c.closing = true
	c.mu.Unlock()
	for _, p := range all {
		p.control(func() { p.unload(-1) })
	}
	for _, p := range all {
		if err := wait(ctx, p.closed); err != nil {
			return fmt.Errorf("close the %s coordinator: partition %d of %s is still busy: %w", c.name, p.number, c.topic, err)
		}
	}
	c.pool.Lock()
	c.sealed = true
	c.checkDrained()
	c.pool.Unlock()
	if err := wait(ctx, c.drained); err != nil {
		return fmt.Errorf("close the %s coordinator: its workers are still busy: %w", c.name, err)
	}
	return nil
}

func wait(ctx context.Context, ch <-chan struct{}) error {
	select {
	case <-ch:
		return nil
	default:
	}
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
