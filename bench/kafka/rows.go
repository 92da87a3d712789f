package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/ottla/ottla/bench/kafka/load"
)

// row is one line of the comparison.
type row struct {
	name   string
	what   string
	goals  []goal
	rounds int  // at most this many rounds; 0 is all
	own    bool // starts its own broker instead of using the warmed one
	run    func(ctx context.Context, s *side) (measures, error)
}

func atLeast(metric string, ratio float64) goal { return goal{metric: metric, atLeast: ratio} }
func atMost(metric string, ratio float64) goal  { return goal{metric: metric, atMost: ratio} }
func bound(metric string, most float64) goal {
	return goal{metric: metric, atMost: most, absolute: true}
}

func rows() []row {
	small := []goal{atLeast("MB/s", 1.5), atMost("CPU-s/GB", 0.6), bound("RSS MB", 150)}
	large := []goal{atLeast("MB/s", 1), atMost("CPU-s/GB", 0.8), bound("RSS MB", 150)}
	return []row{
		{name: "produce-16k-6p", what: "raw produce, 16 KiB batches, 6 partitions, 4 connections x 5 in flight", goals: small, run: produce(6, 16<<10, 4, 5, "none")},
		{name: "produce-16k-6p-fsync", what: "the same; Kafka flushes every message (flush.messages=1)", goals: []goal{atLeast("MB/s", 4)}, run: produce(6, 16<<10, 4, 5, "none")},
		{name: "produce-256k-1p", what: "raw produce, 256 KiB batches, 1 partition", goals: large, run: produce(1, 256<<10, 4, 5, "none")},
		{name: "produce-256k-6p", what: "raw produce, 256 KiB batches, 6 partitions", goals: large, run: produce(6, 256<<10, 4, 5, "none")},
		{name: "produce-256k-100p", what: "raw produce, 256 KiB batches, 100 partitions", goals: large, run: produce(100, 256<<10, 4, 5, "none")},
		{name: "produce-1m-1p", what: "raw produce, 1 MiB batches, 1 partition", goals: large, run: produce(1, 1<<20, 4, 5, "none")},
		{name: "produce-1m-6p", what: "raw produce, 1 MiB batches, 6 partitions", goals: large, run: produce(6, 1<<20, 4, 5, "none")},
		{name: "produce-1m-100p", what: "raw produce, 1 MiB batches, 100 partitions", goals: large, run: produce(100, 1<<20, 4, 5, "none")},
		{name: "produce-lz4-6p", what: "raw produce, 256 KiB batches before lz4; bytes are wire bytes", run: produce(6, 256<<10, 4, 5, "lz4")},
		{name: "produce-zstd-6p", what: "raw produce, 256 KiB batches before zstd; bytes are wire bytes", run: produce(6, 256<<10, 4, 5, "zstd")},
		{name: "produce-1k-1000p", what: "raw produce, one 1 KiB record a request, 1,000 partitions, 16 connections x 5", run: produce(1000, 1100, 16, 5, "none")},
		{name: "produce-1k-256c", what: "raw produce, one 1 KiB record a request, 100 partitions, 256 connections x 1", run: produce(100, 1100, 256, 1, "none")},
		{name: "client-16k-6p", what: "franz-go producer, 1 KiB records, batches of at most 16 KiB", run: clientProduce(16 << 10)},
		{name: "client-256k-6p", what: "franz-go producer, 1 KiB records, batches of at most 256 KiB", run: clientProduce(256 << 10)},
		{name: "client-1m-6p", what: "franz-go producer, 1 KiB records, batches of at most 1 MB", run: clientProduce(1_000_000)},
		{name: "fetch-6p", what: "raw catch-up read from page cache, 1 MiB a partition, 2 connections", goals: []goal{atLeast("MB/s", 1.2), atMost("CPU-s/GB", 0.6)}, run: fetch},
		{name: "e2e-5000", what: "5,000 x 1 KiB records a second, 6 partitions, franz-go to franz-go", goals: []goal{atMost("p99 ms", 1)}, run: endToEnd},
		{name: "java-produce", what: "Kafka's ProducerPerformance, 1 KiB records, 256 KiB batches", run: javaProduce},
		{name: "java-consume", what: "Kafka's ConsumerPerformance on the same topic", run: javaConsume},
		{name: "share-consume", what: "share group of 4 franz-go members, 1 KiB records, 6 partitions, every record accepted", goals: []goal{atLeast("MB/s", 1)}, run: shareConsume},
		{name: "java-share-consume", what: "Kafka's ShareConsumerPerformance on such a topic", goals: []goal{atLeast("MiB/s as the tool says", 1)}, run: javaShareConsume},
		{name: "txn-100ms", what: "transactional franz-go producer, 1 KiB records, a commit every 100 ms", goals: []goal{atLeast("MB/s", 1)}, run: transactions(100 * time.Millisecond)},
		{name: "txn-10ms", what: "the same, a commit every 10 ms", goals: []goal{atLeast("MB/s", 1)}, run: transactions(10 * time.Millisecond)},
		{name: "groups-join", what: "10 members each join 1,000 groups of the consumer protocol, 32 connections", goals: []goal{atLeast("a second", 1)}, run: perSecond(joins)},
		{name: "offset-commits", what: "OffsetCommit of one partition, 100 groups, 64 connections", goals: []goal{atLeast("a second", 1)}, run: perSecond(commits)},
		{name: "idle-5000", what: "5,000 idle connections", goals: []goal{bound("RSS added MB", 100)}, rounds: 3, run: idle},
		{name: "start", what: "empty directory: exec to the first Metadata answer; then idle memory", goals: []goal{bound("ready ms", 50), bound("RSS MB", 40)}, own: true, run: start},
		{name: "partitions-10000", what: "2 x 5,000 partitions: create until all lead, memory after", goals: []goal{bound("RSS MB", 150)}, rounds: 1, own: true, run: partitions},
		{name: "restart-10gb", what: "10 GB in 1,000 partitions, kill -9, restart to the first acknowledged produce", goals: []goal{bound("first ack ms", 1000)}, rounds: 2, own: true, run: restart},
	}
}

func produce(partitions, batch, conns, inFlight int, codec string) func(context.Context, *side) (measures, error) {
	return func(ctx context.Context, s *side) (measures, error) {
		bytes := s.scaled(1_500_000_000)
		if batch < 4<<10 {
			bytes = s.scaled(150_000_000)
		}
		topic, err := s.topic(ctx, partitions)
		if err != nil {
			return nil, err
		}
		defer load.DeleteTopic(context.WithoutCancel(ctx), s.b.Addr, topic)
		if err := s.warmMemory(bytes); err != nil {
			return nil, err
		}
		p := load.Produce{Addr: s.b.Addr, Topic: topic, Partitions: partitions, RecordBytes: 1024, BatchBytes: batch, Codec: codec, Conns: conns,
			InFlight: inFlight, Bytes: 5e6, Limit: 15 * time.Second}
		if _, err := p.Run(ctx); err != nil { // first touch of the partitions is not what this row measures
			return nil, err
		}
		p.Bytes = bytes
		r, m, err := s.weigh(func() (load.Result, error) { return p.Run(ctx) })
		if err != nil {
			return nil, err
		}
		m["MB/s"], m["p99 ms"] = r.MBPerSecond(), r.Latency.Quantile(0.99)
		return m, nil
	}
}

func clientProduce(batch int) func(context.Context, *side) (measures, error) {
	return func(ctx context.Context, s *side) (measures, error) {
		topic, err := s.topic(ctx, 6)
		if err != nil {
			return nil, err
		}
		defer load.DeleteTopic(context.WithoutCancel(ctx), s.b.Addr, topic)
		bytes := s.scaled(1_000_000_000)
		if err := s.warmMemory(bytes); err != nil {
			return nil, err
		}
		p := load.Produce{Addr: s.b.Addr, Topic: topic, RecordBytes: 1024, BatchBytes: batch, Bytes: bytes, Limit: 20 * time.Second}
		r, m, err := s.weigh(func() (load.Result, error) { return load.ClientProduce(ctx, p) })
		if err != nil {
			return nil, err
		}
		m["MB/s"] = r.MBPerSecond()
		return m, nil
	}
}

// filled makes a topic of 6 partitions that holds about the given bytes in batches of 256 KiB.
func (s *side) filled(ctx context.Context, bytes int64) (string, error) {
	topic, err := s.topic(ctx, 6)
	if err != nil {
		return "", err
	}
	p := load.Produce{Addr: s.b.Addr, Topic: topic, Partitions: 6, RecordBytes: 1024, BatchBytes: 256 << 10, Conns: 4, InFlight: 5, Bytes: bytes, Limit: time.Minute}
	_, err = p.Run(ctx)
	return topic, err
}

func fetch(ctx context.Context, s *side) (measures, error) {
	bytes := s.scaled(2_000_000_000)
	topic, err := s.filled(ctx, bytes)
	if err != nil {
		return nil, err
	}
	defer load.DeleteTopic(context.WithoutCancel(ctx), s.b.Addr, topic)
	f := load.Fetch{Addr: s.b.Addr, Topic: topic, Partitions: 6, Conns: 2, PartitionBytes: 1 << 20, Bytes: bytes * 9 / 10, Limit: 30 * time.Second}
	r, m, err := s.weigh(func() (load.Result, error) { return f.Run(ctx) })
	if err != nil {
		return nil, err
	}
	m["MB/s"], m["p99 ms"] = r.MBPerSecond(), r.Latency.Quantile(0.99)
	return m, nil
}

func endToEnd(ctx context.Context, s *side) (measures, error) {
	topic, err := s.topic(ctx, 6)
	if err != nil {
		return nil, err
	}
	defer load.DeleteTopic(context.WithoutCancel(ctx), s.b.Addr, topic)
	seconds := func(n float64) time.Duration { return time.Duration(n * max(s.scale, 0.2) * float64(time.Second)) }
	before, err := s.b.Usage()
	if err != nil {
		return nil, err
	}
	r, err := load.EndToEnd(ctx, s.b.Addr, topic, 1024, 5000, seconds(3), seconds(8), func() { before, _ = s.b.Usage() })
	if err != nil {
		return nil, err
	}
	after, err := s.b.Usage()
	if err != nil {
		return nil, err
	}
	return measures{"p50 ms": r.Latency.Quantile(0.5), "p99 ms": r.Latency.Quantile(0.99), "p99.9 ms": r.Latency.Quantile(0.999),
		"CPU-s/GB": (after.CPUSeconds - before.CPUSeconds) / (float64(r.Bytes) / 1e9)}, nil
}

var perSecondMB = regexp.MustCompile(`\(([0-9.]+) MB/sec\)`)

func javaProduce(ctx context.Context, s *side) (measures, error) {
	topic, err := s.topic(ctx, 6)
	if err != nil {
		return nil, err
	}
	defer load.DeleteTopic(context.WithoutCancel(ctx), s.b.Addr, topic)
	_, m, err := s.javaProduce(ctx, topic, s.scaled(1_000_000))
	return m, err
}

func (s *side) javaProduce(ctx context.Context, topic string, records int64) (load.Result, measures, error) {
	var rate float64
	r, m, err := s.weigh(func() (load.Result, error) {
		start := time.Now()
		out, err := s.java(ctx, "org.apache.kafka.tools.ProducerPerformance", "--bootstrap-server", s.b.Addr, "--topic", topic, "--num-records", strconv.FormatInt(records, 10),
			"--record-size", "1024", "--throughput", "-1", "--command-property", "batch.size=262144", "linger.ms=5", "buffer.memory=67108864") // of repeated options the tool takes the last only
		if err != nil {
			return load.Result{}, err
		}
		all := perSecondMB.FindAllStringSubmatch(out, -1)
		if len(all) == 0 {
			return load.Result{}, fmt.Errorf("no rate in %q", out)
		}
		rate, err = strconv.ParseFloat(all[len(all)-1][1], 64)
		return load.Result{Bytes: records * 1024, Took: time.Since(start)}, err
	})
	if err != nil {
		return r, nil, err
	}
	m["MiB/s as the tool says"] = rate
	delete(m, "other CPU %") // the client's JVM is among the others here
	return r, m, nil
}

func (s *side) java(ctx context.Context, class string, args ...string) (string, error) {
	k, err := s.peerKafka()
	if err != nil {
		return "", err
	}
	r, err := k.RunTool(ctx, class, "", args...)
	if err == nil && r.Status != 0 {
		err = fmt.Errorf("%s: exit status %d: %s%s", class, r.Status, r.Out, r.Stderr)
	}
	return r.Out, err
}

func javaConsume(ctx context.Context, s *side) (measures, error) {
	records := s.scaled(1_000_000)
	topic, err := s.filled(ctx, records*1040)
	if err != nil {
		return nil, err
	}
	defer load.DeleteTopic(context.WithoutCancel(ctx), s.b.Addr, topic)
	var rate float64
	_, m, err := s.weigh(func() (load.Result, error) {
		out, err := s.java(ctx, "org.apache.kafka.tools.ConsumerPerformance", "--bootstrap-server", s.b.Addr, "--topic", topic,
			"--num-records", strconv.FormatInt(records*9/10, 10), "--timeout", "30000", "--hide-header")
		if err != nil {
			return load.Result{}, err
		}
		// start, end, MB consumed, MB/s, records, ...; the last three columns are without the time to join the group
		f := regexp.MustCompile(`, `).Split(out, -1)
		if len(f) < 10 {
			return load.Result{}, fmt.Errorf("no rate in %q", out)
		}
		rate, err = strconv.ParseFloat(f[8], 64)
		return load.Result{Bytes: records * 9 / 10 * 1024}, err
	})
	if err != nil {
		return nil, err
	}
	m["MiB/s as the tool says"] = rate
	delete(m, "other CPU %")
	return m, nil
}

func idle(ctx context.Context, s *side) (measures, error) {
	n := int(s.scaled(5000))
	before, err := s.b.Usage()
	if err != nil {
		return nil, err
	}
	release, err := load.Idle(s.b.Addr, n)
	if err != nil {
		return nil, fmt.Errorf("%w (ulimit -n is what limits connections)", err)
	}
	defer release()
	set, err := s.b.Usage()
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(3 * time.Second):
	case <-ctx.Done():
	}
	after, err := s.b.Usage()
	if err != nil {
		return nil, err
	}
	return measures{"RSS added MB": float64(after.RSSBytes-before.RSSBytes) / 1e6, "setup CPU-s": set.CPUSeconds - before.CPUSeconds,
		"idle CPU %": (after.CPUSeconds - set.CPUSeconds) / 3 * 100}, nil
}

func start(ctx context.Context, s *side) (measures, error) {
	b, err := s.fresh(s.make)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(b.Dir)
	s.b = b
	began := time.Now()
	if err := b.Launch(); err != nil {
		return nil, err
	}
	defer func() { b.Kill() }()
	ready, err := load.FirstMetadata(ctx, b.Addr)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, b.Output())
	}
	u, err := b.Usage()
	if err != nil {
		return nil, err
	}
	m := measures{"ready ms": float64(ready.Sub(began).Microseconds()) / 1000, "CPU-s": u.CPUSeconds}
	select {
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
	}
	if u, err = b.Usage(); err != nil {
		return nil, err
	}
	m["RSS MB"] = float64(u.RSSBytes) / 1e6
	return m, nil
}

func partitions(ctx context.Context, s *side) (measures, error) {
	b, err := s.fresh(s.make)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(b.Dir)
	s.b = b
	if err := b.Restart(ctx); err != nil {
		return nil, err
	}
	defer func() { b.Kill() }()
	before, err := b.Usage()
	if err != nil {
		return nil, err
	}
	each := int(s.scaled(5000))
	began := time.Now()
	for range 2 {
		if _, err := s.topic(ctx, each); err != nil {
			return nil, err
		}
	}
	took := time.Since(began)
	after, err := b.Usage()
	if err != nil {
		return nil, err
	}
	return measures{"ready s": took.Seconds(), "CPU-s": after.CPUSeconds - before.CPUSeconds, "RSS MB": float64(after.RSSBytes) / 1e6}, nil
}

func restart(ctx context.Context, s *side) (measures, error) {
	b, err := s.fresh(s.make)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(b.Dir)
	s.b = b
	if err := b.Restart(ctx); err != nil {
		return nil, err
	}
	defer func() { b.Kill() }()
	n := int(s.scaled(1000))
	topic, err := s.topic(ctx, n)
	if err != nil {
		return nil, err
	}
	p := load.Produce{Addr: b.Addr, Topic: topic, Partitions: n, RecordBytes: 1024, BatchBytes: 256 << 10, Conns: 4, InFlight: 5,
		Bytes: s.scaled(10_000_000_000), Limit: 3 * time.Minute}
	if _, err := p.Run(ctx); err != nil {
		return nil, err
	}
	b.Kill()
	began := time.Now()
	if err := b.Launch(); err != nil {
		return nil, err
	}
	acked, err := load.FirstAck(ctx, b.Addr, topic, 0)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, b.Output())
	}
	m := measures{"first ack ms": float64(acked.Sub(began).Microseconds()) / 1000}
	for i := range n { // every partition, in order: when the last one takes a record
		if acked, err = load.FirstAck(ctx, b.Addr, topic, int32(i)); err != nil {
			return nil, err
		}
	}
	u, err := b.Usage()
	if err != nil {
		return nil, err
	}
	m["all acked ms"], m["CPU-s"] = float64(acked.Sub(began).Microseconds())/1000, u.CPUSeconds
	return m, nil
}
