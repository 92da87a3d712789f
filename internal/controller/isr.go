package controller

import (
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// AlterPartition takes over the ISR that leaders ask for (KIP-497). Each partition succeeds or fails alone; the answer has the state
// that the partition is in afterwards.
func (c *Controller) AlterPartition(img *metadata.Image, req *kmsg.AlterPartitionRequest, _ Env) (Records, *kmsg.AlterPartitionResponse) {
	resp := kmsg.NewPtrAlterPartitionResponse()
	if _, err := checkEpoch(img, req.BrokerID, req.BrokerEpoch); err != nil {
		resp.ErrorCode = wire.CodeOf(err)
		return nil, resp
	}
	var records Records
	for _, t := range req.Topics {
		rt := kmsg.NewAlterPartitionResponseTopic()
		rt.Topic, rt.TopidID = t.Topic, t.TopicID
		topic := img.TopicByID(t.TopicID)
		for _, p := range t.Partitions {
			rp := kmsg.NewAlterPartitionResponseTopicPartition()
			rp.Partition = p.Partition
			var err error
			switch {
			case topic == nil:
				err = kerr.UnknownTopicID
			case topic.Partition(p.Partition) == nil:
				err = kerr.UnknownTopicOrPartition
			default:
				var r *schema.PartitionChangeRecord
				r, err = c.alterPartition(img, topic, req, &p)
				if r != nil {
					records.add(r)
				}
				if err == nil {
					alteredState(&rp, topic.Partition(p.Partition), r)
				}
			}
			rp.ErrorCode = wire.CodeOf(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return records, resp
}

// alteredState is the state of a partition once the record is replayed.
func alteredState(rp *kmsg.AlterPartitionResponseTopicPartition, p *metadata.Partition, r *schema.PartitionChangeRecord) {
	rp.LeaderID, rp.LeaderEpoch, rp.ISR, rp.LeaderRecoveryState, rp.PartitionEpoch = p.Leader, p.LeaderEpoch, p.ISR, p.RecoveryState, p.PartitionEpoch
	if r == nil {
		return
	}
	rp.PartitionEpoch++
	if r.Isr != nil {
		rp.ISR = r.Isr
	}
	if r.LeaderRecoveryState >= 0 {
		rp.LeaderRecoveryState = r.LeaderRecoveryState
	}
}

// errLeaderMoves is the answer where a change also gave the partition another leader, or a new epoch: whoever asked must look anew.
var errLeaderMoves = errors.New("the partition has another leader epoch now")

func (c *Controller) alterPartition(img *metadata.Image, t *metadata.Topic, req *kmsg.AlterPartitionRequest, q *kmsg.AlterPartitionRequestTopicPartition) (*schema.PartitionChangeRecord, error) {
	p := t.Partition(q.Partition)
	isr, err := checkAlter(img, req, q, p)
	if err != nil {
		return nil, err
	}
	ch := c.newChange(img, t, q.Partition)
	ch.isr, ch.recovery = isr, q.LeaderRecoveryState
	r := ch.record()
	if r != nil && r.Leader != noLeaderChange && r.Leader != p.Leader {
		return r, wire.Errorf(kerr.NewLeaderElected, "%v", errLeaderMoves)
	}
	if r != nil && r.Leader != noLeaderChange {
		return r, wire.Errorf(kerr.FencedLeaderEpoch, "%v", errLeaderMoves)
	}
	return r, nil
}

// noLeaderChange in a PartitionChangeRecord leaves leader and leader epoch as they are.
const noLeaderChange = -2

// checkAlter refuses a change in the order in which Kafka does.
func checkAlter(img *metadata.Image, req *kmsg.AlterPartitionRequest, q *kmsg.AlterPartitionRequestTopicPartition, p *metadata.Partition) ([]int32, error) {
	isr := q.NewISR
	epochs := map[int32]int64{}
	if req.Version >= 3 {
		isr = nil
		for _, s := range q.NewEpochISR {
			isr = append(isr, s.BrokerID)
			epochs[s.BrokerID] = s.BrokerEpoch
		}
	}
	switch {
	case q.LeaderEpoch > p.LeaderEpoch || q.PartitionEpoch > p.PartitionEpoch:
		return nil, kerr.NotController // the leader knows more than this controller
	case q.LeaderEpoch < p.LeaderEpoch:
		return nil, kerr.FencedLeaderEpoch
	case req.BrokerID != p.Leader:
		return nil, kerr.InvalidRequest
	case q.PartitionEpoch < p.PartitionEpoch:
		return nil, kerr.InvalidUpdateVersion
	case !isSubset(isr, p.Replicas) || !slices.Contains(isr, p.Leader):
		return nil, kerr.InvalidRequest
	case q.LeaderRecoveryState == recovering && (len(isr) > 1 || p.RecoveryState != recovering):
		return nil, kerr.InvalidRequest
	}
	for _, id := range isr {
		b := img.Broker(id)
		known, has := epochs[id]
		if !active(img, id) || has && known != -1 && known != b.Epoch {
			if req.Version < 2 {
				return nil, kerr.OperationNotAttempted
			}
			return nil, kerr.IneligibleReplica
		}
	}
	return isr, nil
}

// isSubset says whether list names members of all, each once.
func isSubset(list, all []int32) bool {
	for i, id := range list {
		if !slices.Contains(all, id) || slices.Contains(list[:i], id) {
			return false
		}
	}
	return true
}
