package config

import (
	"fmt"
	"strings"
)

// Markdown is the reference of every setting, as docs/configs.md holds it.
func Markdown() string {
	var b strings.Builder
	b.WriteString(`# Settings

Generated from internal/config; run ` + "`go test ./internal/config -run TestDocs -update`" + ` after a change.

Every name of Apache Kafka 4.4 is known, with its type, default and rules. A setting is given, from the weakest place to
the strongest, in a YAML or properties file (` + "`ottla start -c file`" + `), in the environment (` + "`OTTLA_LOG_RETENTION_HOURS=24`" + `), or by
` + "`--set log.retention.hours=24`" + `. "When" says whether a running broker takes a new value: at start only, for one broker, or for
the whole cluster too. Names that do nothing in this version are at the end of each list.

`)
	differing(&b)
	for _, s := range []struct {
		scope Scope
		title string
	}{{Broker, "Broker"}, {Topic, "Topic"}, {Group, "Group"}, {ClientMetrics, "Client metrics"}} {
		fmt.Fprintf(&b, "## %s settings\n\n", s.title)
		section(&b, s.scope)
	}
	return b.String()
}

func differing(b *strings.Builder) {
	b.WriteString("## Where the defaults differ from Apache Kafka's\n\n|name|here|in Kafka|why|\n|-|-|-|-|\n")
	for _, d := range All(Broker) {
		if was, ok, why := d.KafkaDefault(); why != "" {
			now, has := d.Default()
			fmt.Fprintf(b, "|`%s`|%s|%s|%s|\n", d.Name, cellText(now, has), cellText(was, ok), why)
		}
	}
	b.WriteString("\n")
}

func section(b *strings.Builder, s Scope) {
	var later []*Def
	b.WriteString("|name|type|default|allowed|when|what it does|\n|-|-|-|-|-|-|\n")
	for _, d := range All(s) {
		if d.NotYet != "" {
			later = append(later, d)
			continue
		}
		if d.Internal {
			continue
		}
		value, ok := d.Default()
		valid := ""
		if d.Valid != nil {
			valid = escape(d.Valid.String())
		}
		when := "any time"
		if s == Broker {
			when = map[Update]string{readOnly: "start", perBroker: "per broker", clusterWide: "cluster"}[d.Update]
		}
		doc := d.Doc
		if d.Own {
			doc += " (Not in Kafka.)"
		}
		if len(d.synonyms) > 0 {
			names := make([]string, len(d.synonyms))
			for i, syn := range d.synonyms {
				names[i] = "`" + syn.name + "`"
			}
			doc += " Broker default: " + strings.Join(names, ", else ") + "."
		}
		fmt.Fprintf(b, "|`%s`|%s|%s|%s|%s|%s|\n", d.Name, strings.ToLower(d.Type.String()), cellText(value, ok), valid, when, escape(doc))
	}
	b.WriteString("\n")
	if len(later) == 0 {
		return
	}
	byReason := map[string][]string{}
	var reasons []string
	for _, d := range later {
		if d.Internal {
			continue
		}
		if byReason[d.NotYet] == nil {
			reasons = append(reasons, d.NotYet)
		}
		byReason[d.NotYet] = append(byReason[d.NotYet], "`"+d.Name+"`")
	}
	b.WriteString("Known and without effect in this version:\n\n")
	for _, r := range reasons {
		fmt.Fprintf(b, "- %s: %s\n", r, strings.Join(byReason[r], ", "))
	}
	b.WriteString("\n")
}

func cellText(v string, ok bool) string {
	switch {
	case !ok:
		return "none"
	case v == "":
		return "empty"
	}
	return "`" + v + "`"
}

func escape(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
