// Package share is the share group: members that read the same partitions side by side (KIP-932). Partitions are handed out to
// as many members as there are, nobody gives anything up before another gets it, and only partitions whose state the share
// coordinator has begun are handed out. It knows members, assignments and which states there are; it must never know what is
// in a state, who leases which record, the log, a clock or a socket.
//
// What the log keeps of a group changes by replay only: an operation writes records, which are replayed on the group.
package share

import (
	"log/slog"
	"strconv"
	"time"

	"github.com/ottla/ottla/internal/metadata"
)

// Range is a setting that groups may set for themselves, within bounds that the broker sets.
type Range struct{ Default, Min, Max time.Duration }

// Config is what the broker's settings say about share groups (group.share.*).
type Config struct {
	Session, Heartbeat Range
	// AssignmentInterval is the least time from one target assignment to the next.
	AssignmentInterval Range
	MaxSize            int
	// InitializeRetry is how long the beginning of a state is waited for before it is asked for again.
	InitializeRetry time.Duration
}

// DefaultConfig is Kafka's.
func DefaultConfig() Config {
	const s = time.Second
	return Config{Session: Range{45 * s, 45 * s, 60 * s}, Heartbeat: Range{5 * s, 5 * s, 15 * s}, AssignmentInterval: Range{s, 0, 15 * s}, MaxSize: 200, InitializeRetry: 30 * s}
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

func (g *Group) setting(name string, r Range) time.Duration {
	if g.env.Image != nil {
		if v, ok := g.env.Image.Config(metadata.GroupConfig, g.id)[name]; ok {
			if n, err := strconv.ParseInt(v, 10, 32); err == nil {
				return min(max(time.Duration(n)*time.Millisecond, r.Min), r.Max)
			}
		}
	}
	return r.Default
}

func (g *Group) session() time.Duration {
	return g.setting("share.session.timeout.ms", g.env.Config.Session)
}

func (g *Group) heartbeatMs() int32 {
	return int32(g.setting("share.heartbeat.interval.ms", g.env.Config.Heartbeat).Milliseconds())
}

func (g *Group) assignmentInterval() time.Duration {
	return g.setting("share.assignment.interval.ms", g.env.Config.AssignmentInterval)
}
