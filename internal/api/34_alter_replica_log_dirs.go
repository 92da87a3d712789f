package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/wire"
)

// AlterReplicaLogDirs: v1-2. Moves replicas of this broker to another log dir (KIP-113). The answer says that the move has begun.

func alterReplicaLogDirs(c *Call, q *kmsg.AlterReplicaLogDirsRequest) {
	resp := kmsg.NewPtrAlterReplicaLogDirsResponse()
	at := map[string]int{}
	for _, d := range q.Dirs {
		for _, t := range d.Topics {
			i, ok := at[t.Topic]
			if !ok {
				i = len(resp.Topics)
				at[t.Topic] = i
				rt := kmsg.NewAlterReplicaLogDirsResponseTopic()
				rt.Topic = t.Topic
				resp.Topics = append(resp.Topics, rt)
			}
			for _, p := range t.Partitions {
				rp := kmsg.NewAlterReplicaLogDirsResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p, wire.CodeOf(c.moveLog(log.TopicPartition{Topic: t.Topic, Partition: p}, d.Dir))
				resp.Topics[i].Partitions = append(resp.Topics[i].Partitions, rp)
			}
		}
	}
	c.Reply(resp)
}

func (c *Call) moveLog(tp log.TopicPartition, dir string) error {
	known := false
	for _, d := range c.Logs.Dirs() {
		known = known || d.Path == dir && d.Online
	}
	if !known {
		return wire.Errorf(kerr.LogDirNotFound, "%s is none of this broker's log dirs, or is offline", dir)
	}
	if _, err := c.openLog(tp); err != nil {
		return wire.Errorf(kerr.ReplicaNotAvailable, "%s has no replica here: %v", tp, err)
	}
	return c.Replicas.Move(tp, dir)
}
