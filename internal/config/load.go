package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/magiconair/properties"
	"gopkg.in/yaml.v3"
)

// maxFileBytes bounds a configuration file.
const maxFileBytes = 4 << 20

// Problems is everything that is wrong with a configuration, each with its place.
type Problems []error

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, err := range p {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the single errors.
func (p Problems) Unwrap() []error { return p }

func (p Problems) sorted() Problems {
	sort.Slice(p, func(i, j int) bool { return p[i].Error() < p[j].Error() })
	return p
}

// Loader gathers static settings from files, the environment and flags; what is added later wins.
type Loader struct {
	values   map[string]string
	places   map[string]string
	problems Problems
	warnings []string
}

// File adds the content of a file: YAML where the name ends in .yaml or .yml, else a properties file as Kafka's.
func (l *Loader) File(name string, content []byte) {
	switch {
	case len(content) > maxFileBytes:
		l.refuse(name, "is larger than %d bytes", maxFileBytes)
	case strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml"):
		l.yaml(name, content)
	default:
		l.properties(name, content)
	}
}

func (l *Loader) refuse(place, format string, args ...any) {
	l.problems = append(l.problems, fmt.Errorf("%s: %s", place, fmt.Sprintf(format, args...)))
}

func (l *Loader) yaml(file string, content []byte) {
	var doc yaml.Node
	if err := yaml.Unmarshal(content, &doc); err != nil {
		text := strings.TrimPrefix(err.Error(), "yaml: ")
		if strings.Contains(text, "cannot start any token") {
			text += " (YAML is indented with spaces, not with tabs)"
		}
		l.refuse(file, "%s", text)
		return
	}
	if len(doc.Content) == 0 {
		return
	}
	seen := map[string]string{}
	l.node(file, "", doc.Content[0], seen, 0)
}

// node walks flat and nested keys alike: log.retention.hours and log: {retention: {hours: }} are the same.
func (l *Loader) node(file, name string, n *yaml.Node, seen map[string]string, depth int) {
	place := fmt.Sprintf("%s:%d", file, n.Line)
	if depth > 32 {
		l.refuse(place, "is nested too deeply")
		return
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i].Value
			if n.Content[i].Kind != yaml.ScalarNode || k == "" {
				l.refuse(fmt.Sprintf("%s:%d", file, n.Content[i].Line), "a key must be a word")
				continue
			}
			if name != "" {
				k = name + "." + k
			}
			l.node(file, k, n.Content[i+1], seen, depth+1)
		}
	case yaml.SequenceNode:
		if name == "" {
			l.refuse(place, "expected `name: value` lines")
			return
		}
		var items []string
		for _, e := range n.Content {
			if e.Kind != yaml.ScalarNode {
				l.refuse(fmt.Sprintf("%s:%d", file, e.Line), "%s: an element of a list must be a plain value", name)
				return
			}
			items = append(items, e.Value)
		}
		l.once(place, name, strings.Join(items, ","), seen)
	case yaml.ScalarNode:
		switch {
		case name == "":
			l.refuse(place, "expected `name: value` lines")
		case n.Tag != "!!null": // a name without a value is not set
			l.once(place, name, n.Value, seen)
		}
	default:
		l.refuse(place, "aliases are not supported")
	}
}

func (l *Loader) once(place, name, value string, seen map[string]string) {
	if before, ok := seen[name]; ok {
		l.refuse(place, "%s is set twice; first at %s", name, before)
		return
	}
	seen[name] = place
	l.add(place, name, value)
}

func (l *Loader) properties(file string, content []byte) {
	loader := properties.Loader{Encoding: properties.UTF8, DisableExpansion: true}
	p, err := loader.LoadBytes(content)
	if err != nil {
		l.refuse(file, "%v", err)
		return
	}
	lines := lineNumbers(content)
	for _, name := range p.Keys() {
		value, _ := p.Get(name)
		place := file
		if n, ok := lines[name]; ok {
			place = fmt.Sprintf("%s:%d", file, n)
		}
		l.add(place, name, value)
	}
}

// lineNumbers finds where a properties file sets its keys; keys written with escapes are not found.
func lineNumbers(content []byte) map[string]int {
	lines := map[string]int{}
	for i, line := range strings.Split(string(content), "\n") {
		line = strings.TrimLeft(line, " \t\f")
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		if end := strings.IndexAny(line, "=: \t\f\r"); end > 0 {
			lines[line[:end]] = i + 1
		}
	}
	return lines
}

// EnvPrefix starts the names of environment variables that are settings.
const EnvPrefix = "OTTLA_"

// EnvBootstrap is no setting: the tools take the address of a broker from it, and it may be there when a broker starts.
const EnvBootstrap = EnvPrefix + "BOOTSTRAP"

// serviceLinks are the variables that Kubernetes puts into every container for a service whose name starts with "ottla".
var serviceLinks = regexp.MustCompile(`^OTTLA_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// Env adds the variables that start with OTTLA_: OTTLA_LOG_RETENTION_HOURS is log.retention.hours. In names of
// listeners __ stands for _ and ___ for -.
func (l *Loader) Env(environ []string) {
	environ = slices.Sorted(slices.Values(environ))
	for _, kv := range environ {
		key, value, ok := strings.Cut(kv, "=")
		rest, ours := strings.CutPrefix(key, EnvPrefix)
		if !ok || !ours || rest == "" || key == EnvBootstrap {
			continue
		}
		name := strings.ToLower(rest)
		if own, ok := Lookup(Broker, "ottla."+strings.ReplaceAll(name, "_", ".")); ok { // OTTLA_HTTP_LISTEN
			l.add("environment "+key, own.Name, value)
			continue
		}
		r := strings.NewReplacer("___", "-", "__", "_", "_", ".")
		name = r.Replace(name)
		if _, known := Lookup(Broker, name); !known && serviceLinks.MatchString(key) {
			continue
		}
		l.add("environment "+key, name, value)
	}
}

// Set adds flags of the form name=value.
func (l *Loader) Set(flags []string) {
	for _, f := range flags {
		name, value, ok := strings.Cut(f, "=")
		if !ok || name == "" {
			l.refuse("--set "+f, "expected name=value")
			continue
		}
		l.add("--set "+f, strings.TrimSpace(name), value)
	}
}

// pluginPrefixes are names that Kafka hands to plug-ins unread.
var pluginPrefixes = []string{"rlmm.config.", "rsm.config."}

func (l *Loader) add(place, name, value string) {
	if l.values == nil {
		l.values, l.places = map[string]string{}, map[string]string{}
	}
	d, known := Lookup(Broker, name)
	if !known {
		base, _, isListener := listenerBase(name)
		if isListener {
			d, known = Lookup(Broker, base)
		}
		if !known && !slices.ContainsFunc(pluginPrefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			l.unknown(place, name)
			return
		}
	}
	if d != nil {
		if err := d.Check(value); err != nil {
			l.problems = append(l.problems, fmt.Errorf("%s: %w", place, err))
			return
		}
		l.warn(place, d, strings.TrimSpace(value))
	}
	l.values[name], l.places[name] = value, place
}

// standardAuthorizer is Kafka's own authorizer, which the built-in one is like.
const standardAuthorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"

func (l *Loader) warn(place string, d *Def, value string) {
	base, _ := d.Default()
	if d.Name == "authorizer.class.name" && value != "" && value != standardAuthorizer {
		l.warnings = append(l.warnings, fmt.Sprintf("%s: %s %s; the built-in authorizer stands in for %s", place, d.Name, javaOnly, value))
	}
	if d.NotYet == javaOnly && value != base && value != "" {
		l.warnings = append(l.warnings, fmt.Sprintf("%s: %s %s", place, d.Name, javaOnly))
	}
}

func (l *Loader) unknown(place, name string) {
	if near := Nearest(Broker, name); near != "" {
		l.refuse(place, "there is no setting %q; the nearest name is %q", name, near)
		return
	}
	l.refuse(place, "there is no setting %q; docs/configs.md lists them", name)
}

// Result gives the settings, what was ignored with its reason, and every problem at once (Problems) or nil.
func (l *Loader) Result() (values map[string]string, warnings []string, err error) {
	if id, ok := l.values["broker.id"]; ok && id != "-1" {
		if other, ok := l.values["node.id"]; ok && strings.TrimSpace(other) != strings.TrimSpace(id) {
			l.refuse(l.places["broker.id"], "broker.id %s differs from node.id %s; set node.id only", id, other)
		}
	}
	if len(l.problems) > 0 {
		return nil, l.warnings, l.problems
	}
	return maps.Clone(l.values), l.warnings, nil
}

// Nearest is the name of the scope that name was most likely meant to be, "" when none is close.
func Nearest(s Scope, name string) string {
	best, least := "", len(name)/3+2
	for _, d := range All(s) {
		if d.Internal {
			continue
		}
		if n := distance(name, d.Name, least); n < least {
			best, least = d.Name, n
		}
	}
	return best
}

// distance is the number of single-character edits from a to b, swaps counted as one; it gives up above limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	var before, prev []int
	cur := make([]int, len(b)+1)
	for j := range cur {
		cur[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, prev, cur = prev, cur, make([]int, len(b)+1)
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
	}
	return cur[len(b)]
}

// AsProblems gives the single problems of an error of Result or New.
func AsProblems(err error) Problems {
	var p Problems
	if errors.As(err, &p) {
		return p
	}
	return nil
}
