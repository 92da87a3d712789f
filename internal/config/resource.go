package config

import (
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"
)

// ValidateTopic checks the settings of a topic on top of a broker's: names, values, and values that contradict
// each other. The error's text is what clients are told.
func ValidateTopic(b *Values, set map[string]string) error {
	if err := checkNames(Topic, set, "Unknown topic config name: %s"); err != nil {
		return err
	}
	t := b.Topic(set)
	if min, max := TopicMinCompactionLagMs.Get(t), TopicMaxCompactionLagMs.Get(t); min > max {
		return errorf("conflict topic config setting min.compaction.lag.ms (%d) > max.compaction.lag.ms (%d)", min, max)
	}
	if c := t.cell(table.byName[Topic]["remote.storage.enable"]); c.n != 0 {
		return errorf("Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.")
	}
	return nil
}

// ValidateGroup checks the settings of a group against the bounds that the broker sets for groups.
func ValidateGroup(b *Values, set map[string]string) error {
	if err := checkNames(Group, set, "Unknown group config name: %s"); err != nil {
		return err
	}
	g := b.Group(set)
	for _, r := range []struct{ name, min, max string }{
		{"consumer.session.timeout.ms", "group.consumer.min.session.timeout.ms", "group.consumer.max.session.timeout.ms"},
		{"consumer.heartbeat.interval.ms", "group.consumer.min.heartbeat.interval.ms", "group.consumer.max.heartbeat.interval.ms"},
		{"consumer.assignment.interval.ms", "group.consumer.min.assignment.interval.ms", "group.consumer.max.assignment.interval.ms"},
		{"share.session.timeout.ms", "group.share.min.session.timeout.ms", "group.share.max.session.timeout.ms"},
		{"share.heartbeat.interval.ms", "group.share.min.heartbeat.interval.ms", "group.share.max.heartbeat.interval.ms"},
		{"share.assignment.interval.ms", "group.share.min.assignment.interval.ms", "group.share.max.assignment.interval.ms"},
		{"share.record.lock.duration.ms", "group.share.min.record.lock.duration.ms", "group.share.max.record.lock.duration.ms"},
		{"share.delivery.count.limit", "group.share.min.delivery.count.limit", "group.share.max.delivery.count.limit"},
		{"share.partition.max.record.locks", "group.share.min.partition.max.record.locks", "group.share.max.partition.max.record.locks"},
		{"streams.session.timeout.ms", "group.streams.min.session.timeout.ms", "group.streams.max.session.timeout.ms"},
		{"streams.heartbeat.interval.ms", "group.streams.min.heartbeat.interval.ms", "group.streams.max.heartbeat.interval.ms"},
		{"streams.assignment.interval.ms", "group.streams.min.assignment.interval.ms", "group.streams.max.assignment.interval.ms"},
	} {
		if _, ok := set[r.name]; !ok {
			continue
		}
		n := g.cell(table.byName[Group][r.name]).n
		lo, hi := b.cell(table.byName[Broker][r.min]).n, b.cell(table.byName[Broker][r.max]).n
		if n < lo || n > hi {
			return errorf("%s must be in the range %d to %d inclusive.", r.name, lo, hi)
		}
	}
	if _, ok := set["streams.num.standby.replicas"]; ok {
		n := g.cell(table.byName[Group]["streams.num.standby.replicas"]).n
		if hi := b.cell(table.byName[Broker]["group.streams.max.standby.replicas"]).n; n > hi {
			return errorf("streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas (%d)", hi)
		}
	}
	for _, kind := range []string{"consumer", "share", "streams"} {
		_, session := set[kind+".session.timeout.ms"]
		_, heartbeat := set[kind+".heartbeat.interval.ms"]
		s, h := g.cell(table.byName[Group][kind+".session.timeout.ms"]).n, g.cell(table.byName[Group][kind+".heartbeat.interval.ms"]).n
		if (session || heartbeat) && s <= h {
			return errorf("%s.session.timeout.ms must be greater than %s.heartbeat.interval.ms", kind, kind)
		}
	}
	return nil
}

// clientSelectors are what a client metrics subscription can match on.
var clientSelectors = []string{"client_instance_id", "client_id", "client_software_name", "client_software_version", "client_source_address", "client_source_port"}

// ValidateClientMetrics checks the settings of a client metrics subscription.
func ValidateClientMetrics(set map[string]string) error {
	for _, name := range sortedNames(set) {
		d, ok := Lookup(ClientMetrics, name)
		if !ok {
			return &Error{Msg: "Unknown client metrics configuration: " + name, Request: true}
		}
		c, err := d.parse(set[name])
		if err != nil {
			return err
		}
		switch name {
		case "interval.ms":
			if c.n < 100 || c.n > 3_600_000 {
				return &Error{Msg: fmt.Sprintf("Invalid value %s for interval.ms, interval must be between 100 and 3600000 (1 hour)", c.s), Request: true}
			}
		case "match":
			for _, e := range c.list {
				key, pattern, ok := strings.Cut(e, "=")
				if !ok || !slices.Contains(clientSelectors, strings.TrimSpace(key)) {
					return errorf("Illegal client matching pattern: %s", e)
				}
				if _, err := regexp.Compile(strings.TrimSpace(pattern)); err != nil {
					return errorf("Illegal client matching pattern: %s", e)
				}
			}
		}
	}
	return nil
}

// ValidateBroker checks the values of dynamic settings of a broker or of all. Names that a running
// broker cannot change are the caller's to refuse; unknown ones are kept for plug-ins, as Kafka does.
func ValidateBroker(set map[string]string) error {
	for _, name := range sortedNames(set) {
		d, ok := Lookup(Broker, name)
		if !ok {
			base, _, isListener := listenerBase(name)
			if d, ok = Lookup(Broker, base); !isListener || !ok {
				continue
			}
		}
		if err := d.Check(set[name]); err != nil {
			return err
		}
	}
	return nil
}

// NotDynamic lists the names of set that a running broker cannot change, and those that can only be changed broker
// by broker; both sorted.
func NotDynamic(set map[string]string) (never, notAtCluster []string) {
	for _, name := range sortedNames(set) {
		base, _, isListener := listenerBase(name)
		if !isListener {
			base = name
		}
		d, ok := Lookup(Broker, base)
		switch {
		case ok && d.Update == readOnly:
			never = append(never, name)
		case ok && (d.Update == perBroker || isListener):
			notAtCluster = append(notAtCluster, name)
		}
	}
	return never, notAtCluster
}

func checkNames(s Scope, set map[string]string, unknown string) error {
	for _, name := range sortedNames(set) {
		if _, ok := Lookup(s, name); !ok {
			return errorf(unknown, name)
		}
	}
	for _, name := range sortedNames(set) {
		if err := table.byName[s][name].Check(set[name]); err != nil {
			return err
		}
	}
	return nil
}

func sortedNames(set map[string]string) []string {
	names := make([]string, 0, len(set))
	for n := range set {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}
