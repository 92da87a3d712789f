package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ShareConsume has members of a share group read records of a topic and accept every one, each poll's acknowledgements answered
// before the next.
type ShareConsume struct {
	Addr, Topic, Group string
	Members            int
	Records            int64
	Limit              time.Duration
}

// Run reads. The group must not exist yet; it starts at the beginning of the topic.
func (s ShareConsume) Run(ctx context.Context) (Result, error) {
	if err := GroupConfig(ctx, s.Addr, s.Group, "share.auto.offset.reset", "earliest"); err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.Limit)
	defer cancel()
	var records, bytes, requests atomic.Int64
	var failed atomic.Pointer[error]
	var begun atomic.Int64 // when the first record came: joining is not what this measures
	var wg sync.WaitGroup
	for range s.Members {
		cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addr), kgo.ConsumeTopics(s.Topic), kgo.ShareGroup(s.Group), kgo.FetchMaxWait(500*time.Millisecond))
		if err != nil {
			return Result{}, err
		}
		defer cl.Close()
		wg.Go(func() {
			for records.Load() < s.Records && ctx.Err() == nil {
				poll, stop := context.WithTimeout(ctx, time.Second)
				fetches := cl.PollFetches(poll)
				stop()
				begun.CompareAndSwap(0, time.Now().UnixNano())
				var n, size int64
				fetches.EachRecord(func(r *kgo.Record) {
					n++
					size += int64(len(r.Key) + len(r.Value))
					r.Ack(kgo.AckAccept)
				})
				if err := cl.FlushAcks(ctx); err != nil && ctx.Err() == nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				records.Add(n)
				bytes.Add(size)
				requests.Add(1)
			}
		})
	}
	wg.Wait()
	took := time.Since(time.Unix(0, begun.Load()))
	if err := failed.Load(); err != nil {
		return Result{}, *err
	}
	if records.Load() < s.Records {
		return Result{}, fmt.Errorf("%d of %d records were given out within %v", records.Load(), s.Records, s.Limit)
	}
	return Result{Bytes: bytes.Load(), Requests: requests.Load(), Took: took}, nil
}

// GroupConfig sets one config of a group.
func GroupConfig(ctx context.Context, addr, group, name, value string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Value = name, &value
	res.Configs = append(res.Configs, c)
	req.Resources = append(req.Resources, res)
	resp, err := req.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.Resources[0].ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("configs of group %s: %w", group, err)
	}
	return nil
}
