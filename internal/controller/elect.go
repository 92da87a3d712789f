package controller

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Election types of ElectLeaders.
const (
	preferredElection = 0
	uncleanElection   = 1
)

// recovering marks a partition whose leader was elected although it may lack committed records.
const recovering = 1

// ElectLeaders gives partitions their preferred leader, or any leader that is up where there is none. Without a list it goes
// over every partition and leaves out of the answer those that need no election.
func (c *Controller) ElectLeaders(img *metadata.Image, req *kmsg.ElectLeadersRequest, _ Env) (Records, *kmsg.ElectLeadersResponse) {
	resp := kmsg.NewPtrElectLeadersResponse()
	resp.Topics = []kmsg.ElectLeadersResponseTopic{}
	typ := req.ElectionType
	if req.Version == 0 {
		typ = preferredElection
	}
	if typ != preferredElection && typ != uncleanElection {
		return nil, refuseElections(req, resp, wire.Errorf(kerr.InvalidRequest, "Unknown election type %d", typ))
	}
	var records Records
	one := func(rt *kmsg.ElectLeadersResponseTopic, n int32, all bool) {
		record, err := electLeader(img, rt.Topic, n, typ)
		if record != nil {
			records.add(record)
		}
		if all && err == errNotNeeded {
			return
		}
		rp := kmsg.NewElectLeadersResponseTopicPartition()
		rp.Partition = n
		rp.ErrorCode, rp.ErrorMessage = status(err)
		rt.Partitions = append(rt.Partitions, rp)
	}
	if req.Topics == nil {
		for _, t := range img.SortedTopics() {
			rt := kmsg.NewElectLeadersResponseTopic()
			rt.Topic = t.Name
			for n := range t.Partitions {
				one(&rt, int32(n), true)
			}
			if len(rt.Partitions) > 0 {
				resp.Topics = append(resp.Topics, rt)
			}
		}
		return records, resp
	}
	for _, t := range req.Topics {
		rt := kmsg.NewElectLeadersResponseTopic()
		rt.Topic = t.Topic
		for _, n := range t.Partitions {
			one(&rt, n, false)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return records, resp
}

func refuseElections(req *kmsg.ElectLeadersRequest, resp *kmsg.ElectLeadersResponse, err error) *kmsg.ElectLeadersResponse {
	var text *string
	resp.ErrorCode, text = status(err)
	for _, t := range req.Topics {
		rt := kmsg.NewElectLeadersResponseTopic()
		rt.Topic = t.Topic
		for _, n := range t.Partitions {
			rp := kmsg.NewElectLeadersResponseTopicPartition()
			rp.Partition, rp.ErrorCode, rp.ErrorMessage = n, resp.ErrorCode, text
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// errNotNeeded is a partition that has the leader it should have.
var errNotNeeded = wire.Errorf(kerr.ElectionNotNeeded, "Leader election not needed for topic partition.")

// electLeader gives the record that changes a partition's leader.
func electLeader(img *metadata.Image, topic string, n int32, typ int8) (schema.Message, error) {
	t := img.Topic(topic)
	if t == nil {
		return nil, wire.Errorf(kerr.UnknownTopicOrPartition, "No such topic as %s", topic)
	}
	p := t.Partition(n)
	switch {
	case p == nil:
		return nil, wire.Errorf(kerr.UnknownTopicOrPartition, "No such partition as %s-%d", topic, n)
	case typ == preferredElection && p.Leader == p.Replicas[0], typ == uncleanElection && p.Leader >= 0:
		return nil, errNotNeeded
	}
	ch := schema.NewPartitionChangeRecord()
	ch.TopicID, ch.PartitionID = t.ID, n
	if typ == preferredElection {
		if id := p.Replicas[0]; active(img, id) && slices.Contains(p.ISR, id) {
			ch.Leader = id
			return ch, nil
		}
		return nil, wire.Errorf(kerr.PreferredLeaderNotAvailable, "The preferred leader was not available.")
	}
	for _, id := range p.Replicas { // who has everything first, then whoever is up
		if active(img, id) && electable(p, id) {
			return electFrom(ch, p, id), nil
		}
	}
	for _, id := range p.Replicas {
		if active(img, id) {
			ch.LeaderRecoveryState = recovering
			return electFrom(ch, p, id), nil
		}
	}
	return nil, wire.Errorf(kerr.EligibleLeadersNotAvailable, "Eligible topic partition leaders are not available.")
}

// electFrom makes id the leader; when it was not in sync it is the only one who is.
func electFrom(ch *schema.PartitionChangeRecord, p *metadata.Partition, id int32) *schema.PartitionChangeRecord {
	ch.Leader = id
	if !slices.Contains(p.ISR, id) {
		ch.Isr = []int32{id}
		if len(p.ELR)+len(p.LastKnownELR) > 0 {
			ch.EligibleLeaderReplicas, ch.LastKnownElr = without(p.ELR, id), []int32{}
			if ch.LeaderRecoveryState == recovering {
				ch.EligibleLeaderReplicas = []int32{}
			}
		}
	}
	return ch
}
