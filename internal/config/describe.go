package config

import "sort"

// Entry is one config as DescribeConfigs answers it. Value is nil for null and for sensitive configs.
type Entry struct {
	Name      string
	Value     *string
	ReadOnly  bool
	Sensitive bool
	Source    Source
	Type      Type
	Doc       *string
	Synonyms  []Synonym
}

// Synonym is a layer or another config that gives or would give the value, strongest first.
type Synonym struct {
	Name   string
	Value  *string
	Source Source
}

// DescribeOptions says what a DescribeConfigs request asked for. Keys nil or empty asks for every config.
type DescribeOptions struct {
	Keys           []string
	Synonyms, Docs bool
}

func (o DescribeOptions) wants(name string) bool {
	if len(o.Keys) == 0 {
		return true
	}
	for _, k := range o.Keys {
		if k == name {
			return true
		}
	}
	return false
}

// Describe lists the configs of v's resource: a broker, a topic, a group or a client metrics subscription, sorted by name.
func (v *Values) Describe(o DescribeOptions) []Entry {
	var out []Entry
	for _, d := range table.defs[v.scope] {
		if !o.wants(d.Name) || d.Internal && !v.isSet(d.Name) || d.Type == Unknown && !v.isSet(d.Name) {
			continue
		}
		if v.scope == Broker {
			out = append(out, v.brokerEntry(d, o))
		} else {
			out = append(out, v.entry(d, o))
		}
	}
	if v.scope == Broker {
		out = append(out, v.prefixed(o)...)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// DescribeCluster lists the dynamic defaults of all brokers: only what is set.
func (v *Values) DescribeCluster(o DescribeOptions) []Entry {
	var out []Entry
	for name, value := range v.cluster {
		if !o.wants(name) {
			continue
		}
		d, ok := Lookup(Broker, name)
		if !ok {
			d = &Def{Name: name, Type: Unknown}
		}
		e := Entry{Name: name, Sensitive: d.Sensitive(), Source: SourceCluster, Type: d.Type, Doc: o.doc(d)}
		e.ReadOnly = !v.dynamic(name)
		e.Value = shown(d, value)
		if o.Synonyms {
			e.Synonyms = []Synonym{{name, e.Value, SourceCluster}}
		}
		out = append(out, e)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// CreatedTopic lists the configs that a CreateTopics answer shows: Kafka's, and of our own only those that are set.
func (v *Values) CreatedTopic() []Entry {
	var out []Entry
	for _, e := range v.Describe(DescribeOptions{}) {
		if d := table.byName[Topic][e.Name]; !d.Own || v.isSet(e.Name) {
			out = append(out, e)
		}
	}
	return out
}

func (v *Values) isSet(name string) bool {
	if v.scope != Broker {
		_, ok := v.set[name]
		return ok
	}
	_, ok := v.Text(name)
	return ok
}

func (o DescribeOptions) doc(d *Def) *string {
	if !o.Docs {
		return nil
	}
	s := d.Doc
	if d.NotYet != "" {
		s = "No effect in this version: " + d.NotYet + "."
	}
	return &s
}

func shown(d *Def, value string) *string {
	if d.Sensitive() {
		return nil
	}
	return &value
}

func (v *Values) dynamic(name string) bool {
	base, _, ok := listenerBase(name)
	if !ok {
		base = name
	}
	d, ok := Lookup(Broker, base)
	return ok && d.Update != readOnly
}

// layers lists where name is set on the broker, dynamic layers first.
func (v *Values) layers(names []string) []Synonym {
	var out []Synonym
	for _, l := range []struct {
		set map[string]string
		src Source
	}{{v.broker, SourceBroker}, {v.cluster, SourceCluster}, {v.static, SourceStatic}} {
		for _, name := range names {
			if value, ok := l.set[name]; ok {
				d := table.byName[Broker][name]
				if d == nil {
					d = &Def{Type: Unknown}
				}
				out = append(out, Synonym{name, shown(d, value), l.src})
			}
		}
	}
	for _, name := range names {
		if d := table.byName[Broker][name]; d != nil && d.def != null && d.Type != Unknown {
			out = append(out, Synonym{name, shown(d, d.base.s), SourceDefault})
		}
	}
	return out
}

// brokerSynonyms is the chain that name belongs to, from name on.
func (v *Values) brokerSynonyms(name string) []Synonym {
	names, ok := chains[name]
	if !ok {
		names = []string{name}
		if base, _, ok := listenerBase(name); ok {
			names = append(names, base)
		}
	}
	all := v.layers(names)
	for len(all) > 0 && all[0].Name != name {
		all = all[1:]
	}
	return all
}

func (v *Values) brokerEntry(d *Def, o DescribeOptions) Entry {
	e := Entry{Name: d.Name, ReadOnly: d.Update == readOnly, Sensitive: d.Sensitive(), Source: SourceDefault, Type: d.Type, Doc: o.doc(d)}
	if c := v.cells[d.idx]; !c.null {
		e.Value = shown(d, c.s)
	}
	all := v.brokerSynonyms(d.Name)
	if len(all) > 0 {
		e.Source = all[0].Source
	}
	if o.Synonyms {
		e.Synonyms = all
	}
	return e
}

// prefixed are the names that were set and are in no table: those of listeners and plug-ins.
func (v *Values) prefixed(o DescribeOptions) []Entry {
	var out []Entry
	seen := map[string]bool{}
	for _, l := range []map[string]string{v.broker, v.cluster, v.static} {
		for name, value := range l {
			if _, known := Lookup(Broker, name); known || seen[name] || !o.wants(name) {
				continue
			}
			seen[name] = true
			d := &Def{Name: name, Type: Unknown}
			if base, _, ok := listenerBase(name); ok {
				if b, ok := Lookup(Broker, base); ok {
					d.Type = b.Type
				}
			}
			e := Entry{Name: name, Value: shown(d, value), ReadOnly: !v.dynamic(name), Sensitive: d.Sensitive(), Source: SourceStatic, Type: d.Type, Doc: o.doc(d)}
			all := v.layers([]string{name})
			if len(all) > 0 {
				e.Source = all[0].Source
			}
			if o.Synonyms {
				e.Synonyms = all
			}
			out = append(out, e)
		}
	}
	return out
}

// entry describes a config of a topic, group or subscription.
func (v *Values) entry(d *Def, o DescribeOptions) Entry {
	e := Entry{Name: d.Name, Sensitive: d.Sensitive(), Source: SourceDefault, Type: d.Type, Doc: o.doc(d)}
	if c := v.cells[d.idx]; !c.null {
		e.Value = shown(d, c.s)
	}
	var all []Synonym
	switch {
	case len(d.synonyms) > 0:
		all = v.parent.brokerSynonyms(d.synonyms[0].name)
	case d.Scope == Group && d.def != null:
		all = []Synonym{{d.Name, shown(d, d.base.s), SourceDefault}}
	}
	if v.isSet(d.Name) {
		own := Synonym{d.Name, e.Value, [scopes]Source{Topic: SourceTopic, Group: SourceGroup, ClientMetrics: SourceClientMetrics}[d.Scope]}
		all = append([]Synonym{own}, all...)
	}
	if len(all) > 0 {
		e.Source = all[0].Source
	}
	if o.Synonyms {
		e.Synonyms = all
	}
	return e
}
