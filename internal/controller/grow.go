package controller

import (
	"slices"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/metadata"
)

// growAtOnce bounds the partitions of the coordinators' topics that get another copy at the same time.
const growAtOnce = 10

// growInternal gives the topics of the coordinators the copies that their settings ask for, once there are brokers for them: they were made when
// the cluster was small. It is an ordinary reassignment, a few partitions at a time.
func (c *Controller) growInternal(img *metadata.Image) (records Records) {
	v := c.Values(img)
	var up []int32
	for _, b := range img.Brokers() {
		if active(img, b.ID) && usable(b) {
			up = append(up, b.ID)
		}
	}
	slices.Sort(up)
	moving := 0
	for _, t := range []struct {
		name   string
		copies int
	}{
		{"__consumer_offsets", int(config.OffsetsTopicReplicationFactor.Get(v))},
		{"__transaction_state", int(config.TransactionLogReplicationFactor.Get(v))},
		{"__share_group_state", int(config.ShareTopicReplicationFactor.Get(v))},
	} {
		topic := img.Topic(t.name)
		if topic == nil {
			continue
		}
		for n, p := range topic.Partitions {
			if p == nil || p.Leader < 0 {
				continue
			}
			if len(p.Adding)+len(p.Removing) > 0 {
				moving++
				continue
			}
			if len(p.Replicas) >= min(t.copies, len(up)) || moving >= growAtOnce {
				continue
			}
			target := slices.Clone(p.Replicas)
			for i := 0; len(target) < t.copies && i < len(up); i++ {
				if id := up[(n+i)%len(up)]; !slices.Contains(target, id) {
					target = append(target, id)
				}
			}
			ch := c.newChange(img, topic, int32(n))
			startReassignment(img, ch, p.Replicas, target)
			if r := ch.record(); r != nil {
				records.add(r)
				moving++
			}
		}
	}
	return records
}
