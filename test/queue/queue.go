// Package queue is members of a share group that keep account of what they were given while brokers are killed: every record must be decided by
// somebody, and what a broker has confirmed to be accepted must never be given to anybody again. It knows a client; it must never know a broker
// from inside.
package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// place is where a record stands.
type place struct {
	partition int32
	offset    int64
}

// Account is what the members of one group have seen.
type Account struct {
	Topic, Group string
	seeds        []string

	mu        sync.Mutex
	produced  map[place]bool // acknowledged to the producer
	confirmed map[place]bool // the broker has said that the acceptance is stored
	given     map[place]int
	wrong     []string
}

// New makes a topic and an account of a group that reads it from its start.
func New(ctx context.Context, seeds []string, topic, group string, partitions int32, replicas int16) (*Account, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(seeds...))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, partitions, replicas, nil, topic); err != nil {
		return nil, err
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
	for k, v := range map[string]string{"share.auto.offset.reset": "earliest", "share.record.lock.duration.ms": "1000", "share.delivery.count.limit": "10"} {
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Value = k, &v
		res.Configs = append(res.Configs, c)
	}
	req.Resources = append(req.Resources, res)
	resp, err := req.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.Resources[0].ErrorCode)
	}
	return &Account{Topic: topic, Group: group, seeds: seeds, produced: map[place]bool{}, confirmed: map[place]bool{}, given: map[place]int{}}, err
}

// Broker are the settings that a broker needs for short leases.
func Broker() map[string]string {
	return map[string]string{"group.share.min.record.lock.duration.ms": "1000", "group.share.max.delivery.count.limit": "25"}
}

func (a *Account) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(a.seeds...), kgo.MetadataMinAge(50 * time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
		kgo.RecordDeliveryTimeout(5 * time.Minute), kgo.RetryTimeout(time.Minute)}, opts...)...)
}

// Produce sends n records, a few at a time, until ctx ends. Those that were acknowledged count.
func (a *Account) Produce(ctx context.Context, n int) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	for i := range n {
		rs := cl.ProduceSync(ctx, &kgo.Record{Topic: a.Topic, Value: fmt.Append(nil, i), Key: fmt.Append(nil, i)})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := rs.FirstErr(); err != nil {
			continue // may be there or not
		}
		a.mu.Lock()
		a.produced[place{rs[0].Record.Partition, rs[0].Record.Offset}] = true
		a.mu.Unlock()
	}
	return nil
}

// member is one member of the group.
type member struct {
	a  *Account
	mu sync.Mutex
	// bad are the partitions whose acknowledgements the broker has refused, or not answered, since the last poll.
	bad map[int32]bool
}

// Consume is a member of the group until ctx ends. It accepts what it is given, but now and then releases it first.
func (a *Account) Consume(ctx context.Context, who int) error {
	m := &member{a: a, bad: map[int32]bool{}}
	cl, err := a.client(kgo.ConsumeTopics(a.Topic), kgo.ShareGroup(a.Group), kgo.ShareMaxRecords(50), kgo.ShareAckCallback(m.heard))
	if err != nil {
		return err
	}
	defer cl.Close()
	for ctx.Err() == nil {
		poll, stop := context.WithTimeout(ctx, 300*time.Millisecond)
		fetches := cl.PollFetches(poll)
		stop()
		m.mu.Lock()
		clear(m.bad)
		m.mu.Unlock()
		var accepted []place
		fetches.EachRecord(func(r *kgo.Record) {
			at := place{r.Partition, r.Offset}
			a.got(at)
			if (int(r.Offset)+who)%9 == 0 && r.DeliveryCount() == 1 {
				r.Ack(kgo.AckRelease)
				return
			}
			r.Ack(kgo.AckAccept)
			accepted = append(accepted, at)
		})
		flush, stop := context.WithTimeout(ctx, 20*time.Second)
		err := cl.FlushAcks(flush)
		stop()
		m.mu.Lock()
		for _, at := range accepted {
			if err == nil && !m.bad[at.partition] {
				a.confirm(at)
			}
		}
		m.mu.Unlock()
	}
	return nil
}

func (m *member) heard(_ *kgo.Client, rs kgo.ShareAckResults) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range rs {
		if r.Err != nil {
			m.bad[r.Partition] = true
		}
	}
}

func (a *Account) got(at place) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.given[at]++
	if a.confirmed[at] {
		a.wrong = append(a.wrong, fmt.Sprintf("%s-%d offset %d was accepted, and that confirmed; it is given to somebody again", a.Topic, at.partition, at.offset))
	}
}

func (a *Account) confirm(at place) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.confirmed[at] = true
}

// Decided waits until the group has decided all that was produced: its start in every partition is the end.
func (a *Account) Decided(ctx context.Context) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		left, err := a.left(ctx, cl)
		if err == nil && left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%d records of %s are not decided", left, a.Topic), err, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (a *Account) left(ctx context.Context, cl *kgo.Client) (left int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, a.Topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return -1, err
	}
	q := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
	g := kmsg.NewDescribeShareGroupOffsetsRequestGroup()
	g.GroupID = a.Group
	q.Groups = append(q.Groups, g)
	r, err := q.RequestWith(ctx, cl)
	if err != nil {
		return -1, err
	}
	if len(r.Groups) != 1 || r.Groups[0].ErrorCode != 0 {
		return -1, fmt.Errorf("offsets of group %s: %+v", a.Group, r.Groups)
	}
	start := map[int32]int64{}
	for _, t := range r.Groups[0].Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				return -1, kerr.ErrorForCode(p.ErrorCode)
			}
			start[p.Partition] = p.StartOffset
		}
	}
	ends.Each(func(o kadm.ListedOffset) {
		if at, ok := start[o.Partition]; ok && at >= 0 {
			left += o.Offset - at
		} else {
			left += o.Offset
		}
	})
	return left, nil
}

// Verdict says how many records were produced, given (with repetitions) and confirmed, and what went wrong.
func (a *Account) Verdict() (produced, given, confirmed int, wrong []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	wrong = a.wrong
	for at := range a.produced {
		if a.given[at] == 0 {
			wrong = append(wrong, fmt.Sprintf("%s-%d offset %d was given to nobody", a.Topic, at.partition, at.offset))
		}
	}
	for _, n := range a.given {
		given += n
	}
	return len(a.produced), given, len(a.confirmed), wrong
}
