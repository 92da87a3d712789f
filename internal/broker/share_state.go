package broker

import (
	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/replica"
	"github.com/ottla/ottla/internal/sharecoord"
	"github.com/ottla/ottla/internal/sharestate"
	"github.com/ottla/ottla/internal/wire/schema"
)

// newShareStates makes the share coordinator.
func newShareStates(o Options, replicas *replica.Manager) *sharestate.Runtime {
	return coordinator.New(coordinator.Options[*sharecoord.Shard]{
		Name: "share", Topic: sharestate.Topic, Log: newCoordinatorLog(sharestate.Topic, replicas, o.Clock), Decode: schema.ReadShareRecord,
		NewShard: func(int32) *sharecoord.Shard {
			return sharecoord.New(sharecoord.Config{UpdatesPerSnapshot: int(config.ShareUpdatesPerSnapshot.Get(o.Values)), ColdInterval: ms(int64(config.ShareColdSnapshotIntervalMs.Get(o.Values)))})
		},
		Clock: o.Clock, Logger: o.Logger, Registerer: o.Registerer,
		WriteTimeout: ms(int64(config.ShareWriteTimeoutMs.Get(o.Values))), LoadBytes: int(config.ShareLoadBufferSize.Get(o.Values)),
		Codec: record.Codec(config.ShareTopicCompressionCodec.Get(o.Values)),
	})
}

// newShareClient makes the way to it.
func newShareClient(o Options, node int32, rt *sharestate.Runtime, image func() *metadata.Image, replicas *replica.Manager, others *nodes) *sharestate.Client {
	return sharestate.New(sharestate.Options{
		Runtime: rt, Node: node, Ask: others.Ask, Image: image, Clock: o.Clock, Logger: o.Logger, CutEvery: ms(int64(config.ShareTopicPruneIntervalMs.Get(o.Values))),
		Cut: func(partition int32, below int64) error {
			p, err := replicas.Get(log.TopicPartition{Topic: sharestate.Topic, Partition: partition})
			if err != nil {
				return err
			}
			l, err := p.Log()
			if err != nil {
				return err
			}
			_, err = l.DeleteRecords(min(below, l.HighWatermark().Offset))
			return err
		},
	})
}
