package consumer

import (
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/ottla/ottla/internal/group/assignor"
	"github.com/ottla/ottla/internal/group/classic"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/metadata"
)

// Policy says which way groups may move between the classic and the consumer protocol while they have members.
type Policy uint8

// The policies (group.consumer.migration.policy).
const (
	Bidirectional Policy = iota
	Upgrade
	Downgrade
	Disabled
)

// ParsePolicy reads a policy as configs name it; ok is false for another name.
func ParsePolicy(name string) (p Policy, ok bool) {
	for i, n := range [...]string{"bidirectional", "upgrade", "downgrade", "disabled"} {
		if strings.EqualFold(n, name) {
			return Policy(i), true
		}
	}
	return Disabled, false
}

// MayUpgrade tells whether a classic group may become a consumer group.
func (p Policy) MayUpgrade() bool { return p == Bidirectional || p == Upgrade }

// MayDowngrade tells whether a consumer group may become a classic one.
func (p Policy) MayDowngrade() bool { return p == Bidirectional || p == Downgrade }

// Range is a setting that groups may set for themselves, within bounds that the broker sets.
type Range struct{ Default, Min, Max time.Duration }

// Config is what the broker's settings say about consumer groups (group.consumer.*).
type Config struct {
	Session, Heartbeat Range
	// AssignmentInterval is the least time from one target assignment to the next, so that many members who come
	// together cost one. The first one comes at once.
	AssignmentInterval Range
	Assignors          []string // by name, the default first
	MaxSize            int
	ClassicMaxSize     int // group.max.size, for a group that becomes a classic one
	Migration          Policy
	// RegexInterval is the least time from one look at all topics to the next, for each group.
	RegexInterval time.Duration
	// MaxRegexBytes bounds a subscription's regular expression.
	MaxRegexBytes int
}

// DefaultConfig is Kafka's.
func DefaultConfig() Config {
	const s = time.Second
	return Config{
		Session: Range{45 * s, 45 * s, 60 * s}, Heartbeat: Range{5 * s, 5 * s, 15 * s}, AssignmentInterval: Range{s, 0, 15 * s},
		Assignors: []string{assignor.NameUniform, assignor.NameRange}, MaxSize: 1<<31 - 1, ClassicMaxSize: 1<<31 - 1,
		RegexInterval: s, MaxRegexBytes: 4096,
	}
}

// Env is what all groups of a shard share.
type Env struct {
	Config Config
	// Image is the cluster's metadata, nil until it is known. The shard sets it before its groups are told.
	Image *metadata.Image
	// NewID gives a new unique text for a member id.
	NewID func() string
	Log   *slog.Logger
	// Downgrade makes a group that only members of the classic protocol remain in a classic one, without those who go.
	// The group calls it in place of writing their end.
	Downgrade func(op *effect.Op, g *Group, gone []*Member)
	// Classic is what is asked of members of the classic protocol.
	Classic classic.Config
	// Rebalances counts the target assignments made, for metrics.
	Rebalances uint64
}

// setting is a duration that the group may have set for itself.
func (g *Group) setting(name string, r Range) time.Duration {
	d := r.Default
	if g.env.Image != nil {
		if v, ok := g.env.Image.Config(metadata.GroupConfig, g.id)[name]; ok {
			if ms, err := strconv.ParseInt(v, 10, 32); err == nil {
				d = min(max(time.Duration(ms)*time.Millisecond, r.Min), r.Max)
			}
		}
	}
	return d
}

func (g *Group) session(m *Member) time.Duration {
	if m.Classic != nil {
		return time.Duration(m.Classic.SessionMs) * time.Millisecond
	}
	return g.setting("consumer.session.timeout.ms", g.env.Config.Session)
}

func (g *Group) heartbeatMs() int32 {
	return int32(g.setting("consumer.heartbeat.interval.ms", g.env.Config.Heartbeat).Milliseconds())
}

func (g *Group) assignmentInterval() time.Duration {
	return g.setting("consumer.assignment.interval.ms", g.env.Config.AssignmentInterval)
}

// supportsAssignor tells whether members may ask for the assignor.
func (c *Config) supportsAssignor(name string) bool {
	for _, a := range c.Assignors {
		if a == name {
			_, known := assignor.ByName(name)
			return known
		}
	}
	return false
}
