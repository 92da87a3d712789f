package classic

import (
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/wire/schema"
)

// fataler is what the world needs of a test: it serves rapid's as well.
type fataler interface {
	Fatal(...any)
	Fatalf(string, ...any)
}

// world is a group with the surroundings it needs: time, timers, a log of its record, clients that wait.
type world struct {
	t       fataler
	env     *Env
	g       *Group
	now     time.Time
	timers  map[string]time.Time
	waiting map[coordinator.Token]string
	tok     coordinator.Token
	ids     int
	logged  *schema.GroupMetadataValue
	out     strings.Builder
	heard   func(who string, reply any) // told of every answer, where not nil
}

var epoch = time.UnixMilli(1_000_000)

func newWorld(t fataler, cfg Config) *world {
	w := &world{t: t, now: epoch, timers: map[string]time.Time{}, waiting: map[coordinator.Token]string{}}
	w.env = &Env{Config: cfg, Log: slog.New(slog.DiscardHandler), NewID: func() string { w.ids++; return strconv.Itoa(w.ids) }}
	w.g = New(w.env, "g", w.now.UnixMilli())
	return w
}

// do runs an operation as the frame would.
func (w *world) do(f func(op *effect.Op)) {
	op := &effect.Op{Now: w.now}
	f(op)
	for _, r := range op.Records {
		v, _ := r.Value.(*schema.GroupMetadataValue)
		w.logged = v
		fmt.Fprintf(&w.out, "log: %s\n", showRecord(v))
	}
	for _, d := range op.Deliveries {
		who, ok := w.waiting[d.Token]
		if !ok {
			w.t.Fatalf("token %d answered twice or never asked: %v", d.Token, d.Reply)
		}
		delete(w.waiting, d.Token)
		fmt.Fprintf(&w.out, "%s: %s\n", who, showReply(d.Reply))
		if w.heard != nil {
			w.heard(who, d.Reply)
		}
	}
	for _, tm := range op.Timers {
		if tm.After == 0 {
			delete(w.timers, tm.Key)
		} else {
			w.timers[tm.Key] = w.now.Add(tm.After)
		}
	}
	w.check()
}

// advance lets time pass and fires what is due, in order.
func (w *world) advance(d time.Duration) {
	end := w.now.Add(d)
	for {
		var due []string
		for k, at := range w.timers {
			if !at.After(end) {
				due = append(due, k)
			}
		}
		if len(due) == 0 {
			w.now = end
			return
		}
		slices.SortFunc(due, func(a, b string) int {
			if c := w.timers[a].Compare(w.timers[b]); c != 0 {
				return c
			}
			return strings.Compare(a, b)
		})
		key := due[0]
		w.now = w.timers[key]
		delete(w.timers, key)
		_, name, _ := effect.ParseTimerKey(key)
		before := w.out.Len()
		mark := len(w.out.String())
		w.do(func(op *effect.Op) { w.g.OnTimer(op, name) })
		if w.out.Len() > before {
			s := w.out.String()
			w.out.Reset()
			fmt.Fprintf(&w.out, "%s+%s %s\n%s", s[:mark], w.now.Sub(epoch), name, s[mark:])
		}
	}
}

// check holds the group to what must be true between operations.
func (w *world) check() {
	g := w.g
	joining, votes := 0, map[string]int{}
	for _, m := range g.members {
		if g.byID[m.ID] != m {
			w.t.Fatalf("member %s is not found by its id", m.ID)
		}
		if m.join.waits {
			joining++
		}
		if m.join.waits && g.state != PreparingRebalance {
			w.t.Fatalf("member %s waits to join in %s", m.ID, g.state)
		}
		if m.sync.waits && g.state != CompletingRebalance {
			w.t.Fatalf("member %s waits for its sync in %s", m.ID, g.state)
		}
		if m.InstanceID != nil && g.static[*m.InstanceID] != m.ID {
			w.t.Fatalf("instance %s is not %s", *m.InstanceID, m.ID)
		}
		for _, p := range m.Protocols {
			votes[p.Name]++
		}
		if _, ok := w.timers[effect.TimerKey(g.id, m.timerName())]; !ok && !m.join.waits && !m.sync.waits {
			w.t.Fatalf("member %s waits for nothing and has no timer", m.ID)
		}
	}
	if joining != g.joining || len(g.byID) != len(g.members) {
		w.t.Fatalf("joining %d counted %d; members %d by id %d", joining, g.joining, len(g.members), len(g.byID))
	}
	for p, n := range votes {
		if g.votes[p] != n {
			w.t.Fatalf("protocol %s: %d members, counted %d", p, n, g.votes[p])
		}
	}
	if g.state == Empty && len(g.members) > 0 {
		w.t.Fatal("empty with members")
	}
	if len(g.members) > 0 && g.byID[g.leader] == nil {
		w.t.Fatalf("leader %q is no member", g.leader)
	}
	parkedNow := 0
	for _, m := range g.members {
		if m.join.waits {
			parkedNow++
		}
		if m.sync.waits {
			parkedNow++
		}
	}
	if parkedNow != len(w.waiting) {
		w.t.Fatalf("%d requests wait, the group holds %d: one was lost", len(w.waiting), parkedNow)
	}
	if g.state == PreparingRebalance {
		if _, ok := w.timers[effect.TimerKey(g.id, timerJoin)]; !ok {
			w.t.Fatal("a rebalance without end")
		}
	}
	if (g.state == CompletingRebalance || g.state == Stable) && len(g.unsync) > 0 {
		if _, ok := w.timers[effect.TimerKey(g.id, timerSync)]; !ok {
			w.t.Fatal("syncs are waited for without end")
		}
	}
}

func code(c int16) string {
	if c == 0 {
		return "ok"
	}
	return kerr.TypedErrorForCode(c).Message
}

func deref(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}

func showReply(r any) string {
	switch r := r.(type) {
	case *kmsg.JoinGroupResponse:
		if r.ErrorCode != 0 {
			return strings.TrimSpace(fmt.Sprintf("%s %s", code(r.ErrorCode), r.MemberID))
		}
		s := fmt.Sprintf("joined generation %d as %s, leader %s, protocol %s", r.Generation, r.MemberID, r.LeaderID, deref(r.Protocol))
		if len(r.Members) > 0 {
			var ms []string
			for _, m := range r.Members {
				x := m.MemberID + "=" + string(m.ProtocolMetadata)
				if m.InstanceID != nil {
					x += "(" + *m.InstanceID + ")"
				}
				ms = append(ms, x)
			}
			s += ", members " + strings.Join(ms, " ")
		}
		if r.SkipAssignment {
			s += ", skip the assignment"
		}
		return s
	case *kmsg.SyncGroupResponse:
		if r.ErrorCode != 0 {
			return code(r.ErrorCode)
		}
		return fmt.Sprintf("assigned %q", r.MemberAssignment)
	}
	return fmt.Sprint(r)
}

func showRecord(v *schema.GroupMetadataValue) string {
	if v == nil {
		return "tombstone"
	}
	s := fmt.Sprintf("type=%q generation=%d protocol=%s leader=%s", v.ProtocolType, v.Generation, deref(v.Protocol), deref(v.Leader))
	for _, m := range v.Members {
		s += fmt.Sprintf(" %s=%s", m.MemberID, m.Assignment)
		if m.GroupInstanceID != nil {
			s += "(" + *m.GroupInstanceID + ")"
		}
	}
	return s
}

func (w *world) show() {
	g := w.g
	fmt.Fprintf(&w.out, "%s generation=%d type=%q protocol=%q leader=%q\n", g.state, g.generation, g.protocolType, g.protocol, g.leader)
	for _, m := range g.members {
		fmt.Fprintf(&w.out, "  %s", m.ID)
		if m.InstanceID != nil {
			fmt.Fprintf(&w.out, " instance=%s", *m.InstanceID)
		}
		if m.join.waits {
			w.out.WriteString(" joins")
		}
		if m.sync.waits {
			w.out.WriteString(" syncs")
		}
		w.out.WriteString("\n")
	}
	for _, id := range slices.Sorted(func(yield func(string) bool) {
		for id := range g.pending {
			if !yield(id) {
				return
			}
		}
	}) {
		fmt.Fprintf(&w.out, "  %s given out\n", id)
	}
}

// Scripts. Commands:
//
//	group [delay=d] [max-size=n] [fresh=d]    a new group
//	join client [id=] [instance=] [v=9] [protocols=a,b] [meta=] [type=consumer] [session=10s] [rebalance=30s] [reason=]
//	sync id [gen=] [instance=] [v=5] [assign=(id:bytes,...)] [protocol=] [type=]
//	heartbeat id [gen=] [instance=]
//	leave id... [instance=]
//	commit id [gen=] [instance=] [txn]         may it commit?
//	advance d                                  time passes
//	state                                      what the group looks like
//	reload                                     the coordinator moves: the group as the log has it
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var w *world
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "group" {
				cfg := DefaultConfig()
				cfg.InitialDelay = dur(d, "delay", 0)
				cfg.FreshJoin = dur(d, "fresh", cfg.FreshJoin)
				cfg.MaxSize = int(num(d, "max-size", int64(cfg.MaxSize)))
				cfg.MaxPending = int(num(d, "max-pending", int64(cfg.MaxPending)))
				w = newWorld(t, cfg)
				return ""
			}
			w.t = t
			w.out.Reset()
			w.command(d)
			return w.out.String()
		})
	})
}

func (w *world) command(d *datadriven.TestData) {
	first := ""
	if len(d.CmdArgs) > 0 && len(d.CmdArgs[0].Vals) == 0 {
		first = d.CmdArgs[0].Key
	}
	instance := ptr(str(d, "instance", ""))
	gen := int32(num(d, "gen", int64(w.g.generation)))
	switch d.Cmd {
	case "join":
		w.joinCommand(d, first)
	case "sync":
		w.syncCommand(d, first)
	case "heartbeat":
		req := &kmsg.HeartbeatRequest{Group: "g", Generation: gen, MemberID: first, InstanceID: instance}
		w.do(func(op *effect.Op) {
			c := int16(0)
			if k := w.g.Heartbeat(op, req); k != nil {
				c = k.Code
			}
			fmt.Fprintln(&w.out, code(c))
		})
	case "leave":
		var ms []kmsg.LeaveGroupRequestMember
		for _, a := range d.CmdArgs {
			if len(a.Vals) == 0 {
				ms = append(ms, kmsg.LeaveGroupRequestMember{MemberID: a.Key, InstanceID: instance})
			}
		}
		if len(ms) == 0 {
			ms = append(ms, kmsg.LeaveGroupRequestMember{InstanceID: instance})
		}
		w.do(func(op *effect.Op) {
			for _, r := range w.g.Leave(op, ms) {
				fmt.Fprintf(&w.out, "%s: %s\n", r.MemberID, code(r.ErrorCode))
			}
		})
	case "commit":
		_, err := "", w.g.CheckCommit(effect.Commit{MemberID: first, InstanceID: instance, Generation: int32(num(d, "gen", int64(w.g.generation))), Transactional: d.HasArg("txn")})
		if err != nil {
			fmt.Fprintln(&w.out, err.(*kerr.Error).Message)
		} else {
			fmt.Fprintln(&w.out, "ok")
		}
	case "advance":
		dt, err := time.ParseDuration(first)
		if err != nil {
			w.t.Fatal(err)
		}
		w.advance(dt)
	case "state":
		w.show()
	case "reload":
		clear(w.timers)
		clear(w.waiting)
		w.g = Load(w.env, "g", w.logged)
		w.do(func(op *effect.Op) { w.g.Start(op) })
		w.show()
	default:
		w.t.Fatalf("unknown command %s", d.Cmd)
	}
}

func (w *world) joinCommand(d *datadriven.TestData, client string) {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group = "g"
	req.MemberID = str(d, "id", "")
	req.InstanceID = ptr(str(d, "instance", ""))
	req.ProtocolType = str(d, "type", "consumer")
	req.SessionTimeoutMillis = int32(dur(d, "session", 10*time.Second).Milliseconds())
	req.RebalanceTimeoutMillis = int32(dur(d, "rebalance", 30*time.Second).Milliseconds())
	req.Reason = ptr(str(d, "reason", ""))
	for _, p := range strings.Split(str(d, "protocols", "range"), "+") {
		req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: p, Metadata: []byte(str(d, "meta", client))})
	}
	v := int16(num(d, "v", 9))
	w.tok++
	w.waiting[w.tok] = "join " + client
	tok := w.tok
	w.do(func(op *effect.Op) { w.g.Join(op, tok, Client{ID: client, Host: "/h", Version: v}, req) })
}

func (w *world) syncCommand(d *datadriven.TestData, id string) {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID = "g", id
	req.InstanceID = ptr(str(d, "instance", ""))
	req.Generation = int32(num(d, "gen", int64(w.g.generation)))
	req.ProtocolType, req.Protocol = ptr(str(d, "type", "")), ptr(str(d, "protocol", ""))
	for _, a := range d.CmdArgs {
		if a.Key != "assign" {
			continue
		}
		for _, v := range a.Vals {
			who, what, _ := strings.Cut(v, ":")
			req.GroupAssignment = append(req.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: who, MemberAssignment: []byte(what)})
		}
	}
	w.tok++
	w.waiting[w.tok] = "sync " + id
	tok := w.tok
	w.do(func(op *effect.Op) { w.g.Sync(op, tok, int16(num(d, "v", 5)), req) })
}

func str(d *datadriven.TestData, key, def string) string {
	for _, a := range d.CmdArgs {
		if a.Key == key && len(a.Vals) > 0 {
			return a.Vals[0]
		}
	}
	return def
}

func num(d *datadriven.TestData, key string, def int64) int64 {
	n, err := strconv.ParseInt(str(d, key, strconv.FormatInt(def, 10)), 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func dur(d *datadriven.TestData, key string, def time.Duration) time.Duration {
	v, err := time.ParseDuration(str(d, key, def.String()))
	if err != nil {
		panic(err)
	}
	return v
}

func ptr(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
