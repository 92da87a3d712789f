package metadata

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/ottla/ottla/internal/wire/schema"
)

// Versioned is a record and the version in which it is to be written.
type Versioned struct {
	Message schema.Message
	Version int16
}

// Newest pairs a record with the highest version this release knows.
func Newest(m schema.Message) Versioned { return Versioned{m, m.HighestVersion()} }

// Records walks the records of a snapshot: replayed into an empty image they give this one again. Features come
// first, metadata.version before all, then the brokers, so that a reader knows how to read the rest. The order is
// the same for equal images. It stops when yield says false.
func (i *Image) Records(yield func(Versioned) bool) {
	out := func(m schema.Message) bool { return yield(Newest(m)) }
	_ = i.clusterRecords(out) && i.topicRecords(out) && i.configRecords(out) && i.securityRecords(out)
}

func (i *Image) clusterRecords(out func(schema.Message) bool) bool {
	names := slices.SortedFunc(maps.Keys(i.features), func(a, b string) int {
		return cmp.Or(boolInt(b == MetadataVersion)-boolInt(a == MetadataVersion), strings.Compare(a, b))
	})
	for _, name := range names {
		if !out(&schema.FeatureLevelRecord{Name: name, FeatureLevel: i.features[name]}) {
			return false
		}
	}
	if i.zkState != nil && !out(i.zkState) {
		return false
	}
	for _, id := range slices.Sorted(maps.Keys(i.controllers)) {
		if !out(i.controllers[id]) {
			return false
		}
	}
	for _, b := range i.Brokers() {
		if !out(b.Record()) {
			return false
		}
	}
	return i.producers == nil || out(i.producers)
}

// Record is the registration as a record.
func (b *Broker) Record() *schema.RegisterBrokerRecord {
	r := &schema.RegisterBrokerRecord{BrokerID: b.ID, BrokerEpoch: b.Epoch, IncarnationID: b.IncarnationID, Rack: b.Rack, LogDirs: b.LogDirs,
		CordonedLogDirs: b.Cordoned, Fenced: b.Fenced, InControlledShutdown: b.InControlledShutdown, IsMigratingZkBroker: b.MigratingZk}
	for _, e := range b.Endpoints {
		r.EndPoints = append(r.EndPoints, schema.RegisterBrokerRecordBrokerEndpoint{Name: e.Name, Host: e.Host, Port: e.Port, SecurityProtocol: e.SecurityProtocol})
	}
	for _, f := range b.Features {
		r.Features = append(r.Features, schema.RegisterBrokerRecordBrokerFeature{Name: f.Name, MinSupportedVersion: f.Min, MaxSupportedVersion: f.Max})
	}
	return r
}

// Record is the partition as a record.
func (p *Partition) Record(topic UUID, n int32) *schema.PartitionRecord {
	return &schema.PartitionRecord{PartitionID: n, TopicID: topic, Replicas: p.Replicas, Isr: p.ISR, RemovingReplicas: p.Removing, AddingReplicas: p.Adding,
		Leader: p.Leader, LeaderRecoveryState: p.RecoveryState, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch,
		Directories: p.Directories, EligibleLeaderReplicas: p.ELR, LastKnownElr: p.LastKnownELR}
}

func (i *Image) topicRecords(out func(schema.Message) bool) bool {
	for _, t := range i.SortedTopics() {
		if !out(&schema.TopicRecord{Name: t.Name, TopicID: t.ID}) {
			return false
		}
		for n, p := range t.Partitions {
			if p != nil && !out(p.Record(t.ID, int32(n))) {
				return false
			}
		}
	}
	return true
}

func (i *Image) configRecords(out func(schema.Message) bool) bool {
	var all []Resource
	for r := range i.configs.All() {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Resource) int { return cmp.Or(cmp.Compare(a.Type, b.Type), strings.Compare(a.Name, b.Name)) })
	for _, r := range all {
		set, _ := i.configs.Get(r)
		for _, name := range slices.Sorted(maps.Keys(set)) {
			value := set[name]
			if !out(&schema.ConfigRecord{ResourceType: r.Type, ResourceName: r.Name, Name: name, Value: &value}) {
				return false
			}
		}
	}
	return true
}

func (i *Image) securityRecords(out func(schema.Message) bool) bool {
	for _, key := range sortedKeys(i.quotas, strings.Compare) {
		q, _ := i.quotas.Get(key)
		for _, k := range slices.Sorted(maps.Keys(q.Values)) {
			if !out(&schema.ClientQuotaRecord{Entity: q.Entity, Key: k, Value: q.Values[k]}) {
				return false
			}
		}
	}
	for _, key := range sortedKeys(i.acls, func(a, b UUID) int { return slices.Compare(a[:], b[:]) }) {
		if acl, _ := i.acls.Get(key); !out(acl) {
			return false
		}
	}
	for _, key := range sortedKeys(i.scram, func(a, b ScramKey) int {
		return cmp.Or(strings.Compare(a.User, b.User), cmp.Compare(a.Mechanism, b.Mechanism))
	}) {
		if c, _ := i.scram.Get(key); !out(c) {
			return false
		}
	}
	for _, key := range sortedKeys(i.tokens, strings.Compare) {
		if t, _ := i.tokens.Get(key); !out(t) {
			return false
		}
	}
	return true
}

func sortedKeys[K comparable, V any](m Map[K, V], order func(a, b K) int) []K {
	keys := make([]K, 0, m.Len())
	for k := range m.All() {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, order)
	return keys
}
