package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/remote"
	"github.com/ottla/ottla/internal/replica"
	"github.com/ottla/ottla/internal/txn"
	"github.com/ottla/ottla/internal/wire/schema"
)

const transactionTopic = "__transaction_state"

func newTransactions(o Options, replicas *replica.Manager, m *markers) *coordinator.Runtime[*txn.Shard] {
	return coordinator.New(coordinator.Options[*txn.Shard]{
		Name: "txn", Topic: transactionTopic, Log: newCoordinatorLog(transactionTopic, replicas, o.Clock), Decode: schema.ReadTxnRecord,
		NewShard: func(p int32) *txn.Shard {
			return txn.New(txn.Options{
				MaxTimeoutMs: int32(config.TransactionMaxTimeoutMs.Get(o.Values)), Expiration: ms(int64(config.TransactionalIDExpirationMs.Get(o.Values))),
				ExpiryInterval: ms(int64(config.TransactionExpiredCleanupIntervalMs.Get(o.Values))), Announce: func(id string) { m.announce(p, id) }, Log: o.Logger,
			})
		},
		Clock: o.Clock, Logger: o.Logger, Registerer: o.Registerer, LoadBytes: int(config.TransactionLogLoadBufferSize.Get(o.Values)),
	})
}

// markers writes the markers of decided transactions: one goroutine for each decision, until all partitions have theirs.
type markers struct {
	node     int32
	sent     *remote.Markers                  // to partitions that other brokers lead
	txns     *coordinator.Runtime[*txn.Shard] // set before the first announcement
	groups   *coordinator.Runtime[*group.Shard]
	replicas *replica.Manager
	image    func() *metadata.Image
	clock    clock.Clock
	logger   *slog.Logger
	old      prometheus.Counter

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	mu      sync.Mutex
	jobs    map[string]bool // true: announced again since the goroutine began
	warned  map[string]bool // transactional ids whose old protocol was told of
	closed  bool
}

// warnedMax bounds the transactional ids that are remembered as told of; with more the list begins anew.
const warnedMax = 10_000

// warnOld counts a transaction of the protocol before KIP-890 and warns of each transactional id once.
func (m *markers) warnOld(id string) {
	m.old.Inc()
	m.mu.Lock()
	known := m.warned[id]
	if !known {
		if len(m.warned) >= warnedMax {
			clear(m.warned)
		}
		m.warned[id] = true
	}
	m.mu.Unlock()
	if !known {
		m.logger.Warn("a client ends its transactions in the protocol before KIP-890, where a marker or a request that comes late may end a later transaction of the same producer; use a client that knows version 2 (Java 4.0, franz-go 1.19 or newer) and keep transaction.version at 2",
			"transactional_id", id)
	}
}

func newMarkers(o Options, image func() *metadata.Image) *markers {
	m := &markers{image: image, clock: o.Clock, logger: o.Logger, jobs: map[string]bool{}, warned: map[string]bool{}}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.old = prometheus.NewCounter(prometheus.CounterOpts{Name: "ottla_txn_version1_markers_total",
		Help: "Transactions ended for clients of the protocol before KIP-890, whose late markers could end a later transaction."})
	if o.Registerer != nil {
		o.Registerer.MustRegister(m.old)
	}
	return m
}

// announce begins to end a transaction; it does not block.
func (m *markers) announce(partition int32, id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	if _, running := m.jobs[id]; running {
		m.jobs[id] = true // the next decision may come before the goroutine of the last has noticed that it is done
		return
	}
	m.jobs[id] = false
	m.running.Go(func() { m.end(partition, id) })
}

func (m *markers) close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	m.running.Wait()
}

// answer is what an operation of a coordinator came to.
type answer[T any] struct {
	value T
	err   error
}

func await[T any](ctx context.Context, begin func(done func(T, error))) (T, error) {
	ch := make(chan answer[T], 1)
	begin(func(v T, err error) { ch <- answer[T]{v, err} })
	select {
	case a := <-ch:
		return a.value, a.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

// end writes the markers of one decision and notes that they are written. It gives up where this broker is no longer the coordinator:
// whoever is finds the decision in the log.
func (m *markers) end(partition int32, id string) {
	pause := 5 * time.Millisecond
	var w work
	for {
		done, err := m.try(partition, id, &w)
		if done || errors.Is(err, kerr.NotCoordinator) || m.ctx.Err() != nil {
			if m.finished(id) {
				return
			}
			pause, w = 5*time.Millisecond, work{}
			continue
		}
		if err != nil && pause > 500*time.Millisecond {
			m.logger.Warn("a decided transaction could not be ended yet; it is tried again", "transactional_id", id, "error", err)
		}
		t := m.clock.NewTimer(pause)
		select {
		case <-t.C():
		case <-m.ctx.Done():
			t.Stop()
			return
		}
		pause = min(2*pause, time.Second)
	}
}

// finished forgets a job, unless it was announced again.
func (m *markers) finished(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.jobs[id] && !m.closed {
		m.jobs[id] = false
		return false
	}
	delete(m.jobs, id)
	return true
}

// work is what is left of a decision.
type work struct {
	producer txn.Producer
	left     []txn.Partition
}

func (m *markers) try(partition int32, id string, w *work) (done bool, err error) {
	epoch := m.txns.Epoch(partition) // before the decision is read: an older epoch than that of who decided is refused, a newer one is not his
	d, err := await(m.ctx, func(done func(*txn.Decision, error)) {
		coordinator.Read(m.txns, partition, "prepared", func(s *txn.Shard, _ time.Time) (*txn.Decision, error) { return s.Prepared(id), nil }, done)
	})
	if err != nil {
		return false, err
	}
	if d == nil {
		return true, nil
	}
	if w.producer != d.Producer || w.left == nil {
		*w = work{producer: d.Producer, left: append([]txn.Partition{}, d.Partitions...)}
		if d.Version < txn.Version2 && len(d.Partitions) > 0 {
			m.warnOld(id)
		}
	}
	marker := coordinator.Marker{ProducerID: d.Producer.ID, ProducerEpoch: d.Producer.Epoch, CoordinatorEpoch: epoch, Commit: d.Commit, TransactionVersion: d.Version}
	if err := m.writeAll(w, marker); err != nil {
		// Not to be taken for the coordinator of the transaction having moved: the one of a group may have.
		return false, fmt.Errorf("write a marker: %v", err)
	}
	_, err = await(m.ctx, func(done func(struct{}, error)) {
		coordinator.Write(m.txns, partition, "complete", func(s *txn.Shard, now time.Time, _ coordinator.Token) (coordinator.Result[struct{}], error) {
			return s.Complete(now, d)
		}, done)
	})
	*w = work{} // it may be complete though nobody could tell, and the next decision be of the same producer
	return err == nil, err
}

// writeAll writes a marker to the partitions that are left and waits until all are durable. Those that have theirs, or need none because
// they are gone or know a newer epoch, are left no more. It gives the first error.
func (m *markers) writeAll(w *work, marker coordinator.Marker) error {
	errs := make([]error, len(w.left))
	var wg sync.WaitGroup
	for i, p := range w.left {
		wg.Add(1)
		m.write(p, marker, func(err error) { errs[i] = err; wg.Done() })
	}
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-m.ctx.Done():
		return m.ctx.Err()
	}
	left := []txn.Partition{}
	for i, p := range w.left {
		if errs[i] != nil {
			left = append(left, p)
		}
	}
	w.left = left
	return cmp.Or(errs...)
}

func (m *markers) write(p txn.Partition, marker coordinator.Marker, done func(error)) {
	heard := func(err error) {
		if errors.Is(err, kerr.InvalidProducerEpoch) {
			err = nil // a newer epoch is known there: this transaction is over
		}
		done(err)
	}
	at := m.image().Partition(p.Topic, p.Partition)
	switch {
	case at == nil:
		done(nil)
	case at.Leader == m.node:
		m.Write(p.Topic, p.Partition, marker, heard)
	case at.Leader < 0:
		done(kerr.LeaderNotAvailable)
	default:
		m.sent.Send(at.Leader, p, marker, heard)
	}
}

// Write writes a marker to a partition that this broker leads; done is called once it is durable. Errors: INVALID_PRODUCER_EPOCH where a
// newer one is known there, TRANSACTION_COORDINATOR_FENCED, NOT_LEADER_OR_FOLLOWER.
func (m *markers) Write(topic string, partition int32, marker coordinator.Marker, done func(error)) {
	if topic == offsetsTopic {
		m.groups.CompleteTransaction(partition, marker, done)
		return
	}
	part, err := m.replicas.Get(log.TopicPartition{Topic: topic, Partition: partition})
	if err != nil {
		done(err)
		return
	}
	now := m.clock.Now().UnixMilli()
	batch := record.EndTxnMarker(marker.Commit, marker.CoordinatorEpoch, marker.ProducerID, marker.ProducerEpoch, 0, now)
	info, err := part.Append(batch, log.AppendOptions{Origin: log.Control, Now: now, TransactionVersion: marker.TransactionVersion})
	upTo := info.LastOffset + 1
	if errors.Is(err, kerr.InvalidProducerEpoch) {
		// What is known there may be the same marker, sent before: whoever hears of it must be able to rely on it.
		l, gone := part.Log()
		if gone != nil {
			done(gone)
			return
		}
		upTo = l.LogEnd().Offset
	} else if err != nil {
		done(err)
		return
	}
	refused := err
	delayed := m.replicas.DelayProduce(1, func(errs []error) { done(cmp.Or(errs[0], refused)) })
	part.Wait(upTo, delayed, 0)
	delayed.Arm(10 * time.Second)
}
