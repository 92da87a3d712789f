package controller

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

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
	// Unclean says that the broker's disks may lack what they held when its last process ended.
	Unclean bool
}

// RegisterBroker registers a broker, fenced. Its epoch is the offset of the registration's record, so every start
// of a process has a greater one than all before.
func (c *Controller) RegisterBroker(img *metadata.Image, r Registration, env Env) (Records, int64, error) {
	if r.ClusterID != img.ClusterID() {
		return nil, -1, wire.Errorf(kerr.InconsistentClusterID, "Expected cluster ID %s, but got cluster ID %s", img.ClusterID(), r.ClusterID)
	}
	old := img.Broker(r.Broker)
	if old != nil && old.IncarnationID == r.Incarnation {
		c.session(old, env).contact = env.MonoMs
		return nil, old.Epoch, nil // asked again after its answer was lost
	}
	// Who has locked the directories of the one that is registered has outlived it.
	if old != nil && !old.Fenced && r.Broker != c.node && !sameDirs(old.LogDirs, r.LogDirs) && c.hasSession(img, r.Broker, env) {
		return nil, -1, errDuplicate(r.Broker)
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
	records.add(b.Record()) // the first record: its offset is the epoch
	if old != nil {
		var unclean []int32
		if r.Unclean || !sameDirs(old.LogDirs, r.LogDirs) {
			unclean = []int32{r.Broker}
		}
		records = append(records, c.without(img, r.Broker, unclean)...)
	}
	c.session(b, env).contact = env.MonoMs
	return records, b.Epoch, nil
}

// sameDirs says whether all the directories that a broker had are there again.
func sameDirs(old, now []metadata.UUID) bool {
	return len(old) > 0 && !slices.ContainsFunc(old, func(d metadata.UUID) bool { return !slices.Contains(now, d) })
}

// recoveredTag is the tagged field of a registration by which a broker of this project says that its journal was whole when it started:
// although its last process may have been killed, its disks hold everything that counted.
const recoveredTag = 20001

// RegistrationRequest is the request by which a broker introduces itself.
func RegistrationRequest(r Registration) *kmsg.BrokerRegistrationRequest {
	q := kmsg.NewPtrBrokerRegistrationRequest()
	q.BrokerID, q.ClusterID, q.IncarnationID, q.Rack = r.Broker, r.ClusterID, r.Incarnation, r.Rack
	for _, e := range r.Endpoints {
		l := kmsg.NewBrokerRegistrationRequestListener()
		l.Name, l.Host, l.Port, l.SecurityProtocol = e.Name, e.Host, e.Port, e.SecurityProtocol
		q.Listeners = append(q.Listeners, l)
	}
	for _, f := range r.Features {
		rf := kmsg.NewBrokerRegistrationRequestFeature()
		rf.Name, rf.MinSupportedVersion, rf.MaxSupportedVersion = f.Name, f.Min, f.Max
		q.Features = append(q.Features, rf)
	}
	q.LogDirs = append(q.LogDirs, r.LogDirs...)
	if !r.Unclean {
		q.UnknownTags.Set(recoveredTag, []byte{1})
	}
	return q
}

// Register is RegisterBroker for a request. A broker that does not say that its journal was whole has shut down cleanly if it knows the
// epoch of its last registration.
func (c *Controller) Register(img *metadata.Image, q *kmsg.BrokerRegistrationRequest, env Env) (Records, *kmsg.BrokerRegistrationResponse) {
	resp := kmsg.NewPtrBrokerRegistrationResponse()
	r := Registration{Broker: q.BrokerID, ClusterID: q.ClusterID, Incarnation: q.IncarnationID, Rack: q.Rack}
	for _, l := range q.Listeners {
		r.Endpoints = append(r.Endpoints, metadata.Endpoint{Name: l.Name, Host: l.Host, Port: l.Port, SecurityProtocol: l.SecurityProtocol})
	}
	for _, f := range q.Features {
		r.Features = append(r.Features, metadata.FeatureRange{Name: f.Name, Min: f.MinSupportedVersion, Max: f.MaxSupportedVersion})
	}
	r.LogDirs = append(r.LogDirs, q.LogDirs...)
	recovered := false
	q.UnknownTags.Each(func(tag uint32, v []byte) { recovered = recovered || tag == recoveredTag && len(v) == 1 && v[0] == 1 })
	old := img.Broker(q.BrokerID)
	r.Unclean = !recovered && old != nil && q.PreviousBrokerEpoch != old.Epoch
	records, epoch, err := c.RegisterBroker(img, r, env)
	resp.ErrorCode, resp.BrokerEpoch = wire.CodeOf(err), epoch
	return records, resp
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
	return c.unfence(img, b), nil
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

// AllocateProducerIDBlock is AllocateProducerIDs for a request.
func (c *Controller) AllocateProducerIDBlock(img *metadata.Image, q *kmsg.AllocateProducerIDsRequest, _ Env) (Records, *kmsg.AllocateProducerIDsResponse) {
	resp := kmsg.NewPtrAllocateProducerIDsResponse()
	records, first, err := c.AllocateProducerIDs(img, q.BrokerID, q.BrokerEpoch)
	if resp.ErrorCode = wire.CodeOf(err); err == nil {
		resp.ProducerIDStart, resp.ProducerIDLen = first, ProducerIDBlock
	}
	return records, resp
}

// AssignReplicasToDirs is AssignDirs for a request.
func (c *Controller) AssignReplicasToDirs(img *metadata.Image, q *kmsg.AssignReplicasToDirsRequest, _ Env) (Records, *kmsg.AssignReplicasToDirsResponse) {
	resp := kmsg.NewPtrAssignReplicasToDirsResponse()
	var list []Assignment
	for _, d := range q.Directories {
		rd := kmsg.NewAssignReplicasToDirsResponseDirectory()
		rd.ID = d.ID
		for _, t := range d.Topics {
			rt := kmsg.NewAssignReplicasToDirsResponseDirectoryTopic()
			rt.TopicID = t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewAssignReplicasToDirsResponseDirectoryTopicPartition()
				rp.Partition = p.Partition
				if topic := img.TopicByID(t.TopicID); topic == nil {
					rp.ErrorCode = kerr.UnknownTopicID.Code
				} else if topic.Partition(p.Partition) == nil {
					rp.ErrorCode = kerr.UnknownTopicOrPartition.Code
				} else if !topic.Partition(p.Partition).Holds(q.BrokerID) {
					rp.ErrorCode = kerr.NotLeaderForPartition.Code
				}
				list = append(list, Assignment{t.TopicID, p.Partition, d.ID})
				rt.Partitions = append(rt.Partitions, rp)
			}
			rd.Topics = append(rd.Topics, rt)
		}
		resp.Directories = append(resp.Directories, rd)
	}
	records, err := c.AssignDirs(img, q.BrokerID, q.BrokerEpoch, list)
	if err != nil {
		resp.ErrorCode, resp.Directories = wire.CodeOf(err), nil
	}
	return records, resp
}

// Join gives a node that is new to the cluster its id: the one it would like, or the next. Ids that were given and not registered yet are
// not given again while this controller is the active one.
func (c *Controller) Join(img *metadata.Image, wish int32, clusterID string) (int32, error) {
	if clusterID != "" && clusterID != img.ClusterID() {
		return -1, wire.Errorf(kerr.InconsistentClusterID, "This is cluster %s, and the new node is configured for cluster %s.", img.ClusterID(), clusterID)
	}
	if wish >= 0 {
		if b := img.Broker(wish); b != nil && !b.Fenced {
			return -1, wire.Errorf(kerr.DuplicateBrokerRegistration, "Node id %d is taken by a node that is up. Leave node.id out, and the cluster chooses one.", wish)
		}
		return wish, nil
	}
	id := max(c.node, c.joined) + 1
	for _, b := range img.Brokers() {
		id = max(id, b.ID+1)
	}
	c.joined = id
	return id, nil
}
