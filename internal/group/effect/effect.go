// Package effect holds what an operation on a group does to the world outside it: records to write, parked answers to
// hand out, timers to set. It knows the coordinator's vocabulary; it must never know a kind of group.
package effect

import (
	"strconv"
	"strings"
	"time"

	"github.com/ottla/ottla/internal/coordinator"
)

// Op is one operation in progress: its time, and what it has asked for so far. The frame writes the records, then
// hands out the deliveries once they are committed.
type Op struct {
	Now        time.Time
	Records    []coordinator.Record
	Deliveries []coordinator.Delivery
	Timers     []coordinator.Timer
	// Refused undoes what the operation did to state that is not replayed, where the log takes none of its records.
	// Those it would have answered are told so by the frame.
	Refused func(error)
}

// NowMs is the operation's time in milliseconds since the epoch, as records hold it.
func (o *Op) NowMs() int64 { return o.Now.UnixMilli() }

// Write appends a record.
func (o *Op) Write(r coordinator.Record) { o.Records = append(o.Records, r) }

// Deliver answers a parked request.
func (o *Op) Deliver(tok coordinator.Token, reply any) {
	o.Deliveries = append(o.Deliveries, coordinator.Delivery{Token: tok, Reply: reply})
}

// Arm sets the timer of that name of a group, in place of an earlier one of the same name.
func (o *Op) Arm(group, name string, after time.Duration) {
	o.Timers = append(o.Timers, coordinator.Timer{Key: TimerKey(group, name), After: max(after, 1)})
}

// Cancel stops the timer of that name of a group.
func (o *Op) Cancel(group, name string) {
	o.Timers = append(o.Timers, coordinator.Timer{Key: TimerKey(group, name)})
}

// TimerKey names a timer of a group within its shard. A group id may hold any byte, so its length goes first.
func TimerKey(group, name string) string {
	return strconv.Itoa(len(group)) + ":" + group + name
}

// ParseTimerKey takes TimerKey apart.
func ParseTimerKey(key string) (group, name string, ok bool) {
	head, rest, ok := strings.Cut(key, ":")
	if !ok {
		return "", "", false
	}
	n, err := strconv.Atoi(head)
	if err != nil || n < 0 || n > len(rest) {
		return "", "", false
	}
	return rest[:n], rest[n:], true
}

// Kind is which protocol a group speaks.
type Kind uint8

// The kinds of groups.
const (
	Classic Kind = iota
	Consumer
	Share
	Streams
)

// String is the kind as clients see it.
func (k Kind) String() string {
	return [...]string{"classic", "consumer", "share", "streams"}[k]
}

// Retention says how the offsets of a group age.
type Retention struct {
	// Expires is false where the group's state keeps every offset alive.
	Expires bool
	// SinceMs is when the clock started for all offsets of the group; -1: at each offset's own commit.
	SinceMs int64
	// KeepSubscribed leaves the offsets of subscribed topics alone.
	KeepSubscribed bool
}

// Commit is who commits offsets, as far as a group wants to check it.
type Commit struct {
	MemberID      string
	InstanceID    *string
	Generation    int32 // generation (classic) or member epoch; -1 where the client uses no membership
	Transactional bool
	Version       int16 // of the request
}
