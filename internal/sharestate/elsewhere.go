package sharestate

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/sharecoord"
	"github.com/ottla/ottla/internal/wire"
)

// Share coordinators on other brokers are asked by Kafka's requests, each about one share-partition.

// askWait is how long an answer is waited for: longer than the coordinator waits for its followers.
const askWait = 7 * time.Second

// home is the node that keeps a key's state; -1 where nobody does. local says that it is this one, or that nobody can tell.
func (c *Client) home(k sharecoord.Key) (node int32, local bool) {
	t := c.o.Image().Topic(Topic)
	if t == nil || c.o.Ask == nil {
		return -1, true
	}
	node = t.Partitions[k.Home(len(t.Partitions))].Leader
	return node, node == c.o.Node
}

// elsewhere asks another node; read takes its answer apart.
func elsewhere[T any](c *Client, node int32, req kmsg.Request, read func(kmsg.Response) (T, error), done func(T, error)) {
	var none T
	c.mu.Lock()
	if c.closed.Load() {
		c.mu.Unlock()
		done(none, kerr.CoordinatorNotAvailable)
		return
	}
	c.busy.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, askWait)
		defer cancel()
		resp, err := c.o.Ask(ctx, node, req)
		if err != nil {
			done(none, wire.Errorf(kerr.CoordinatorNotAvailable, "node %d keeps the state and cannot be asked: %v", node, err))
			return
		}
		done(read(resp))
	})
	c.mu.Unlock()
}

// result is what an answer says of its one partition.
type result struct {
	code    int16
	message *string
}

func (r result) err() error {
	switch {
	case r.code == 0:
		return nil
	case r.message == nil || *r.message == "":
		return kerr.ErrorForCode(r.code)
	}
	if known, ok := kerr.ErrorForCode(r.code).(*kerr.Error); ok {
		return wire.Errorf(known, "%s", *r.message)
	}
	return kerr.ErrorForCode(r.code)
}

func strange(resp kmsg.Response) error {
	return fmt.Errorf("an answer of another share coordinator is not about what it was asked: %T", resp)
}

func readElsewhere(k sharecoord.Key, leaderEpoch int32) (kmsg.Request, func(kmsg.Response) (sharecoord.State, error)) {
	q := kmsg.NewPtrReadShareGroupStateRequest()
	t, p := kmsg.NewReadShareGroupStateRequestTopic(), kmsg.NewReadShareGroupStateRequestTopicPartition()
	p.Partition, p.LeaderEpoch = k.Partition, leaderEpoch
	t.TopicID, t.Partitions = k.TopicID, append(t.Partitions, p)
	q.GroupID, q.Topics = k.Group, append(q.Topics, t)
	return q, func(resp kmsg.Response) (s sharecoord.State, err error) {
		r, ok := resp.(*kmsg.ReadShareGroupStateResponse)
		if !ok || len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
			return s, strange(resp)
		}
		p := &r.Topics[0].Partitions[0]
		s = sharecoord.State{StateEpoch: p.StateEpoch, LeaderEpoch: leaderEpoch, Start: p.StartOffset, Completed: sharecoord.None}
		for _, b := range p.StateBatches {
			s.Batches = append(s.Batches, sharecoord.Batch{First: b.FirstOffset, Last: b.LastOffset, State: b.DeliveryState, Count: b.DeliveryCount})
		}
		return s, result{p.ErrorCode, p.ErrorMessage}.err()
	}
}

func writeElsewhere(k sharecoord.Key, w sharecoord.Write) (kmsg.Request, func(kmsg.Response) (struct{}, error)) {
	q := kmsg.NewPtrWriteShareGroupStateRequest()
	t, p := kmsg.NewWriteShareGroupStateRequestTopic(), kmsg.NewWriteShareGroupStateRequestTopicPartition()
	p.Partition, p.StateEpoch, p.LeaderEpoch, p.StartOffset, p.DeliveryCompleteCount = k.Partition, w.StateEpoch, w.LeaderEpoch, w.Start, w.Completed
	for _, b := range w.Batches {
		sb := kmsg.NewWriteShareGroupStateRequestTopicPartitionStateBatch()
		sb.FirstOffset, sb.LastOffset, sb.DeliveryState, sb.DeliveryCount = b.First, b.Last, b.State, b.Count
		p.StateBatches = append(p.StateBatches, sb)
	}
	t.TopicID, t.Partitions = k.TopicID, append(t.Partitions, p)
	q.GroupID, q.Topics = k.Group, append(q.Topics, t)
	return q, func(resp kmsg.Response) (none struct{}, err error) {
		r, ok := resp.(*kmsg.WriteShareGroupStateResponse)
		if !ok || len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
			return none, strange(resp)
		}
		return none, result{r.Topics[0].Partitions[0].ErrorCode, r.Topics[0].Partitions[0].ErrorMessage}.err()
	}
}

func initializeElsewhere(k sharecoord.Key, stateEpoch int32, start int64) (kmsg.Request, func(kmsg.Response) (struct{}, error)) {
	q := kmsg.NewPtrInitializeShareGroupStateRequest()
	t, p := kmsg.NewInitializeShareGroupStateRequestTopic(), kmsg.NewInitializeShareGroupStateRequestTopicPartition()
	p.Partition, p.StateEpoch, p.StartOffset = k.Partition, stateEpoch, start
	t.TopicID, t.Partitions = k.TopicID, append(t.Partitions, p)
	q.GroupID, q.Topics = k.Group, append(q.Topics, t)
	return q, func(resp kmsg.Response) (none struct{}, err error) {
		r, ok := resp.(*kmsg.InitializeShareGroupStateResponse)
		if !ok || len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
			return none, strange(resp)
		}
		return none, result{r.Topics[0].Partitions[0].ErrorCode, r.Topics[0].Partitions[0].ErrorMessage}.err()
	}
}

func deleteElsewhere(k sharecoord.Key) (kmsg.Request, func(kmsg.Response) (struct{}, error)) {
	q := kmsg.NewPtrDeleteShareGroupStateRequest()
	t, p := kmsg.NewDeleteShareGroupStateRequestTopic(), kmsg.NewDeleteShareGroupStateRequestTopicPartition()
	p.Partition = k.Partition
	t.TopicID, t.Partitions = k.TopicID, append(t.Partitions, p)
	q.GroupID, q.Topics = k.Group, append(q.Topics, t)
	return q, func(resp kmsg.Response) (none struct{}, err error) {
		r, ok := resp.(*kmsg.DeleteShareGroupStateResponse)
		if !ok || len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
			return none, strange(resp)
		}
		return none, result{r.Topics[0].Partitions[0].ErrorCode, r.Topics[0].Partitions[0].ErrorMessage}.err()
	}
}

func summaryElsewhere(k sharecoord.Key) (kmsg.Request, func(kmsg.Response) (sharecoord.State, error)) {
	q := kmsg.NewPtrReadShareGroupStateSummaryRequest()
	t, p := kmsg.NewReadShareGroupStateSummaryRequestTopic(), kmsg.NewReadShareGroupStateSummaryRequestTopicPartition()
	p.Partition = k.Partition
	t.TopicID, t.Partitions = k.TopicID, append(t.Partitions, p)
	q.GroupID, q.Topics = k.Group, append(q.Topics, t)
	return q, func(resp kmsg.Response) (s sharecoord.State, err error) {
		r, ok := resp.(*kmsg.ReadShareGroupStateSummaryResponse)
		if !ok || len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
			return s, strange(resp)
		}
		p := &r.Topics[0].Partitions[0]
		return sharecoord.State{StateEpoch: p.StateEpoch, LeaderEpoch: p.LeaderEpoch, Start: p.StartOffset, Completed: p.DeliveryCompleteCount}, result{p.ErrorCode, p.ErrorMessage}.err()
	}
}
