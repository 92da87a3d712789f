package metadata

import (
	"iter"
	"slices"
	"strings"

	"github.com/ottla/ottla/internal/wire/schema"
)

// UUID is a topic, directory or incarnation id.
type UUID = schema.UUID

// Resource types of configs, as the protocol numbers them.
const (
	TopicConfig         int8 = 2
	BrokerConfig        int8 = 4
	BrokerLoggerConfig  int8 = 8
	ClientMetricsConfig int8 = 16
	GroupConfig         int8 = 32
)

// MetadataVersion is the feature that says which records may be written.
const MetadataVersion = "metadata.version"

// Resource names what a set of configs belongs to. The name "" of a broker is every broker's default.
type Resource struct {
	Type int8
	Name string
}

// Image is the state of a cluster after a prefix of its metadata log. It never changes and is safe for every reader.
// What its methods return must not be changed by the caller.
type Image struct {
	offset       int64
	epoch        int32
	clusterID    string
	controllerID int32

	topics      Map[string, *Topic]
	topicsByID  Map[UUID, *Topic]
	partitions  int
	brokers     map[int32]*Broker
	controllers map[int32]*schema.RegisterControllerRecord
	features    map[string]int16
	configs     Map[Resource, map[string]string]
	producers   *schema.ProducerIdsRecord // nil until the first block is given out
	zkState     *schema.ZkMigrationStateRecord

	acls   Map[UUID, *schema.AccessControlEntryRecord]
	scram  Map[ScramKey, *schema.UserScramCredentialRecord]
	tokens Map[string, *schema.DelegationTokenRecord]
	quotas Map[string, *Quota]
}

// Topic is one topic; it never changes.
type Topic struct {
	Name string
	ID   UUID
	// Partitions by number. An entry is nil only while a snapshot is being read.
	Partitions []*Partition
}

// Partition is where a partition's copies are and who leads; it never changes.
type Partition struct {
	Replicas, ISR, Removing, Adding []int32
	Directories                     []UUID // one for each of Replicas
	ELR, LastKnownELR               []int32
	Leader                          int32 // -1 when nobody leads
	LeaderEpoch, PartitionEpoch     int32
	RecoveryState                   int8 // 0 recovered, 1 recovering from an unclean election
}

// Broker is a registration; it never changes.
type Broker struct {
	ID                   int32
	Epoch                int64
	IncarnationID        UUID
	Rack                 *string
	Endpoints            []Endpoint
	Features             []FeatureRange
	LogDirs, Cordoned    []UUID
	Fenced               bool
	InControlledShutdown bool
	MigratingZk          bool
}

// Endpoint is an address of a broker under the name of its listener.
type Endpoint struct {
	Name, Host       string
	Port             uint16
	SecurityProtocol int16
}

// FeatureRange is what levels of a feature a node understands.
type FeatureRange struct {
	Name     string
	Min, Max int16
}

// ScramKey names a SCRAM credential.
type ScramKey struct {
	User      string
	Mechanism int8
}

// Quota is the quotas of one entity by key, such as producer_byte_rate.
type Quota struct {
	Entity []schema.ClientQuotaRecordEntityData
	Values map[string]float64
}

// Empty is the image before the first record.
func Empty(clusterID string) *Image {
	return &Image{offset: -1, epoch: -1, controllerID: -1, clusterID: clusterID,
		brokers: map[int32]*Broker{}, controllers: map[int32]*schema.RegisterControllerRecord{}, features: map[string]int16{}}
}

// Offset is that of the last record in the image, -1 for none; Epoch the leader epoch of it.
func (i *Image) Offset() int64 { return i.offset }

// Epoch is the leader epoch under which the last record was written.
func (i *Image) Epoch() int32 { return i.epoch }

// ClusterID is the id of the cluster.
func (i *Image) ClusterID() string { return i.clusterID }

// ControllerID is the node that leads the metadata log, -1 when unknown.
func (i *Image) ControllerID() int32 { return i.controllerID }

// WithController is the same image under another leader of the metadata log.
func (i *Image) WithController(id int32) *Image {
	if id == i.controllerID {
		return i
	}
	c := *i
	c.controllerID = id
	return &c
}

// Topic finds a topic by name, nil when there is none.
func (i *Image) Topic(name string) *Topic { t, _ := i.topics.Get(name); return t }

// TopicByID finds a topic by id, nil when there is none.
func (i *Image) TopicByID(id UUID) *Topic { t, _ := i.topicsByID.Get(id); return t }

// Topics walks the topics in no particular order.
func (i *Image) Topics() iter.Seq[*Topic] {
	return func(yield func(*Topic) bool) {
		for _, t := range i.topics.All() {
			if !yield(t) {
				return
			}
		}
	}
}

// SortedTopics lists the topics by name.
func (i *Image) SortedTopics() []*Topic {
	out := make([]*Topic, 0, i.topics.Len())
	for t := range i.Topics() {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *Topic) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// TopicCount is the number of topics, PartitionCount that of all their partitions.
func (i *Image) TopicCount() int { return i.topics.Len() }

// PartitionCount is the number of partitions of all topics.
func (i *Image) PartitionCount() int { return i.partitions }

// Partition finds a partition, nil when there is none.
func (i *Image) Partition(topic string, partition int32) *Partition {
	if t := i.Topic(topic); t != nil {
		return t.Partition(partition)
	}
	return nil
}

// Partition finds a partition by number, nil when there is none.
func (t *Topic) Partition(n int32) *Partition {
	if n < 0 || int(n) >= len(t.Partitions) {
		return nil
	}
	return t.Partitions[n]
}

// Broker finds a registration, nil when there is none.
func (i *Image) Broker(id int32) *Broker { return i.brokers[id] }

// Brokers lists the registrations by id.
func (i *Image) Brokers() []*Broker {
	out := make([]*Broker, 0, len(i.brokers))
	for _, b := range i.brokers {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b *Broker) int { return int(a.ID) - int(b.ID) })
	return out
}

// Alive says whether a broker is registered and not fenced.
func (i *Image) Alive(id int32) bool {
	b := i.brokers[id]
	return b != nil && !b.Fenced
}

// Endpoint finds a broker's address on a listener.
func (b *Broker) Endpoint(listener string) (Endpoint, bool) {
	for _, e := range b.Endpoints {
		if e.Name == listener {
			return e, true
		}
	}
	return Endpoint{}, false
}

// Config is what is set on a resource, nil for nothing.
func (i *Image) Config(typ int8, name string) map[string]string {
	m, _ := i.configs.Get(Resource{typ, name})
	return m
}

// ConfigResources lists the resources of a type that have something set, by name.
func (i *Image) ConfigResources(typ int8) []string {
	var out []string
	for r := range i.configs.All() {
		if r.Type == typ {
			out = append(out, r.Name)
		}
	}
	slices.Sort(out)
	return out
}

// Feature is the finalized level of a feature, 0 when it is off.
func (i *Image) Feature(name string) int16 { return i.features[name] }

// Features lists the finalized levels by name.
func (i *Image) Features() []FeatureRange {
	out := make([]FeatureRange, 0, len(i.features))
	for name, level := range i.features {
		out = append(out, FeatureRange{Name: name, Min: level, Max: level})
	}
	slices.SortFunc(out, func(a, b FeatureRange) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// NextProducerID is the first producer id that was not given out yet.
func (i *Image) NextProducerID() int64 {
	if i.producers == nil {
		return 0
	}
	return i.producers.NextProducerID
}

// Controllers are the registered controllers by id.
func (i *Image) Controllers() map[int32]*schema.RegisterControllerRecord { return i.controllers }

// ACLs are the access control entries by id.
func (i *Image) ACLs() Map[UUID, *schema.AccessControlEntryRecord] { return i.acls }

// Scram are the SCRAM credentials.
func (i *Image) Scram() Map[ScramKey, *schema.UserScramCredentialRecord] { return i.scram }

// Tokens are the delegation tokens by id.
func (i *Image) Tokens() Map[string, *schema.DelegationTokenRecord] { return i.tokens }

// Quotas are the client quotas by the text of their entity.
func (i *Image) Quotas() Map[string, *Quota] { return i.quotas }
