package broker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/broker"
	"github.com/ottla/ottla/internal/vfs"
)

// What a queue has decided stays decided over restarts, and the records that say so do not pile up: what newer snapshots have
// made redundant is cut from the coordinator's log.
func TestQueueLives(t *testing.T) {
	disk := vfs.NewMem()
	for life := range 3 {
		b, err := broker.Start(t.Context(), options(t, disk, "PLAINTEXT://127.0.0.1:0", map[string]string{
			"share.coordinator.state.topic.num.partitions": "1", "share.coordinator.snapshot.update.records.per.snapshot": "2",
			"share.coordinator.state.topic.prune.interval.ms": "50", "group.share.min.heartbeat.interval.ms": "100", "group.share.heartbeat.interval.ms": "100",
		}))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		cl := client(t, b.Addr().String(), kgo.AllowAutoTopicCreation())
		if life == 0 {
			req := kmsg.NewPtrIncrementalAlterConfigsRequest()
			res := kmsg.NewIncrementalAlterConfigsRequestResource()
			res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeGroupConfig, "q"
			c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			c.Name, c.Value = "share.auto.offset.reset", kmsg.StringPtr("earliest")
			res.Configs = append(res.Configs, c)
			req.Resources = append(req.Resources, res)
			if _, err := req.RequestWith(ctx, cl); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 10 {
			if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "queue", Value: fmt.Append(nil, life, "-", i)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		member := client(t, b.Addr().String(), kgo.ShareGroup("q"), kgo.ConsumeTopics("queue"), kgo.ShareMaxRecords(1))
		for n := range 10 {
			for got := false; !got; {
				fetches := member.PollRecords(ctx, 1)
				if ctx.Err() != nil {
					t.Fatalf("life %d: %d of 10 records: %v", life, n, fetches.Err())
				}
				fetches.EachRecord(func(r *kgo.Record) {
					if want := fmt.Sprint(life, "-", n); string(r.Value) != want || r.DeliveryCount() != 1 {
						t.Fatalf("life %d: record %s, delivered %d times, where %s was to come", life, r.Value, r.DeliveryCount(), want)
					}
					r.Ack(kgo.AckAccept)
					got = true
				})
			}
			if err := member.FlushAcks(ctx); err != nil {
				t.Fatal(err)
			}
		}
		member.Close()
		// Of some dozen changes the last snapshot and its updates remain.
		for {
			starts, err := kadm.NewClient(cl).ListStartOffsets(ctx, "__share_group_state")
			if err != nil {
				t.Fatalf("life %d: the log is not cut: %v", life, err)
			}
			ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, "__share_group_state")
			if err != nil {
				t.Fatal(err)
			}
			start, _ := starts.Lookup("__share_group_state", 0)
			end, _ := ends.Lookup("__share_group_state", 0)
			if end.Offset > 10 && end.Offset-start.Offset <= 3 {
				break
			}
		}
		cancel()
		cl.Close()
		closed(t, b)
	}
}
