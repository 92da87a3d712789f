package controller

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// AlterPartitionReassignments moves partitions to other brokers, or takes a move back where the replicas are null. A move is done at
// once where everybody who is to hold the partition is in sync already; else the new replicas are noted as being added and
// the old ones as being removed.
func (c *Controller) AlterPartitionReassignments(img *metadata.Image, req *kmsg.AlterPartitionAssignmentsRequest, _ Env) (Records, *kmsg.AlterPartitionAssignmentsResponse) {
	resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
	resp.AllowReplicationFactorChange = req.AllowReplicationFactorChange
	resp.Topics = []kmsg.AlterPartitionAssignmentsResponseTopic{}
	var records Records
	for _, t := range req.Topics {
		rt := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			rp.Partition = p.Partition
			record, err := c.reassign(img, t.Topic, p.Partition, p.Replicas, req.AllowReplicationFactorChange || req.Version == 0)
			if rp.ErrorCode, rp.ErrorMessage = status(err); err == errNoReassignment {
				rp.ErrorMessage = nil
			}
			if record != nil {
				records.add(record)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return records, resp
}

// errNoReassignment answers taking back what is not under way.
var errNoReassignment = wire.Errorf(kerr.NoReassignmentInProgress, "No partition reassignment is in progress.")

func (c *Controller) reassign(img *metadata.Image, topic string, n int32, target []int32, mayResize bool) (schema.Message, error) {
	t := img.Topic(topic)
	if t == nil {
		return nil, wire.Errorf(kerr.UnknownTopicOrPartition, "Unable to find a topic named %s.", topic)
	}
	p := t.Partition(n)
	if p == nil {
		return nil, wire.Errorf(kerr.UnknownTopicOrPartition, "Unable to find partition %s:%d.", topic, n)
	}
	ch := c.newChange(img, t, n)
	before := settled(p)
	if target == nil {
		if len(p.Adding)+len(p.Removing) == 0 {
			return nil, errNoReassignment
		}
		return cancelReassignment(img, ch, p, before)
	}
	if err := checkAssignment(img, target, 0); err != nil {
		return nil, err
	}
	if !mayResize && len(target) != len(before) {
		return nil, wire.Errorf(kerr.InvalidReplicationFactor, "The replication factor is changed from %d to %d", len(before), len(target))
	}
	if slices.Equal(target, p.Replicas) && len(p.Adding)+len(p.Removing) == 0 {
		return nil, nil
	}
	startReassignment(img, ch, before, target)
	return written(ch.record()), nil
}

// written keeps a record that changes nothing from being taken for one.
func written(r *schema.PartitionChangeRecord) schema.Message {
	if r == nil {
		return nil
	}
	return r
}

// settled are the replicas that a partition had before the move that is under way.
func settled(p *metadata.Partition) []int32 {
	return slices.DeleteFunc(slices.Clone(p.Replicas), func(id int32) bool { return slices.Contains(p.Adding, id) })
}

// cancelReassignment goes back to the replicas of before. It must not leave a partition without anybody in sync.
func cancelReassignment(img *metadata.Image, ch *change, p *metadata.Partition, before []int32) (schema.Message, error) {
	isr := kept(p.ISR, before)
	if len(isr) == 0 && len(kept(p.ELR, before)) == 0 {
		return nil, wire.Errorf(kerr.InvalidReplicaAssignment, "None of the replicas that the partition would go back to is in sync; the reassignment cannot be taken back.")
	}
	ch.isr, ch.adding, ch.removing = isr, []int32{}, []int32{}
	ch.setReplicas(img, before)
	return written(ch.record()), nil
}

// startReassignment notes who comes and who goes; where those who come are in sync already the move ends with the same record.
func startReassignment(img *metadata.Image, ch *change, before, target []int32) {
	all := slices.Clone(target)
	removing := []int32{}
	for _, id := range before {
		if !slices.Contains(target, id) {
			all, removing = append(all, id), append(removing, id)
		}
	}
	ch.adding = slices.DeleteFunc(slices.Clone(target), func(id int32) bool { return slices.Contains(before, id) })
	ch.removing = removing
	ch.isr = kept(ch.isr, all)
	if alone(ch.p) && len(all) > 1 { // a fenced broker may be in sync with nobody else about, and only then
		ch.isr = slices.DeleteFunc(slices.Clone(ch.isr), func(id int32) bool { return !active(img, id) })
	}
	ch.setReplicas(img, all)
}

func kept(list, in []int32) []int32 {
	return slices.DeleteFunc(slices.Clone(list), func(id int32) bool { return !slices.Contains(in, id) })
}

// setReplicas gives each replica its directory: the one it had, or its broker's.
func (ch *change) setReplicas(img *metadata.Image, replicas []int32) {
	if slices.Equal(replicas, ch.p.Replicas) {
		return
	}
	ch.replicas = replicas
	ch.minISR = min(ch.wantISR, len(replicas))
	ch.dirs = make([]metadata.UUID, len(replicas))
	for i, id := range replicas {
		if j := slices.Index(ch.p.Replicas, id); j >= 0 && j < len(ch.p.Directories) {
			ch.dirs[i] = ch.p.Directories[j]
		} else {
			ch.dirs[i] = defaultDir(img.Broker(id))
		}
	}
}
