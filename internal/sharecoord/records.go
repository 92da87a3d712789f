package sharecoord

import (
	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/wire/schema"
)

// snapshot is the record that holds everything of a share-partition.
func (e *entry) snapshot(k Key) coordinator.Record {
	v := schema.NewShareSnapshotValue()
	v.SnapshotEpoch, v.StateEpoch, v.LeaderEpoch, v.StartOffset, v.DeliveryCompleteCount = e.snapshotEpoch, e.StateEpoch, e.LeaderEpoch, e.Start, e.Completed
	v.CreateTimestamp, v.WriteTimestamp = e.created, e.written
	for _, b := range e.Batches {
		v.StateBatches = append(v.StateBatches, schema.ShareSnapshotValueStateBatch{FirstOffset: b.First, LastOffset: b.Last, DeliveryState: b.State, DeliveryCount: b.Count})
	}
	return coordinator.Record{Key: &schema.ShareSnapshotKey{GroupID: k.Group, TopicID: k.TopicID, Partition: k.Partition}, Value: v}
}

// update is the record of a change over the newest snapshot.
func (e *entry) update(k Key, w Write) coordinator.Record {
	v := schema.NewShareUpdateValue()
	v.SnapshotEpoch, v.LeaderEpoch, v.StartOffset, v.DeliveryCompleteCount = e.snapshotEpoch, max(e.LeaderEpoch, w.LeaderEpoch), w.Start, w.Completed
	for _, b := range w.Batches {
		v.StateBatches = append(v.StateBatches, schema.ShareUpdateValueStateBatch{FirstOffset: b.First, LastOffset: b.Last, DeliveryState: b.State, DeliveryCount: b.Count})
	}
	return coordinator.Record{Key: &schema.ShareUpdateKey{GroupID: k.Group, TopicID: k.TopicID, Partition: k.Partition}, Value: v}
}

func tombstone(k Key) coordinator.Record {
	return coordinator.Record{Key: &schema.ShareSnapshotKey{GroupID: k.Group, TopicID: k.TopicID, Partition: k.Partition}}
}

// Replay applies one record. An update without its snapshot belongs to a state that is gone.
func (s *Shard) Replay(offset int64, _ int64, _ int16, rec coordinator.Record) error {
	s.end = max(s.end, offset+1)
	switch k := rec.Key.(type) {
	case *schema.ShareSnapshotKey:
		key := Key{k.GroupID, k.TopicID, k.Partition}
		v, ok := rec.Value.(*schema.ShareSnapshotValue)
		if !ok {
			delete(s.entries, key)
			return nil
		}
		e := &entry{
			State:         State{StateEpoch: v.StateEpoch, LeaderEpoch: v.LeaderEpoch, Start: v.StartOffset, Completed: v.DeliveryCompleteCount},
			snapshotEpoch: v.SnapshotEpoch, created: v.CreateTimestamp, written: v.WriteTimestamp, offset: offset,
		}
		for i := range v.StateBatches {
			b := &v.StateBatches[i]
			e.Batches = append(e.Batches, Batch{b.FirstOffset, b.LastOffset, b.DeliveryState, b.DeliveryCount})
		}
		s.entries[key] = e
	case *schema.ShareUpdateKey:
		e := s.entries[Key{k.GroupID, k.TopicID, k.Partition}]
		v, ok := rec.Value.(*schema.ShareUpdateValue)
		if e == nil || !ok {
			return nil
		}
		w := Write{LeaderEpoch: v.LeaderEpoch, Start: v.StartOffset, Completed: v.DeliveryCompleteCount}
		for i := range v.StateBatches {
			b := &v.StateBatches[i]
			w.Batches = append(w.Batches, Batch{b.FirstOffset, b.LastOffset, b.DeliveryState, b.DeliveryCount})
		}
		e.apply(w)
		e.updates++
	}
	return nil
}
