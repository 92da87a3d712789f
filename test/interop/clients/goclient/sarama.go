package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// saramaClient is sarama under test.
type saramaClient struct{ boot string }

func (s *saramaClient) config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.ClientID = "interop"
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	return c
}

func (s *saramaClient) produce(c command) (answer, error) {
	conf := s.config()
	conf.Producer.Return.Successes = true
	conf.Producer.RequiredAcks = sarama.WaitForAll
	conf.Producer.Partitioner = sarama.NewManualPartitioner
	conf.Producer.Compression = map[string]sarama.CompressionCodec{"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
		"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD}[c.Codec]
	if c.Idempotent {
		conf.Producer.Idempotent = true
		conf.Net.MaxOpenRequests = 1
	}
	p, err := sarama.NewSyncProducer([]string{s.boot}, conf)
	if err != nil {
		return answer{}, err
	}
	defer p.Close()
	msgs := make([]*sarama.ProducerMessage, len(c.Records))
	for i, r := range c.Records {
		m := &sarama.ProducerMessage{Topic: c.Topic, Partition: r.P, Timestamp: time.UnixMilli(r.TS)}
		if r.K != nil {
			m.Key = sarama.ByteEncoder(r.K)
		}
		if r.V != nil {
			m.Value = sarama.ByteEncoder(r.V)
		}
		for _, h := range r.H {
			m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(headerName(h[0])), Value: headerValue(h[1])})
		}
		msgs[i] = m
	}
	if err := p.SendMessages(msgs); err != nil {
		return answer{}, err
	}
	var a answer
	for _, m := range msgs {
		a.Offsets = append(a.Offsets, m.Offset)
	}
	return a, nil
}

func (s *saramaClient) consume(c command) (answer, error) {
	cons, err := sarama.NewConsumer([]string{s.boot}, s.config())
	if err != nil {
		return answer{}, err
	}
	defer cons.Close()
	all := make(chan *sarama.ConsumerMessage)
	done := make(chan struct{})
	defer close(done)
	for p := range c.Partitions {
		pc, err := cons.ConsumePartition(c.Topic, p, sarama.OffsetOldest)
		if err != nil {
			return answer{}, err
		}
		defer pc.Close()
		go func() {
			for m := range pc.Messages() {
				select {
				case all <- m:
				case <-done:
					return
				}
			}
		}()
	}
	var a answer
	limit := time.After(30 * time.Second)
	for len(a.Records) < c.Count {
		select {
		case m := <-all:
			r := record{P: m.Partition, O: m.Offset, K: m.Key, V: m.Value, TS: m.Timestamp.UnixMilli()}
			for _, h := range m.Headers {
				r.H = append(r.H, [2]any{string(h.Key), h.Value})
			}
			a.Records = append(a.Records, r)
		case <-limit:
			return a, fmt.Errorf("only %d of %d records within 30 s", len(a.Records), c.Count)
		}
	}
	return a, nil
}

func (s *saramaClient) admin(do func(sarama.ClusterAdmin) error) error {
	a, err := sarama.NewClusterAdmin([]string{s.boot}, s.config())
	if err != nil {
		return err
	}
	defer a.Close()
	return do(a)
}

func pointers(m map[string]string) map[string]*string {
	out := map[string]*string{}
	for k, v := range m {
		out[k] = &v
	}
	return out
}

func (s *saramaClient) create(c command) error {
	return s.admin(func(a sarama.ClusterAdmin) error {
		return a.CreateTopic(c.Topic, &sarama.TopicDetail{NumPartitions: c.Partitions, ReplicationFactor: 1, ConfigEntries: pointers(c.Configs)}, false)
	})
}

func (s *saramaClient) list() (ans answer, err error) {
	err = s.admin(func(a sarama.ClusterAdmin) error {
		ts, err := a.ListTopics()
		for t := range ts {
			ans.Topics = append(ans.Topics, t)
		}
		return err
	})
	return ans, err
}

func (s *saramaClient) describe(c command) (ans answer, err error) {
	err = s.admin(func(a sarama.ClusterAdmin) error {
		rs, err := a.DescribeConfigs([]*sarama.ConfigResource{{Type: sarama.TopicResource, Name: c.Topic}}, sarama.DescribeConfigsOptions{})
		if err != nil {
			return err
		}
		if rs[0].ErrorCode != sarama.ErrNoError {
			return rs[0].ErrorCode
		}
		ans.Configs = map[string]string{}
		for _, e := range rs[0].Configs {
			ans.Configs[e.Name] = e.Value
		}
		return nil
	})
	return ans, err
}

func (s *saramaClient) alter(c command) error {
	return s.admin(func(a sarama.ClusterAdmin) error {
		changes := map[string]sarama.IncrementalAlterConfigsEntry{}
		for k, v := range pointers(c.Configs) {
			changes[k] = sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: v}
		}
		return a.IncrementalAlterConfig(sarama.TopicResource, c.Topic, changes, false)
	})
}

func (s *saramaClient) remove(c command) error {
	return s.admin(func(a sarama.ClusterAdmin) error { return a.DeleteTopic(c.Topic) })
}

func (s *saramaClient) groups() (ans answer, err error) {
	err = s.admin(func(a sarama.ClusterAdmin) error {
		gs, err := a.ListConsumerGroups()
		for g := range gs {
			ans.Groups = append(ans.Groups, g)
		}
		return err
	})
	return ans, err
}

func (s *saramaClient) offsets(c command) (ans answer, err error) {
	cl, err := sarama.NewClient([]string{s.boot}, s.config())
	if err != nil {
		return ans, err
	}
	defer cl.Close()
	for p := range c.Partitions {
		o, err := cl.GetOffset(c.Topic, p, c.TS)
		if err != nil {
			return ans, err
		}
		ans.Offsets = append(ans.Offsets, o)
	}
	return ans, nil
}

// saramaMember emits and commits what its claims deliver.
type saramaMember struct{}

func (saramaMember) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (saramaMember) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (saramaMember) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for m := range claim.Messages() {
		emitRecord(m.Partition, m.Offset, m.Value)
		s.MarkMessage(m, "")
		s.Commit()
	}
	return nil
}

func (s *saramaClient) group(c command, stop <-chan struct{}) error {
	if c.Protocol != "classic" {
		return unsupported("sarama speaks the classic group protocol only")
	}
	conf := s.config()
	conf.Consumer.Group.Session.Timeout = time.Duration(c.SessionMs) * time.Millisecond
	conf.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	conf.Consumer.Offsets.AutoCommit.Enable = false
	g, err := sarama.NewConsumerGroup([]string{s.boot}, c.Group, conf)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-stop
		cancel()
	}()
	for ctx.Err() == nil {
		if err := g.Consume(ctx, []string{c.Topic}, saramaMember{}); err != nil && !errors.Is(err, context.Canceled) {
			emitCommitFailed(err)
		}
	}
	return g.Close()
}
