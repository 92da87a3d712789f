package group

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/wire"
)

// The first versions of OffsetCommit and TxnOffsetCommit that know member epochs (KIP-848, KIP-1319) and their errors.
const (
	memberEpochVersion    = 9
	txnMemberEpochVersion = 6
)

// OffsetCommit writes offsets. Topics come with their names (see the package comment); every partition has its own
// answer, and a refused group refuses all.
func (s *Shard) OffsetCommit(now time.Time, ctx RequestContext, req *kmsg.OffsetCommitRequest) (coordinator.Result[*kmsg.OffsetCommitResponse], error) {
	op := &effect.Op{Now: now}
	resp := kmsg.NewPtrOffsetCommitResponse()
	resp.Version = ctx.Version
	who := effect.Commit{MemberID: req.MemberID, InstanceID: req.InstanceID, Generation: req.Generation, Version: ctx.Version}
	refused := s.checkCommit(req.Group, who)
	if refused == nil {
		if g := s.find(req.Group); g != nil {
			g.Touch(op, req.MemberID)
		}
	}
	expireMs := int64(-1)
	if req.RetentionTimeMillis >= 0 && ctx.Version < 5 {
		expireMs = op.NowMs() + req.RetentionTimeMillis
	}
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for j := range t.Partitions {
			p := &t.Partitions[j]
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition = p.Partition
			err := s.checkPartition(req.Group, who, refused, t.Topic, t.TopicID, p.Partition)
			if err == nil {
				err = s.commitOne(op, slot{req.Group, t.Topic, p.Partition}, p.Metadata, position{
					offset: p.Offset, epoch: p.LeaderEpoch, commitMs: op.NowMs(), expireMs: expireMs, topicID: t.TopicID,
				})
			}
			rp.ErrorCode = wire.CodeOf(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return result(op, resp), nil
}

// TxnOffsetCommit writes the offsets of a transaction, pending until it is decided. guard goes to the log: proof that
// the transaction was verified.
func (s *Shard) TxnOffsetCommit(now time.Time, ctx RequestContext, req *kmsg.TxnOffsetCommitRequest, guard any) (coordinator.Result[*kmsg.TxnOffsetCommitResponse], error) {
	op := &effect.Op{Now: now}
	resp := kmsg.NewPtrTxnOffsetCommitResponse()
	resp.Version = ctx.Version
	who := effect.Commit{MemberID: req.MemberID, InstanceID: req.InstanceID, Generation: req.Generation, Version: ctx.Version, Transactional: true}
	refused := s.checkCommit(req.Group, who)
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewTxnOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for j := range t.Partitions {
			p := &t.Partitions[j]
			rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			rp.Partition = p.Partition
			err := s.checkPartition(req.Group, who, refused, t.Topic, t.TopicID, p.Partition)
			if err == nil {
				err = s.commitOne(op, slot{req.Group, t.Topic, p.Partition}, p.Metadata, position{
					offset: p.Offset, epoch: p.LeaderEpoch, commitMs: op.NowMs(), expireMs: -1, topicID: t.TopicID,
				})
			}
			rp.ErrorCode = wire.CodeOf(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	r := result(op, resp)
	r.Producer = &coordinator.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch, Guard: guard}
	return r, nil
}

// checkCommit tells whether a commit is welcome. A group that nobody has heard of is made by the commit, where it
// comes without membership.
func (s *Shard) checkCommit(id string, c effect.Commit) error {
	if len(id) > maxNameBytes {
		return wire.Errorf(kerr.InvalidGroupID, "group id of %d bytes: at most %d", len(id), maxNameBytes)
	}
	knowsEpochs := c.Version >= memberEpochVersion
	if c.Transactional {
		knowsEpochs = c.Version >= txnMemberEpochVersion
	}
	g := s.find(id)
	if g == nil {
		switch {
		case c.Generation < 0:
			return nil
		case knowsEpochs:
			return kerr.GroupIDNotFound
		}
		return kerr.IllegalGeneration
	}
	err := g.CheckCommit(c)
	if !knowsEpochs && errors.Is(err, kerr.StaleMemberEpoch) { // the client has no name for what is wrong
		if c.Transactional {
			return kerr.IllegalGeneration
		}
		return kerr.UnsupportedVersion
	}
	return err
}

func (s *Shard) commitOne(op *effect.Op, k slot, metadata *string, p position) error {
	if metadata != nil {
		p.metadata = *metadata
	}
	switch {
	case len(p.metadata) > s.cfg.MaxMetadataBytes:
		return kerr.OffsetMetadataTooLarge
	case len(k.topic) > maxNameBytes:
		return kerr.InvalidTopicException
	}
	op.Write(p.record(k))
	s.stats.Commits++
	return nil
}
