package consumer

import (
	"slices"
	"time"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/classic"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Member is one member of a group. It never changes: operations make a new one, which takes its place by replay.
type Member struct {
	ID                 string
	InstanceID, RackID *string
	ClientID           string
	ClientHost         string
	RebalanceMs        int32    // how long it may take to give up partitions
	Topics             []string // subscribed by name, in order, each once
	Regex              string   // subscribed by regular expression, "" for none
	Assignor           *string  // the one it asks for
	Classic            *Classic // of a member of the classic protocol, otherwise nil

	// Epoch is the member epoch; leaveStaticEpoch while a static member is away. Previous is the one before, which a
	// member uses that has not seen the answer that moved it.
	Epoch, Previous int32
	State           MemberState
	// Assigned is what the member may use; Revoking what it has been told to give up and may still hold.
	Assigned, Revoking Partitions
}

// Classic is what there is to know of a member of the classic protocol.
type Classic struct {
	SessionMs int32
	Protocols []classic.Protocol
}

func newMember(id string) *Member {
	return &Member{ID: id, RebalanceMs: -1, Assigned: Partitions{}, Revoking: Partitions{}}
}

func (m *Member) clone() *Member {
	c := *m
	return &c
}

func (m *Member) rebalanceTimeout() time.Duration {
	return time.Duration(m.RebalanceMs) * time.Millisecond
}

// sameMetadata tells whether two members have the same record of metadata.
func (m *Member) sameMetadata(o *Member) bool {
	return m.ID == o.ID && equalPtr(m.InstanceID, o.InstanceID) && equalPtr(m.RackID, o.RackID) && m.ClientID == o.ClientID &&
		m.ClientHost == o.ClientHost && m.RebalanceMs == o.RebalanceMs && slices.Equal(m.Topics, o.Topics) && m.Regex == o.Regex &&
		equalPtr(m.Assignor, o.Assignor) && m.Classic.equal(o.Classic)
}

func (m *Member) sameCurrent(o *Member) bool {
	return m.Epoch == o.Epoch && m.Previous == o.Previous && m.State == o.State && m.Assigned.equal(o.Assigned) && m.Revoking.equal(o.Revoking)
}

func (c *Classic) equal(o *Classic) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.SessionMs == o.SessionMs && slices.EqualFunc(c.Protocols, o.Protocols, func(a, b classic.Protocol) bool {
		return a.Name == b.Name && string(a.Metadata) == string(b.Metadata)
	})
}

func equalPtr(a, b *string) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// record is the member's metadata as the log keeps it.
func (m *Member) record(group string) coordinator.Record {
	v := &schema.ConsumerGroupMemberMetadataValue{
		InstanceID: m.InstanceID, RackID: m.RackID, ClientID: m.ClientID, ClientHost: m.ClientHost,
		SubscribedTopicNames: m.Topics, SubscribedTopicRegex: &m.Regex, RebalanceTimeoutMs: m.RebalanceMs, ServerAssignor: m.Assignor,
	}
	if m.Classic != nil {
		v.ClassicMemberMetadata = &schema.ConsumerGroupMemberMetadataValueClassicMemberMetadata{SessionTimeoutMs: m.Classic.SessionMs}
		for _, p := range m.Classic.Protocols {
			v.ClassicMemberMetadata.SupportedProtocols = append(v.ClassicMemberMetadata.SupportedProtocols,
				schema.ConsumerGroupMemberMetadataValueClassicProtocol{Name: p.Name, Metadata: p.Metadata})
		}
	}
	return coordinator.Record{Key: &schema.ConsumerGroupMemberMetadataKey{GroupID: group, MemberID: m.ID}, Value: v}
}

// current is the member's assignment as the log keeps it.
func (m *Member) current(group string) coordinator.Record {
	return coordinator.Record{
		Key: &schema.ConsumerGroupCurrentMemberAssignmentKey{GroupID: group, MemberID: m.ID},
		Value: &schema.ConsumerGroupCurrentMemberAssignmentValue{
			MemberEpoch: m.Epoch, PreviousMemberEpoch: m.Previous, State: int8(m.State),
			AssignedPartitions: listed(m.Assigned), PartitionsPendingRevocation: listed(m.Revoking),
		},
	}
}

func listed(ps Partitions) []schema.ConsumerGroupCurrentMemberAssignmentValueTopicPartitions {
	out := make([]schema.ConsumerGroupCurrentMemberAssignmentValueTopicPartitions, 0, len(ps))
	for _, t := range ps.topics() {
		l := schema.ConsumerGroupCurrentMemberAssignmentValueTopicPartitions{TopicID: t, Partitions: ps.of(t)}
		for _, p := range l.Partitions {
			l.AssignmentEpochs = append(l.AssignmentEpochs, ps[t][p])
		}
		out = append(out, l)
	}
	return out
}

// unlisted reads partitions from a record. Kafka before 4.3 did not write their epochs: there it is the member's.
func unlisted(list []schema.ConsumerGroupCurrentMemberAssignmentValueTopicPartitions, memberEpoch int32) Partitions {
	ps := Partitions{}
	for i := range list {
		for j, p := range list[i].Partitions {
			epoch := memberEpoch
			if j < len(list[i].AssignmentEpochs) {
				epoch = list[i].AssignmentEpochs[j]
			}
			ps.add(list[i].TopicID, p, epoch)
		}
	}
	return ps
}

// loadMetadata takes a record over.
func (m *Member) loadMetadata(v *schema.ConsumerGroupMemberMetadataValue) {
	m.InstanceID, m.RackID, m.ClientID, m.ClientHost = v.InstanceID, v.RackID, v.ClientID, v.ClientHost
	m.RebalanceMs, m.Assignor, m.Regex = v.RebalanceTimeoutMs, v.ServerAssignor, ""
	m.Topics = slices.Compact(slices.Sorted(slices.Values(v.SubscribedTopicNames)))
	if v.SubscribedTopicRegex != nil {
		m.Regex = *v.SubscribedTopicRegex
	}
	m.Classic = nil
	if c := v.ClassicMemberMetadata; c != nil {
		m.Classic = &Classic{SessionMs: c.SessionTimeoutMs}
		for i := range c.SupportedProtocols {
			m.Classic.Protocols = append(m.Classic.Protocols, classic.Protocol{
				Name: c.SupportedProtocols[i].Name, Metadata: append([]byte{}, c.SupportedProtocols[i].Metadata...),
			})
		}
	}
}
