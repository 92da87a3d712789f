package broker

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/replica"
	"github.com/ottla/ottla/internal/wire"
)

// coordinatorLog is a coordinator topic's way to its partitions on this broker.
type coordinatorLog struct {
	topic    string
	replicas *replica.Manager
	clock    clock.Clock
}

func newCoordinatorLog(topic string, replicas *replica.Manager, clk clock.Clock) *coordinatorLog {
	return &coordinatorLog{topic: topic, replicas: replicas, clock: clk}
}

func (c *coordinatorLog) partition(p int32) (*replica.Partition, error) {
	return c.replicas.Get(log.TopicPartition{Topic: c.topic, Partition: p})
}

// Append puts a batch at the end of the partition. A refusal by the log's own rules wrote nothing.
func (c *coordinatorLog) Append(partition, leaderEpoch int32, batch []byte, o coordinator.AppendOptions) (int64, error) {
	p, err := c.partition(partition)
	if err != nil {
		return 0, err
	}
	if p.LeaderEpoch() != leaderEpoch {
		return 0, kerr.NotLeaderForPartition
	}
	if err := p.EnoughInSync(); err != nil {
		return 0, coordinator.Refused(wire.Errorf(kerr.CoordinatorNotAvailable, "%v", err))
	}
	origin := log.Coordinator
	if o.Marker {
		origin = log.Control
	}
	info, err := p.AppendIn(leaderEpoch, batch, log.AppendOptions{Origin: origin, Now: c.clock.Now().UnixMilli(), TransactionVersion: o.TransactionVersion})
	if err != nil {
		if errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kerr.OutOfOrderSequenceNumber) || errors.Is(err, kerr.TransactionCoordinatorFenced) || errors.Is(err, kerr.InvalidTxnState) {
			err = coordinator.Refused(err)
		}
		return 0, err
	}
	return info.LastOffset, nil
}

// Bounds gives the log's start, end and high watermark.
func (c *coordinatorLog) Bounds(partition int32) (start, end, highWatermark int64, err error) {
	p, err := c.partition(partition)
	if err != nil {
		return 0, 0, 0, err
	}
	l, err := p.Log()
	if err != nil {
		return 0, 0, 0, err
	}
	return l.LogStartOffset(), l.LogEnd().Offset, l.HighWatermark().Offset, nil
}

// Read gives whole batches, up to the log's end.
func (c *coordinatorLog) Read(partition int32, from int64, maxBytes int) ([]byte, error) {
	p, err := c.partition(partition)
	if err != nil {
		return nil, err
	}
	l, err := p.Log()
	if err != nil {
		return nil, err
	}
	s, err := l.Read(from, maxBytes, l.LogEnd(), true)
	if err != nil {
		return nil, err
	}
	defer s.Release()
	b := make([]byte, s.Len())
	if _, err := s.ReadAt(b, 0); err != nil {
		return nil, err
	}
	return b, nil
}
