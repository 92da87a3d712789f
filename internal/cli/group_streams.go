package cli

import (
	"context"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// streamsMembers fills in the members of a streams group. What a member has assigned are the partitions that its active
// tasks read.
func streamsMembers(ctx context.Context, cl *kgo.Client, row *groupRow) error {
	req := kmsg.NewPtrStreamsGroupDescribeRequest()
	req.Groups = []string{row.Group}
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
	row.State = g.State
	reads := map[string][]string{}
	if g.Topology != nil {
		for i := range g.Topology.Subtopologies {
			s := &g.Topology.Subtopologies[i]
			reads[s.SubtopologyID] = slices.Clone(s.SourceTopics)
			for j := range s.RepartitionSourceTopics {
				reads[s.SubtopologyID] = append(reads[s.SubtopologyID], s.RepartitionSourceTopics[j].Topic)
			}
		}
	}
	for i := range g.Members {
		m := &g.Members[i]
		assigned := map[string][]int32{}
		for _, t := range m.Assignment.ActiveTasks {
			for _, topic := range reads[t.SubtopologyID] {
				assigned[topic] = append(assigned[topic], t.Partitions...)
				slices.Sort(assigned[topic])
			}
		}
		row.Members = append(row.Members, memberRow{ID: m.MemberID, InstanceID: m.InstanceID, ClientID: m.ClientID, Host: m.ClientHost, Assigned: assigned})
	}
	return nil
}

// removeStreamsMembers takes the members of a streams group out.
func removeStreamsMembers(ctx context.Context, cl *kgo.Client, row *groupRow) error {
	for _, m := range row.Members {
		req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
		req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = row.Group, m.ID, -1, m.InstanceID
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
