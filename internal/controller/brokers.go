package controller

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Registration is a broker that introduces itself, once for each start of its process.
type Registration struct {
	Broker      int32
	ClusterID   string
	Incarnation metadata.UUID // new with every start
	Endpoints   []metadata.Endpoint
	Rack        *string
	Features    []metadata.FeatureRange
	LogDirs     []metadata.UUID
}

// RegisterBroker registers a broker, fenced. Its epoch is the offset of the registration's record, so every start
// of a process has a greater one than all before.
func (c *Controller) RegisterBroker(img *metadata.Image, r Registration) (Records, int64, error) {
	if r.ClusterID != img.ClusterID() {
		return nil, -1, wire.Errorf(kerr.InconsistentClusterID, "Expected cluster ID %s, but got cluster ID %s", img.ClusterID(), r.ClusterID)
	}
	if old := img.Broker(r.Broker); old != nil && old.IncarnationID == r.Incarnation {
		return nil, old.Epoch, nil // asked again after its answer was lost
	}
	for i, d := range r.LogDirs {
		if d == (metadata.UUID{}) || slices.Contains(r.LogDirs[:i], d) {
			return nil, -1, wire.Errorf(kerr.InvalidRequest, "The registration names log directory %x twice or without an id.", d)
		}
		for _, b := range img.Brokers() {
			if b.ID != r.Broker && slices.Contains(b.LogDirs, d) {
				return nil, -1, wire.Errorf(kerr.DuplicateBrokerRegistration, "Broker %d is already registered with directory %x", b.ID, d)
			}
		}
	}
	if err := supports(img, r.Features); err != nil {
		return nil, -1, err
	}
	b := &metadata.Broker{ID: r.Broker, Epoch: img.Offset() + 1, IncarnationID: r.Incarnation, Rack: r.Rack, Endpoints: r.Endpoints,
		Features: r.Features, LogDirs: r.LogDirs, Cordoned: []metadata.UUID{}, Fenced: true}
	var records Records
	records.add(b.Record())
	return records, b.Epoch, nil
}

// supports refuses a broker that does not understand what the cluster has agreed on.
func supports(img *metadata.Image, features []metadata.FeatureRange) error {
	for _, want := range img.Features() {
		ok := false
		for _, f := range features {
			ok = ok || f.Name == want.Name && f.Min <= want.Max && want.Max <= f.Max
		}
		if !ok {
			return wire.Errorf(kerr.UnsupportedVersion, "Unable to register because the broker does not support finalized version %d of %s.", want.Max, want.Name)
		}
	}
	return nil
}

// checkEpoch refuses a broker that is not the one registered.
func checkEpoch(img *metadata.Image, broker int32, epoch int64) (*metadata.Broker, error) {
	b := img.Broker(broker)
	if b == nil {
		return nil, wire.Errorf(kerr.BrokerIDNotRegistered, "Broker ID %d is not currently registered", broker)
	}
	if b.Epoch != epoch {
		return nil, wire.Errorf(kerr.StaleBrokerEpoch, "Expected broker epoch %d, but got broker epoch %d", b.Epoch, epoch)
	}
	return b, nil
}

// UnfenceBroker lets a registered broker serve. It gives the partitions that only this broker can lead a new leader
// epoch: a new incarnation of a leader never continues the epoch of the one before.
func (c *Controller) UnfenceBroker(img *metadata.Image, broker int32, epoch int64) (Records, error) {
	b, err := checkEpoch(img, broker, epoch)
	if err != nil || !b.Fenced {
		return nil, err
	}
	var records Records
	records.add(&schema.BrokerRegistrationChangeRecord{BrokerID: broker, BrokerEpoch: epoch, Fenced: -1})
	for _, t := range img.SortedTopics() {
		for n, p := range t.Partitions {
			if p == nil || !p.Holds(broker) || p.Leader != broker && (p.Leader >= 0 || !electable(p, broker)) {
				continue
			}
			ch := schema.NewPartitionChangeRecord()
			ch.TopicID, ch.PartitionID, ch.Leader = t.ID, int32(n), broker
			if !slices.Contains(p.ISR, broker) { // from the eligible leader replicas
				ch.Isr = []int32{broker}
				ch.EligibleLeaderReplicas, ch.LastKnownElr = without(p.ELR, broker), []int32{}
			}
			if dirs := assignedDirs(p, b); dirs != nil {
				ch.Directories = dirs
			}
			records.add(ch)
		}
	}
	return records, nil
}

func electable(p *metadata.Partition, broker int32) bool {
	return slices.Contains(p.ISR, broker) || slices.Contains(p.ELR, broker)
}

func without(list []int32, id int32) []int32 {
	return slices.DeleteFunc(slices.Clone(list), func(x int32) bool { return x == id })
}

// assignedDirs fills in the directory of a broker that has only one, where it was left open; nil for no change.
func assignedDirs(p *metadata.Partition, b *metadata.Broker) []metadata.UUID {
	i := slices.Index(p.Replicas, b.ID)
	dir := defaultDir(b)
	if len(p.Directories) != len(p.Replicas) || dir == (metadata.UUID{}) || p.Directories[i] == dir {
		return nil
	}
	out := slices.Clone(p.Directories)
	out[i] = dir
	return out
}

// Assignment is a replica that a broker has put into one of its directories.
type Assignment struct {
	Topic     metadata.UUID
	Partition int32
	Dir       metadata.UUID
}

// AssignDirs notes in which directories a broker keeps its copies. Copies that are gone by now are passed over.
func (c *Controller) AssignDirs(img *metadata.Image, broker int32, epoch int64, list []Assignment) (Records, error) {
	b, err := checkEpoch(img, broker, epoch)
	if err != nil {
		return nil, err
	}
	var records Records
	for _, a := range list {
		t := img.TopicByID(a.Topic)
		if t == nil || t.Partition(a.Partition) == nil || !slices.Contains(b.LogDirs, a.Dir) {
			continue
		}
		p := t.Partition(a.Partition)
		i := slices.Index(p.Replicas, broker)
		if i < 0 || len(p.Directories) == len(p.Replicas) && p.Directories[i] == a.Dir {
			continue
		}
		dirs := make([]metadata.UUID, len(p.Replicas))
		copy(dirs, p.Directories)
		dirs[i] = a.Dir
		ch := schema.NewPartitionChangeRecord()
		ch.TopicID, ch.PartitionID, ch.Directories = a.Topic, a.Partition, dirs
		records.add(ch)
	}
	return records, nil
}

// ProducerIDBlock is how many producer ids a broker gets at a time.
const ProducerIDBlock = 1000

// AllocateProducerIDs gives a broker the next block of producer ids: first to first+ProducerIDBlock-1.
func (c *Controller) AllocateProducerIDs(img *metadata.Image, broker int32, epoch int64) (records Records, first int64, err error) {
	if _, err := checkEpoch(img, broker, epoch); err != nil {
		return nil, -1, err
	}
	first = img.NextProducerID()
	if first > 1<<62 {
		return nil, -1, wire.Errorf(kerr.UnknownServerError, "Exhausted all producerIds as the next block's end producerId would exceed the long type")
	}
	records.add(&schema.ProducerIdsRecord{BrokerID: broker, BrokerEpoch: epoch, NextProducerID: first + ProducerIDBlock})
	return records, first, nil
}
