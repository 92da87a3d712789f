package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/sharestate"
)

// Metadata: v0-13.
//
// Brokers, and topics with the leaders of their partitions. v0: an empty list asks for all topics, later null does. v10: topics
// by id; with a name missing only from v12 on. v4: the client may let a topic be created; the answer then is the error of a topic
// that is not there, and the next one finds it (as in Kafka, where clients expect to ask twice).

// authorizedOperations are the bits of what the client may do, where it asks; unknown where it does not.
const (
	operationsUnknown = -2147483648
	topicOperations   = 3576
	clusterOperations = 8096
	groupOperations   = 3400
)

func describeMetadata(c *Call, q *kmsg.MetadataRequest) {
	resp := kmsg.NewPtrMetadataResponse()
	img := c.Image()
	if bad := c.unnamed(q); bad != nil {
		resp.Topics = bad
		resp.ControllerID = -1
		c.Reply(resp)
		return
	}
	for _, b := range img.Brokers() {
		host, port, ok := c.brokerAddress(c.Req.Conn, b)
		if b.Fenced || !ok {
			continue
		}
		rb := kmsg.NewMetadataResponseBroker()
		rb.NodeID, rb.Host, rb.Port, rb.Rack = b.ID, host, port, b.Rack
		resp.Brokers = append(resp.Brokers, rb)
	}
	id := img.ClusterID()
	resp.ClusterID, resp.ControllerID = &id, c.NodeID
	resp.AuthorizedOperations = operationsUnknown
	if q.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = clusterOperations
	}
	if q.Topics == nil || c.Version == 0 && len(q.Topics) == 0 {
		for _, t := range img.SortedTopics() {
			resp.Topics = append(resp.Topics, c.describeTopic(t, q))
		}
		c.Reply(resp)
		return
	}
	var missing []string
	ids := map[[16]byte]bool{}
	for _, t := range q.Topics {
		if t.Topic == nil && !ids[t.TopicID] {
			ids[t.TopicID] = true
			resp.Topics = append(resp.Topics, c.topicByID(t.TopicID, q))
		}
	}
	names := map[string]bool{}
	for _, t := range q.Topics {
		if t.Topic == nil || names[*t.Topic] {
			continue
		}
		names[*t.Topic] = true
		rt, absent := c.topicByName(*t.Topic, q)
		if absent {
			missing = append(missing, *t.Topic)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	c.Reply(resp)
	if len(missing) > 0 && q.AllowAutoTopicCreation && config.AutoCreateTopicsEnable.Get(c.Values()) {
		c.autoCreate(missing, func() {})
	}
}

// unnamed refuses topics without a name where the version wants one.
func (c *Call) unnamed(q *kmsg.MetadataRequest) []kmsg.MetadataResponseTopic {
	if c.Version >= 12 {
		return nil
	}
	var bad []kmsg.MetadataResponseTopic
	for _, t := range q.Topics {
		if t.Topic == nil || t.TopicID != ([16]byte{}) {
			rt := kmsg.NewMetadataResponseTopic()
			rt.ErrorCode, rt.TopicID, rt.Topic, rt.AuthorizedOperations = kerr.InvalidRequest.Code, t.TopicID, new(string), operationsUnknown
			bad = append(bad, rt)
		}
	}
	return bad
}

func (c *Call) topicByID(id [16]byte, q *kmsg.MetadataRequest) kmsg.MetadataResponseTopic {
	if t := c.Image().TopicByID(id); t != nil {
		return c.describeTopic(t, q)
	}
	rt := kmsg.NewMetadataResponseTopic()
	rt.ErrorCode, rt.TopicID, rt.AuthorizedOperations = kerr.UnknownTopicID.Code, id, operationsUnknown
	return rt
}

func (c *Call) topicByName(name string, q *kmsg.MetadataRequest) (_ kmsg.MetadataResponseTopic, absent bool) {
	if t := c.Image().Topic(name); t != nil {
		return c.describeTopic(t, q), false
	}
	rt := kmsg.NewMetadataResponseTopic()
	rt.Topic, rt.AuthorizedOperations = &name, operationsUnknown
	rt.ErrorCode = kerr.UnknownTopicOrPartition.Code
	if controller.CheckTopicName(name) != nil {
		rt.ErrorCode = kerr.InvalidTopicException.Code
		return rt, false
	}
	return rt, true
}

func (c *Call) describeTopic(t *metadata.Topic, q *kmsg.MetadataRequest) kmsg.MetadataResponseTopic {
	rt := kmsg.NewMetadataResponseTopic()
	rt.Topic, rt.TopicID, rt.IsInternal, rt.AuthorizedOperations = &t.Name, t.ID, controller.IsInternal(t.Name), operationsUnknown
	if q.IncludeTopicAuthorizedOperations {
		rt.AuthorizedOperations = topicOperations
	}
	rt.Partitions = make([]kmsg.MetadataResponseTopicPartition, 0, len(t.Partitions))
	for n, p := range t.Partitions {
		rp := kmsg.NewMetadataResponseTopicPartition()
		rp.Partition, rp.Leader, rp.LeaderEpoch, rp.Replicas, rp.ISR = int32(n), p.Leader, p.LeaderEpoch, p.Replicas, p.ISR
		rp.OfflineReplicas = c.offline(p.Replicas)
		if p.Leader < 0 {
			rp.ErrorCode = kerr.LeaderNotAvailable.Code
		}
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt
}

// offline are the replicas whose broker is not alive.
func (s *Server) offline(replicas []int32) []int32 {
	out := []int32{}
	for _, r := range replicas {
		if !s.Image().Alive(r) {
			out = append(out, r)
		}
	}
	return out
}

// autoCreate has topics made with the broker's defaults; done comes when they are, or could not be.
func (s *Server) autoCreate(names []string, done func()) {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.SetVersion(7)
	for _, n := range names {
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = n, -1, -1
		req.Topics = append(req.Topics, s.internalDefaults(t))
	}
	s.Controller.CreateTopics("auto-create", req, func(resp *kmsg.CreateTopicsResponse, err error) {
		if err != nil {
			s.Logger.Warn("topics could not be created on first use", "topics", len(names), "first", names[0], "error", err)
		} else {
			s.warnUncreated(resp)
		}
		done()
	})
}

// warnUncreated tells of topics that could not be made: one line, however many a client asks for.
func (s *Server) warnUncreated(resp *kmsg.CreateTopicsResponse) {
	refused, first := 0, 0
	for i, t := range resp.Topics {
		if t.ErrorCode != 0 && t.ErrorCode != kerr.TopicAlreadyExists.Code {
			if refused++; refused == 1 {
				first = i
			}
		}
	}
	if refused > 0 {
		t := resp.Topics[first]
		s.Logger.Warn("topics could not be created on first use", "topics", refused, "first", t.Topic, "error", kerr.ErrorForCode(t.ErrorCode))
	}
}

const (
	offsetsTopic     = "__consumer_offsets"
	transactionTopic = "__transaction_state"
	shareTopic       = sharestate.Topic
)

// internalDefaults gives a coordinator's topic the shape its settings ask for.
func (s *Server) internalDefaults(t kmsg.CreateTopicsRequestTopic) kmsg.CreateTopicsRequestTopic {
	v := s.Values()
	set := func(k, value string) {
		cfg := kmsg.NewCreateTopicsRequestTopicConfig()
		cfg.Name, cfg.Value = k, &value
		t.Configs = append(t.Configs, cfg)
	}
	if t.Topic == offsetsTopic {
		t.NumPartitions = int32(config.OffsetsTopicNumPartitions.Get(v))
		t.ReplicationFactor = min(int16(config.OffsetsTopicReplicationFactor.Get(v)), int16(len(s.Image().Brokers())))
		set("cleanup.policy", "compact")
		set("compression.type", "producer")
		set("segment.bytes", itoa(int64(config.OffsetsTopicSegmentBytes.Get(v))))
	}
	if t.Topic == transactionTopic {
		t.NumPartitions = int32(config.TransactionLogNumPartitions.Get(v))
		t.ReplicationFactor = min(int16(config.TransactionLogReplicationFactor.Get(v)), int16(len(s.Image().Brokers())))
		set("cleanup.policy", "compact")
		set("compression.type", "uncompressed")
		set("segment.bytes", itoa(int64(config.TransactionLogSegmentBytes.Get(v))))
		set("unclean.leader.election.enable", "false")
		set("min.insync.replicas", itoa(int64(config.TransactionLogMinISR.Get(v))))
	}
	if t.Topic == shareTopic {
		t.NumPartitions = int32(config.ShareTopicNumPartitions.Get(v))
		t.ReplicationFactor = min(int16(config.ShareTopicReplicationFactor.Get(v)), int16(len(s.Image().Brokers())))
		set("cleanup.policy", "delete") // the share coordinator cuts it itself
		set("compression.type", "producer")
		set("retention.ms", "-1")
		set("segment.bytes", itoa(int64(config.ShareTopicSegmentBytes.Get(v))))
		set("min.insync.replicas", itoa(int64(config.ShareTopicMinISR.Get(v))))
	}
	return t
}
