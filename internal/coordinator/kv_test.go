package coordinator_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// kv is a shard of numbers by name, made of offset records. Names may be set in transactions; one may wait for a name;
// a name set with a time to live is deleted by a timer.
type kv struct {
	values map[string]int64
	open   map[int64]map[string]int64 // by producer

	waiting  map[string][]coordinator.Token // not replayed
	images   int
	unloaded bool
	trace    func(format string, args ...any)
}

func newKV(trace func(string, ...any)) *kv {
	if trace == nil {
		trace = func(string, ...any) {}
	}
	return &kv{values: map[string]int64{}, open: map[int64]map[string]int64{}, waiting: map[string][]coordinator.Token{}, trace: trace}
}

func set(name string, v int64) coordinator.Record {
	return coordinator.Record{Key: &schema.OffsetCommitKey{Group: name}, Value: &schema.OffsetCommitValue{Offset: v, LeaderEpoch: -1}, ValueVersion: 3}
}

func del(name string) coordinator.Record {
	return coordinator.Record{Key: &schema.OffsetCommitKey{Group: name}}
}

func (s *kv) Replay(offset, producerID int64, _ int16, rec coordinator.Record) error {
	name := rec.Key.(*schema.OffsetCommitKey).Group
	s.trace("replay %d: %s", offset, name)
	if name == "poison" {
		return errors.New("poison")
	}
	v, ok := rec.Value.(*schema.OffsetCommitValue)
	switch {
	case producerID >= 0:
		if s.open[producerID] == nil {
			s.open[producerID] = map[string]int64{}
		}
		s.open[producerID][name] = v.Offset
	case ok:
		s.values[name] = v.Offset
	default:
		delete(s.values, name)
	}
	return nil
}

func (s *kv) ReplayEndTxn(producerID int64, _ int16, commit bool) error {
	s.trace("end of %d's transaction, commit %v", producerID, commit)
	if commit {
		maps.Copy(s.values, s.open[producerID])
	}
	delete(s.open, producerID)
	return nil
}

func (s *kv) OnLoaded(_ time.Time, img *metadata.Image) []coordinator.Timer {
	s.trace("loaded, image %v", img != nil)
	if img != nil {
		s.images++
	}
	return nil
}

func (s *kv) OnImage(time.Time, *metadata.Image, *metadata.Delta) []coordinator.Timer {
	s.images++
	s.trace("image %d", s.images)
	return nil
}

func (s *kv) OnTimer(_ time.Time, key string) (coordinator.Result[any], error) {
	s.trace("timer %s", key)
	if key == "boom" {
		panic("boom")
	}
	if _, ok := s.values[key]; !ok {
		return coordinator.Result[any]{}, nil
	}
	return coordinator.Result[any]{Records: []coordinator.Record{del(key)}, Deliveries: s.wake(key, -1)}, nil
}

func (s *kv) OnUnloaded() {
	s.trace("unloaded")
	s.unloaded = true
}

func (s *kv) wake(name string, v int64) []coordinator.Delivery {
	var out []coordinator.Delivery
	for _, tok := range s.waiting[name] {
		out = append(out, coordinator.Delivery{Token: tok, Reply: v})
	}
	delete(s.waiting, name)
	return out
}

// set gives the old value, 0 for none.
func (s *kv) set(name string, v int64, ttl time.Duration) (coordinator.Result[int64], error) {
	if v < 0 {
		return coordinator.Result[int64]{}, wire.Errorf(kerr.InvalidRequest, "%d is negative", v)
	}
	return coordinator.Result[int64]{
		Records: []coordinator.Record{set(name, v)}, Reply: s.values[name], Deliveries: s.wake(name, v),
		Timers: []coordinator.Timer{{Key: name, After: ttl}},
	}, nil
}

func (s *kv) get(name string) (int64, error) {
	v, ok := s.values[name]
	if !ok {
		return 0, wire.Errorf(kerr.GroupIDNotFound, "no %s", name)
	}
	return v, nil
}

// wait parks until name is set.
func (s *kv) wait(name string, tok coordinator.Token) (coordinator.Result[int64], error) {
	s.waiting[name] = append(s.waiting[name], tok)
	return coordinator.Result[int64]{Parked: true}, nil
}

func (s *kv) dump() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(s.values)) {
		fmt.Fprintf(&b, "%s=%d\n", k, s.values[k])
	}
	for _, p := range slices.Sorted(maps.Keys(s.open)) {
		for _, k := range slices.Sorted(maps.Keys(s.open[p])) {
			fmt.Fprintf(&b, "producer %d: %s=%d\n", p, k, s.open[p][k])
		}
	}
	return b.String()
}
