package sharecoord

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"pgregory.net/rapid"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/coordinator/shardtest"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

var topicA = schema.UUID{1}

func image(t testing.TB) *metadata.Image {
	t.Helper()
	d := metadata.NewDelta(metadata.Empty("c"))
	for i, r := range []schema.Message{
		&schema.TopicRecord{Name: "a", TopicID: topicA},
		&schema.PartitionRecord{TopicID: topicA, PartitionID: 0}, &schema.PartitionRecord{TopicID: topicA, PartitionID: 1},
	} {
		if err := d.Replay(int64(i), 1, r); err != nil {
			t.Fatal(err)
		}
	}
	return d.Image()
}

func (s *Shard) dump() string {
	var lines []string
	for k, e := range s.entries {
		lines = append(lines, fmt.Sprintf("%s %+v", k, *e))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// The shard keeps the frame's promises, and knows of every offset what the last committed write said.
func TestShard(t *testing.T) {
	img := image(t)
	key := func(t *rapid.T) Key { return Key{"g", topicA, rapid.Int32Range(-1, 2).Draw(t, "partition")} }
	rapid.Check(t, func(t *rapid.T) {
		shardtest.Run(t, shardtest.Config[*Shard]{MaxAdvance: time.Second,
			New: func() *Shard { return New(Config{UpdatesPerSnapshot: 3, ColdInterval: time.Second}) }, Decode: schema.ReadShareRecord, Dump: (*Shard).dump, Image: img,
			Check: func(t *rapid.T, s *Shard) {
				for k, e := range s.entries {
					if e.updates > 3 {
						t.Fatalf("%s: %d updates since the snapshot", k, e.updates)
					}
					for i, b := range e.Batches {
						if b.First > b.Last || b.First < e.Start || i > 0 && b.First <= e.Batches[i-1].Last {
							t.Fatalf("%s: start %d, batches %v", k, e.Start, e.Batches)
						}
					}
				}
			},
			Ops: map[string]func(*rapid.T, *shardtest.Env[*Shard]){
				"initialize": func(t *rapid.T, e *shardtest.Env[*Shard]) {
					k, epoch, start := key(t), rapid.Int32Range(0, 3).Draw(t, "epoch"), rapid.Int64Range(-1, 5).Draw(t, "start")
					shardtest.Do(e, "initialize", func(s *Shard, now time.Time, _ coordinator.Token) (coordinator.Result[struct{}], error) {
						return s.Initialize(now, k, epoch, start)
					}, func(struct{}, error) {})
				},
				"read": func(t *rapid.T, e *shardtest.Env[*Shard]) {
					k, epoch := key(t), rapid.Int32Range(0, 3).Draw(t, "epoch")
					shardtest.Do(e, "read", func(s *Shard, now time.Time, _ coordinator.Token) (coordinator.Result[State], error) {
						return s.Read(now, k, epoch)
					}, func(State, error) {})
				},
				"write": func(t *rapid.T, e *shardtest.Env[*Shard]) {
					k := key(t)
					w := Write{StateEpoch: rapid.Int32Range(-1, 3).Draw(t, "state"), LeaderEpoch: rapid.Int32Range(-1, 3).Draw(t, "leader"), Start: rapid.Int64Range(-1, 20).Draw(t, "start"), Completed: -1}
					for at := rapid.Int64Range(0, 20).Draw(t, "from"); at < 25; at += rapid.Int64Range(1, 9).Draw(t, "gap") {
						w.Batches = append(w.Batches, Batch{at, at, int8(rapid.IntRange(0, 4).Draw(t, "is")), 1})
					}
					shardtest.Do(e, "write", func(s *Shard, now time.Time, _ coordinator.Token) (coordinator.Result[struct{}], error) {
						return s.Write(now, k, w)
					}, func(struct{}, error) {})
				},
				"ensure": func(t *rapid.T, e *shardtest.Env[*Shard]) {
					k, epoch := key(t), rapid.Int32Range(0, 3).Draw(t, "epoch")
					shardtest.Do(e, "ensure", func(s *Shard, now time.Time, _ coordinator.Token) (coordinator.Result[struct{}], error) {
						return s.Ensure(now, k, epoch)
					}, func(struct{}, error) {})
				},
				"delete": func(t *rapid.T, e *shardtest.Env[*Shard]) {
					k := key(t)
					shardtest.Do(e, "delete", func(s *Shard, _ time.Time, _ coordinator.Token) (coordinator.Result[struct{}], error) {
						return s.Delete(k)
					}, func(struct{}, error) {})
				},
			},
		})
	})
}

// Merged batches say of each offset what the newest of both lists says.
func TestMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var old []Batch
		model := map[int64]Batch{}
		start := int64(0)
		for range rapid.IntRange(1, 8).Draw(t, "rounds") {
			var newer []Batch
			for at := rapid.Int64Range(0, 10).Draw(t, "from"); at < 30; {
				b := Batch{at, at + rapid.Int64Range(0, 6).Draw(t, "length"), int8(rapid.IntRange(0, 2).Draw(t, "state")), 1}
				newer = append(newer, b)
				for o := b.First; o <= b.Last; o++ {
					model[o] = b
				}
				at = b.Last + rapid.Int64Range(1, 12).Draw(t, "gap")
			}
			start = rapid.Int64Range(start, 20).Draw(t, "start")
			old = merge(old, newer, start)
		}
		got := map[int64]Batch{}
		for i, b := range old {
			if i > 0 && (b.First <= old[i-1].Last || b.First == old[i-1].Last+1 && b.like(old[i-1])) {
				t.Fatalf("not in order, or not joined: %v", old)
			}
			for o := b.First; o <= b.Last; o++ {
				got[o] = b
			}
		}
		for o := int64(0); o < 60; o++ {
			m, in := model[o]
			g, ok := got[o]
			if in = in && o >= start; ok != in || in && !g.like(m) {
				t.Fatalf("offset %d is %v %v, want %v %v", o, g, ok, m, in)
			}
		}
	})
}

// The words and codes are those that Apache Kafka 4.4 answers with.
func TestFences(t *testing.T) {
	s, now, k := New(Config{UpdatesPerSnapshot: 1}), time.UnixMilli(1000), Key{"g", topicA, 0}
	s.OnLoaded(now, image(t))
	at := int64(0)
	apply := func(rs []coordinator.Record, err error) error {
		for _, r := range rs {
			if err := s.Replay(at, -1, -1, r); err != nil {
				t.Fatal(err)
			}
			at++
		}
		return err
	}
	read := func(k Key, leader int32) (State, error) {
		r, err := s.Read(now, k, leader)
		return r.Reply, apply(r.Records, err)
	}
	write := func(w Write) error { r, err := s.Write(now, k, w); return apply(r.Records, err) }
	initialize := func(epoch int32, start int64) error {
		r, err := s.Initialize(now, k, epoch, start)
		return apply(r.Records, err)
	}
	want := func(what string, err error, is *kerr.Error, message string) {
		t.Helper()
		m := ""
		if p := wire.MessageOf(err); p != nil {
			m = *p
		}
		code := int16(0)
		if is != nil {
			code = is.Code
		}
		if wire.CodeOf(err) != code || message != "" && m != message {
			t.Errorf("%s: %v %q, want %v %q", what, err, m, is, message)
		}
	}
	_, err := read(k, 0)
	want("read of nothing", err, kerr.InvalidRequest, "Read operation on uninitialized share partition not allowed.")
	want("write of nothing", write(Write{}), kerr.InvalidRequest, "Write operation on uninitialized share partition not allowed.")
	_, err = read(Key{"g", topicA, -1}, 0)
	want("negative", err, kerr.InvalidRequest, "")
	_, err = s.Initialize(now, Key{"g", topicA, 7}, 0, 0)
	want("no such partition", err, kerr.UnknownTopicOrPartition, "")
	want("initialize", initialize(2, -1), nil, "")
	want("older state", initialize(1, 5), kerr.FencedStateEpoch, "")
	st, err := read(k, 4)
	want("read", err, nil, "")
	if st.Start != None || st.StateEpoch != 2 || st.Batches != nil {
		t.Errorf("state %+v", st)
	}
	_, err = read(k, 3)
	want("older leader reads", err, kerr.FencedLeaderEpoch, "")
	want("older leader writes", write(Write{StateEpoch: 2, LeaderEpoch: 3, Start: -1, Completed: -1}), kerr.FencedLeaderEpoch, "")
	want("older state writes", write(Write{StateEpoch: 1, LeaderEpoch: 4, Start: -1, Completed: -1}), kerr.FencedStateEpoch, "")
	want("backwards", write(Write{StateEpoch: 2, LeaderEpoch: 4, Start: -1, Completed: -1, Batches: []Batch{{5, 4, 2, 1}}}), kerr.InvalidRequest, "")
	want("write", write(Write{StateEpoch: 2, LeaderEpoch: 4, Start: 3, Completed: 1, Batches: []Batch{{5, 5, 2, 1}, {3, 4, 0, 1}}}), nil, "")
	st, _ = read(k, 4)
	if fmt.Sprint(st) != "{2 4 3 1 [{3 4 0 1} {5 5 2 1}]}" {
		t.Errorf("state %v", st)
	}
	r, err := s.Ensure(now, k, 9)
	if want("ensure", apply(r.Records, err), nil, ""); len(r.Records) > 0 {
		t.Errorf("a state that is there is begun again: %v", r.Records)
	}
	if got := s.Redundant(); got != at-1 { // the write was a snapshot: the second change since the first
		t.Errorf("redundant below %d of %d", got, at)
	}
}

// If this fails, the states of a topic that was deleted while nobody led their partition stay for ever.
func TestStatesOfTopicsDeletedMeanwhileGoWhenTheyAreLoaded(t *testing.T) {
	s, now := New(Config{UpdatesPerSnapshot: 4}), time.UnixMilli(1000)
	gone := Key{"g", schema.UUID{9, 9}, 0}
	there := Key{"g", topicA, 0}
	for i, k := range []Key{gone, there} {
		n := entry{State: State{Start: None, Completed: None}}
		if err := s.Replay(int64(i), -1, -1, n.snapshot(k)); err != nil {
			t.Fatal(err)
		}
	}
	timers := s.OnLoaded(now, image(t))
	if len(timers) != 1 || timers[0].Key != timerLost {
		t.Fatalf("timers %v", timers)
	}
	r, err := s.OnTimer(now, timerLost)
	if err != nil || len(r.Records) != 1 {
		t.Fatalf("records %v, %v", r.Records, err)
	}
	if err := s.Replay(2, -1, -1, r.Records[0]); err != nil {
		t.Fatal(err)
	}
	if s.entries[gone] != nil || s.entries[there] == nil {
		t.Errorf("left: %v", s.entries)
	}
}

// A share-partition that nobody touches does not keep the log of a busy one.
func TestCold(t *testing.T) {
	s, now := New(Config{UpdatesPerSnapshot: 4, ColdInterval: time.Minute}), time.UnixMilli(1000)
	s.OnLoaded(now, image(t))
	at := int64(0)
	apply := func(rs []coordinator.Record) {
		for _, r := range rs {
			if err := s.Replay(at, -1, -1, r); err != nil {
				t.Fatal(err)
			}
			at++
		}
	}
	busy, idle := Key{"busy", topicA, 0}, Key{"idle", topicA, 1}
	for _, k := range []Key{busy, idle} {
		r, err := s.Initialize(now, k, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		apply(r.Records)
	}
	for i := range int64(1000) {
		now = now.Add(time.Second)
		r, err := s.Write(now, busy, Write{StateEpoch: 1, LeaderEpoch: 0, Start: i, Completed: 0})
		if err != nil {
			t.Fatal(err)
		}
		apply(r.Records)
		if i%60 == 59 {
			r, err := s.OnTimer(now, timerCold)
			if err != nil || len(r.Timers) != 1 {
				t.Fatal(r, err)
			}
			apply(r.Records)
		}
		if kept := at - s.Redundant(); kept > 140 {
			t.Fatalf("after %d writes %d records are kept", i, kept)
		}
	}
	now = now.Add(time.Hour)
	r, _ := s.OnTimer(now, timerCold)
	apply(r.Records)
	if r, _ = s.OnTimer(now.Add(time.Hour), timerCold); len(r.Records) > 0 {
		t.Errorf("nobody does anything, and %d records are written", len(r.Records))
	}
	if e := s.entries[idle]; e.Start != 0 || e.StateEpoch != 1 || e.created != 1000 {
		t.Errorf("the idle one is %+v", e)
	}
}

func TestKey(t *testing.T) {
	k := Key{"a:b", schema.UUID{1, 2, 3}, 7}
	if got, err := ParseKey(k.String()); err != nil || got != k {
		t.Errorf("%v %v", got, err)
	}
	for _, s := range []string{"", "g", "g:1", ":AQIDAAAAAAAAAAAAAAAAAA:1", "g:AQ:1", "g:AQIDAAAAAAAAAAAAAAAAAA:x"} {
		if _, err := ParseKey(s); err == nil {
			t.Errorf("%q is a key", s)
		}
	}
	if got := (Key{Group: "group1"}).Home(50); got != 44 { // Java's hash of group1:AAAAAAAAAAAAAAAAAAAAAA:0
		t.Errorf("home %d", got)
	}
}
