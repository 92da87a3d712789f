// Package config is the table of every setting: its name, type, default, validator, importance, how it may be
// changed and what it does, declared once. The table drives loading of files, the environment and flags, the
// answers of DescribeConfigs, the checks of AlterConfigs and docs/configs.md. Values is an immutable snapshot that
// hot paths read through typed keys.
//
// It knows names, types and values. It must never know who reads a setting, open a file, or keep state: the table
// is complete when the program starts and does not change after.
package config

import (
	"fmt"
	"math"
	"sort"
	"time"
)

// Type is a config's type; the numbers are those of the DescribeConfigs response.
type Type int8

// The types of the protocol.
const (
	Unknown  Type = 0
	Boolean  Type = 1
	String   Type = 2
	Int      Type = 3
	Short    Type = 4
	Long     Type = 5
	Double   Type = 6
	List     Type = 7
	Class    Type = 8
	Password Type = 9
)

func (t Type) String() string {
	return [...]string{"UNKNOWN", "BOOLEAN", "STRING", "INT", "SHORT", "LONG", "DOUBLE", "LIST", "CLASS", "PASSWORD"}[t]
}

// Scope says to what kind of resource a config belongs.
type Scope int8

// The scopes. Each has its own name space.
const (
	Broker Scope = iota
	Topic
	Group
	ClientMetrics
	scopes
)

func (s Scope) String() string {
	return [...]string{"broker", "topic", "group", "client-metrics"}[s]
}

// Update says how a broker config may be changed while the broker runs.
type Update int8

// The update modes of broker configs. Configs of other scopes are always dynamic.
const (
	readOnly Update = iota
	perBroker
	clusterWide
)

func (u Update) String() string { return [...]string{"read-only", "per-broker", "cluster-wide"}[u] }

// Importance is how much a config matters to the person who runs the broker.
type Importance int8

// The levels of importance.
const (
	high Importance = iota
	medium
	low
)

func (i Importance) String() string { return [...]string{"HIGH", "MEDIUM", "LOW"}[i] }

// null is the default of a config that has none.
const null = "\x00null"

// Def is the declaration of one config. It does not change after the program has started.
type Def struct {
	Name       string
	Scope      Scope
	Type       Type
	Valid      Validator // nil accepts every value of the type
	Importance Importance
	Update     Update
	// Required configs had to be set in Kafka; here a broker starts without them.
	Required bool
	// Internal configs are accepted and never shown by DescribeConfigs.
	Internal bool
	// Doc says what the config does, "" while it does nothing.
	Doc string
	// NotYet says why the config has no effect in this version, "" when it has one.
	NotYet string
	// Own marks a config that Kafka does not have.
	Own bool

	def       string // default as text, or null
	kafkaDef  string // Kafka's default where ours differs
	whyDiffer string
	synonyms  []synonym // broker configs that give a topic or group config its default, strongest first
	idx       int       // place in Values of this scope
	base      cell      // the parsed default
}

// synonym is a broker config that stands in for another config, scaled to that one's unit.
type synonym struct {
	name  string
	scale int64
}

// Default is the default as text; ok is false where there is none (null).
func (d *Def) Default() (value string, ok bool) { return d.def, d.def != null }

// KafkaDefault is the default that Apache Kafka has and the reason why this product chose another one.
func (d *Def) KafkaDefault() (value string, ok bool, why string) {
	if d.whyDiffer == "" {
		v, ok := d.Default()
		return v, ok, ""
	}
	return d.kafkaDef, d.kafkaDef != null, d.whyDiffer
}

// Sensitive configs are never shown.
func (d *Def) Sensitive() bool { return d.Type == Password || d.Type == Unknown }

// Dynamic says whether a running broker takes a new value; atCluster whether as a default of the whole cluster too.
func (d *Def) Dynamic() (dynamic, atCluster bool) {
	return d.Scope != Broker || d.Update != readOnly, d.Scope != Broker || d.Update == clusterWide
}

// registry is the table. It is filled by the package's declarations and only read after.
type registry struct {
	byName [scopes]map[string]*Def
	defs   [scopes][]*Def
}

var table = newRegistry()

func newRegistry() *registry {
	r := &registry{}
	for s := range r.byName {
		r.byName[s] = map[string]*Def{}
	}
	return r
}

// declare adds a config and panics when its name is taken or its default breaks its own rules.
func declare(d *Def) *Def {
	if o, ok := overridden[d.Name]; ok && d.Scope == Broker && !d.Own {
		d.kafkaDef, d.def, d.whyDiffer = d.def, o.value, o.why
		d.Required = false
	}
	if s, ok := synonymsOf[d.Name]; ok && d.Scope == Topic {
		d.synonyms = s
	}
	if d.Scope == Group {
		d.synonyms = groupSynonyms(d.Name)
	}
	if table.byName[d.Scope][d.Name] != nil {
		panic("BUG: config " + d.Name + " declared twice")
	}
	base, err := d.parse(d.def)
	if err != nil {
		panic(fmt.Sprintf("BUG: default of config %s: %v", d.Name, err))
	}
	d.base = base
	d.idx = len(table.defs[d.Scope])
	table.defs[d.Scope] = append(table.defs[d.Scope], d)
	table.byName[d.Scope][d.Name] = d
	return d
}

// Lookup finds a config by its exact name.
func Lookup(s Scope, name string) (*Def, bool) {
	d, ok := table.byName[s][name]
	return d, ok
}

// All lists the configs of a scope, sorted by name.
func All(s Scope) []*Def {
	out := append([]*Def(nil), table.defs[s]...)
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// The typed keys. Get reads a snapshot without allocation; a null value reads as the type's zero.
type (
	// BoolKey is a key of type BOOLEAN.
	BoolKey struct{ *Def }
	// IntKey is a key of type INT.
	IntKey struct{ *Def }
	// ShortKey is a key of type SHORT.
	ShortKey struct{ *Def }
	// LongKey is a key of type LONG.
	LongKey struct{ *Def }
	// DoubleKey is a key of type DOUBLE.
	DoubleKey struct{ *Def }
	// StringKey is a key of type STRING, CLASS or PASSWORD.
	StringKey struct{ *Def }
	// ListKey is a key of type LIST.
	ListKey struct{ *Def }
)

// Get is the value in v.
func (k BoolKey) Get(v *Values) bool { return v.cell(k.Def).n != 0 }

// Get is the value in v.
func (k IntKey) Get(v *Values) int32 { return int32(v.cell(k.Def).n) }

// Ms is the value in v as a duration, for configs counted in milliseconds.
func (k IntKey) Ms(v *Values) time.Duration { return millis(v.cell(k.Def).n) }

// IsSet says whether the value is not null.
func (k IntKey) IsSet(v *Values) bool { return !v.cell(k.Def).null }

// Get is the value in v.
func (k ShortKey) Get(v *Values) int16 { return int16(v.cell(k.Def).n) }

// Get is the value in v.
func (k LongKey) Get(v *Values) int64 { return v.cell(k.Def).n }

// Ms is the value in v as a duration, for configs counted in milliseconds; it saturates.
func (k LongKey) Ms(v *Values) time.Duration { return millis(v.cell(k.Def).n) }

// IsSet says whether the value is not null.
func (k LongKey) IsSet(v *Values) bool { return !v.cell(k.Def).null }

// Get is the value in v.
func (k DoubleKey) Get(v *Values) float64 { return math.Float64frombits(uint64(v.cell(k.Def).n)) }

// Get is the value in v.
func (k StringKey) Get(v *Values) string { return v.cell(k.Def).s }

// IsSet says whether the value is not null.
func (k StringKey) IsSet(v *Values) bool { return !v.cell(k.Def).null }

// Get is the value in v. The caller must not change the slice.
func (k ListKey) Get(v *Values) []string { return v.cell(k.Def).list }

// IsSet says whether the value is not null.
func (k ListKey) IsSet(v *Values) bool { return !v.cell(k.Def).null }

func millis(n int64) time.Duration {
	if n > math.MaxInt64/int64(time.Millisecond) {
		return math.MaxInt64
	}
	return time.Duration(n) * time.Millisecond
}

func def(s Scope, t Type, name, value string, v Validator, i Importance, u Update, doc string) *Def {
	return declare(&Def{Name: name, Scope: s, Type: t, def: value, Valid: v, Importance: i, Update: u, Doc: doc})
}

// The declarations of broker configs.
func boolean(name, value string, i Importance, u Update, doc string) BoolKey {
	return BoolKey{def(Broker, Boolean, name, value, nil, i, u, doc)}
}

func integer(name, value string, v Validator, i Importance, u Update, doc string) IntKey {
	return IntKey{def(Broker, Int, name, value, v, i, u, doc)}
}

func short(name, value string, v Validator, i Importance, u Update, doc string) ShortKey {
	return ShortKey{def(Broker, Short, name, value, v, i, u, doc)}
}

func long(name, value string, v Validator, i Importance, u Update, doc string) LongKey {
	return LongKey{def(Broker, Long, name, value, v, i, u, doc)}
}

func double(name, value string, v Validator, i Importance, u Update, doc string) DoubleKey {
	return DoubleKey{def(Broker, Double, name, value, v, i, u, doc)}
}

func text(name, value string, v Validator, i Importance, u Update, doc string) StringKey {
	return StringKey{def(Broker, String, name, value, v, i, u, doc)}
}

func list(name, value string, v Validator, i Importance, u Update, doc string) ListKey {
	return ListKey{def(Broker, List, name, value, v, i, u, doc)}
}

// own marks a declaration as one that Kafka does not have.
func own[K interface{ defOf() *Def }](k K) K {
	k.defOf().Own = true
	return k
}

// internal marks a declaration as one that is accepted and never shown.
func internal[K interface{ defOf() *Def }](k K) K {
	k.defOf().Internal = true
	return k
}

func (d *Def) defOf() *Def { return d }
