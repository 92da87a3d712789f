package api

import "github.com/twmb/franz-go/pkg/kmsg"

// ListPartitionReassignments: v0. Replicas on the move: partitions of the metadata with replicas being added or removed (KIP-455).

func listPartitionReassignments(c *Call, q *kmsg.ListPartitionReassignmentsRequest) {
	resp := kmsg.NewPtrListPartitionReassignmentsResponse()
	for t := range c.Image().Topics() {
		rt := kmsg.NewListPartitionReassignmentsResponseTopic()
		rt.Topic = t.Name
		for n, p := range t.Partitions {
			if len(p.Adding)+len(p.Removing) == 0 || !asked(q, t.Name, int32(n)) {
				continue
			}
			rp := kmsg.NewListPartitionReassignmentsResponseTopicPartition()
			rp.Partition, rp.Replicas, rp.AddingReplicas, rp.RemovingReplicas = int32(n), p.Replicas, p.Adding, p.Removing
			rt.Partitions = append(rt.Partitions, rp)
		}
		if len(rt.Partitions) > 0 {
			resp.Topics = append(resp.Topics, rt)
		}
	}
	c.Reply(resp)
}

func asked(q *kmsg.ListPartitionReassignmentsRequest, topic string, partition int32) bool {
	if q.Topics == nil {
		return true
	}
	for _, t := range q.Topics {
		if t.Topic == topic {
			for _, p := range t.Partitions {
				if p == partition {
					return true
				}
			}
		}
	}
	return false
}
