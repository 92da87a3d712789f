package stand

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// View is how the cluster looks from outside: each node asked by itself.
type View struct {
	c       *Cluster
	admin   *kgo.Client
	clients []*kgo.Client // one for each node, that knows only this
	topics  []string
}

// NewView makes a view; Whole looks at the given topics.
func (c *Cluster) NewView(topics ...string) (*View, error) {
	v := &View{c: c, topics: topics}
	opts := []kgo.Opt{kgo.DialTimeout(time.Second), kgo.RequestTimeoutOverhead(time.Second), kgo.MetadataMinAge(100 * time.Millisecond), kgo.DisableClientMetrics(),
		kgo.RetryTimeout(10 * time.Second), kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond })}
	var err error
	if v.admin, err = kgo.NewClient(append(opts, kgo.SeedBrokers(c.Bootstrap()...))...); err != nil {
		return nil, err
	}
	for _, n := range c.Nodes {
		cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(n.Addr))...)
		if err != nil {
			return nil, err
		}
		v.clients = append(v.clients, cl)
	}
	return v, nil
}

// Close ends its clients.
func (v *View) Close() {
	v.admin.Close()
	for _, cl := range v.clients {
		cl.Close()
	}
}

// Admin is a client for changes.
func (v *View) Admin() *kadm.Client { return kadm.NewClient(v.admin) }

// Prefer asks for the preferred leaders of a topic and waits a little for them; a cluster that does not do it keeps those it has.
func (v *View) Prefer(ctx context.Context, topic string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	topics, err := v.Admin().ListTopics(ctx, topic)
	if err != nil {
		return
	}
	set := topics.TopicsSet()
	if _, err := v.Admin().ElectLeaders(ctx, kadm.ElectPreferredReplica, set); err != nil {
		return
	}
	for {
		leaders, err := v.Leaders(ctx, topic)
		preferred := err == nil
		for _, p := range topics[topic].Partitions {
			preferred = preferred && int(p.Partition) < len(leaders) && len(p.Replicas) > 0 && leaders[p.Partition] == p.Replicas[0]
		}
		if preferred || wait(ctx, 100*time.Millisecond) != nil {
			return
		}
	}
}

// Seen is one topic as one node describes it.
type Seen struct {
	Leaders []int32 // by partition; -1 is none
	Whole   bool    // every replica is in sync
}

// ask gets the metadata of the topics from one node.
func (v *View) ask(ctx context.Context, node int, topics ...string) (map[string]Seen, error) {
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	resp, err := v.clients[node].SeedBrokers()[0].Request(ctx, req)
	if err != nil {
		return nil, err
	}
	out := map[string]Seen{}
	for _, t := range resp.(*kmsg.MetadataResponse).Topics {
		s := Seen{Leaders: make([]int32, len(t.Partitions)), Whole: t.ErrorCode == 0 && len(t.Partitions) > 0}
		for _, p := range t.Partitions {
			if int(p.Partition) < len(s.Leaders) {
				s.Leaders[p.Partition] = p.Leader
			}
			s.Whole = s.Whole && len(p.ISR) == len(p.Replicas) && len(p.OfflineReplicas) == 0 && p.Leader >= 0
		}
		out[*t.Topic] = s
	}
	return out, nil
}

// Leaders asks the nodes in turn for the leaders of a topic.
func (v *View) Leaders(ctx context.Context, topic string) ([]int32, error) {
	var errs []error
	for i := range v.clients {
		seen, err := v.ask(ctx, i, topic)
		if err == nil && len(seen[topic].Leaders) > 0 && !slices.Contains(seen[topic].Leaders, -1) {
			return seen[topic].Leaders, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("no node tells all the leaders of %s: %w", topic, errors.Join(errs...))
}

// WaitMoved waits until some node that is not down tells leaders for all partitions, none of them down.
func (v *View) WaitMoved(ctx context.Context, topic string, down []int32) (time.Duration, error) {
	begin := time.Now()
	for {
		for i, n := range v.c.Nodes {
			if slices.Contains(down, n.ID) {
				continue
			}
			seen, err := v.ask(ctx, i, topic)
			if l := seen[topic].Leaders; err == nil && len(l) > 0 && !slices.ContainsFunc(l, func(id int32) bool { return id < 0 || slices.Contains(down, id) }) {
				return time.Since(begin), nil
			}
		}
		if err := wait(ctx, 30*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// WaitWhole waits until every node says that every partition has all its replicas in sync.
func (v *View) WaitWhole(ctx context.Context, patience time.Duration) (time.Duration, error) {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		whole := true
		for i := range v.c.Nodes {
			seen, err := v.ask(ctx, i, v.topics...)
			if err != nil {
				whole = false
				break
			}
			for _, topic := range v.topics {
				whole = whole && seen[topic].Whole
			}
		}
		if whole {
			return time.Since(begin), nil
		}
		if err := wait(ctx, 50*time.Millisecond); err != nil {
			return time.Since(begin), fmt.Errorf("not all replicas are in sync %v after the fault was over", patience)
		}
	}
}

// Controller is the leader of the metadata quorum, -1 if nobody tells.
func (v *View) Controller(ctx context.Context) int32 {
	leader, _ := v.quorum(ctx)
	return leader
}

// WaitVoters waits until the metadata quorum has as many voters as there are nodes: a young cluster may still be growing, and one with
// a single voter cannot lose it.
func (v *View) WaitVoters(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		_, voters := v.quorum(ctx)
		if voters >= len(v.c.Nodes) {
			return nil
		}
		if wait(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("the metadata quorum of %d nodes has %d voters after %v", len(v.c.Nodes), voters, patience)
		}
	}
}

// quorum asks the nodes in turn for the metadata quorum's leader and number of voters.
func (v *View) quorum(ctx context.Context) (leader int32, voters int) {
	for _, cl := range v.clients {
		req := kmsg.NewPtrDescribeQuorumRequest()
		t := kmsg.NewDescribeQuorumRequestTopic()
		t.Topic = "__cluster_metadata"
		t.Partitions = append(t.Partitions, kmsg.NewDescribeQuorumRequestTopicPartition())
		req.Topics = append(req.Topics, t)
		ask, cancel := context.WithTimeout(ctx, 2*time.Second)
		resp, err := cl.SeedBrokers()[0].Request(ask, req)
		cancel()
		if err != nil {
			continue
		}
		for _, t := range resp.(*kmsg.DescribeQuorumResponse).Topics {
			for _, p := range t.Partitions {
				if p.ErrorCode == 0 && p.LeaderID >= 0 {
					return p.LeaderID, len(p.CurrentVoters)
				}
			}
		}
	}
	return -1, 0
}
