package classic

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/group/effect"
)

// Here is what a group needs that becomes one of the consumer protocol, or was one: see package group.

// CopyProtocols takes what a join supports out of the request, whose bytes belong to a pooled buffer.
func CopyProtocols(req []kmsg.JoinGroupRequestProtocol) []Protocol { return copyProtocols(req) }

// Dissolve ends the group's memory of requests and timers, for its members go on elsewhere: those who wait are told to
// join again. The group itself ends by its tombstone.
func (g *Group) Dissolve(op *effect.Op) {
	for _, m := range g.members {
		g.answerJoin(op, m, JoinError(m.join.version, m.ID, kerr.RebalanceInProgress))
		g.answerSync(op, m, SyncError(m.sync.version, kerr.RebalanceInProgress))
		op.Cancel(g.id, m.timerName())
	}
	for id := range g.pending {
		op.Cancel(g.id, timerMember+id)
	}
	op.Cancel(g.id, timerJoin)
	op.Cancel(g.id, timerSync)
}

// Rebalance starts a rebalance of a stable group from outside.
func (g *Group) Rebalance(op *effect.Op, reason string) { g.rebalanceOrComplete(op, reason) }

// ReadSubscription reads the metadata of a protocol of consumers. Some clients (kafka-go) name a version and leave out
// the fields that came with it: what the first version has is enough then.
func ReadSubscription(metadata []byte) (*kmsg.ConsumerMemberMetadata, error) {
	s := kmsg.NewConsumerMemberMetadata()
	err := s.ReadFrom(metadata)
	if err == nil || len(metadata) < 2 {
		return &s, err
	}
	first := append([]byte{0, 0}, metadata[2:]...)
	s = kmsg.NewConsumerMemberMetadata()
	if s.ReadFrom(first) != nil {
		return nil, err
	}
	return &s, nil
}
