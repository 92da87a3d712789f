package group

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/ottla/ottla/internal/group/consumer"
	"github.com/ottla/ottla/internal/wire/schema"
)

// part is one partition as the fleet sees it.
type part struct {
	topic     schema.UUID
	partition int32
}

// actor is a consumer: what it believes, and what it reads from at this moment.
type actor struct {
	name     string // unique for the process
	id       string // member id
	instance *string
	topics   []string
	epoch    int32 // or generation
	holds    map[part]bool
	told     map[part]bool // the assignment it has yet to take over; nil: none
	full     bool          // its last answer was lost: it says everything again
	other    bool          // it has other subscriptions than it last said

	classic, eager bool
	rejoin         bool
}

func (a *actor) drop() {
	a.holds, a.told, a.epoch, a.full, a.rejoin = map[part]bool{}, nil, 0, false, a.classic
}

// fleet is a group's consumers and what they have seen of the coordinator.
type fleet struct {
	*frame
	actors []*actor
	made   int
	epochs map[string]int32 // member epochs seen, by member id
	group  int32
}

func (f *fleet) topicsOf(a *actor) map[schema.UUID]bool {
	out := map[schema.UUID]bool{}
	for _, n := range a.topics {
		out[idOf(n)] = true
	}
	return out
}

// beatAs sends the heartbeat of a consumer. Where lost, it does not see the answer.
func (f *fleet) beatAs(a *actor, lost bool) {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = "g", a.id, a.epoch, a.instance
	if a.epoch == 0 || a.full {
		req.SubscribedTopicNames, req.RebalanceTimeoutMillis = a.topics, 60_000
	} else if a.other {
		req.SubscribedTopicNames = a.topics
	}
	req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	for p := range a.holds {
		req.Topics = append(req.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: p.topic, Partitions: []int32{p.partition}})
	}
	r := f.beat(req, 1)
	switch {
	case lost:
		a.full = a.epoch != 0
		return
	case r.ErrorCode == 0:
	case r.ErrorCode == kerr.FencedMemberEpoch.Code, r.ErrorCode == kerr.UnknownMemberID.Code:
		a.drop()
		return
	default:
		f.t.Fatalf("%s: %s", a.name, showBeat(f.img, r))
	}
	a.full, a.other, a.epoch = false, false, r.MemberEpoch
	if r.Assignment != nil {
		a.told = map[part]bool{}
		for _, t := range r.Assignment.Topics {
			for _, p := range t.Partitions {
				a.told[part{t.TopicID, p}] = true
			}
		}
	}
}

// take lets a consumer give up and take what it has been told.
func (a *actor) take() {
	if a.told != nil {
		a.holds, a.told = a.told, nil
	}
}

// step runs a consumer of the classic protocol: a heartbeat, and where it is told to, a join and a sync.
func (f *fleet) step(a *actor) {
	ctx := RequestContext{ClientID: a.name, ClientHost: "/h", Version: 3}
	if !a.rejoin {
		r, err := f.s.Heartbeat(f.now, ctx, &kmsg.HeartbeatRequest{Group: "g", MemberID: a.id, Generation: a.epoch})
		reply, _ := run(f.frame, r, err, "", 0)
		if reply.ErrorCode == 0 {
			return
		}
		f.classicError(a, reply.ErrorCode)
	}
	if a.eager {
		a.holds = map[part]bool{}
	}
	var owned []string
	for p := range a.holds {
		owned = append(owned, fmt.Sprintf("%s:%d", nameOf(nil, p.topic), p.partition))
	}
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.MemberID, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = "g", a.id, "consumer", 45_000, 60_000
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: subscription(a.topics, owned...)}}
	f.tok++
	jr, err := f.s.JoinGroup(f.now, f.tok, ctx, join)
	joined, parked := run(f.frame, jr, err, "", f.tok)
	if parked {
		f.t.Fatal("a join waits in a consumer group")
	}
	if joined.ErrorCode != 0 {
		f.classicError(a, joined.ErrorCode)
		return
	}
	a.id, a.epoch, a.rejoin = joined.MemberID, joined.Generation, false
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = "g", a.id, a.epoch
	f.tok++
	sr, err := f.s.SyncGroup(f.now, f.tok, ctx, sync)
	synced, _ := run(f.frame, sr, err, "", f.tok)
	if synced.ErrorCode != 0 {
		f.classicError(a, synced.ErrorCode)
		return
	}
	var as kmsg.ConsumerMemberAssignment
	if err := as.ReadFrom(synced.MemberAssignment); err != nil {
		f.t.Fatal(err)
	}
	next := map[part]bool{}
	for _, t := range as.Topics {
		for _, p := range t.Partitions {
			next[part{idOf(t.Topic), p}] = true
		}
	}
	for p := range a.holds {
		a.rejoin = a.rejoin || !next[p] // it has given something up, and says so
	}
	a.holds = next
}

func (f *fleet) classicError(a *actor, c int16) {
	switch c {
	case kerr.RebalanceInProgress.Code:
		a.rejoin = true
	case kerr.UnknownMemberID.Code:
		a.drop()
		a.id = ""
	case kerr.IllegalGeneration.Code:
		a.drop()
	default:
		f.t.Fatalf("%s: %s", a.name, code(c))
	}
}

func (f *fleet) turn(a *actor, lost bool) {
	if a.classic {
		f.step(a)
	} else {
		f.beatAs(a, lost)
	}
}

// check holds what must be true at every moment.
func (f *fleet) check() {
	f.t.Helper()
	reads := map[part]string{}
	for _, a := range f.actors {
		for p := range a.holds {
			if o, two := reads[p]; two {
				f.t.Fatalf("%s and %s both read %v", o, a.name, p)
			}
			reads[p] = a.name
		}
	}
	g, ok := f.s.find("g").(*consumer.Group)
	if !ok {
		return
	}
	owner := map[part]string{}
	for _, m := range g.Members() {
		for _, ps := range []consumer.Partitions{m.Assigned, m.Revoking} {
			for t, list := range ps {
				for p, since := range list {
					if o, two := owner[part{t, p}]; two {
						f.t.Fatalf("partition %d of %x is with %s and %s", p, t[:1], o, m.ID)
					}
					owner[part{t, p}] = m.ID
					if since > g.Epoch() {
						f.t.Fatalf("%s has partition %d since epoch %d of %d", m.ID, p, since, g.Epoch())
					}
				}
			}
		}
		if m.Epoch >= 0 {
			if m.Epoch < f.epochs[m.ID] || m.Epoch > g.Epoch() || m.Previous > m.Epoch {
				f.t.Fatalf("%s goes from epoch %d to %d, previous %d, of %d", m.ID, f.epochs[m.ID], m.Epoch, m.Previous, g.Epoch())
			}
			f.epochs[m.ID] = m.Epoch
		}
	}
	if g.Epoch() < f.group {
		f.t.Fatalf("the group goes from epoch %d to %d", f.group, g.Epoch())
	}
	f.group = g.Epoch()
	for _, a := range f.actors { // nobody reads what the coordinator thinks is somebody else's
		for p := range a.holds {
			if o, ok := owner[p]; ok && o != a.id {
				f.t.Fatalf("%s reads %v, which is with %s", a.name, p, o)
			}
		}
	}
}

// settle lets everybody do their turns until nothing changes, and checks that it ends well.
func (f *fleet) settle() {
	f.t.Helper()
	f.setTopics(map[string]int32{})
	for round := 0; ; round++ {
		if round == 40 {
			f.t.Fatalf("no rest after %d rounds:\n%s", round, f.describe())
		}
		f.advance(1500 * time.Millisecond)
		for _, a := range f.actors {
			f.turn(a, false)
			f.check()
			a.take()
			f.check()
		}
		g, ok := f.s.find("g").(*consumer.Group)
		calm := ok && g.State() == consumer.Stable && g.Size() == len(f.actors)
		for _, a := range f.actors {
			calm = calm && a.told == nil && !a.rejoin && a.epoch > 0
		}
		if calm && round > 2 {
			break
		}
	}
	got := map[part]bool{}
	for _, a := range f.actors {
		mine := f.topicsOf(a)
		for p := range a.holds {
			if !mine[p.topic] {
				f.t.Fatalf("%s reads %v without subscription", a.name, p)
			}
			got[p] = true
		}
	}
	for t := range f.img.Topics() {
		wanted := slices.ContainsFunc(f.actors, func(a *actor) bool { return slices.Contains(a.topics, t.Name) })
		for p := range t.Partitions {
			if wanted != got[part{t.ID, int32(p)}] {
				f.t.Fatalf("%s-%d: wanted %t, read %t\n%s", t.Name, p, wanted, !wanted, f.describe())
			}
		}
	}
}

func (f *fleet) describe() string {
	var b strings.Builder
	for _, g := range f.s.ConsumerGroupDescribe([]string{"g"}) {
		b.WriteString(showDescribed(&g))
	}
	for _, a := range f.actors {
		fmt.Fprintf(&b, "%s: %s epoch=%d holds=%v told=%v rejoin=%t\n", a.name, a.id, a.epoch, a.holds, a.told, a.rejoin)
	}
	return b.String()
}

func (f *fleet) drawTopics(t *rapid.T) []string {
	return rapid.SampledFrom([][]string{{"t"}, {"u"}, {"t", "u"}, {"t", "v"}}).Draw(t, "topics")
}

func (f *fleet) join(t *rapid.T, classic bool) *actor {
	f.made++
	name := fmt.Sprint("m", f.made)
	a := &actor{name: name, id: name, topics: f.drawTopics(t), classic: classic, rejoin: classic}
	a.holds = map[part]bool{}
	if classic {
		a.id, a.eager = "", rapid.Bool().Draw(t, "eager")
	} else if rapid.IntRange(0, 2).Draw(t, "static") == 0 {
		a.instance = kmsg.StringPtr("i-" + name)
	}
	f.actors = append(f.actors, a)
	return a
}

func (f *fleet) out(a *actor) {
	f.actors = slices.DeleteFunc(f.actors, func(x *actor) bool { return x == a })
	a.drop()
}

// restart lets a static member go away, and come back as another process.
func (f *fleet) restart(t *rapid.T, a *actor) {
	if a.instance == nil {
		t.Skip("dynamic")
	}
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = "g", a.id, -2, a.instance
	a.drop()
	if r := f.beat(req, 1); r.ErrorCode != 0 {
		t.Skip("not in the group just now")
	}
	f.made++
	a.id = fmt.Sprint("m", f.made)
	f.turn(a, false)
}

// changeTopics changes the cluster's topics. One that is gone has nothing to read.
func (f *fleet) changeTopics(t *rapid.T) {
	f.setTopics(map[string]int32{"t": int32(rapid.IntRange(3, 5).Draw(t, "t")), "v": int32(rapid.IntRange(0, 1).Draw(t, "v"))})
	for _, a := range f.actors {
		for _, ps := range []map[part]bool{a.holds, a.told} {
			for p := range ps {
				if f.img.TopicByID(p.topic) == nil {
					delete(ps, p)
				}
			}
		}
	}
}

// Whatever consumers and the coordinator go through, no partition is read by two, epochs only grow, and when all is
// quiet everything is read by somebody who wants to, and the log tells the same story.
func TestConsumerFleet(t *testing.T) {
	for _, mixed := range []bool{false, true} {
		t.Run(fmt.Sprintf("mixed=%t", mixed), func(t *testing.T) { rapid.Check(t, func(t *rapid.T) { runFleet(t, mixed) }) })
	}
}

func runFleet(t *rapid.T, mixed bool) {
	cfg := DefaultConfig()
	cfg.Consumer.Migration = consumer.Upgrade // a classic group's leader is another test's business
	f := &fleet{frame: newFrame(t, cfg), epochs: map[string]int32{}}
	f.setTopics(map[string]int32{"t": 3, "u": 2})
	f.turn(f.join(t, false), false) // stays, so that the group never is empty
	any := func(t *rapid.T) *actor { return rapid.SampledFrom(f.actors).Draw(t, "who") }
	mortal := func(t *rapid.T) *actor {
		if len(f.actors) == 1 {
			t.Skip("nobody")
		}
		return rapid.SampledFrom(f.actors[1:]).Draw(t, "who")
	}
	t.Repeat(map[string]func(*rapid.T){
		"join": func(t *rapid.T) {
			if len(f.actors) > 5 {
				t.Skip("enough")
			}
			f.turn(f.join(t, mixed && rapid.Bool().Draw(t, "classic")), false)
		},
		"turn":  func(t *rapid.T) { f.turn(any(t), false) },
		"turn2": func(t *rapid.T) { f.turn(any(t), false) },
		"lost": func(t *rapid.T) {
			a := any(t)
			a.take() // one that takes an old assignment after its next answer was lost cannot be told from one that has not
			f.turn(a, true)
		},
		"take":  func(t *rapid.T) { any(t).take() },
		"take2": func(t *rapid.T) { any(t).take() },
		"crash": func(t *rapid.T) { f.out(mortal(t)) },
		"leave": func(t *rapid.T) {
			a := mortal(t)
			if a.classic {
				r, err := f.s.LeaveGroup(f.now, RequestContext{Version: 5}, &kmsg.LeaveGroupRequest{Group: "g", Members: []kmsg.LeaveGroupRequestMember{{MemberID: a.id}}})
				run(f.frame, r, err, "", 0)
			} else {
				req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
				req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = "g", a.id, -1, a.instance
				f.beat(req, 1)
			}
			delete(f.epochs, a.id)
			f.out(a)
		},
		"restart static": func(t *rapid.T) { f.restart(t, any(t)) },
		"subscribe": func(t *rapid.T) {
			a := any(t)
			if a.classic {
				a.topics, a.rejoin = f.drawTopics(t), true
				return
			}
			a.topics, a.other = f.drawTopics(t), true
		},
		"topics": func(t *rapid.T) { f.changeTopics(t) },
		"time": func(t *rapid.T) {
			for _, a := range f.actors { // in time for sessions and rebalance timeouts
				a.take()
				f.turn(a, false)
				a.take()
				f.turn(a, false)
			}
			f.advance(time.Duration(rapid.IntRange(1, 15_000).Draw(t, "ms")) * time.Millisecond)
		},
		"reload": func(*rapid.T) { f.reload() },
		"":       func(*rapid.T) { f.check() },
	})
	for range 20 { // those who crashed are out by now
		for _, a := range f.actors {
			a.take()
			f.turn(a, false)
		}
		f.advance(5 * time.Second)
		f.check()
	}
	f.settle()
	f.reload()
}
