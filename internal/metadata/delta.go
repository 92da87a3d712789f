package metadata

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ottla/ottla/internal/wire/schema"
)

// maxPartitions bounds the number of a partition that a record may name.
const maxPartitions = 1_000_000

// Delta leads from an image to a later one: records are replayed into it in the order of their offsets. It lists
// what they changed, for those who follow the metadata. It belongs to one goroutine until it is published.
type Delta struct {
	base *Image
	next Image // what base has become; its editors below hold the maps that are being changed

	topics     editor[string, *Topic]
	topicsByID editor[UUID, *Topic]
	configs    editor[Resource, map[string]string]
	acls       editor[UUID, *schema.AccessControlEntryRecord]
	scram      editor[ScramKey, *schema.UserScramCredentialRecord]
	tokens     editor[string, *schema.DelegationTokenRecord]
	quotas     editor[string, *Quota]

	ownBrokers, ownControllers, ownFeatures bool

	touched   map[UUID]*TopicChange
	resources map[Resource]bool
	nodes     map[int32]bool
	kinds     Kind

	inTxn bool // between a BeginTransactionRecord and its end: held back, for the end may be an abort
	held  []schema.Message
}

// Kind is a set of what a delta touched besides topics, configs and brokers.
type Kind uint8

// The kinds.
const (
	FeaturesChanged Kind = 1 << iota
	ControllersChanged
	ProducerIDsChanged
	ACLsChanged
	ScramChanged
	TokensChanged
	QuotasChanged
)

// TopicChange is what happened to a topic: Old is nil when it is new, New when it is gone.
type TopicChange struct {
	Old, New *Topic
	changed  map[int32]bool
}

// Partitions lists the partitions that are new, changed or gone.
func (c *TopicChange) Partitions() []int32 {
	return slices.Sorted(maps.Keys(c.changed))
}

// NewDelta starts from base.
func NewDelta(base *Image) *Delta {
	return &Delta{base: base, next: *base,
		topics: edit(base.topics), topicsByID: edit(base.topicsByID), configs: edit(base.configs), acls: edit(base.acls),
		scram: edit(base.scram), tokens: edit(base.tokens), quotas: edit(base.quotas),
		touched: map[UUID]*TopicChange{}, resources: map[Resource]bool{}, nodes: map[int32]bool{}}
}

// Base is the image from which the delta starts.
func (d *Delta) Base() *Image { return d.base }

// View is the image as replayed so far. It is good until the next Replay, for the goroutine that owns the delta:
// the controller evaluates the operations of one batch against it.
func (d *Delta) View() *Image {
	d.sync()
	return &d.next
}

func (d *Delta) sync() {
	d.next.topics, d.next.topicsByID, d.next.configs = d.topics.m, d.topicsByID.m, d.configs.m
	d.next.acls, d.next.scram, d.next.tokens, d.next.quotas = d.acls.m, d.scram.m, d.tokens.m, d.quotas.m
}

// Image is the image to which the delta leads. Records replayed later go into a further image.
func (d *Delta) Image() *Image {
	d.topics.freeze()
	d.topicsByID.freeze()
	d.configs.freeze()
	d.acls.freeze()
	d.scram.freeze()
	d.tokens.freeze()
	d.quotas.freeze()
	d.ownBrokers, d.ownControllers, d.ownFeatures = false, false, false
	d.sync()
	img := d.next
	return &img
}

// Apply is the image to which d leads from i, which must be d's base.
func (i *Image) Apply(d *Delta) *Image {
	if d.base != i {
		panic("BUG: metadata delta applied to an image that it does not start from")
	}
	return d.Image()
}

// SetPosition says how far the log is read without a record for it, as after control records or a snapshot.
func (d *Delta) SetPosition(offset int64, epoch int32) { d.next.offset, d.next.epoch = offset, epoch }

// SetController names the leader of the metadata log.
func (d *Delta) SetController(id int32) { d.next.controllerID = id }

// Topics lists the topics that changed, by name.
func (d *Delta) Topics() []*TopicChange {
	out := make([]*TopicChange, 0, len(d.touched))
	for _, c := range d.touched {
		if c.Old != nil || c.New != nil { // created and deleted in one delta is nothing
			out = append(out, c)
		}
	}
	name := func(c *TopicChange) string {
		if c.New != nil {
			return c.New.Name
		}
		return c.Old.Name
	}
	slices.SortFunc(out, func(a, b *TopicChange) int {
		// a topic that went before one of the same name that came
		return cmp.Or(strings.Compare(name(a), name(b)), cmp.Compare(boolInt(a.New != nil), boolInt(b.New != nil)))
	})
	return out
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Configs lists the resources whose settings changed, those of deleted topics too.
func (d *Delta) Configs() []Resource {
	return slices.SortedFunc(maps.Keys(d.resources), func(a, b Resource) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), strings.Compare(a.Name, b.Name))
	})
}

// Brokers lists the brokers whose registration changed.
func (d *Delta) Brokers() []int32 { return slices.Sorted(maps.Keys(d.nodes)) }

// Has says whether one of the kinds changed.
func (d *Delta) Has(k Kind) bool { return d.kinds&k != 0 }

// Empty says whether nothing changed but the position.
func (d *Delta) Empty() bool {
	return len(d.touched) == 0 && len(d.resources) == 0 && len(d.nodes) == 0 && d.kinds == 0
}

// InTransaction says whether records are held back until a transaction of the log ends.
func (d *Delta) InTransaction() bool { return d.inTxn }

// Replay adds the record at offset. An error means that this release does not understand the log or that the log
// contradicts itself: the node must stop, not skip it.
func (d *Delta) Replay(offset int64, epoch int32, m schema.Message) error {
	if offset >= 0 {
		d.SetPosition(offset, epoch)
	}
	switch m.(type) {
	case *schema.BeginTransactionRecord:
		if d.inTxn {
			return d.fail(m, "transaction begun inside another")
		}
		d.inTxn = true
		return nil
	case *schema.EndTransactionRecord, *schema.AbortTransactionRecord:
		if !d.inTxn {
			return d.fail(m, "no transaction to end")
		}
		held := d.held
		d.inTxn, d.held = false, nil
		if _, abort := m.(*schema.AbortTransactionRecord); abort {
			return nil
		}
		for _, h := range held {
			if err := d.replay(h); err != nil {
				return err
			}
		}
		return nil
	}
	if d.inTxn {
		d.held = append(d.held, m)
		return nil
	}
	return d.replay(m)
}

func (d *Delta) fail(m schema.Message, format string, args ...any) error {
	return fmt.Errorf("metadata log at offset %d: %s: %s", d.next.offset, m.MessageName(), fmt.Sprintf(format, args...))
}

func (d *Delta) replay(m schema.Message) error {
	switch r := m.(type) {
	case *schema.TopicRecord:
		return d.topicRecord(r)
	case *schema.RemoveTopicRecord:
		return d.removeTopic(r)
	case *schema.PartitionRecord:
		return d.partitionRecord(r)
	case *schema.PartitionChangeRecord:
		return d.partitionChange(r)
	case *schema.ClearElrRecord:
		return d.clearELR(r)
	case *schema.ConfigRecord:
		d.configRecord(r)
	case *schema.RegisterBrokerRecord:
		d.registerBroker(r)
	case *schema.UnregisterBrokerRecord:
		if d.next.brokers[r.BrokerID] == nil {
			return d.fail(m, "broker %d is not registered", r.BrokerID)
		}
		delete(d.brokers(r.BrokerID), r.BrokerID)
	case *schema.FenceBrokerRecord:
		return d.changeBroker(m, r.ID, func(b *Broker) { b.Fenced = true })
	case *schema.UnfenceBrokerRecord:
		return d.changeBroker(m, r.ID, func(b *Broker) { b.Fenced = false })
	case *schema.BrokerRegistrationChangeRecord:
		return d.changeBroker(m, r.BrokerID, func(b *Broker) { applyRegistrationChange(b, r) })
	case *schema.NoOpRecord:
	default:
		return d.replayRest(m)
	}
	return nil
}

func (d *Delta) replayRest(m schema.Message) error {
	switch r := m.(type) {
	case *schema.RegisterControllerRecord:
		d.controllers()[r.ControllerID] = r
	case *schema.UnregisterControllerRecord:
		delete(d.controllers(), r.ControllerID)
	case *schema.FeatureLevelRecord:
		if !d.ownFeatures {
			d.next.features, d.ownFeatures = maps.Clone(d.next.features), true
		}
		if d.next.features[r.Name] = r.FeatureLevel; r.FeatureLevel == 0 {
			delete(d.next.features, r.Name)
		}
		d.kinds |= FeaturesChanged
	case *schema.ProducerIdsRecord:
		d.next.producers = r
		d.kinds |= ProducerIDsChanged
	case *schema.ZkMigrationStateRecord:
		d.next.zkState = r
	case *schema.AccessControlEntryRecord:
		d.acls.set(r.ID, r)
		d.kinds |= ACLsChanged
	case *schema.RemoveAccessControlEntryRecord:
		d.acls.delete(r.ID)
		d.kinds |= ACLsChanged
	case *schema.UserScramCredentialRecord:
		d.scram.set(ScramKey{r.Name, r.Mechanism}, r)
		d.kinds |= ScramChanged
	case *schema.RemoveUserScramCredentialRecord:
		d.scram.delete(ScramKey{r.Name, r.Mechanism})
		d.kinds |= ScramChanged
	case *schema.DelegationTokenRecord:
		d.tokens.set(r.TokenID, r)
		d.kinds |= TokensChanged
	case *schema.RemoveDelegationTokenRecord:
		d.tokens.delete(r.TokenID)
		d.kinds |= TokensChanged
	case *schema.ClientQuotaRecord:
		d.quotaRecord(r)
	default:
		return d.fail(m, "this release does not know what to do with it")
	}
	return nil
}

func (d *Delta) controllers() map[int32]*schema.RegisterControllerRecord {
	if !d.ownControllers {
		d.next.controllers, d.ownControllers = maps.Clone(d.next.controllers), true
	}
	d.kinds |= ControllersChanged
	return d.next.controllers
}

// quotaKey is the text of an entity: its parts in order of type.
func quotaKey(entity []schema.ClientQuotaRecordEntityData) string {
	parts := make([]string, len(entity))
	for i, e := range entity {
		name := "<default>"
		if e.EntityName != nil {
			name = fmt.Sprintf("%q", *e.EntityName)
		}
		parts[i] = e.EntityType + "=" + name
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

func (d *Delta) quotaRecord(r *schema.ClientQuotaRecord) {
	d.kinds |= QuotasChanged
	key := quotaKey(r.Entity)
	q := &Quota{Entity: r.Entity, Values: map[string]float64{}}
	if old, ok := d.quotas.m.Get(key); ok {
		maps.Copy(q.Values, old.Values)
	}
	if r.Remove {
		delete(q.Values, r.Key)
	} else {
		q.Values[r.Key] = r.Value
	}
	if len(q.Values) == 0 {
		d.quotas.delete(key)
		return
	}
	d.quotas.set(key, q)
}
