package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// If this fails, a transaction whose coordinator, partitions and group are on different brokers is not one.
func TestTransactionsOverThreeBrokers(t *testing.T) {
	c := startTrio(t)
	plain := c.client()
	c.topic(plain, "in", 6)
	c.topic(plain, "out", 6)
	ctx := within(t, time.Minute)
	const ids, rounds = 4, 15
	errs := make(chan error, ids)
	for i := range ids {
		go func() { errs <- transact(ctx, c, fmt.Sprint("id", i), rounds) }()
	}
	for range ids {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		return
	}
	// Every even round was committed, every odd one aborted.
	want := ids * rounds * 6
	committed := 0
	for n := range rounds {
		if n%2 == 0 {
			committed += ids * 6
		}
	}
	if n := count(ctx, t, c, "out", kgo.ReadUncommitted()); n != want {
		t.Errorf("%d records of %d", n, want)
	}
	if n := count(ctx, t, c, "out", kgo.ReadCommitted()); n != committed {
		t.Errorf("%d committed records of %d", n, committed)
	}
	for i := range ids {
		os, err := kadm.NewClient(plain).FetchOffsets(ctx, fmt.Sprint("group-id", i))
		if err != nil {
			t.Fatal(err)
		}
		o, _ := os.Lookup("in", int32(i))
		if last := int64(rounds-1) / 2 * 2; o.At != last {
			t.Errorf("the offset of id%d is %d and should be %d", i, o.At, last)
		}
	}
}

// transact commits and aborts by turns: a record to each partition and an offset.
func transact(ctx context.Context, c *trio, id string, rounds int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.seeds()...), kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(50*time.Millisecond), kgo.TransactionTimeout(20*time.Second))
	if err != nil {
		return err
	}
	defer cl.Close()
	var number int32
	fmt.Sscanf(id, "id%d", &number)
	for n := range rounds {
		if err := cl.BeginTransaction(); err != nil {
			return fmt.Errorf("%s: begin %d: %w", id, n, err)
		}
		for p := range int32(6) {
			cl.Produce(ctx, &kgo.Record{Topic: "out", Partition: p, Value: fmt.Appendf(nil, "%s/%d", id, n)}, nil)
		}
		if err := cl.Flush(ctx); err != nil {
			return fmt.Errorf("%s: flush %d: %w", id, n, err)
		}
		if err := commitOffset(ctx, cl, id, number, int64(n)); err != nil {
			return fmt.Errorf("%s: offsets %d: %w", id, n, err)
		}
		if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(n%2 == 0)); err != nil {
			return fmt.Errorf("%s: end %d: %w", id, n, err)
		}
	}
	return nil
}

// count reads a topic to its end.
func count(ctx context.Context, t *testing.T, c *trio, topic string, level kgo.IsolationLevel) (n int) {
	t.Helper()
	read(ctx, t, c, topic, level, func(*kgo.Record) { n++ })
	return n
}

// read reads a topic to its end, once all its transactions are over.
func read(ctx context.Context, t *testing.T, c *trio, topic string, level kgo.IsolationLevel, each func(*kgo.Record)) {
	t.Helper()
	plain := c.client()
	adm := kadm.NewClient(plain)
	// The end is stable once all markers are written.
	var ends kadm.ListedOffsets
	for {
		stable, err := adm.ListCommittedOffsets(ctx, topic)
		if err == nil {
			ends, err = adm.ListEndOffsets(ctx, topic)
		}
		same := err == nil
		ends.Each(func(o kadm.ListedOffset) {
			s, _ := stable.Lookup(o.Topic, o.Partition)
			same = same && s.Offset == o.Offset && o.Err == nil
		})
		if same {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatalf("transactions stay open in %s: %v, ends %v, stable %v", topic, err, ends, stable)
		case <-time.After(50 * time.Millisecond):
		}
	}
	left := map[int32]int64{}
	from := map[int32]kgo.Offset{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition], from[o.Partition] = o.Offset, kgo.NewOffset().AtStart()
		}
	})
	cl := c.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}), kgo.FetchIsolationLevel(level), kgo.KeepControlRecords())
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("read of %s: %v, left %v", topic, err, left)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				each(r)
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
}

var errNoOffset = errors.New("the offset was not taken")
