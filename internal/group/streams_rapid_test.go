package group

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/coordinator/shardtest"
	"github.com/ottla/ottla/internal/group/streams"
	"github.com/ottla/ottla/internal/wire/schema"
)

// held is a task in a role, as an application's instance sees it.
type held struct {
	role streams.Role
	streams.Task
}

// thread is a member of a streams group: what it believes, and what it works on at this moment.
type thread struct {
	id, process string
	instance    *string
	epoch       int32
	holds       map[held]bool
	told        map[held]bool // the assignment it has yet to take over; nil: none
	full        bool          // its last answer was lost: it says everything again
	reports     bool          // how far it has come
	restored    map[streams.Task]int64
}

func (a *thread) drop() { a.holds, a.told, a.epoch, a.full = map[held]bool{}, nil, 0, false }

// troupe is a streams group's members and what they have seen of the coordinator.
type troupe struct {
	*frame
	topology *kmsg.StreamsGroupHeartbeatRequestTopology
	threads  []*thread
	made     int
	epochs   map[string]int32
	group    int32
}

const troupeTopology = `
sub 0
source t
sink g-r
sub 1
repartition g-r
changelog g-c`

func (f *troupe) beat(a *thread, lost bool) {
	req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = "g", a.id, a.epoch, a.instance
	req.ActiveTasks, req.StandbyTasks, req.WarmupTasks = []kmsg.TaskIDs{}, []kmsg.TaskIDs{}, []kmsg.TaskIDs{}
	if a.epoch == 0 {
		req.Topology, req.ProcessID = f.topology, &a.process
	}
	if a.epoch == 0 || a.full {
		req.RebalanceTimeoutMillis = 60_000
	}
	for h := range a.holds {
		ids := []kmsg.TaskIDs{{SubtopologyID: h.Subtopology, Partitions: []int32{h.Partition}}}
		switch h.role {
		case streams.Active:
			req.ActiveTasks = append(req.ActiveTasks, ids...)
		case streams.Standby:
			req.StandbyTasks = append(req.StandbyTasks, ids...)
		case streams.Warmup:
			req.WarmupTasks = append(req.WarmupTasks, ids...)
		}
	}
	if a.reports {
		req.TaskOffsets, req.TaskEndOffsets = []kmsg.TaskOffset{}, []kmsg.TaskOffset{}
		for t, at := range a.restored {
			req.TaskOffsets = append(req.TaskOffsets, kmsg.TaskOffset{SubtopologyID: t.Subtopology, Partition: t.Partition, Offset: at})
			req.TaskEndOffsets = append(req.TaskEndOffsets, kmsg.TaskOffset{SubtopologyID: t.Subtopology, Partition: t.Partition, Offset: 1_000_000})
		}
	}
	h := f.streamsBeat(req, 1)
	r := h.Response
	if len(h.Create) > 0 {
		want := map[string]int32{}
		for _, c := range h.Create {
			want[c.Topic] = c.NumPartitions
		}
		f.setTopics(want)
	}
	switch {
	case lost:
		a.full = a.epoch != 0
		return
	case r.ErrorCode == 0:
	case r.ErrorCode == kerr.FencedMemberEpoch.Code, r.ErrorCode == kerr.UnknownMemberID.Code, r.ErrorCode == kerr.GroupIDNotFound.Code:
		a.drop()
		return
	default:
		f.t.Fatalf("%s: %s", a.id, showStreamsBeat(h))
	}
	a.full, a.epoch = false, r.MemberEpoch
	if r.ActiveTasks == nil {
		return
	}
	a.told = map[held]bool{}
	for role, list := range [][]kmsg.TaskIDs{r.ActiveTasks, r.StandbyTasks, r.WarmupTasks} {
		for _, t := range list {
			for _, p := range t.Partitions {
				a.told[held{streams.Role(role), streams.Task{Subtopology: t.SubtopologyID, Partition: p}}] = true
			}
		}
	}
}

// take lets a member give up and take what it has been told; what it takes to restore, it has restored by then or not.
func (f *troupe) take(a *thread, restored bool) {
	if a.told != nil {
		a.holds, a.told = a.told, nil
	}
	if !restored {
		return
	}
	for h := range a.holds {
		if h.role != streams.Active && h.Subtopology == "1" {
			a.restored[h.Task] = 1_000_000
		}
	}
}

// check holds what must be true at every moment.
func (f *troupe) check() {
	f.t.Helper()
	works := map[streams.Task]string{}
	for _, a := range f.threads {
		for h := range a.holds {
			if h.role != streams.Active {
				continue
			}
			if o, two := works[h.Task]; two {
				f.t.Fatalf("%s and %s both work on %v", o, a.id, h.Task)
			}
			works[h.Task] = a.id
		}
	}
	g, ok := f.s.find("g").(*streams.Group)
	if !ok {
		return
	}
	active := map[streams.Task]string{}
	type place struct {
		streams.Task
		process string
	}
	opened := map[place]string{}
	for _, m := range g.Members() {
		for _, roles := range []*streams.Roles{&m.Assigned, &m.Revoking} {
			for r := range roles {
				for sub, ps := range roles[r] {
					for p, since := range ps {
						t := streams.Task{Subtopology: sub, Partition: p}
						if streams.Role(r) == streams.Active {
							if o, two := active[t]; two {
								f.t.Fatalf("task %v is with %s and %s", t, o, m.ID)
							}
							active[t] = m.ID
						}
						if since > g.Epoch() {
							f.t.Fatalf("%s has %v since epoch %d of %d", m.ID, t, since, g.Epoch())
						}
						at := place{t, m.ProcessID}
						if o, two := opened[at]; two {
							f.t.Fatalf("process %s has task %v twice: %s and %s", m.ProcessID, t, o, m.ID)
						}
						opened[at] = m.ID
					}
				}
			}
		}
		if m.Epoch >= 0 {
			if m.Epoch < f.epochs[m.ID] || m.Epoch > g.Epoch() {
				f.t.Fatalf("%s goes from epoch %d to %d, of %d", m.ID, f.epochs[m.ID], m.Epoch, g.Epoch())
			}
			f.epochs[m.ID] = m.Epoch
		}
	}
	if g.Epoch() < f.group {
		f.t.Fatalf("the group goes from epoch %d to %d", f.group, g.Epoch())
	}
	f.group = g.Epoch()
}

func (f *troupe) describe() string {
	var b strings.Builder
	for _, g := range f.s.StreamsGroupDescribe([]string{"g"}, false) {
		b.WriteString(showStreamsDescribed(&g))
	}
	for _, a := range f.threads {
		fmt.Fprintf(&b, "%s in %s: epoch=%d holds=%v told=%v reports=%t restored=%v\n", a.id, a.process, a.epoch, a.holds, a.told, a.reports, a.restored)
	}
	return b.String()
}

// settle lets everybody do their turns until nothing changes, and checks that it ends well.
func (f *troupe) settle(standbys int) {
	f.t.Helper()
	for round := 0; ; round++ {
		if round == 60 {
			f.t.Fatalf("no rest after %d rounds:\n%s", round, f.describe())
		}
		f.advance(1500 * time.Millisecond)
		moved := false
		for _, a := range f.threads {
			f.beat(a, false)
			f.check()
			moved = moved || a.told != nil
			f.take(a, true)
			f.check()
		}
		g, ok := f.s.find("g").(*streams.Group)
		if ok && !moved && g.State() == streams.Stable && g.Size() == len(f.threads) && round > 4 {
			break
		}
	}
	works, copies := map[streams.Task]int{}, map[streams.Task]int{}
	for _, a := range f.threads {
		for h := range a.holds {
			switch h.role {
			case streams.Active:
				works[h.Task]++
			case streams.Standby:
				copies[h.Task]++
			default:
				f.t.Fatalf("%s still warms %v up\n%s", a.id, h.Task, f.describe())
			}
		}
	}
	processes := map[string]bool{}
	for _, a := range f.threads {
		processes[a.process] = true
	}
	for sub, topic := range map[string]string{"0": "t", "1": "g-r"} {
		for p := range f.img.Topic(topic).Partitions {
			t := streams.Task{Subtopology: sub, Partition: int32(p)}
			want := 0
			if sub == "1" {
				want = min(standbys, len(processes)-1)
			}
			if works[t] != 1 || copies[t] != want {
				f.t.Fatalf("task %v: %d work on it, %d copies, not %d\n%s", t, works[t], copies[t], want, f.describe())
			}
		}
	}
}

func (f *troupe) join(t *rapid.T) *thread {
	f.made++
	a := &thread{id: "m" + strconv.Itoa(f.made), process: rapid.SampledFrom([]string{"p", "q", "r"}).Draw(t, "process"), reports: rapid.Bool().Draw(t, "reports"), restored: map[streams.Task]int64{}}
	a.drop()
	if rapid.IntRange(0, 2).Draw(t, "static") == 0 {
		a.instance = kmsg.StringPtr("i-" + a.id)
	}
	f.threads = append(f.threads, a)
	return a
}

func (f *troupe) out(a *thread) {
	f.threads = slices.DeleteFunc(f.threads, func(x *thread) bool { return x == a })
	a.drop()
}

// Whatever members of a streams group and the coordinator go through, no task is worked on by two, no process has a
// task's state twice, epochs only grow, and when all is quiet every task is worked on, has its copies, and the log tells
// the same story.
func TestStreamsTroupe(t *testing.T) { rapid.Check(t, runTroupe) }

func runTroupe(t *rapid.T) {
	cfg := DefaultConfig()
	cfg.Streams.Standbys = rapid.IntRange(0, 2).Draw(t, "standbys")
	cfg.Streams.InitialDelay = time.Duration(rapid.IntRange(0, 3).Draw(t, "delay")) * time.Second
	cfg.Streams.Warmups = rapid.IntRange(0, 2).Draw(t, "warm-ups")
	f := &troupe{frame: newFrame(t, cfg), epochs: map[string]int32{}, topology: readTopology(0, troupeTopology)}
	f.setTopics(map[string]int32{"t": 3})
	f.beat(f.join(t), false)
	any := func(t *rapid.T) *thread { return rapid.SampledFrom(f.threads).Draw(t, "who") }
	mortal := func(t *rapid.T) *thread {
		if len(f.threads) == 1 {
			t.Skip("nobody")
		}
		return rapid.SampledFrom(f.threads[1:]).Draw(t, "who")
	}
	restored := func(t *rapid.T) bool { return rapid.Bool().Draw(t, "restored") }
	t.Repeat(map[string]func(*rapid.T){
		"join": func(t *rapid.T) {
			if len(f.threads) > 5 {
				t.Skip("enough")
			}
			f.beat(f.join(t), false)
		},
		"turn":  func(t *rapid.T) { f.beat(any(t), false) },
		"turn2": func(t *rapid.T) { f.beat(any(t), false) },
		"lost": func(t *rapid.T) {
			a := any(t)
			f.take(a, false) // one that takes an old assignment after its next answer was lost cannot be told from one that has not
			f.beat(a, true)
		},
		"take":  func(t *rapid.T) { f.take(any(t), restored(t)) },
		"take2": func(t *rapid.T) { f.take(any(t), restored(t)) },
		"crash": func(t *rapid.T) { f.out(mortal(t)) },
		"leave": func(t *rapid.T) {
			a := mortal(t)
			req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
			req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = "g", a.id, -1, a.instance
			f.streamsBeat(req, 1)
			delete(f.epochs, a.id)
			f.out(a)
		},
		"restart static": func(t *rapid.T) {
			a := any(t)
			if a.instance == nil {
				t.Skip("dynamic")
			}
			req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
			req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = "g", a.id, -2, a.instance
			a.drop()
			if h := f.streamsBeat(req, 1); h.Response.ErrorCode != 0 {
				t.Skip("not in the group just now")
			}
			f.made++
			a.id = "m" + strconv.Itoa(f.made)
			f.beat(a, false)
		},
		"time": func(t *rapid.T) {
			for _, a := range f.threads { // in time for sessions and rebalance timeouts
				f.take(a, false)
				f.beat(a, false)
				f.take(a, false)
				f.beat(a, false)
			}
			f.advance(time.Duration(rapid.IntRange(1, 15_000).Draw(t, "ms")) * time.Millisecond)
		},
		"reload": func(*rapid.T) { f.reload() },
		"":       func(*rapid.T) { f.check() },
	})
	for range 20 { // those who crashed are out by now
		for _, a := range f.threads {
			f.take(a, true)
			f.beat(a, false)
		}
		f.advance(5 * time.Second)
		f.check()
	}
	f.settle(cfg.Streams.Standbys)
	f.reload()
}

// Streams groups keep the frame's promises: what is live is what the log gives, whatever fails, is refused or lost.
func TestShardStreams(t *testing.T) {
	images := newFrame(t, DefaultConfig())
	images.setTopics(map[string]int32{"t": 3, "g-r": 3, "g-c": 3})
	topology := readTopology(0, troupeTopology)
	rapid.Check(t, func(t *rapid.T) {
		cfg := DefaultConfig()
		cfg.Streams.Standbys, cfg.Streams.InitialDelay = 1, time.Duration(rapid.IntRange(0, 1).Draw(t, "delay"))*time.Second
		ids, members := 0, map[string]*member{}
		for _, c := range []string{"a", "b", "i"} {
			members[c] = &member{id: c}
		}
		pick := func(t *rapid.T) (string, *member) {
			c := rapid.SampledFrom([]string{"a", "b", "i"}).Draw(t, "client")
			return c, members[c]
		}
		beat := func(t *rapid.T, e env, set func(*kmsg.StreamsGroupHeartbeatRequest)) {
			c, m := pick(t)
			req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
			req.Group, req.MemberID, req.InstanceID, req.MemberEpoch = "g", m.id, instance(c), max(m.gen, 1)
			set(req)
			if req.MemberEpoch == 0 {
				m.id = c + rapid.SampledFrom([]string{"1", "2"}).Draw(t, "process")
				req.MemberID = m.id
			}
			shardtest.Do(e, "beat", func(s *recorded, now time.Time, _ coordinator.Token) (coordinator.Result[*streams.Heartbeat], error) {
				return s.StreamsGroupHeartbeat(now, RequestContext{ClientID: "c", ClientHost: "/h", Version: 1}, req)
			}, func(h *streams.Heartbeat, err error) {
				if err == nil && h.Response.ErrorCode == 0 {
					m.gen = max(h.Response.MemberEpoch, 0)
				}
			})
		}
		nothing := func(req *kmsg.StreamsGroupHeartbeatRequest) {
			req.ActiveTasks, req.StandbyTasks, req.WarmupTasks = []kmsg.TaskIDs{}, []kmsg.TaskIDs{}, []kmsg.TaskIDs{}
		}
		shardtest.Run(t, shardtest.Config[*recorded]{
			New: func() *recorded {
				return &recorded{New(Options{Config: cfg, NewID: func() string { ids++; return strconv.Itoa(ids) }}), map[string]string{}}
			},
			Decode: schema.ReadGroupRecord, Check: consistent, MaxAdvance: 30 * time.Second, Image: images.img,
			Dump: func(r *recorded) string {
				s := r.dump()
				for _, g := range r.sorted() {
					if c, ok := g.(*streams.Group); ok {
						s += showStreamsRecords(c.Records())
					}
				}
				return s
			},
			Ops: with(offsetOps(pick), map[string]func(*rapid.T, env){
				"join as streams": func(t *rapid.T, e env) {
					beat(t, e, func(req *kmsg.StreamsGroupHeartbeatRequest) {
						req.MemberEpoch, req.RebalanceTimeoutMillis, req.Topology = 0, 20_000, topology
						req.ProcessID = kmsg.StringPtr(rapid.SampledFrom([]string{"p", "q"}).Draw(t, "process id"))
						nothing(req)
					})
				},
				"beat": func(t *rapid.T, e env) {
					beat(t, e, func(req *kmsg.StreamsGroupHeartbeatRequest) {
						if rapid.Bool().Draw(t, "has given up") {
							nothing(req)
						}
					})
				},
				"leave as streams": func(t *rapid.T, e env) {
					beat(t, e, func(req *kmsg.StreamsGroupHeartbeatRequest) {
						req.MemberEpoch = -1
						if req.InstanceID != nil && rapid.Bool().Draw(t, "for a while") {
							req.MemberEpoch = -2
						}
					})
				},
			}),
		})
	})
}
