package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// Transactions produces for d with a full client that commits every so often: what is committed counts.
func Transactions(ctx context.Context, addr, topic, id string, recordBytes int, every, d time.Duration) (Result, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(topic), kgo.TransactionalID(id), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(20_000), kgo.ProducerBatchMaxBytes(256<<10))
	if err != nil {
		return Result{}, err
	}
	defer cl.Close()
	value := Payload(rand.New(rand.NewPCG(7, 8)), recordBytes)
	var r Result
	var failed atomic.Pointer[error]
	for start := time.Now(); r.Took < d; r.Took = time.Since(start) {
		if err := cl.BeginTransaction(); err != nil {
			return r, err
		}
		n := int64(0)
		for begun := time.Now(); time.Since(begun) < every; n++ {
			cl.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
				if err != nil {
					failed.Store(&err)
				}
			})
		}
		if err := cl.Flush(ctx); err != nil {
			return r, err
		}
		end := time.Now()
		if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
			return r, err
		}
		r.Latency.Add(time.Since(end))
		r.Requests++
		r.Bytes += n * int64(recordBytes)
	}
	if err := failed.Load(); err != nil {
		return r, *err
	}
	return r, nil
}

// spread runs n jobs on so many goroutines, each with a client of its own.
func spread(ctx context.Context, addr string, workers, n int, job func(ctx context.Context, cl *kgo.Client, i int) error) (Result, error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, workers)
	start := time.Now()
	for w := range workers {
		wg.Go(func() {
			// Later versions name topics by id, which the requests here do not.
			cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.MaxVersions(kversion.V3_8_0()))
			if err != nil {
				errs[w] = err
				return
			}
			defer cl.Close()
			for {
				i := int(next.Add(1)) - 1
				if i >= n || ctx.Err() != nil {
					errs[w] = ctx.Err()
					return
				}
				if err := job(ctx, cl, i); err != nil {
					errs[w] = err
					return
				}
			}
		})
	}
	wg.Wait()
	return Result{Requests: int64(n), Took: time.Since(start)}, errors.Join(errs...)
}

// JoinGroups has members join groups of the consumer protocol (KIP-848) on a topic; every member asks until it is in its group.
func JoinGroups(ctx context.Context, addr, topic, prefix string, groups, members int) (Result, error) {
	return spread(ctx, addr, 32, groups*members, func(ctx context.Context, cl *kgo.Client, i int) error {
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Group, req.MemberID, req.RebalanceTimeoutMillis = fmt.Sprint(prefix, i%groups), fmt.Sprintf("member-%d", i), 60_000
		req.SubscribedTopicNames, req.Topics = []string{topic}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		for {
			resp, err := req.RequestWith(ctx, cl)
			if err != nil && kerr.IsRetriable(err) {
				continue // the coordinator's topic is being made
			} else if err != nil {
				return err
			}
			switch err := kerr.ErrorForCode(resp.ErrorCode); {
			case err == nil:
				return nil
			case !kerr.IsRetriable(err):
				return fmt.Errorf("join %s: %w", req.Group, err)
			}
		}
	})
}

// CommitOffsets commits one offset in each of n requests, over some groups without members.
func CommitOffsets(ctx context.Context, addr, topic, prefix string, groups, partitions, n int) (Result, error) {
	return spread(ctx, addr, 64, n, func(ctx context.Context, cl *kgo.Client, i int) error {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.Generation = fmt.Sprint(prefix, i%groups), -1
		t := kmsg.NewOffsetCommitRequestTopic()
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		t.Topic, p.Partition, p.Offset = topic, int32(i%partitions), int64(i)
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
		for {
			resp, err := req.RequestWith(ctx, cl)
			if err != nil && kerr.IsRetriable(err) {
				continue // the coordinator's topic is being made
			} else if err != nil {
				return err
			}
			switch err := kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode); {
			case err == nil:
				return nil
			case !kerr.IsRetriable(err):
				return fmt.Errorf("commit for %s: %w", req.Group, err)
			}
		}
	})
}
