package api

import (
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group"
	"github.com/ottla/ottla/internal/group/streams"
	"github.com/ottla/ottla/internal/wire"
)

// StreamsGroupHeartbeat: v0-1 (KIP-1071). Joins, stays in and leaves a streams group; the answer brings the tasks. Internal topics that
// the topology needs are made on the way; members ask again until they are there. v1: topology descriptions (KIP-1331), client tags.

func streamsGroupHeartbeat(c *Call, q *kmsg.StreamsGroupHeartbeatRequest) {
	answer := func(resp *kmsg.StreamsGroupHeartbeatResponse, err error) {
		if err != nil {
			resp = kmsg.NewPtrStreamsGroupHeartbeatResponse()
			resp.ErrorCode, resp.ErrorMessage = wire.CodeOf(err), wire.MessageOf(err)
			resp.Status, resp.AcceptableRecoveryLag = []kmsg.StreamsGroupHeartbeatResponseStatus{}, -1
		}
		c.Reply(resp)
	}
	if !c.servesStreams() {
		answer(nil, kerr.UnsupportedVersion)
		return
	}
	if err := checkTopologyTopics(q.Topology); err != nil {
		answer(nil, err)
		return
	}
	rc := c.client()
	id := q.Group
	groupWrite(c, "streams-group-heartbeat", id, func(s *group.Shard, now time.Time, _ coordinator.Token) (coordinator.Result[*streams.Heartbeat], error) {
		return s.StreamsGroupHeartbeat(now, rc, q)
	}, func(beat *streams.Heartbeat, err error) {
		if err != nil {
			answer(nil, err)
			return
		}
		if len(beat.Create) > 0 {
			c.makeInternalTopics(id, beat.Create)
		}
		answer(beat.Response, nil)
	})
}

// servesStreams tells whether the cluster and this broker's settings allow streams groups.
func (c *Call) servesStreams() bool {
	return c.Image().Feature(controller.StreamsVersion) > 0 && slices.Contains(config.GroupCoordinatorRebalanceProtocols.Get(c.Values()), "streams")
}

// checkTopologyTopics refuses a topology with topics that no application may use.
func checkTopologyTopics(t *kmsg.StreamsGroupHeartbeatRequestTopology) error {
	if t == nil {
		return nil
	}
	var internal, invalid []string
	for _, name := range streams.TopologyTopics(t) {
		if controller.IsInternal(name) {
			internal = append(internal, name)
		}
		if controller.CheckTopicName(name) != nil {
			invalid = append(invalid, name)
		}
	}
	list := func(names []string) string {
		slices.Sort(names)
		return strings.Join(slices.Compact(names), ",")
	}
	switch {
	case len(internal) > 0:
		return wire.Errorf(kerr.StreamsInvalidTopology, "Use of Kafka internal topics %s in a Kafka Streams topology is prohibited.", list(internal))
	case len(invalid) > 0:
		return wire.Errorf(kerr.StreamsInvalidTopology, "Topic names %s are not valid topic names.", list(invalid))
	}
	return nil
}

// makeInternalTopics creates what a streams group's topology needs, and tells the group where that fails. Another member's
// heartbeat may have come first: a topic that is there is fine.
func (c *Call) makeInternalTopics(id string, topics []kmsg.CreateTopicsRequestTopic) {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics = topics
	req.SetVersion(7)
	c.Controller.CreateTopics("create-topics", req, func(resp *kmsg.CreateTopicsResponse, err error) {
		why := ""
		if err != nil {
			why = err.Error()
		} else {
			var faults []string
			for i := range resp.Topics {
				t := &resp.Topics[i]
				if t.ErrorCode == 0 || t.ErrorCode == kerr.TopicAlreadyExists.Code {
					continue
				}
				fault := t.Topic + " (" + kerr.ErrorForCode(t.ErrorCode).Error() + ")"
				if t.ErrorMessage != nil {
					fault = t.Topic + " (" + *t.ErrorMessage + ")"
				}
				faults = append(faults, fault)
			}
			why = strings.Join(faults, ", ")
		}
		if why != "" {
			c.Logger.Warn("internal topics of a streams group could not be made", "group", id, "reason", why)
		}
		groupRead(c, "streams-topics", id, func(s *group.Shard, _ time.Time) (struct{}, error) {
			s.StreamsTopicsFailed(id, why)
			return struct{}{}, nil
		}, func(struct{}, error) {})
	})
}
