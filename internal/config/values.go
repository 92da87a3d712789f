package config

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Source says which layer a value came from; the numbers are those of the DescribeConfigs response.
type Source int8

// The layers, weakest last.
const (
	SourceTopic         Source = 1
	SourceBroker        Source = 2 // dynamic, this broker
	SourceCluster       Source = 3 // dynamic, every broker
	SourceStatic        Source = 4 // file, environment or flag
	SourceDefault       Source = 5
	SourceBrokerLogger  Source = 6
	SourceClientMetrics Source = 7
	SourceGroup         Source = 8
	sourceUnknown       Source = 0
)

// Values is an immutable snapshot of one resource's settings: a broker's, or a topic's or group's on that broker.
// Reading a broker key from a topic's or group's snapshot reads the broker below it.
type Values struct {
	scope  Scope
	cells  []cell
	parent *Values
	set    map[string]string // what was set on this topic, group or subscription

	// Of a broker: the layers as text, and the snapshots without overrides that its topics and groups share.
	static, cluster, broker map[string]string
	bases                   [scopes]*Values
}

func (v *Values) cell(d *Def) *cell {
	for v.scope != d.Scope {
		if v = v.parent; v == nil {
			panic("BUG: config " + d.Name + " of a " + d.Scope.String() + " read from something else")
		}
	}
	return &v.cells[d.idx]
}

// New makes a broker's snapshot of static settings (Loader's result) that have no dynamic ones yet.
func New(static map[string]string) (*Values, error) {
	v := &Values{scope: Broker, static: maps.Clone(static)}
	var problems Problems
	v.cells = defaults(Broker)
	for name, value := range static {
		if err := v.put(name, value, SourceStatic); err != nil {
			problems = append(problems, err)
		}
	}
	if len(problems) > 0 {
		return nil, problems.sorted()
	}
	v.finish()
	return v, nil
}

// MustNew is New for settings that are known to be right, as in tests.
func MustNew(static map[string]string) *Values {
	v, err := New(static)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return v
}

// WithDynamic is the snapshot of the same broker with these dynamic settings instead of those it has: cluster holds
// the defaults of all brokers, broker those of this one. The controller checked them; one that cannot be used all
// the same leaves the layer below in force and is returned in refused.
func (v *Values) WithDynamic(cluster, broker map[string]string) (out *Values, refused []error) {
	out = &Values{scope: Broker, static: v.static, cluster: maps.Clone(cluster), broker: maps.Clone(broker), cells: defaults(Broker)}
	for _, layer := range []struct {
		set map[string]string
		src Source
	}{{out.static, SourceStatic}, {out.cluster, SourceCluster}, {out.broker, SourceBroker}} {
		for name, value := range layer.set {
			if err := out.put(name, value, layer.src); err != nil {
				refused = append(refused, err)
			}
		}
	}
	out.finish()
	return out, refused
}

func defaults(s Scope) []cell {
	cells := make([]cell, len(table.defs[s]))
	for i, d := range table.defs[s] {
		cells[i] = d.base
	}
	return cells
}

func (v *Values) put(name, value string, src Source) error {
	d, ok := Lookup(v.scope, name)
	if !ok {
		if base, _, ok := listenerBase(name); ok {
			if d, ok := Lookup(Broker, base); ok && d.Valid != nil {
				return d.Check(value)
			}
		}
		return nil // names of plug-ins and listeners are kept as text
	}
	c, err := d.parse(value)
	if err != nil {
		return err
	}
	c.source = src
	v.cells[d.idx] = c
	return nil
}

// finish derives what one config says for another and prepares the snapshots of topics and groups.
func (v *Values) finish() {
	for _, s := range []Scope{Topic, Group, ClientMetrics} {
		base := &Values{scope: s, parent: v, cells: defaults(s)}
		for i, d := range table.defs[s] {
			if c, ok := v.fromSynonyms(d); ok {
				base.cells[i] = c
			}
		}
		v.bases[s] = base
	}
}

// fromSynonyms is the value that the broker's settings give to a topic or group config.
func (v *Values) fromSynonyms(d *Def) (cell, bool) {
	for _, syn := range d.synonyms {
		b := table.byName[Broker][syn.name]
		c := v.cells[b.idx]
		if c.null {
			continue
		}
		switch {
		case d.Type == String && b.Type == List: // the first of the broker's list
			if len(c.list) == 0 {
				return cell{}, false
			}
			c.s, c.list = c.list[0], nil
		case c.n < 0 && syn.scale != 1:
			c.n, c.s = -1, "-1"
		case syn.scale != 1:
			c.n *= syn.scale
			c.s = strconv.FormatInt(c.n, 10)
		}
		return c, true
	}
	return cell{}, false
}

// Topic is the snapshot of a topic with these settings on this broker. Settings that cannot be used are ignored:
// the controller checked them, and a newer broker's must not stop an older one.
func (v *Values) Topic(set map[string]string) *Values { return v.over(Topic, set) }

// Group is the snapshot of a group with these settings on this broker.
func (v *Values) Group(set map[string]string) *Values { return v.over(Group, set) }

// ClientMetrics is the snapshot of a client metrics subscription.
func (v *Values) ClientMetrics(set map[string]string) *Values { return v.over(ClientMetrics, set) }

func (v *Values) over(s Scope, set map[string]string) *Values {
	base := v.bases[s]
	if len(set) == 0 {
		return base
	}
	out := &Values{scope: s, parent: v, cells: slices.Clone(base.cells), set: maps.Clone(set)}
	src := [scopes]Source{Topic: SourceTopic, Group: SourceGroup, ClientMetrics: SourceClientMetrics}[s]
	for name, value := range set {
		_ = out.put(name, value, src)
	}
	return out
}

// BrokerValues is the broker's snapshot below a topic's or group's, or v itself.
func (v *Values) BrokerValues() *Values {
	if v.parent != nil {
		return v.parent
	}
	return v
}

// Text is the value of any broker setting as it was written, of plug-ins and listener prefixes too.
func (v *Values) Text(name string) (string, bool) {
	b := v.BrokerValues()
	for _, layer := range []map[string]string{b.broker, b.cluster, b.static} {
		if s, ok := layer[name]; ok {
			return s, true
		}
	}
	return "", false
}

// Prefixed lists the broker settings whose names start with prefix, without it.
func (v *Values) Prefixed(prefix string) map[string]string {
	b := v.BrokerValues()
	out := map[string]string{}
	for _, layer := range []map[string]string{b.static, b.cluster, b.broker} {
		for name, value := range layer {
			if rest, ok := strings.CutPrefix(name, prefix); ok {
				out[rest] = value
			}
		}
	}
	return out
}

// Listener reads key with its override for a listener: listener.name.<name>.<key>.
func (k StringKey) Listener(v *Values, listener string) string {
	if s, ok := v.Text("listener.name." + strings.ToLower(listener) + "." + k.Name); ok {
		return s
	}
	return k.Get(v)
}

var listenerName = regexp.MustCompile(`^listener\.name\.([^.]*)\.(.*)$`)

// mechanisms may stand between the listener and the key: listener.name.x.scram-sha-256.sasl.jaas.config.
var mechanisms = []string{"plain.", "scram-sha-256.", "scram-sha-512.", "gssapi.", "oauthbearer."}

// listenerBase takes a listener's override apart.
func listenerBase(name string) (base, listener string, ok bool) {
	m := listenerName.FindStringSubmatch(name)
	if m == nil {
		return "", "", false
	}
	base = m[2]
	for _, mech := range mechanisms {
		base = strings.TrimPrefix(base, mech)
	}
	return base, m[1], true
}
