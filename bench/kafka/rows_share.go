package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/ottla/ottla/bench/kafka/load"
)

// queued makes a topic of 6 partitions that holds about the given bytes in batches of 16 KiB, as a queue would.
func (s *side) queued(ctx context.Context, bytes int64) (string, error) {
	topic, err := s.topic(ctx, 6)
	if err != nil {
		return "", err
	}
	p := load.Produce{Addr: s.b.Addr, Topic: topic, Partitions: 6, RecordBytes: 1024, BatchBytes: 16 << 10, Conns: 4, InFlight: 5, Bytes: bytes, Limit: time.Minute}
	_, err = p.Run(ctx)
	return topic, err
}

func shareConsume(ctx context.Context, s *side) (measures, error) {
	records := s.scaled(300_000)
	topic, err := s.queued(ctx, records*1100)
	if err != nil {
		return nil, err
	}
	defer load.DeleteTopic(context.WithoutCancel(ctx), s.b.Addr, topic)
	c := load.ShareConsume{Addr: s.b.Addr, Topic: topic, Group: "share-" + topic, Members: 4, Records: records * 9 / 10, Limit: 60 * time.Second}
	r, m, err := s.weigh(func() (load.Result, error) { return c.Run(ctx) })
	if err != nil {
		return nil, err
	}
	m["MB/s"], m["records/s"] = r.MBPerSecond(), float64(c.Records)/r.Took.Seconds()
	return m, nil
}

func javaShareConsume(ctx context.Context, s *side) (measures, error) {
	records := s.scaled(300_000)
	topic, err := s.queued(ctx, records*1100)
	if err != nil {
		return nil, err
	}
	defer load.DeleteTopic(context.WithoutCancel(ctx), s.b.Addr, topic)
	group := "java-share-" + topic
	if err := load.GroupConfig(ctx, s.b.Addr, group, "share.auto.offset.reset", "earliest"); err != nil {
		return nil, err
	}
	var rate float64
	_, m, err := s.weigh(func() (load.Result, error) {
		out, err := s.java(ctx, "org.apache.kafka.tools.ShareConsumerPerformance", "--bootstrap-server", s.b.Addr, "--topic", topic, "--group", group,
			"--num-records", strconv.FormatInt(records*9/10, 10), "--timeout", "30000", "--threads", "2", "--hide-header")
		if err != nil {
			return load.Result{}, err
		}
		f := regexp.MustCompile(`, `).Split(out, -1) // start, end, MB consumed, MB/s, ...
		if len(f) < 4 {
			return load.Result{}, fmt.Errorf("no rate in %q", out)
		}
		rate, err = strconv.ParseFloat(f[3], 64)
		return load.Result{Bytes: records * 9 / 10 * 1024}, err
	})
	if err != nil {
		return nil, err
	}
	m["MiB/s as the tool says"] = rate
	delete(m, "other CPU %")
	return m, nil
}
