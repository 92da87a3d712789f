package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

// kafkaGo is segmentio/kafka-go under test.
type kafkaGo struct{ boot string }

func (k *kafkaGo) client() *kafka.Client {
	return &kafka.Client{Addr: kafka.TCP(k.boot), Timeout: 30 * time.Second, Transport: freshTransport()}
}

// freshTransport looks for new topics at once; the default one keeps its picture of the cluster for six seconds.
func freshTransport() *kafka.Transport { return &kafka.Transport{MetadataTTL: 50 * time.Millisecond} }

// byHand sends every record to the partition that the test names.
type byHand struct{}

func (byHand) Balance(m kafka.Message, _ ...int) int { return m.WriterData.(int) }

func (k *kafkaGo) produce(c command) (answer, error) {
	if c.Idempotent {
		return answer{}, unsupported("kafka-go has no idempotent producer")
	}
	w := &kafka.Writer{Addr: kafka.TCP(k.boot), Transport: freshTransport(), Topic: c.Topic, Balancer: byHand{}, RequiredAcks: kafka.RequireAll, BatchTimeout: 20 * time.Millisecond,
		Compression: map[string]kafka.Compression{"gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd}[c.Codec]}
	defer w.Close()
	offsets := map[int32][]int64{}
	ms := make([]kafka.Message, len(c.Records))
	for i, r := range c.Records {
		ms[i] = kafka.Message{Key: r.K, Value: r.V, Time: time.UnixMilli(r.TS), WriterData: int(r.P)}
		for _, h := range r.H {
			ms[i].Headers = append(ms[i].Headers, kafka.Header{Key: headerName(h[0]), Value: headerValue(h[1])})
		}
	}
	// The writer does not hand offsets back: the records are the only ones of the topic, so they are where the log ended before.
	before, err := k.offsets(command{Topic: c.Topic, Partitions: c.Partitions, TS: -1})
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := w.WriteMessages(ctx, ms...); err != nil {
		return answer{}, err
	}
	var a answer
	for _, r := range c.Records {
		n := int64(len(offsets[r.P]))
		offsets[r.P] = append(offsets[r.P], n)
		a.Offsets = append(a.Offsets, before.Offsets[r.P]+n)
	}
	return a, nil
}

func (k *kafkaGo) consume(c command) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ends, err := k.offsets(command{Topic: c.Topic, Partitions: c.Partitions, TS: -1})
	if err != nil {
		return answer{}, err
	}
	var a answer
	for p := range c.Partitions {
		r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{k.boot}, Topic: c.Topic, Partition: int(p), MaxWait: 200 * time.Millisecond})
		for next := int64(0); next < ends.Offsets[p]; {
			m, err := r.ReadMessage(ctx)
			if err != nil {
				r.Close()
				return a, fmt.Errorf("partition %d after %d records: %w", p, len(a.Records), err)
			}
			next = m.Offset + 1
			x := record{P: p, O: m.Offset, K: m.Key, V: m.Value, TS: m.Time.UnixMilli()}
			for _, h := range m.Headers {
				x.H = append(x.H, [2]any{h.Key, h.Value})
			}
			a.Records = append(a.Records, x)
		}
		r.Close()
	}
	return a, nil
}

func (k *kafkaGo) create(c command) error {
	t := kafka.TopicConfig{Topic: c.Topic, NumPartitions: int(c.Partitions), ReplicationFactor: 1}
	for n, v := range c.Configs {
		t.ConfigEntries = append(t.ConfigEntries, kafka.ConfigEntry{ConfigName: n, ConfigValue: v})
	}
	r, err := k.client().CreateTopics(context.Background(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{t}})
	if err != nil {
		return err
	}
	return r.Errors[c.Topic]
}

func (k *kafkaGo) list() (ans answer, err error) {
	r, err := k.client().Metadata(context.Background(), &kafka.MetadataRequest{})
	if err != nil {
		return ans, err
	}
	for _, t := range r.Topics {
		ans.Topics = append(ans.Topics, t.Name)
	}
	return ans, nil
}

func (k *kafkaGo) describe(c command) (ans answer, err error) {
	r, err := k.client().DescribeConfigs(context.Background(), &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: c.Topic}}})
	if err != nil {
		return ans, err
	}
	ans.Configs = map[string]string{}
	for _, e := range r.Resources[0].ConfigEntries {
		ans.Configs[e.ConfigName] = e.ConfigValue
	}
	return ans, r.Resources[0].Error
}

func (k *kafkaGo) alter(c command) error {
	res := kafka.IncrementalAlterConfigsRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: c.Topic}
	for n, v := range c.Configs {
		res.Configs = append(res.Configs, kafka.IncrementalAlterConfigsRequestConfig{Name: n, Value: v, ConfigOperation: kafka.ConfigOperationSet})
	}
	r, err := k.client().IncrementalAlterConfigs(context.Background(), &kafka.IncrementalAlterConfigsRequest{Resources: []kafka.IncrementalAlterConfigsRequestResource{res}})
	if err != nil {
		return err
	}
	return r.Resources[0].Error
}

func (k *kafkaGo) remove(c command) error {
	r, err := k.client().DeleteTopics(context.Background(), &kafka.DeleteTopicsRequest{Topics: []string{c.Topic}})
	if err != nil {
		return err
	}
	return r.Errors[c.Topic]
}

func (k *kafkaGo) groups() (ans answer, err error) {
	r, err := k.client().ListGroups(context.Background(), &kafka.ListGroupsRequest{})
	if err != nil {
		return ans, err
	}
	for _, g := range r.Groups {
		ans.Groups = append(ans.Groups, g.GroupID)
	}
	return ans, r.Error
}

func (k *kafkaGo) offsets(c command) (ans answer, err error) {
	req := &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{}}
	for p := range int(c.Partitions) {
		req.Topics[c.Topic] = append(req.Topics[c.Topic], kafka.OffsetRequest{Partition: p, Timestamp: c.TS})
	}
	r, err := k.client().ListOffsets(context.Background(), req)
	if err != nil {
		return ans, err
	}
	ans.Offsets = make([]int64, c.Partitions)
	for _, p := range r.Topics[c.Topic] {
		if p.Error != nil {
			return ans, p.Error
		}
		switch c.TS {
		case -1:
			ans.Offsets[p.Partition] = p.LastOffset
		case -2:
			ans.Offsets[p.Partition] = p.FirstOffset
		default:
			ans.Offsets[p.Partition] = -1
			for o := range p.Offsets {
				ans.Offsets[p.Partition] = o
			}
		}
	}
	return ans, nil
}

func (k *kafkaGo) group(c command, stop <-chan struct{}) error {
	if c.Protocol != "classic" {
		return unsupported("kafka-go speaks the classic group protocol only")
	}
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{k.boot}, GroupID: c.Group, Topic: c.Topic, StartOffset: kafka.FirstOffset,
		SessionTimeout: time.Duration(c.SessionMs) * time.Millisecond, HeartbeatInterval: 500 * time.Millisecond, MaxWait: 200 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-stop
		cancel()
	}()
	for ctx.Err() == nil {
		m, err := r.FetchMessage(ctx)
		if errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			emitCommitFailed(err)
			continue
		}
		emitRecord(int32(m.Partition), m.Offset, m.Value)
		if err := r.CommitMessages(context.Background(), m); err != nil {
			emitCommitFailed(err)
		}
	}
	return r.Close()
}
