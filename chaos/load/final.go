package load

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottla/ottla/chaos/history"
)

// ReadAll reads everything as committed, after the producers have stopped, and says where each partition ends. A transaction that
// holds the last stable offset back is waited for until ctx ends: then it is written down as it is.
func ReadAll(ctx context.Context, bootstrap []string, partitions int, record func(history.Event)) error {
	cl, err := client(bootstrap, kgo.ClientID("final"))
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	type end struct{ stable, high int64 }
	var ends map[string]map[int32]end
	for {
		ends = map[string]map[int32]end{}
		whole, hanging := true, false
		ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
		high, err1 := adm.ListEndOffsets(ask, Input, Output)
		stable, err2 := adm.ListCommittedOffsets(ask, Input, Output)
		cancel()
		for _, topic := range []string{Input, Output} {
			ends[topic] = map[int32]end{}
			for p := range int32(partitions) {
				h, ok1 := high.Lookup(topic, p)
				s, ok2 := stable.Lookup(topic, p)
				if err1 != nil || err2 != nil || !ok1 || !ok2 || h.Err != nil || s.Err != nil {
					whole = false
					continue
				}
				hanging = hanging || s.Offset < h.Offset
				ends[topic][p] = end{s.Offset, h.Offset}
			}
		}
		if whole && !hanging || ctx.Err() != nil {
			break
		}
		pause(ctx, 300*time.Millisecond)
	}
	for _, topic := range []string{Input, Output} {
		for p, e := range ends[topic] {
			if err := readOne(ctx, bootstrap, topic, p, e.stable, record); err != nil {
				record(history.Event{Kind: history.Note, Topic: topic, Partition: p, Note: err.Error()})
				continue
			}
			record(history.Event{Kind: history.FinalEnd, Topic: topic, Partition: p, Offset: e.stable, N: e.high})
		}
	}
	return nil
}

// readOne reads a partition from its start up to an offset.
func readOne(ctx context.Context, bootstrap []string, topic string, p int32, to int64, record func(history.Event)) error {
	if to == 0 {
		return nil
	}
	cl, err := client(bootstrap, isolation(true), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {p: kgo.NewOffset().At(0)}}), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.KeepControlRecords(), kgo.FetchMaxWait(200*time.Millisecond), kgo.ClientID("final"))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	at := int64(0)
	for at < to {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("the final read of %s-%d came to offset %d of %d", topic, p, at, to)
		}
		fs.EachPartition(func(t kgo.FetchTopicPartition) {
			part := t.FetchPartition
			kept := part.Records[:0]
			for _, r := range part.Records {
				at = max(at, r.Offset+1)
				if !r.Attrs.IsControl() && r.Offset < to {
					kept = append(kept, r)
				}
			}
			part.Records = kept
			joined(history.Final, "final", true, part, topic, record)
		})
		for _, e := range fs.Errors() {
			record(history.Event{Kind: history.Note, Topic: topic, Partition: p, Note: e.Err.Error()})
		}
	}
	return nil
}
