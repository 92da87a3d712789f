package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// franz is franz-go under test.
type franz struct{ boot string }

func (f *franz) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(f.boot), kgo.RetryTimeout(20 * time.Second)}, opts...)...)
}

func (f *franz) produce(c command) (answer, error) {
	codec := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}[c.Codec]
	opts := []kgo.Opt{kgo.ProducerBatchCompression(codec), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(50 * time.Millisecond)}
	if !c.Idempotent {
		opts = append(opts, kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.AllISRAcks()))
	}
	cl, err := f.client(opts...)
	if err != nil {
		return answer{}, err
	}
	defer cl.Close()
	recs := make([]*kgo.Record, len(c.Records))
	for i, r := range c.Records {
		recs[i] = &kgo.Record{Topic: c.Topic, Partition: r.P, Key: r.K, Value: r.V, Timestamp: time.UnixMilli(r.TS)}
		for _, h := range r.H {
			recs[i].Headers = append(recs[i].Headers, kgo.RecordHeader{Key: headerName(h[0]), Value: headerValue(h[1])})
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := cl.ProduceSync(ctx, recs...).FirstErr(); err != nil {
		return answer{}, err
	}
	var a answer
	for _, r := range recs {
		a.Offsets = append(a.Offsets, r.Offset)
	}
	return a, nil
}

func (f *franz) consume(c command) (answer, error) {
	from := map[int32]kgo.Offset{}
	for p := range c.Partitions {
		from[p] = kgo.NewOffset().AtStart()
	}
	cl, err := f.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{c.Topic: from}))
	if err != nil {
		return answer{}, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var a answer
	for len(a.Records) < c.Count {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			return a, fmt.Errorf("after %d records: %w", len(a.Records), err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			x := record{P: r.Partition, O: r.Offset, K: r.Key, V: r.Value, TS: r.Timestamp.UnixMilli()}
			for _, h := range r.Headers {
				x.H = append(x.H, [2]any{h.Key, h.Value})
			}
			a.Records = append(a.Records, x)
		})
	}
	return a, nil
}

// admin runs do with an admin client.
func (f *franz) admin(do func(context.Context, *kadm.Client) error) error {
	cl, err := f.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return do(ctx, kadm.NewClient(cl))
}

func (f *franz) create(c command) error {
	return f.admin(func(ctx context.Context, a *kadm.Client) error {
		configs := map[string]*string{}
		for k, v := range c.Configs {
			configs[k] = &v
		}
		_, err := a.CreateTopic(ctx, c.Partitions, 1, configs, c.Topic)
		return err
	})
}

func (f *franz) list() (ans answer, err error) {
	err = f.admin(func(ctx context.Context, a *kadm.Client) error {
		ts, err := a.ListTopics(ctx)
		ans.Topics = ts.Names()
		return err
	})
	return ans, err
}

func (f *franz) describe(c command) (ans answer, err error) {
	err = f.admin(func(ctx context.Context, a *kadm.Client) error {
		rs, err := a.DescribeTopicConfigs(ctx, c.Topic)
		if err != nil {
			return err
		}
		r, err := rs.On(c.Topic, nil)
		if err != nil {
			return err
		}
		ans.Configs = map[string]string{}
		for _, e := range r.Configs {
			ans.Configs[e.Key] = e.MaybeValue()
		}
		return r.Err
	})
	return ans, err
}

func (f *franz) alter(c command) error {
	return f.admin(func(ctx context.Context, a *kadm.Client) error {
		var changes []kadm.AlterConfig
		for k, v := range c.Configs {
			changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: k, Value: &v})
		}
		rs, err := a.AlterTopicConfigs(ctx, changes, c.Topic)
		if err != nil {
			return err
		}
		for _, r := range rs {
			if r.Err != nil {
				return r.Err
			}
		}
		return nil
	})
}

func (f *franz) remove(c command) error {
	return f.admin(func(ctx context.Context, a *kadm.Client) error {
		r, err := a.DeleteTopic(ctx, c.Topic)
		if err != nil {
			return err
		}
		return r.Err
	})
}

func (f *franz) groups() (ans answer, err error) {
	err = f.admin(func(ctx context.Context, a *kadm.Client) error {
		gs, err := a.ListGroups(ctx)
		ans.Groups = gs.Groups()
		return err
	})
	return ans, err
}

func (f *franz) offsets(c command) (ans answer, err error) {
	err = f.admin(func(ctx context.Context, a *kadm.Client) error {
		var lo kadm.ListedOffsets
		var err error
		switch c.TS {
		case -1:
			lo, err = a.ListEndOffsets(ctx, c.Topic)
		case -2:
			lo, err = a.ListStartOffsets(ctx, c.Topic)
		default:
			lo, err = a.ListOffsetsAfterMilli(ctx, c.TS, c.Topic)
		}
		if err != nil {
			return err
		}
		for p := range c.Partitions {
			o, ok := lo.Lookup(c.Topic, p)
			if !ok || o.Err != nil {
				return fmt.Errorf("partition %d: listed %v, %w", p, ok, o.Err)
			}
			ans.Offsets = append(ans.Offsets, o.Offset)
		}
		return nil
	})
	return ans, err
}

func (f *franz) group(c command, stop <-chan struct{}) error {
	opts := []kgo.Opt{kgo.ConsumerGroup(c.Group), kgo.ConsumeTopics(c.Topic), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.BlockRebalanceOnPoll()}
	if c.Protocol == "consumer" {
		opts = append(opts, kgo.ServerSideBalancer())
	} else {
		opts = append(opts, kgo.SessionTimeout(time.Duration(c.SessionMs)*time.Millisecond), kgo.HeartbeatInterval(500*time.Millisecond))
	}
	cl, err := f.client(opts...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-stop
		cancel()
	}()
	for ctx.Err() == nil {
		fs := cl.PollFetches(ctx)
		fs.EachRecord(func(r *kgo.Record) { emitRecord(r.Partition, r.Offset, r.Value) })
		if fs.NumRecords() > 0 {
			if err := cl.CommitUncommittedOffsets(context.Background()); err != nil {
				emitCommitFailed(err)
			}
		}
		cl.AllowRebalance()
	}
	cl.CloseAllowingRebalance()
	return nil
}
