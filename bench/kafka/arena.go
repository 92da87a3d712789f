package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ottla/ottla/bench/kafka/load"
	"github.com/ottla/ottla/test/peer"
)

// arena holds one running broker of each make and hands rows what they need. The variants of a make share its broker:
// they differ in the settings of the topic.
type arena struct {
	dir     string
	scale   float64
	warm    int64
	brokers map[string]*peer.Broker
	kafka   *peer.Kafka
	ottla   string
	topics  int
}

// variant splits a contestant's name into its make and the topic settings that make the difference.
func variant(name string) (make string, configs map[string]string, err error) {
	switch name {
	case "ottla":
		return "ottla", nil, nil
	case "ottla-pagecache":
		return "ottla", map[string]string{"flush": "page-cache"}, nil
	case "kafka":
		return "kafka", nil, nil
	case "kafka-fsync":
		return "kafka", map[string]string{"flush.messages": "1"}, nil
	}
	return "", nil, fmt.Errorf("contestant %q: know ottla, ottla-pagecache, kafka, kafka-fsync", name)
}

// fresh prepares a broker of a make on an empty directory without starting it.
func (a *arena) fresh(make string) (*peer.Broker, error) {
	dir, err := os.MkdirTemp(a.dir, make+"-")
	if err != nil {
		return nil, err
	}
	o := peer.Options{Dir: dir, Properties: map[string]string{"log.retention.check.interval.ms": "3600000", "log.segment.delete.delay.ms": "1000"}}
	if make == "kafka" {
		k, err := a.peerKafka()
		if err != nil {
			return nil, err
		}
		return k.NewKafka(o)
	}
	if a.ottla == "" {
		if a.ottla, err = peer.BuildOttla(a.dir); err != nil {
			return nil, err
		}
	}
	return peer.NewOttla(a.ottla, o)
}

func (a *arena) peerKafka() (k *peer.Kafka, err error) {
	if a.kafka == nil {
		a.kafka, err = peer.FetchKafka()
	}
	return a.kafka, err
}

// broker is the warmed broker of a make that stays up for the whole comparison.
func (a *arena) broker(ctx context.Context, make string) (*peer.Broker, error) {
	if b := a.brokers[make]; b != nil {
		if !b.Alive() {
			return nil, fmt.Errorf("%s has died:\n%s", make, b.Output())
		}
		return b, nil
	}
	b, err := a.fresh(make)
	if err != nil {
		return nil, err
	}
	if err := b.Restart(ctx); err != nil {
		return nil, err
	}
	a.brokers[make] = b
	if a.warm > 0 {
		s := &side{arena: a, name: make, b: b}
		for _, batch := range []int{16 << 10, 256 << 10} {
			topic, err := s.topic(ctx, 6)
			if err != nil {
				return nil, err
			}
			p := load.Produce{Addr: b.Addr, Topic: topic, Partitions: 6, RecordBytes: 1024, BatchBytes: batch, Conns: 4, InFlight: 5, Bytes: a.warm / 2, Limit: 30 * time.Second}
			if _, err := p.Run(ctx); err != nil {
				return nil, fmt.Errorf("warm up %s: %w", make, err)
			}
			f := load.Fetch{Addr: b.Addr, Topic: topic, Partitions: 6, Conns: 2, PartitionBytes: 1 << 20, Bytes: a.warm / 2, Limit: 20 * time.Second}
			if _, err := f.Run(ctx); err != nil {
				return nil, fmt.Errorf("warm up %s: %w", make, err)
			}
			if err := load.DeleteTopic(ctx, b.Addr, topic); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

func (a *arena) close() {
	for _, b := range a.brokers {
		b.Kill()
	}
}

// side is one contestant during one measurement.
type side struct {
	*arena
	name    string
	make    string
	configs map[string]string
	b       *peer.Broker // the long-lived broker; rows that need their own start one with fresh
}

func (a *arena) measure(ctx context.Context, r row, name string) (measures, error) {
	kind, configs, err := variant(name)
	if err != nil {
		return nil, err
	}
	s := &side{arena: a, name: name, make: kind, configs: configs}
	if !r.own {
		if s.b, err = a.broker(ctx, kind); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	// What the run before has left in the page cache is written now, not during the measurement: only one of the two waits for the disk.
	unix.Sync()
	return r.run(ctx, s)
}

// topic creates a topic of this contestant's settings.
func (s *side) topic(ctx context.Context, partitions int) (string, error) {
	s.topics++
	name := fmt.Sprintf("bench-%d", s.topics)
	configs := map[string]string{"file.delete.delay.ms": "1000", "max.message.bytes": "4000000"}
	for k, v := range s.configs {
		configs[k] = v
	}
	return name, load.CreateTopic(ctx, s.b.Addr, name, partitions, configs)
}

func (s *side) scaled(n int64) int64 { return max(int64(float64(n)*s.scale), 1) }

// weigh runs do and returns what the broker used for it per gigabyte moved.
func (s *side) weigh(do func() (load.Result, error)) (load.Result, measures, error) {
	before, err := s.b.Usage()
	if err != nil {
		return load.Result{}, nil, err
	}
	busy := machineCPU()
	self := selfCPU()
	r, err := do()
	if err != nil {
		return r, nil, err
	}
	after, err := s.b.Usage()
	if err != nil {
		return r, nil, fmt.Errorf("the broker died: %w", err)
	}
	cpu := after.CPUSeconds - before.CPUSeconds
	other := machineCPU() - busy - cpu - (selfCPU() - self)
	m := measures{"CPU-s/GB": cpu / (float64(r.Bytes) / 1e9), "RSS MB": float64(after.RSSBytes) / 1e6}
	if t := after.When.Sub(before.When).Seconds(); t > 0 {
		m["other CPU %"] = max(other, 0) / t * 100
	}
	return r, m, nil
}

// machineCPU is the CPU seconds everybody has used, from /proc/stat; 0 where that cannot be read.
func machineCPU() float64 {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(bytes.SplitN(b, []byte("\n"), 2)[0]))
	var sum float64
	for i, w := range f {
		if i == 0 || i == 4 || i == 5 { // the name, idle, iowait
			continue
		}
		if i > 8 {
			break
		}
		n, _ := strconv.ParseFloat(w, 64)
		sum += n / 100
	}
	return sum
}

func selfCPU() float64 {
	u, err := peer.ReadUsage(os.Getpid())
	if err != nil {
		return 0
	}
	return u.CPUSeconds
}

// warmMemory writes and deletes a file of n bytes: page cache that the machine has not used lately costs five times the CPU.
func (s *side) warmMemory(n int64) error {
	path := filepath.Join(s.dir, "warm")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	defer f.Close()
	block := make([]byte, 1<<20)
	for w := int64(0); w < n; w += int64(len(block)) {
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	return nil
}
