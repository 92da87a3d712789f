package main

import (
	"context"
	"time"

	"github.com/ottla/ottla/bench/kafka/load"
)

// transactions commits every so often and weighs what is committed.
func transactions(every time.Duration) func(context.Context, *side) (measures, error) {
	return func(ctx context.Context, s *side) (measures, error) {
		topic, err := s.topic(ctx, 6)
		if err != nil {
			return nil, err
		}
		defer load.DeleteTopic(context.WithoutCancel(ctx), s.b.Addr, topic)
		// The first transaction makes the log of transactions.
		if _, err := load.Transactions(ctx, s.b.Addr, topic, topic, 1024, every, 10*time.Millisecond); err != nil {
			return nil, err
		}
		d := time.Duration(float64(8*time.Second) * max(s.scale, 0.25))
		r, m, err := s.weigh(func() (load.Result, error) { return load.Transactions(ctx, s.b.Addr, topic, topic, 1024, every, d) })
		if err != nil {
			return nil, err
		}
		m["MB/s"], m["commits/s"], m["commit p50 ms"] = r.MBPerSecond(), float64(r.Requests)/r.Took.Seconds(), r.Latency.Quantile(0.5)
		return m, nil
	}
}

// perSecond weighs requests to a coordinator.
func perSecond(run func(ctx context.Context, s *side, topic string) (load.Result, error)) func(context.Context, *side) (measures, error) {
	return func(ctx context.Context, s *side) (measures, error) {
		topic, err := s.topic(ctx, 6)
		if err != nil {
			return nil, err
		}
		defer load.DeleteTopic(context.WithoutCancel(ctx), s.b.Addr, topic)
		r, m, err := s.weigh(func() (load.Result, error) { return run(ctx, s, topic) })
		if err != nil {
			return nil, err
		}
		delete(m, "CPU-s/GB") // nothing to speak of is moved
		m["a second"] = float64(r.Requests) / r.Took.Seconds()
		return m, nil
	}
}

func joins(ctx context.Context, s *side, topic string) (load.Result, error) {
	return load.JoinGroups(ctx, s.b.Addr, topic, topic+"-group-", int(s.scaled(1000)), 10)
}

func commits(ctx context.Context, s *side, topic string) (load.Result, error) {
	return load.CommitOffsets(ctx, s.b.Addr, topic, topic+"-group-", 100, 6, int(s.scaled(200_000)))
}
