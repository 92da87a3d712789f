package api

import (
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/sharecoord"
)

// FindCoordinator: v0-6.
//
// Which broker coordinates a group (type 0) or a transactional id (1). The coordinator's topic is made at the first question. v4: several
// keys. v6: share state (type 2), by group:topic id:partition (KIP-932).

const (
	groupKey       = 0
	transactionKey = 1
	shareKey       = 2

	shareKeyVersion = 6 // the first that knows share state
)

// coordinatorTopic is the topic whose partitions' leaders coordinate a type of key.
func coordinatorTopic(typ int8) string {
	switch typ {
	case groupKey:
		return offsetsTopic
	case transactionKey:
		return transactionTopic
	}
	return ""
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func findCoordinator(c *Call, q *kmsg.FindCoordinatorRequest) {
	if topic := coordinatorTopic(q.CoordinatorType); topic != "" && c.Image().Topic(topic) == nil {
		c.autoCreate([]string{topic}, func() { c.answerCoordinators(q) })
		return
	}
	if q.CoordinatorType == shareKey && c.Version >= shareKeyVersion && c.Image().Topic(shareTopic) == nil && slices.ContainsFunc(q.CoordinatorKeys, func(k string) bool {
		_, err := sharecoord.ParseKey(k)
		return err == nil
	}) {
		c.autoCreate([]string{shareTopic}, func() { c.answerCoordinators(q) })
		return
	}
	c.answerCoordinators(q)
}

func (c *Call) answerCoordinators(q *kmsg.FindCoordinatorRequest) {
	resp := kmsg.NewPtrFindCoordinatorResponse()
	keys := q.CoordinatorKeys
	if c.Version < 4 {
		keys = []string{q.CoordinatorKey}
	}
	for _, key := range keys {
		resp.Coordinators = append(resp.Coordinators, c.coordinatorOf(q.CoordinatorType, key))
	}
	if c.Version < 4 {
		one := resp.Coordinators[0]
		resp.ErrorCode, resp.NodeID, resp.Host, resp.Port = one.ErrorCode, one.NodeID, one.Host, one.Port
		none := "NONE"
		if resp.ErrorMessage = one.ErrorMessage; one.ErrorCode == 0 {
			resp.ErrorMessage = &none
		}
		resp.Coordinators = nil
	}
	c.Reply(resp)
}

func (c *Call) coordinatorOf(typ int8, key string) kmsg.FindCoordinatorResponseCoordinator {
	out := kmsg.NewFindCoordinatorResponseCoordinator()
	message := ""
	out.Key, out.NodeID, out.Port, out.ErrorMessage = key, -1, -1, &message
	name := coordinatorTopic(typ)
	home := func(n int) int32 { return partitionFor(key, n) }
	if typ == shareKey && c.Version >= shareKeyVersion {
		k, err := sharecoord.ParseKey(key)
		if err != nil {
			out.ErrorCode, message = kerr.InvalidRequest.Code, err.Error()
			return out
		}
		name, home = shareTopic, k.Home
	}
	if name == "" {
		out.ErrorCode = kerr.InvalidRequest.Code
		message = "This release coordinates groups (key type 0), transactions (1) and the state of queues (2)."
		return out
	}
	img := c.Image()
	topic := img.Topic(name)
	if topic == nil {
		out.ErrorCode = kerr.CoordinatorNotAvailable.Code
		return out
	}
	p := topic.Partitions[home(len(topic.Partitions))]
	b := img.Broker(p.Leader)
	if p.Leader < 0 || b == nil {
		out.ErrorCode = kerr.CoordinatorNotAvailable.Code
		return out
	}
	host, port, ok := c.brokerAddress(c.Req.Conn, b)
	if !ok {
		out.ErrorCode = kerr.CoordinatorNotAvailable.Code
		return out
	}
	out.NodeID, out.Host, out.Port = b.ID, host, port
	return out
}

// partitionFor is the partition of a coordinator topic that owns an id.
func partitionFor(id string, partitions int) int32 { return coordinator.Home(id, partitions) }

// groupPartition is the partition of the offsets topic that owns a group.
func groupPartition(img *metadata.Image, group string) (int32, bool) {
	topic := img.Topic(offsetsTopic)
	if topic == nil {
		return 0, false
	}
	return partitionFor(group, len(topic.Partitions)), true
}
