package streams

import (
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/ottla/ottla/internal/metadata"
)

// Range is a setting that groups may set for themselves, within bounds that the broker sets.
type Range struct{ Default, Min, Max time.Duration }

// Config is what the broker's settings say about streams groups (group.streams.*).
type Config struct {
	Session, Heartbeat Range
	// AssignmentInterval is the least time from one target assignment to the next.
	AssignmentInterval Range
	// InitialDelay is how long the first target assignment waits for more members.
	InitialDelay       time.Duration
	TaskOffsetInterval Range
	MaxSize            int
	// Standbys is how many copies of a stateful task's state are kept, Warmups how many tasks may be on their way to
	// another process at once.
	Standbys, MaxStandbys int
	Warmups, MaxWarmups   int
	// AcceptableLag is how many records of its changelogs a task may lack and still count as caught up.
	AcceptableLag int64
	// RackTags are the client tags over which copies are spread, the most important first.
	RackTags []string
}

// DefaultConfig is Kafka's.
func DefaultConfig() Config {
	const s = time.Second
	return Config{
		Session: Range{45 * s, 45 * s, 60 * s}, Heartbeat: Range{5 * s, 5 * s, 15 * s}, AssignmentInterval: Range{s, 0, 15 * s},
		InitialDelay: 3 * s, TaskOffsetInterval: Range{60 * s, 15 * s, 1<<31*time.Millisecond - time.Millisecond}, MaxSize: 1<<31 - 1,
		MaxStandbys: 2, Warmups: 2, MaxWarmups: 20, AcceptableLag: 10_000,
	}
}

// Env is what all groups of a shard share.
type Env struct {
	Config Config
	// Image is the cluster's metadata, nil until it is known. The shard sets it before its groups are told.
	Image *metadata.Image
	Log   *slog.Logger
	// Rebalances counts the target assignments made, for metrics.
	Rebalances uint64
}

func (g *Group) own(name string) (string, bool) {
	if g.env.Image == nil {
		return "", false
	}
	v, ok := g.env.Image.Config(metadata.GroupConfig, g.id)[name]
	return v, ok
}

func (g *Group) number(name string, def, low, high int64) int64 {
	if v, ok := g.own(name); ok {
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			return min(max(n, low), high)
		}
	}
	return def
}

func (g *Group) setting(name string, r Range) time.Duration {
	return time.Duration(g.number(name, r.Default.Milliseconds(), r.Min.Milliseconds(), r.Max.Milliseconds())) * time.Millisecond
}

func (g *Group) session() time.Duration {
	return g.setting("streams.session.timeout.ms", g.env.Config.Session)
}

func (g *Group) heartbeatMs() int32 {
	return int32(g.setting("streams.heartbeat.interval.ms", g.env.Config.Heartbeat).Milliseconds())
}

func (g *Group) taskOffsetMs() int32 {
	return int32(g.setting("streams.task.offset.interval.ms", g.env.Config.TaskOffsetInterval).Milliseconds())
}

func (g *Group) assignmentInterval() time.Duration {
	return g.setting("streams.assignment.interval.ms", g.env.Config.AssignmentInterval)
}

func (g *Group) initialDelay() time.Duration {
	return g.setting("streams.initial.rebalance.delay.ms", Range{g.env.Config.InitialDelay, 0, 1<<31*time.Millisecond - time.Millisecond})
}

func (g *Group) acceptableLag() int64 {
	return g.number("streams.acceptable.recovery.lag", g.env.Config.AcceptableLag, 0, 1<<62)
}

func (g *Group) warmups() int {
	return int(g.number("streams.num.warmup.replicas", int64(g.env.Config.Warmups), 0, int64(g.env.Config.MaxWarmups)))
}

func (g *Group) standbys() int {
	return int(g.number("streams.num.standby.replicas", int64(g.env.Config.Standbys), 0, int64(g.env.Config.MaxStandbys)))
}

func (g *Group) rackTags() []string {
	v, ok := g.own("streams.rack.aware.assignment.tags")
	if !ok {
		return g.env.Config.RackTags
	}
	var tags []string
	for _, t := range strings.Split(v, ",") {
		if t = strings.TrimSpace(t); t != "" {
			tags = append(tags, t)
		}
	}
	return tags
}

// assignmentConfigs are the settings that an assignment depends on, as the log keeps them: a group rebalances when they
// change.
func (g *Group) assignmentConfigs() map[string]string {
	c := map[string]string{"num.standby.replicas": strconv.Itoa(g.standbys())}
	if tags := g.rackTags(); len(tags) > 0 {
		c["rack.aware.assignment.tags"] = strings.Join(tags, ",")
	}
	return c
}
