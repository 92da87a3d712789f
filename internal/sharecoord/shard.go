// Package sharecoord is the share coordinator of one partition of __share_group_state: from where on a share group reads a
// topic partition, and what became of the records above (KIP-932). It knows Kafka's records of that topic and fences older
// leaders and older states; it must never know how records are leased, which groups there are, the log, a clock or a socket.
//
// A share-partition is kept as a snapshot with updates over it. After Config.UpdatesPerSnapshot updates the next change is a
// snapshot again, so that everything older may be cut from the log: Redundant tells up to where.
package sharecoord

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// None stands for an offset, epoch or count that is not decided.
const None = -1

// Config is what the broker's settings say.
type Config struct {
	// UpdatesPerSnapshot (share.coordinator.snapshot.update.records.per.snapshot) is how many updates follow a snapshot.
	UpdatesPerSnapshot int
	// ColdInterval (share.coordinator.cold.partition.snapshot.interval.ms) is the age at which the snapshot of a share-partition
	// that nobody touches is written again, so that it does not keep the log long; 0: never.
	ColdInterval time.Duration
}

// State is what is known of a share-partition. Start is None where it is initialised but nobody has read it; Completed counts
// the records at or above Start that are done with (KIP-1226), None where nobody has said.
type State struct {
	StateEpoch, LeaderEpoch int32
	Start                   int64
	Completed               int32
	Batches                 []Batch
}

// Write is a change of a share-partition: Batches go over what there is, None leaves Start and Completed as they are.
type Write struct {
	StateEpoch, LeaderEpoch int32
	Start                   int64
	Completed               int32
	Batches                 []Batch
}

// entry is a share-partition as the log has it.
type entry struct {
	State
	snapshotEpoch int32
	updates       int   // since the snapshot
	created       int64 // when the state began, in milliseconds
	written       int64
	offset        int64 // of the newest snapshot
}

// Shard is the state of one partition of __share_group_state. The frame calls it from one goroutine at a time.
type Shard struct {
	cfg     Config
	image   *metadata.Image
	entries map[Key]*entry
	lost    map[schema.UUID]bool // topics deleted, whose states have to go
	end     int64                // the offset behind the last record replayed
}

// New is an empty shard.
func New(c Config) *Shard {
	return &Shard{cfg: c, entries: map[Key]*entry{}, lost: map[schema.UUID]bool{}}
}

const (
	timerLost = "lost"
	timerCold = "cold"
)

// check says whether a key may be asked for.
func (s *Shard) check(k Key) error {
	if k.Partition < 0 {
		return wire.Errorf(kerr.InvalidRequest, "The partition id cannot be a negative number.")
	}
	if s.image == nil {
		return kerr.UnknownTopicOrPartition
	}
	if t := s.image.TopicByID(k.TopicID); t == nil || t.Partition(k.Partition) == nil {
		return kerr.UnknownTopicOrPartition
	}
	return nil
}

// Initialize begins a share-partition's state anew. An older state epoch than the one there is fenced.
func (s *Shard) Initialize(now time.Time, k Key, stateEpoch int32, start int64) (coordinator.Result[struct{}], error) {
	var r coordinator.Result[struct{}]
	e := s.entries[k]
	if k.Partition >= 0 && e != nil && e.StateEpoch > stateEpoch {
		return r, kerr.FencedStateEpoch
	}
	if err := s.check(k); err != nil {
		return r, err
	}
	n := entry{State: State{StateEpoch: stateEpoch, LeaderEpoch: None, Start: start, Completed: None}, created: now.UnixMilli(), written: now.UnixMilli()}
	if start != None {
		n.Completed = 0
	}
	if e != nil {
		n.snapshotEpoch = e.snapshotEpoch + 1
	}
	r.Records = []coordinator.Record{n.snapshot(k)}
	return r, nil
}

// Ensure begins a state that nobody has begun. One that is there keeps what it holds: a group that asks again, because it never
// heard the answer, loses nothing.
func (s *Shard) Ensure(now time.Time, k Key, stateEpoch int32) (coordinator.Result[struct{}], error) {
	if e := s.entries[k]; e != nil && e.Start != None {
		return coordinator.Result[struct{}]{}, s.check(k)
	}
	return s.Initialize(now, k, stateEpoch, None)
}

// Read gives the state and notes the reader as the newest leader of the share-partition.
func (s *Shard) Read(now time.Time, k Key, leaderEpoch int32) (coordinator.Result[State], error) {
	var r coordinator.Result[State]
	e := s.entries[k]
	switch {
	case k.Partition >= 0 && e == nil:
		return r, wire.Errorf(kerr.InvalidRequest, "Read operation on uninitialized share partition not allowed.")
	case e != nil && e.LeaderEpoch > leaderEpoch:
		return r, kerr.FencedLeaderEpoch
	}
	if err := s.check(k); err != nil {
		return r, err
	}
	r.Reply = e.State
	if r.Reply.Start == None {
		r.Reply.Batches = nil
	}
	r.Reply.Batches = slices.Clone(r.Reply.Batches)
	if leaderEpoch > e.LeaderEpoch {
		r.Reply.LeaderEpoch = leaderEpoch
		r.Records = s.change(now, k, e, Write{StateEpoch: e.StateEpoch, LeaderEpoch: leaderEpoch, Start: None, Completed: None})
	}
	return r, nil
}

// Summary gives the state without its batches. A state that is not there is one with nothing decided.
func (s *Shard) Summary(k Key) (State, error) {
	if err := s.check(k); err != nil {
		return State{}, err
	}
	e := s.entries[k]
	if e == nil {
		return State{Start: None, Completed: None}, nil
	}
	out := e.State
	out.Batches = nil
	return out, nil
}

// Write changes a state. Older leaders and older states are fenced.
func (s *Shard) Write(now time.Time, k Key, w Write) (coordinator.Result[struct{}], error) {
	var r coordinator.Result[struct{}]
	e := s.entries[k]
	switch {
	case k.Partition >= 0 && e == nil:
		return r, wire.Errorf(kerr.InvalidRequest, "Write operation on uninitialized share partition not allowed.")
	case e != nil && w.LeaderEpoch != None && e.LeaderEpoch > w.LeaderEpoch:
		return r, kerr.FencedLeaderEpoch
	case e != nil && w.StateEpoch != None && e.StateEpoch > w.StateEpoch:
		return r, kerr.FencedStateEpoch
	}
	if err := s.check(k); err != nil {
		return r, err
	}
	var err error
	if w.Batches, err = checked(w.Batches); err != nil {
		return r, err
	}
	r.Records = s.change(now, k, e, w)
	return r, nil
}

// Delete ends a state. One that is not there is deleted already.
func (s *Shard) Delete(k Key) (coordinator.Result[struct{}], error) {
	var r coordinator.Result[struct{}]
	if err := s.check(k); err != nil && s.entries[k] == nil {
		return r, err
	}
	if s.entries[k] != nil {
		r.Records = []coordinator.Record{tombstone(k)}
	}
	return r, nil
}

// change writes w as an update, or as a snapshot where it is time for one.
func (s *Shard) change(now time.Time, k Key, e *entry, w Write) []coordinator.Record {
	if e.updates >= s.cfg.UpdatesPerSnapshot || w.StateEpoch > e.StateEpoch {
		n := *e
		n.apply(w)
		n.StateEpoch = max(n.StateEpoch, w.StateEpoch)
		n.snapshotEpoch++
		n.written = now.UnixMilli()
		return []coordinator.Record{n.snapshot(k)}
	}
	return []coordinator.Record{e.update(k, w)}
}

// apply takes a change over.
func (e *entry) apply(w Write) {
	e.LeaderEpoch = max(e.LeaderEpoch, w.LeaderEpoch)
	if w.Start != None {
		e.Start = w.Start
	}
	if w.Completed != None {
		e.Completed = w.Completed
	}
	e.Batches = merge(e.Batches, w.Batches, e.Start)
}

// Redundant is the offset below which the log holds nothing that counts.
func (s *Shard) Redundant() int64 {
	at := int64(math.MaxInt64)
	for _, e := range s.entries {
		at = min(at, e.offset)
	}
	return min(at, s.end)
}

// OnLoaded begins the life of a shard that has replayed its log.
func (s *Shard) OnLoaded(_ time.Time, img *metadata.Image) []coordinator.Timer {
	timers := s.see(img)
	if s.cfg.ColdInterval > 0 {
		timers = append(timers, coordinator.Timer{Key: timerCold, After: s.cfg.ColdInterval})
	}
	return timers
}

// see takes the newest image. The first shows which topics were deleted while nobody kept their states: the image of whoever leads is never
// behind what the leaders before have written.
func (s *Shard) see(img *metadata.Image) []coordinator.Timer {
	first := s.image == nil && img != nil
	s.image = img
	if first {
		for k := range s.entries {
			if img.TopicByID(k.TopicID) == nil {
				s.lost[k.TopicID] = true
			}
		}
	}
	if len(s.lost) == 0 {
		return nil
	}
	return []coordinator.Timer{{Key: timerLost, After: time.Millisecond}}
}

// OnImage is told of the cluster's changes: the states of deleted topics go.
func (s *Shard) OnImage(_ time.Time, img *metadata.Image, delta *metadata.Delta) []coordinator.Timer {
	if delta != nil {
		for _, c := range delta.Topics() {
			if c.New == nil {
				s.lost[c.Old.ID] = true
			}
		}
	}
	return s.see(img)
}

// OnTimer runs what a timer was set for.
func (s *Shard) OnTimer(now time.Time, key string) (coordinator.Result[any], error) {
	if key == timerCold {
		return s.warm(now), nil
	}
	return s.dropLost(), nil
}

// warm writes old snapshots again that lie so far back that cutting the log behind them is worth it.
func (s *Shard) warm(now time.Time) coordinator.Result[any] {
	r := coordinator.Result[any]{NonAtomic: true, Timers: []coordinator.Timer{{Key: timerCold, After: s.cfg.ColdInterval}}}
	var cold []Key
	far := int64(2*len(s.entries) + s.cfg.UpdatesPerSnapshot)
	for k, e := range s.entries {
		if s.end-e.offset > far && now.UnixMilli()-e.written >= s.cfg.ColdInterval.Milliseconds() {
			cold = append(cold, k)
		}
	}
	slices.SortFunc(cold, compare)
	for _, k := range cold {
		n := *s.entries[k]
		n.snapshotEpoch++
		n.written = now.UnixMilli()
		r.Records = append(r.Records, n.snapshot(k))
	}
	return r
}

func compare(a, b Key) int { return strings.Compare(a.String(), b.String()) }

// dropLost writes the end of what belonged to deleted topics.
func (s *Shard) dropLost() coordinator.Result[any] {
	var keys []Key
	for k := range s.entries {
		if s.lost[k.TopicID] {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, compare)
	lost := s.lost
	s.lost = map[schema.UUID]bool{}
	r := coordinator.Result[any]{NonAtomic: true, OnRefused: func(error) { s.lost = lost }}
	for _, k := range keys {
		r.Records = append(r.Records, tombstone(k))
	}
	return r
}

// OnUnloaded ends the shard's life.
func (s *Shard) OnUnloaded() {}

// ReplayEndTxn: nothing here is transactional.
func (s *Shard) ReplayEndTxn(int64, int16, bool) error { return nil }
