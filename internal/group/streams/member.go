package streams

import (
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Client is who sends a request.
type Client struct {
	ID, Host string
	Version  int16 // of the request
}

// Endpoint is where a member answers interactive queries.
type Endpoint struct {
	Host string
	Port uint16
}

// Tag is a client tag.
type Tag struct{ Key, Value string }

// Member is one member of a group, a thread or more of one process. It never changes: operations make a new one, which
// takes its place by replay.
type Member struct {
	ID                 string
	InstanceID, RackID *string
	ClientID           string
	ClientHost         string
	RebalanceMs        int32 // how long it may take to give up tasks
	TopologyEpoch      int32
	ProcessID          string
	Endpoint           *Endpoint
	Tags               []Tag // by key

	// Epoch is the member epoch; leaveStaticEpoch while a static member is away. Previous is the one before, which a
	// member uses that has not seen the answer that moved it.
	Epoch, Previous int32
	State           MemberState
	// Assigned is what the member may use; Revoking what it has been told to give up and may still hold.
	Assigned, Revoking Roles
}

func newMember(id string) *Member {
	return &Member{ID: id, RebalanceMs: -1, Assigned: noRoles(), Revoking: noRoles()}
}

func (m *Member) clone() *Member {
	c := *m
	return &c
}

func (m *Member) rebalanceTimeout() time.Duration {
	return time.Duration(m.RebalanceMs) * time.Millisecond
}

func (m *Member) tag(key string) (string, bool) {
	for _, t := range m.Tags {
		if t.Key == key {
			return t.Value, true
		}
	}
	return "", false
}

// sameMetadata tells whether two members have the same record of metadata.
func (m *Member) sameMetadata(o *Member) bool {
	return m.ID == o.ID && equalPtr(m.InstanceID, o.InstanceID) && equalPtr(m.RackID, o.RackID) && m.ClientID == o.ClientID &&
		m.ClientHost == o.ClientHost && m.RebalanceMs == o.RebalanceMs && m.sameShape(o) && equalPtr(m.Endpoint, o.Endpoint)
}

// sameShape tells whether an assignment would treat them alike.
func (m *Member) sameShape(o *Member) bool {
	return m.ID == o.ID && m.TopologyEpoch == o.TopologyEpoch && m.ProcessID == o.ProcessID && equalPtr(m.RackID, o.RackID) && slices.Equal(m.Tags, o.Tags)
}

func (m *Member) sameCurrent(o *Member) bool {
	return m.Epoch == o.Epoch && m.Previous == o.Previous && m.State == o.State && m.Assigned.equal(&o.Assigned) && m.Revoking.equal(&o.Revoking)
}

func equalPtr[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// updated is the member with what the heartbeat says of it. Strings of the request may share its buffer, so those that
// stay are copied.
func updated(old *Member, client Client, req *kmsg.StreamsGroupHeartbeatRequest) *Member {
	m := old.clone()
	m.ID, m.ClientID, m.ClientHost = strings.Clone(req.MemberID), strings.Clone(client.ID), client.Host
	if req.InstanceID != nil {
		m.InstanceID = clonePtr(req.InstanceID)
	}
	if req.RackID != nil {
		m.RackID = clonePtr(req.RackID)
	}
	if req.RebalanceTimeoutMillis != -1 {
		m.RebalanceMs = req.RebalanceTimeoutMillis
	}
	if req.Topology != nil {
		m.TopologyEpoch = req.Topology.Epoch
	}
	if req.ProcessID != nil {
		m.ProcessID = strings.Clone(*req.ProcessID)
	}
	switch {
	case req.UserEndpoint != nil:
		m.Endpoint = &Endpoint{strings.Clone(req.UserEndpoint.Host), req.UserEndpoint.Port}
	case req.MemberEpoch == joinEpoch:
		m.Endpoint = nil // who joins says everything
	}
	if req.ClientTags != nil {
		m.Tags = make([]Tag, 0, len(req.ClientTags))
		for i := range req.ClientTags {
			m.Tags = append(m.Tags, Tag{strings.Clone(req.ClientTags[i].Key), strings.Clone(req.ClientTags[i].Value)})
		}
		slices.SortStableFunc(m.Tags, func(a, b Tag) int { return strings.Compare(a.Key, b.Key) })
	}
	return m
}

func clonePtr(s *string) *string {
	c := strings.Clone(*s)
	return &c
}

// record is the member's metadata as the log keeps it.
func (m *Member) record(group string) coordinator.Record {
	v := &schema.StreamsGroupMemberMetadataValue{
		InstanceID: m.InstanceID, RackID: m.RackID, ClientID: m.ClientID, ClientHost: m.ClientHost, RebalanceTimeoutMs: m.RebalanceMs,
		TopologyEpoch: m.TopologyEpoch, ProcessID: m.ProcessID, ClientTags: []schema.StreamsGroupMemberMetadataValueKeyValue{},
	}
	if m.Endpoint != nil {
		v.UserEndpoint = &schema.StreamsGroupMemberMetadataValueEndpoint{Host: m.Endpoint.Host, Port: m.Endpoint.Port}
	}
	for _, t := range m.Tags {
		v.ClientTags = append(v.ClientTags, schema.StreamsGroupMemberMetadataValueKeyValue{Key: t.Key, Value: t.Value})
	}
	return coordinator.Record{Key: &schema.StreamsGroupMemberMetadataKey{GroupID: group, MemberID: m.ID}, Value: v}
}

// loadMetadata takes a record over.
func (m *Member) loadMetadata(v *schema.StreamsGroupMemberMetadataValue) {
	m.InstanceID, m.RackID, m.ClientID, m.ClientHost = v.InstanceID, v.RackID, v.ClientID, v.ClientHost
	m.RebalanceMs, m.TopologyEpoch, m.ProcessID, m.Endpoint, m.Tags = v.RebalanceTimeoutMs, v.TopologyEpoch, v.ProcessID, nil, nil
	if v.UserEndpoint != nil {
		m.Endpoint = &Endpoint{v.UserEndpoint.Host, v.UserEndpoint.Port}
	}
	for i := range v.ClientTags {
		m.Tags = append(m.Tags, Tag{v.ClientTags[i].Key, v.ClientTags[i].Value})
	}
	slices.SortStableFunc(m.Tags, func(a, b Tag) int { return strings.Compare(a.Key, b.Key) })
}

// current is the member's assignment as the log keeps it.
func (m *Member) current(group string) coordinator.Record {
	return coordinator.Record{
		Key: &schema.StreamsGroupCurrentMemberAssignmentKey{GroupID: group, MemberID: m.ID},
		Value: &schema.StreamsGroupCurrentMemberAssignmentValue{
			MemberEpoch: m.Epoch, PreviousMemberEpoch: m.Previous, State: int8(m.State),
			ActiveTasks: listed(m.Assigned[Active], true), StandbyTasks: listed(m.Assigned[Standby], false), WarmupTasks: listed(m.Assigned[Warmup], false),
			ActiveTasksPendingRevocation: listed(m.Revoking[Active], true), StandbyTasksPendingRevocation: listed(m.Revoking[Standby], false),
			WarmupTasksPendingRevocation: listed(m.Revoking[Warmup], false),
		},
	}
}

func listed(ts Tasks, epochs bool) []schema.StreamsGroupCurrentMemberAssignmentValueTaskIDs {
	out := make([]schema.StreamsGroupCurrentMemberAssignmentValueTaskIDs, 0, len(ts))
	for _, sub := range ts.subtopologies() {
		l := schema.StreamsGroupCurrentMemberAssignmentValueTaskIDs{SubtopologyID: sub, Partitions: ts.of(sub)}
		if epochs {
			for _, p := range l.Partitions {
				l.AssignmentEpochs = append(l.AssignmentEpochs, ts[sub][p])
			}
		}
		out = append(out, l)
	}
	return out
}

// loadCurrent takes a record over. Where it does not say when a task was given, it was at the member's epoch.
func (m *Member) loadCurrent(v *schema.StreamsGroupCurrentMemberAssignmentValue) {
	unlisted := func(list []schema.StreamsGroupCurrentMemberAssignmentValueTaskIDs, epochs bool) Tasks {
		ts := Tasks{}
		for i := range list {
			for j, p := range list[i].Partitions {
				epoch := int32(0)
				if epochs {
					epoch = v.MemberEpoch
					if j < len(list[i].AssignmentEpochs) {
						epoch = list[i].AssignmentEpochs[j]
					}
				}
				ts.add(Task{list[i].SubtopologyID, p}, epoch)
			}
		}
		return ts
	}
	m.Epoch, m.Previous, m.State = v.MemberEpoch, v.PreviousMemberEpoch, MemberState(v.State)
	m.Assigned = Roles{unlisted(v.ActiveTasks, true), unlisted(v.StandbyTasks, false), unlisted(v.WarmupTasks, false)}
	m.Revoking = Roles{unlisted(v.ActiveTasksPendingRevocation, true), unlisted(v.StandbyTasksPendingRevocation, false), unlisted(v.WarmupTasksPendingRevocation, false)}
}
