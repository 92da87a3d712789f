// Package operate changes where partitions are, by Kafka's admin protocol: it looks at a cluster, carries plans out a few moves at a
// time, waits, pauses and takes them back. It works on every Kafka. It must never know how a plan is found (internal/balance) or shown.
package operate

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/ottla/ottla/internal/balance"
)

// View is a cluster as the planner wants it.
type View struct {
	ClusterID  string
	Controller int32
	Brokers    []balance.Broker
	Hosts      map[int32]string
	Partitions []balance.Partition
	Leaders    map[string]int32 // by Name
	// Bytes on each broker.
	Bytes map[int32]int64
}

// Name is how a partition is called in messages.
func Name(topic string, partition int32) string { return fmt.Sprintf("%s-%d", topic, partition) }

// Look asks a cluster for its partitions, their sizes and the brokers' disks. Brokers that hold copies and do not answer are down.
func Look(ctx context.Context, adm *kadm.Client) (*View, error) {
	meta, err := adm.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	dirs, err := adm.DescribeAllLogDirs(ctx, nil)
	if err != nil && len(dirs) == 0 {
		return nil, fmt.Errorf("the brokers' disks: %w", err)
	}
	v := &View{ClusterID: meta.Cluster, Controller: meta.Controller, Hosts: map[int32]string{}, Leaders: map[string]int32{}, Bytes: map[int32]int64{}}
	sizes := map[string]int64{}
	for _, b := range meta.Brokers {
		x := balance.Broker{ID: b.NodeID}
		if b.Rack != nil {
			x.Rack = *b.Rack
		}
		v.Hosts[b.NodeID] = fmt.Sprintf("%s:%d", b.Host, b.Port)
		for _, d := range dirs[b.NodeID] {
			if d.Err != nil {
				continue
			}
			if d.TotalBytes > 0 && d.UsableBytes >= 0 {
				x.DiskBytes += d.TotalBytes
				x.UsedBytes += d.TotalBytes - d.UsableBytes
			}
			for _, ps := range d.Topics {
				for _, p := range ps {
					sizes[Name(p.Topic, p.Partition)] = max(sizes[Name(p.Topic, p.Partition)], p.Size)
					v.Bytes[b.NodeID] += p.Size
				}
			}
		}
		v.Brokers = append(v.Brokers, x)
	}
	var names []string
	for _, t := range meta.Topics.Sorted() {
		if t.Err != nil {
			return nil, fmt.Errorf("topic %s: %w", t.Topic, t.Err)
		}
		names = append(names, t.Topic)
	}
	minISR, err := minInSync(ctx, adm, names)
	if err != nil {
		return nil, err
	}
	down := map[int32]bool{}
	for _, t := range meta.Topics.Sorted() {
		for _, p := range t.Partitions.Sorted() {
			v.Leaders[Name(t.Topic, p.Partition)] = p.Leader
			v.Partitions = append(v.Partitions, balance.Partition{Topic: t.Topic, Number: p.Partition, Replicas: p.Replicas, ISR: p.ISR, Bytes: sizes[Name(t.Topic, p.Partition)], MinISR: minISR[t.Topic]})
			for _, id := range p.Replicas {
				if _, up := v.Hosts[id]; !up && !down[id] {
					down[id] = true
					v.Brokers = append(v.Brokers, balance.Broker{ID: id, Down: true})
				}
			}
		}
	}
	return v, nil
}

func minInSync(ctx context.Context, adm *kadm.Client, topics []string) (map[string]int, error) {
	out := map[string]int{}
	if len(topics) == 0 {
		return out, nil
	}
	configs, err := adm.DescribeTopicConfigs(ctx, topics...)
	if err != nil {
		return nil, err
	}
	for _, c := range configs {
		out[c.Name] = 1
		for _, e := range c.Configs {
			if e.Key == "min.insync.replicas" && e.Value != nil {
				out[c.Name], _ = strconv.Atoi(*e.Value)
			}
		}
	}
	return out, nil
}

// Broker finds a broker, nil for none.
func (v *View) Broker(id int32) *balance.Broker {
	for i := range v.Brokers {
		if v.Brokers[i].ID == id {
			return &v.Brokers[i]
		}
	}
	return nil
}

// Gate refuses where a partition has no copy in sync to spare: the first such partition is named. A move adds copies before it takes
// any away, so that it does not go below by itself; but nothing moves while something is broken.
func (v *View) Gate() error {
	for _, p := range v.Partitions {
		if need := min(max(p.MinISR, 1), len(p.Replicas)); len(p.ISR) < need {
			return fmt.Errorf("topic %s partition %d has %d copies in sync and needs %d: mend that first", p.Topic, p.Number, len(p.ISR), need)
		}
	}
	return nil
}

// GateWithout refuses where a partition would go below min.insync.replicas if a broker went down.
func (v *View) GateWithout(id int32) error {
	for _, p := range v.Partitions {
		if left := len(slices.DeleteFunc(slices.Clone(p.ISR), func(x int32) bool { return x == id })); slices.Contains(p.Replicas, id) && left < max(p.MinISR, 1) {
			return fmt.Errorf("topic %s partition %d would have %d copies in sync without broker %d and needs %d; give it more copies (`ottla topic reassign %s --replication-factor N`), or wait until the others have caught up", p.Topic, p.Number, left, id, max(p.MinISR, 1), p.Topic)
		}
	}
	return nil
}
