package streams

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/wire"
)

// Bounds of what goes into records, whose keys have strings with a 16 bit length, and of what a topology may hold.
const (
	maxNameBytes = 32_000
	maxTopics    = 100_000
)

// Admits is the check of a heartbeat that needs no group: the error to refuse it with, or nil.
func (c *Config) Admits(req *kmsg.StreamsGroupHeartbeatRequest) error {
	empty := func(s *string) bool { return s != nil && strings.TrimSpace(*s) == "" }
	invalid := func(why string) error { return wire.Errorf(kerr.InvalidRequest, "%s", why) }
	joins := req.MemberEpoch == joinEpoch
	partly := (req.ActiveTasks == nil) != (req.StandbyTasks == nil) || (req.ActiveTasks == nil) != (req.WarmupTasks == nil)
	switch {
	case strings.TrimSpace(req.MemberID) == "":
		return invalid("MemberId can't be empty.")
	case strings.TrimSpace(req.Group) == "":
		return invalid("GroupId can't be empty.")
	case empty(req.InstanceID):
		return invalid("InstanceId can't be empty.")
	case empty(req.RackID):
		return invalid("RackId can't be empty.")
	case joins && req.RebalanceTimeoutMillis == -1:
		return invalid("RebalanceTimeoutMs must be provided in first request.")
	case joins && (req.ActiveTasks == nil || len(req.ActiveTasks) > 0):
		return invalid("ActiveTasks must be empty when (re-)joining.")
	case joins && (req.StandbyTasks == nil || len(req.StandbyTasks) > 0):
		return invalid("StandbyTasks must be empty when (re-)joining.")
	case joins && (req.WarmupTasks == nil || len(req.WarmupTasks) > 0):
		return invalid("WarmupTasks must be empty when (re-)joining.")
	case joins && req.Topology == nil:
		return invalid("Topology must be non-null when (re-)joining.")
	case req.MemberEpoch == leaveStaticEpoch && req.InstanceID == nil:
		return invalid("InstanceId can't be null.")
	case req.MemberEpoch < leaveStaticEpoch:
		return wire.Errorf(kerr.InvalidRequest, "MemberEpoch is %d, but must be greater than or equal to -2.", req.MemberEpoch)
	case partly:
		return invalid("If one task-type is non-null, all must be non-null.")
	case !joins && req.Topology != nil:
		return invalid("Topology can only be provided when (re-)joining.")
	}
	longest := max(len(req.Group), len(req.MemberID))
	for _, s := range []*string{req.InstanceID, req.RackID, req.ProcessID} {
		if s != nil {
			longest = max(longest, len(*s))
		}
	}
	if longest > maxNameBytes {
		return invalid("A name of the request is too long.")
	}
	if req.Topology != nil {
		return admitsTopology(req.Topology)
	}
	return nil
}

func admitsTopology(t *kmsg.StreamsGroupHeartbeatRequestTopology) error {
	invalid := func(format string, args ...any) error {
		return wire.Errorf(kerr.StreamsInvalidTopology, format, args...)
	}
	seen, n := map[string]bool{}, 0
	for i := range t.Subtopologies {
		s := &t.Subtopologies[i]
		for j := range s.StateChangelogTopics {
			if c := &s.StateChangelogTopics[j]; c.NumPartitions != 0 {
				return invalid("Changelog topic %s must have an undefined partition count, but it is set to %d.", c.Topic, c.NumPartitions)
			}
		}
		if len(s.SourceTopicRegex) > 0 {
			return wire.Errorf(kerr.InvalidRequest, "Regular expressions for source topics are not supported yet.")
		}
		if seen[s.SubtopologyID] {
			return invalid("Subtopology %s is there twice.", s.SubtopologyID)
		}
		seen[s.SubtopologyID] = true
		for j := range s.CopartitionGroups {
			c := &s.CopartitionGroups[j]
			if !inRange(c.SourceTopics, len(s.SourceTopics)) || !inRange(c.RepartitionSourceTopics, len(s.RepartitionSourceTopics)) || !inRange(c.SourceTopicRegex, len(s.SourceTopicRegex)) {
				return invalid("A copartition group of subtopology %s names a topic that is not there.", s.SubtopologyID)
			}
		}
		n += len(s.SourceTopics) + len(s.RepartitionSourceTopics) + len(s.StateChangelogTopics) + len(s.RepartitionSinkTopics)
		for j := range s.RepartitionSourceTopics {
			if p := s.RepartitionSourceTopics[j].NumPartitions; p < 0 || p > maxTopics {
				return invalid("Repartition topic %s cannot have %d partitions.", s.RepartitionSourceTopics[j].Topic, p)
			}
		}
	}
	if n > maxTopics {
		return invalid("The topology has %d topics: at most %d.", n, maxTopics)
	}
	return nil
}

func inRange(at []int16, n int) bool {
	for _, i := range at {
		if i < 0 || int(i) >= n {
			return false
		}
	}
	return true
}

// TopologyTopics are all topics that a topology names.
func TopologyTopics(t *kmsg.StreamsGroupHeartbeatRequestTopology) []string {
	var out []string
	for i := range t.Subtopologies {
		s := &t.Subtopologies[i]
		out = append(append(out, s.SourceTopics...), s.RepartitionSinkTopics...)
		for j := range s.RepartitionSourceTopics {
			out = append(out, s.RepartitionSourceTopics[j].Topic)
		}
		for j := range s.StateChangelogTopics {
			out = append(out, s.StateChangelogTopics[j].Topic)
		}
	}
	return out
}

// find is the member that a heartbeat is of. For a new one it is an empty member; from is then the static member whose
// place it takes, if any.
func (d *draft) find(req *kmsg.StreamsGroupHeartbeatRequest) (m, from *Member, err error) {
	g := d.g
	m = g.members[req.MemberID]
	joins := req.MemberEpoch == joinEpoch
	if req.InstanceID != nil {
		holder := g.members[g.static[*req.InstanceID]]
		switch {
		case holder == nil && !joins:
			return nil, nil, wire.Errorf(kerr.UnknownMemberID, "Instance id %s is unknown.", *req.InstanceID)
		case holder != nil && holder.ID != req.MemberID && !joins:
			return nil, nil, wire.Errorf(kerr.FencedInstanceID, "Static member %s with instance id %s was fenced by member %s.", req.MemberID, *req.InstanceID, holder.ID)
		case holder != nil && holder.ID != req.MemberID && holder.Epoch != leaveStaticEpoch:
			return nil, nil, wire.Errorf(kerr.UnreleasedInstanceID, "Static member %s with instance id %s cannot join the group because the instance id is owned by %s member.", req.MemberID, *req.InstanceID, holder.ID)
		case holder != nil && holder.ID != req.MemberID && m != nil:
			// The id belongs to another member already, which has no business with this instance.
			return nil, nil, wire.Errorf(kerr.InvalidRequest, "Member id %s belongs to another member of group %s.", req.MemberID, g.id)
		case holder != nil && holder.ID != req.MemberID:
			return newMember(""), holder, nil
		}
	}
	switch {
	case m == nil && !joins:
		return nil, nil, wire.Errorf(kerr.UnknownMemberID, "Member %s is not a member of group %s.", req.MemberID, g.id)
	case m == nil:
		if len(g.members) >= g.env.Config.MaxSize {
			return nil, nil, wire.Errorf(kerr.GroupMaxSizeReached, "The streams group has reached its maximum capacity of %d members.", g.env.Config.MaxSize)
		}
		return newMember(""), nil, nil
	case joins:
		return m, nil, nil
	}
	return m, nil, checkEpoch(m, req.MemberEpoch, holdings(req))
}

// checkEpoch fences a member that is not at the epoch that the coordinator knows. One epoch less is fine where the
// answer that moved it was lost: it holds nothing then that is not its own.
func checkEpoch(m *Member, epoch int32, holds owned) error {
	switch {
	case epoch > m.Epoch:
		return wire.Errorf(kerr.FencedMemberEpoch, "The streams group member has a greater member epoch (%d) than the one known by the group coordinator (%d). The member must abandon all its partitions and rejoin.", epoch, m.Epoch)
	case epoch < m.Epoch && (epoch != m.Previous || !within(holds, &m.Assigned)):
		return wire.Errorf(kerr.FencedMemberEpoch, "The streams group member has a smaller member epoch (%d) than the one known by the group coordinator (%d). The member must abandon all its partitions and rejoin.", epoch, m.Epoch)
	}
	return nil
}
