package mixed

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Coordinators change hands with their partitions: what Kafka's brokers wrote of groups and transactions ours reads, goes on with, and gives
// back. Offsets that were committed and transactions that were ended stay so.
func TestCoordinatorsAmongKafka(t *testing.T) {
	k := kafka(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := join(ctx, t, k)
	c.tool(ctx, t, "org.apache.kafka.tools.TopicCommand", "--create", "--topic", "t", "--replica-assignment", "1,2,1", "--config", "min.insync.replicas=1")
	// One transactional id and one group live through it all.
	producer, err := kgo.NewClient(kgo.SeedBrokers(c.kafka[0].Addr), kgo.TransactionalID("tx"), kgo.MetadataMinAge(50*time.Millisecond), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.TransactionTimeout(30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	consumer, err := kgo.NewClient(kgo.SeedBrokers(c.kafka[0].Addr), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.DisableAutoCommit(), kgo.MetadataMinAge(50*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	written, read := 0, map[string]int{}
	round := func(where string) {
		t.Helper()
		for _, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
			if err := producer.BeginTransaction(); err != nil {
				t.Fatal(where, err)
			}
			for range 30 {
				value := fmt.Appendf(nil, "%s-%d-%v", where, written, bool(end))
				if err := producer.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: value}).FirstErr(); err != nil {
					t.Fatal(where, err)
				}
				if end == kgo.TryCommit {
					written++
				}
			}
			if err := producer.EndTransaction(ctx, end); err != nil {
				t.Fatal(where, err)
			}
		}
		patience, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		for len(read) < written {
			f := consumer.PollFetches(patience)
			if patience.Err() != nil {
				t.Fatalf("%s: %d of %d committed records were read: %v", where, len(read), written, f.Err())
			}
			f.EachRecord(func(r *kgo.Record) { read[string(r.Value)]++ })
		}
		if err := consumer.CommitUncommittedOffsets(patience); err != nil {
			t.Fatal(where, err)
		}
		lags, err := c.adm.Lag(patience, "g")
		if g := lags["g"]; err != nil || g.Error() != nil || g.Lag.Total() > 40 { // the aborted records at the end, and markers, count as lag
			t.Fatalf("%s: lag %d of the group: %v %v", where, g.Lag.Total(), err, g.Error())
		}
		out := c.tool(ctx, t, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "--describe", "--group", "g")
		if !strings.Contains(out, "t ") {
			t.Errorf("%s: Kafka's tool sees no offsets of the group: %s", where, out)
		}
	}
	move := func(to int32) {
		t.Helper()
		for _, topic := range []string{"__consumer_offsets", "__transaction_state"} {
			c.reassign(ctx, t, topic, []int32{to}, []int32{to}, []int32{to}, []int32{to})
			c.lead(ctx, t, topic, to, to, to, to)
		}
	}
	round("anywhere")
	move(1)
	round("kafka")
	move(oursID)
	round("ours")
	c.tool(ctx, t, "org.apache.kafka.tools.TopicCommand", "--create", "--topic", "u", "--partitions", "1") // by way of any broker
	move(2)
	round("kafka again")
	for v, n := range read {
		if n != 1 || strings.HasSuffix(v, fmt.Sprint(bool(kgo.TryAbort))) {
			t.Errorf("%s was read %d times", v, n)
		}
	}
	if len(read) != 120 {
		t.Errorf("%d records were read, not 120", len(read))
	}
}
