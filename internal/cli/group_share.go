package cli

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func isShare(kind string) bool { return strings.EqualFold(kind, "share") }

// shareMembers fills in the members of a share group. Several members may have a partition.
func shareMembers(ctx context.Context, cl *kgo.Client, row *groupRow) error {
	req := kmsg.NewPtrShareGroupDescribeRequest()
	req.GroupIDs = []string{row.Group}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	if len(resp.Groups) != 1 {
		return kerr.GroupIDNotFound
	}
	g := &resp.Groups[0]
	if err := kerr.ErrorForCode(g.ErrorCode); err != nil {
		return err
	}
	row.State = g.GroupState
	for i := range g.Members {
		m := &g.Members[i]
		assigned := map[string][]int32{}
		for _, tp := range m.Assignment.TopicPartitions {
			assigned[tp.Topic] = tp.Partitions
		}
		row.Members = append(row.Members, memberRow{ID: m.MemberID, ClientID: m.ClientID, Host: m.ClientHost, Assigned: assigned})
	}
	return nil
}

// shareStarts gives from where on a share group has records to decide, and how many those are (-1: not known).
func shareStarts(ctx context.Context, cl *kgo.Client, group string) (kadm.OffsetResponses, map[topicPartition]int64, error) {
	req := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
	g := kmsg.NewDescribeShareGroupOffsetsRequestGroup()
	g.GroupID = group
	req.Groups = append(req.Groups, g)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, nil, err
	}
	starts, lags := kadm.OffsetResponses{}, map[topicPartition]int64{}
	for i := range resp.Groups {
		if err := kerr.ErrorForCode(resp.Groups[i].ErrorCode); err != nil {
			return nil, nil, err
		}
		for j := range resp.Groups[i].Topics {
			t := &resp.Groups[i].Topics[j]
			for _, p := range t.Partitions {
				starts.Add(kadm.OffsetResponse{Offset: kadm.Offset{Topic: t.Topic, Partition: p.Partition, At: p.StartOffset, LeaderEpoch: -1}, Err: kerr.ErrorForCode(p.ErrorCode)})
				lags[topicPartition{t.Topic, p.Partition}] = p.Lag
			}
		}
	}
	return starts, lags, nil
}

// removeShareMembers takes the members of a share group out.
func removeShareMembers(ctx context.Context, cl *kgo.Client, row *groupRow) error {
	for _, m := range row.Members {
		req := kmsg.NewPtrShareGroupHeartbeatRequest()
		req.GroupID, req.MemberID, req.MemberEpoch = row.Group, m.ID, -1
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			return err
		}
		if err := kerr.ErrorForCode(resp.ErrorCode); err != nil && !errors.Is(err, kerr.UnknownMemberID) {
			return err
		}
	}
	return nil
}

// alterShare begins a share group's partitions anew at the offsets given. Only an empty group lets that happen.
func alterShare(ctx context.Context, cl *kgo.Client, group string, moves kadm.Offsets) error {
	req := kmsg.NewPtrAlterShareGroupOffsetsRequest()
	req.GroupID = group
	for _, o := range moves.Sorted() {
		i := slices.IndexFunc(req.Topics, func(t kmsg.AlterShareGroupOffsetsRequestTopic) bool { return t.Topic == o.Topic })
		if i < 0 {
			t := kmsg.NewAlterShareGroupOffsetsRequestTopic()
			t.Topic = o.Topic
			i, req.Topics = len(req.Topics), append(req.Topics, t)
		}
		p := kmsg.NewAlterShareGroupOffsetsRequestTopicPartition()
		p.Partition, p.StartOffset = o.Partition, o.At
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	errs := []error{kerr.ErrorForCode(resp.ErrorCode)}
	for i := range resp.Topics {
		for _, p := range resp.Topics[i].Partitions {
			errs = append(errs, kerr.ErrorForCode(p.ErrorCode))
		}
	}
	return errors.Join(errs...)
}
