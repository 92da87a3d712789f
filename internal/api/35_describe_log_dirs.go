package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/log"
)

// DescribeLogDirs: v1-5. The replicas of this broker by log dir, with sizes. v4: space of the volume. v5: cordoned dirs.

func describeLogDirs(c *Call, q *kmsg.DescribeLogDirsRequest) {
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	wanted := func(log.TopicPartition) bool { return true }
	if q.Topics != nil {
		set := map[log.TopicPartition]bool{}
		for _, t := range q.Topics {
			for _, p := range t.Partitions {
				set[log.TopicPartition{Topic: t.Topic, Partition: p}] = true
			}
		}
		wanted = func(tp log.TopicPartition) bool { return set[tp] }
	}
	sizes := c.Replicas.Sizes()
	for _, d := range c.Logs.Dirs() {
		rd := kmsg.NewDescribeLogDirsResponseDir()
		rd.Dir, rd.TotalBytes, rd.UsableBytes = d.Path, d.Total, d.Usable
		if !d.Online {
			rd.ErrorCode = kerr.KafkaStorageError.Code
			resp.Dirs = append(resp.Dirs, rd)
			continue
		}
		at := map[string]int{}
		for _, s := range sizes {
			if s.Dir != d.Path || !wanted(s.TP) {
				continue
			}
			i, ok := at[s.TP.Topic]
			if !ok {
				i = len(rd.Topics)
				at[s.TP.Topic] = i
				rt := kmsg.NewDescribeLogDirsResponseDirTopic()
				rt.Topic = s.TP.Topic
				rd.Topics = append(rd.Topics, rt)
			}
			rp := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
			rp.Partition, rp.Size = s.TP.Partition, s.Size
			rd.Topics[i].Partitions = append(rd.Topics[i].Partitions, rp)
		}
		resp.Dirs = append(resp.Dirs, rd)
	}
	c.Reply(resp)
}
