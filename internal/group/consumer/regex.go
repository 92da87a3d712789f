package consumer

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Subscriptions by regular expression are resolved here, against the names of the topics there are. The language is
// RE2's, so that no expression takes more than linear time; it has to match a name as a whole.

func compile(expr string) (*regexp.Regexp, error) { return regexp.Compile(`\A(?:` + expr + `)\z`) }

func (c *Config) checkRegex(expr string) error {
	if len(expr) > c.MaxRegexBytes {
		return wire.Errorf(kerr.InvalidRegularExpression, "SubscribedTopicRegex has %d bytes, more than the %d allowed.", len(expr), c.MaxRegexBytes)
	}
	tree, err := syntax.Parse(expr, syntax.Perl) // alone, so that it cannot close our brackets
	if err != nil {
		return wire.Errorf(kerr.InvalidRegularExpression, "SubscribedTopicRegex `%s` is not a valid regular expression: %s.", expr, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	if steps(tree) > maxSteps {
		return wire.Errorf(kerr.InvalidRegularExpression, "SubscribedTopicRegex `%s` is too large: with its repetitions written out it has more than the %d steps allowed.", expr, maxSteps)
	}
	if _, err := compile(expr); err != nil {
		return wire.Errorf(kerr.InvalidRegularExpression, "SubscribedTopicRegex `%s` is too large.", expr)
	}
	return nil
}

// maxSteps bounds how large an expression gets when its repetitions are written out, which is what matching a name costs
// for each of its characters.
const maxSteps = 10_000

func steps(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	if re.Op == syntax.OpCharClass {
		n = 1
	}
	for _, sub := range re.Sub {
		n = min(n+steps(sub), maxSteps+1)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return min(n, maxSteps+1)
}

// resolve brings the group's expressions up to date: that of m if it is new, all of them if topics have come or gone,
// though not too often. It tells whether what is there matches other topics now, and forgets expressions that old was
// the last one to use.
func (d *draft) resolve(old, m *Member, visible func(string) bool) (changed bool) {
	g := d.g
	if old.Regex != "" && old.Regex != m.Regex {
		d.forgetRegex(old.Regex)
	}
	if g.env.Image == nil {
		return false
	}
	if m.Regex != "" && d.regex(m.Regex) == nil {
		d.match(m.Regex, visible)
	}
	since := d.op.NowMs() - g.recheckMs
	if !g.recheck || since >= 0 && since < g.env.Config.RegexInterval.Milliseconds() {
		return false
	}
	g.recheck, g.recheckMs = false, d.op.NowMs()
	for _, expr := range sortedKeys(g.regexes) {
		if d.regex(expr) != nil && d.match(expr, visible) {
			changed = true
		}
	}
	return changed
}

// match matches an expression against all topics, and writes what it finds where that is something else than before.
func (d *draft) match(expr string, visible func(string) bool) bool {
	g := d.g
	re := g.compiled[expr]
	if re == nil {
		var err error
		if re, err = compile(expr); err != nil {
			g.env.Log.Warn("a member's regular expression cannot be read: it finds no topics", "group", g.id, "expression", expr, "err", err)
			re = regexp.MustCompile(`[^\x00-\x{10FFFF}]`)
		}
		g.compiled[expr] = re
	}
	topics := []string{}
	for t := range g.env.Image.Topics() {
		if re.MatchString(t.Name) && (visible == nil || visible(t.Name)) {
			topics = append(topics, t.Name)
		}
	}
	slices.Sort(topics)
	before := d.regex(expr)
	if before != nil && slices.Equal(before.topics, topics) {
		return false
	}
	r := &resolved{topics: topics, version: g.env.Image.Offset(), ms: d.op.NowMs()}
	if d.regexes == nil {
		d.regexes = map[string]*resolved{}
	}
	d.regexes[expr] = r
	d.op.Write(r.record(g.id, expr))
	return true
}

// forgetRegex ends an expression that no member of the draft uses.
func (d *draft) forgetRegex(expr string) {
	if d.regex(expr) == nil {
		return
	}
	for _, m := range d.members() {
		if m.Regex == expr {
			return
		}
	}
	if d.regexes == nil {
		d.regexes = map[string]*resolved{}
	}
	d.regexes[expr] = nil
	d.op.Write(coordinator.Record{Key: &schema.ConsumerGroupRegularExpressionKey{GroupID: d.g.id, RegularExpression: expr}})
}
