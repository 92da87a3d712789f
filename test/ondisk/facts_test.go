package ondisk

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// facts are what a client can see of a broker's data, one text each.
type facts map[string]string

func (f facts) add(value any, key string, args ...any) {
	f[fmt.Sprintf(key, args...)] = fmt.Sprint(value)
}

// tell reports every fact that differs.
func (f facts) tell(t *testing.T, when string, got facts) {
	t.Helper()
	keys := map[string]bool{}
	for k := range f {
		keys[k] = true
	}
	for k := range got {
		keys[k] = true
	}
	for k := range keys {
		if f[k] != got[k] {
			t.Errorf("%s: %s:\n is  %s\n was %s", when, k, short(got[k]), short(f[k]))
		}
	}
}

func short(s string) string {
	if len(s) > 300 {
		return fmt.Sprintf("%q... (%d bytes)", s[:300], len(s))
	}
	return s
}

// look gathers the facts of all topics but the internal ones, which a broker writes to by itself, and of the groups.
func look(t *testing.T, ctx context.Context, addr string) facts {
	t.Helper()
	f := facts{}
	cl := client(t, addr)
	adm := kadm.NewClient(cl)
	topics, err := adm.ListTopics(ctx)
	must(t, err)
	for _, topic := range topics.Sorted() {
		f.add(topic.ID, "id of %s", topic.Topic)
		for _, p := range topic.Partitions.Sorted() {
			lookAt(t, ctx, cl, f, topic.Topic, p.Partition)
		}
		configs, err := adm.DescribeTopicConfigs(ctx, topic.Topic)
		must(t, err)
		for _, c := range configs[0].Configs {
			if c.Source == kmsg.ConfigSourceDynamicTopicConfig {
				f.add(c.MaybeValue(), "config %s of %s", c.Key, topic.Topic)
			}
		}
	}
	lookByTime(t, ctx, adm, f, topics.Names())
	for _, g := range []string{group, groupNext} {
		offsets, err := adm.FetchOffsets(ctx, g)
		must(t, err)
		for _, o := range offsets.Sorted() {
			must(t, o.Err)
			f.add(fmt.Sprintf("%d epoch %d %q", o.At, o.LeaderEpoch, o.Metadata), "offset of %s in %s-%d", g, o.Topic, o.Partition)
		}
	}
	groups, err := adm.DescribeGroups(ctx, group)
	must(t, err)
	f.add(groups[group].State+" "+groups[group].ProtocolType, "group %s", group)
	return f
}

// lookByTime asks for offsets: the ends, the largest timestamp, and some times before, in, between and after the records.
func lookByTime(t *testing.T, ctx context.Context, adm *kadm.Client, f facts, topics []string) {
	t.Helper()
	ask := func(what string, listed kadm.ListedOffsets, err error) {
		t.Helper()
		must(t, err)
		listed.Each(func(o kadm.ListedOffset) {
			must(t, o.Err)
			f.add(fmt.Sprintf("offset %d timestamp %d", o.Offset, o.Timestamp), "%s of %s-%d", what, o.Topic, o.Partition)
		})
	}
	listed, err := adm.ListStartOffsets(ctx, topics...)
	ask("start", listed, err)
	listed, err = adm.ListEndOffsets(ctx, topics...)
	ask("end", listed, err)
	listed, err = adm.ListCommittedOffsets(ctx, topics...)
	ask("last stable", listed, err)
	listed, err = adm.ListMaxTimestampOffsets(ctx, topics...)
	ask("largest timestamp", listed, err)
	for _, ms := range []int64{0, 1, 1000, 1005, 1009, 1010, 5500, 19_000, 57_008, 150_000, 250_007, 299_009, 299_010, 1 << 40} {
		listed, err = adm.ListOffsetsAfterMilli(ctx, epochMs+ms, topics...)
		ask(fmt.Sprintf("%d ms", ms), listed, err)
	}
}

// lookAt reads all batches of a partition, in both isolations, and the state of its producers.
func lookAt(t *testing.T, ctx context.Context, cl *kgo.Client, f facts, topic string, partition int32) {
	t.Helper()
	for _, isolation := range []int8{0, 1} {
		bytes, aborted := fetchAll(t, ctx, cl, topic, partition, isolation)
		f.add(bytes, "batches of %s-%d, isolation %d", topic, partition, isolation)
		f.add(aborted, "aborted transactions of %s-%d, isolation %d", topic, partition, isolation)
	}
	set := kadm.TopicsSet{}
	set.Add(topic, partition)
	described, err := kadm.NewClient(cl).DescribeProducers(ctx, set)
	must(t, err)
	must(t, described[topic].Partitions[partition].Err)
	var producers []string
	for _, p := range described[topic].Partitions[partition].ActiveProducers {
		producers = append(producers, fmt.Sprintf("id %d epoch %d sequence %d time %d coordinator %d transaction from %d", p.ProducerID, p.ProducerEpoch, p.LastSequence, p.LastTimestamp, p.CoordinatorEpoch, p.CurrentTxnStartOffset))
	}
	slices.Sort(producers)
	f.add(strings.Join(producers, "; "), "producers of %s-%d", topic, partition)
}

// fetchAll is every batch of a partition, as the broker sends it, and the aborted transactions that it names.
func fetchAll(t *testing.T, ctx context.Context, cl *kgo.Client, topic string, partition int32, isolation int8) (all string, aborted []string) {
	t.Helper()
	listed, err := kadm.NewClient(cl).ListStartOffsets(ctx, topic)
	must(t, err)
	from, _ := listed.Lookup(topic, partition)
	var b strings.Builder
	for next := from.Offset; ; {
		p := fetch(t, ctx, cl, topic, partition, next, isolation)
		must(t, kerr.ErrorForCode(p.ErrorCode))
		for _, a := range p.AbortedTransactions {
			if s := fmt.Sprintf("%d from %d", a.ProducerID, a.FirstOffset); !slices.Contains(aborted, s) {
				aborted = append(aborted, s)
			}
		}
		whole := wholeBatches(p.RecordBatches)
		if len(whole) == 0 {
			slices.Sort(aborted)
			return b.String(), aborted
		}
		for _, batch := range whole {
			b.Write(batch)
			next = int64(binary.BigEndian.Uint64(batch)) + int64(binary.BigEndian.Uint32(batch[23:])) + 1
		}
	}
}

func fetch(t *testing.T, ctx context.Context, cl *kgo.Client, topic string, partition int32, offset int64, isolation int8) kmsg.FetchResponseTopicPartition {
	t.Helper()
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes, req.MinBytes, req.IsolationLevel, req.SessionEpoch = 8<<20, 0, isolation, -1
	rt, rp := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	rt.Topic, rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = topic, partition, offset, 256<<10
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := cl.SeedBrokers()[0].Request(ctx, req)
	must(t, err)
	r := resp.(*kmsg.FetchResponse)
	must(t, kerr.ErrorForCode(r.ErrorCode))
	return r.Topics[0].Partitions[0]
}

// wholeBatches splits what was fetched; the last batch may have been cut.
func wholeBatches(b []byte) (out [][]byte) {
	for len(b) >= 61 {
		n := 12 + int(binary.BigEndian.Uint32(b[8:]))
		if n > len(b) {
			break
		}
		out, b = append(out, b[:n]), b[n:]
	}
	return out
}

// produceRaw sends a batch as it is.
func produceRaw(t *testing.T, ctx context.Context, cl *kgo.Client, topic string, partition int32, batch []byte) (int64, error) {
	t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10_000
	rt, rp := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	rt.Topic, rp.Partition, rp.Records = topic, partition, batch
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := cl.SeedBrokers()[0].Request(ctx, req)
	must(t, err)
	p := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	return p.BaseOffset, kerr.ErrorForCode(p.ErrorCode)
}
