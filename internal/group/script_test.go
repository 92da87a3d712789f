package group

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/consumer"
	"github.com/ottla/ottla/internal/group/share"
	"github.com/ottla/ottla/internal/group/streams"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire/schema"
)

var start = time.UnixMilli(1_000_000)

// entry is a record in the log as bytes, or the end of a transaction.
type entry struct {
	key, value []byte
	pid        int64
	end        bool
	commit     bool
}

// fataler is what the frame needs of a test: it serves rapid's as well.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// frame does for a shard what the coordinator's frame does: it writes, replays, answers, keeps timers.
type frame struct {
	begin      []share.Partition // states that were asked for last
	t          fataler
	cfg        Config
	s          *Shard
	now        time.Time
	log        []entry
	timers     map[string]time.Time
	waiting    map[coordinator.Token]string
	tok        coordinator.Token
	ids        int
	img        *metadata.Image
	out        strings.Builder
	topologies map[string]*kmsg.StreamsGroupHeartbeatRequestTopology
}

func newFrame(t fataler, cfg Config) *frame {
	f := &frame{t: t, cfg: cfg, now: start, timers: map[string]time.Time{}, waiting: map[coordinator.Token]string{}}
	f.s = f.shard()
	f.setTimers(f.s.OnLoaded(f.now, nil))
	return f
}

func (f *frame) shard() *Shard {
	return New(Options{Config: f.cfg, NewID: func() string { f.ids++; return strconv.Itoa(f.ids) }})
}

// append encodes a record, keeps it, and gives the shard what a reader of the log would see.
func (f *frame) append(r coordinator.Record, pid int64) {
	f.t.Helper()
	e := entry{key: schema.AppendCoordinatorKey(nil, r.Key), pid: pid}
	if r.Value != nil {
		var err error
		if e.value, err = schema.AppendCoordinatorValue(nil, r.Value, r.ValueVersion); err != nil {
			f.t.Fatal(err)
		}
	}
	f.log = append(f.log, e)
	f.replay(f.s, len(f.log)-1)
}

func (f *frame) replay(s *Shard, i int) {
	f.t.Helper()
	e := f.log[i]
	if e.end {
		if err := s.ReplayEndTxn(e.pid, 0, e.commit); err != nil {
			f.t.Fatal(err)
		}
		return
	}
	k, v, err := schema.ReadGroupRecord(e.key, e.value)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := s.Replay(int64(i), e.pid, 0, coordinator.Record{Key: k, Value: v}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *frame) setTimers(ts []coordinator.Timer) {
	for _, t := range ts {
		if t.After == 0 {
			delete(f.timers, t.Key)
		} else {
			f.timers[t.Key] = f.now.Add(t.After)
		}
	}
}

// run finishes an operation and says what the caller gets now; "" while it waits.
func run[T any](f *frame, r coordinator.Result[T], err error, who string, tok coordinator.Token) (reply T, parked bool) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
	pid := int64(-1)
	if r.Producer != nil {
		pid = r.Producer.ID
	}
	for _, rec := range r.Records {
		f.append(rec, pid)
	}
	f.setTimers(r.Timers)
	if r.Parked {
		f.waiting[tok] = who
	}
	for _, d := range r.Deliveries {
		w, ok := f.waiting[d.Token]
		if !ok {
			f.t.Fatalf("token %d answered but not parked", d.Token)
		}
		delete(f.waiting, d.Token)
		fmt.Fprintf(&f.out, "%s: %s\n", w, show(d.Reply))
	}
	return r.Reply, r.Parked
}

func (f *frame) advance(d time.Duration) {
	end := f.now.Add(d)
	for {
		var due []string
		for k, at := range f.timers {
			if !at.After(end) {
				due = append(due, k)
			}
		}
		if len(due) == 0 {
			f.now = end
			return
		}
		slices.SortFunc(due, func(a, b string) int { return cmp.Or(f.timers[a].Compare(f.timers[b]), strings.Compare(a, b)) })
		f.now = f.timers[due[0]]
		delete(f.timers, due[0])
		n := len(f.log)
		r, err := f.s.OnTimer(f.now, due[0])
		run(f, r, err, "", 0)
		f.dump(n)
	}
}

// dump shows the log from a record on.
func (f *frame) dump(from int) {
	for i := from; i < len(f.log); i++ {
		e := f.log[i]
		if e.end {
			fmt.Fprintf(&f.out, "%d end of transaction of %d commit=%t\n", i, e.pid, e.commit)
			continue
		}
		k, v, _ := schema.ReadGroupRecord(e.key, e.value)
		version := "tombstone"
		if e.value != nil {
			version = fmt.Sprintf("v%d", int(e.value[0])<<8|int(e.value[1]))
		}
		txn := ""
		if e.pid >= 0 {
			txn = fmt.Sprintf(" producer=%d", e.pid)
		}
		switch k := k.(type) {
		case *schema.OffsetCommitKey:
			fmt.Fprintf(&f.out, "%d offset %s %s-%d %s%s", i, k.Group, k.Topic, k.Partition, version, txn)
			if v, ok := v.(*schema.OffsetCommitValue); ok {
				fmt.Fprintf(&f.out, " offset=%d epoch=%d metadata=%q at=%d expires=%d id=%x", v.Offset, v.LeaderEpoch, v.Metadata, v.CommitTimestamp, v.ExpireTimestamp, v.TopicID[:1])
			}
		case *schema.GroupMetadataKey:
			fmt.Fprintf(&f.out, "%d group %s %s", i, k.Group, version)
			if v, ok := v.(*schema.GroupMetadataValue); ok {
				fmt.Fprintf(&f.out, " type=%q generation=%d at=%d", v.ProtocolType, v.Generation, v.CurrentStateTimestamp)
				for _, m := range v.Members {
					a := showAssignment(m.Assignment)
					if u, err := strconv.Unquote(a); err == nil {
						a = u
					}
					fmt.Fprintf(&f.out, " %s=%s", m.MemberID, a)
				}
			}
		default:
			fmt.Fprintf(&f.out, "%d %s", i, showRecord(f.img, k, v))
		}
		f.out.WriteByte('\n')
	}
}

// reload loads the log into a new shard and checks that it knows what the old one does.
func (f *frame) reload() {
	f.t.Helper()
	old := f.s
	next := f.shard()
	for i := range f.log {
		f.replay(next, i)
	}
	same(f.t, old, next)
	old.OnUnloaded()
	f.s = next
	clear(f.timers)
	clear(f.waiting)
	f.setTimers(next.OnLoaded(f.now, f.img))
}

// same compares a live shard with what its log gives: all of it but rebalances under way, which are not written.
func same(t fataler, live, loaded *Shard) {
	t.Helper()
	if a, b := fmt.Sprint(live.offsets), fmt.Sprint(loaded.offsets); a != b {
		t.Fatalf("offsets differ:\nlive   %s\nloaded %s", a, b)
	}
	ids := func(s *Shard) (out []string) {
		for _, g := range s.sorted() {
			out = append(out, g.ID())
		}
		return out
	}
	if a, b := ids(live), ids(loaded); !slices.Equal(a, b) {
		t.Fatalf("groups differ: live %v, loaded %v", a, b)
	}
	type recorder interface{ Record() coordinator.Record }
	for _, g := range live.sorted() {
		if c, ok := g.(*consumer.Group); ok {
			sameConsumer(t, c, loaded.find(g.ID()).(*consumer.Group))
			continue
		}
		if c, ok := g.(*streams.Group); ok {
			sameStreams(t, c, loaded.find(g.ID()).(*streams.Group))
			continue
		}
		if c, ok := g.(*share.Group); ok {
			if a, b := c.String(), loaded.find(g.ID()).(*share.Group).String(); a != b {
				t.Fatalf("live   %s\nloaded %s", a, b)
			}
			continue
		}
		if st := g.StateName(); st != "Empty" && st != "Stable" {
			continue
		}
		a, b := g.(recorder).Record(), loaded.find(g.ID()).(recorder).Record()
		av, _ := schema.AppendCoordinatorValue(nil, a.Value, a.ValueVersion)
		bv, _ := schema.AppendCoordinatorValue(nil, b.Value, b.ValueVersion)
		if string(av) != string(bv) {
			t.Fatalf("group %s differs:\nlive   %+v\nloaded %+v", g.ID(), a.Value, b.Value)
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
	return strconv.Quote(*s)
}

func show(r any) string {
	switch r := r.(type) {
	case *kmsg.JoinGroupResponse:
		var ms []string
		for _, m := range r.Members {
			ms = append(ms, m.MemberID)
		}
		return fmt.Sprintf("%s generation=%d type=%s protocol=%s leader=%q member=%q members=%v skip=%t",
			code(r.ErrorCode), r.Generation, deref(r.ProtocolType), deref(r.Protocol), r.LeaderID, r.MemberID, ms, r.SkipAssignment)
	case *kmsg.SyncGroupResponse:
		return fmt.Sprintf("%s type=%s protocol=%s assignment=%s", code(r.ErrorCode), deref(r.ProtocolType), deref(r.Protocol), showAssignment(r.MemberAssignment))
	case *kmsg.HeartbeatResponse:
		return code(r.ErrorCode)
	case *kmsg.LeaveGroupResponse:
		s := code(r.ErrorCode)
		for _, m := range r.Members {
			s += fmt.Sprintf(" %q/%s=%s", m.MemberID, deref(m.InstanceID), code(m.ErrorCode))
		}
		return s
	}
	return fmt.Sprint(r)
}

// Scripts. Commands take key=value arguments; those with a group default to group=g.
//
//	shard [retention=d] [max-metadata=n] [migration=policy] [consumer-max=n] [standbys=n] [tags=()] [delay=d]   a new shard
//	join, sync, heartbeat, leave           as clients send them, with v= the version
//	commit topic-partition offset          [gen=] [member=] [instance=] [v=] [metadata=] [retention=] [id=] [epoch=]
//	txn-commit topic-partition offset      [pid=]; end-txn pid [abort]
//	fetch topic-partition... | all         [stable] [id=]
//	delete group...; offset-delete topic-partition...
//	list [states=] [types=]; describe group... [v=]
//	beat member=, describe-consumer, topics, group-config, fetch-as: see consumerCommand
//	topology name, sbeat member=, describe-streams: see streamsCommand
//	qbeat member=, begun, describe-share: see shareCommand
//	advance d; topic-deleted name [id=]; log [from=]; reload
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		var f *frame
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "shard" {
				cfg := DefaultConfig()
				cfg.OffsetsRetention = dur(d, "retention", 0)
				cfg.MaxMetadataBytes = int(num(d, "max-metadata", 4096))
				cfg.Consumer.Migration, _ = consumer.ParsePolicy(str(d, "migration", "bidirectional"))
				cfg.Consumer.MaxSize = int(num(d, "consumer-max", 1000))
				cfg.Streams.Standbys, cfg.Streams.RackTags = int(num(d, "standbys", 0)), list(d, "tags")
				cfg.Streams.InitialDelay = dur(d, "delay", 0)
				f = newFrame(t, cfg)
				return ""
			}
			f.t = t
			f.out.Reset()
			f.command(d)
			return f.out.String()
		})
	})
}

func (f *frame) command(d *datadriven.TestData) {
	switch d.Cmd {
	case "join", "sync", "heartbeat", "leave":
		f.classicCommand(d)
	case "commit", "txn-commit":
		f.commitCommand(d)
	case "end-txn":
		f.log = append(f.log, entry{pid: num(d, "pid", 1), end: true, commit: !d.HasArg("abort")})
		f.replay(f.s, len(f.log)-1)
	case "fetch":
		f.fetchCommand(d)
	case "beat", "topics", "describe-consumer", "fetch-as", "group-config":
		f.consumerCommand(d)
	case "topology", "sbeat", "describe-streams", "topics-failed", "describe-topology":
		f.streamsCommand(d)
	case "qbeat", "begun", "describe-share", "alter", "unstate", "unstated":
		f.shareCommand(d)
	case "delete":
		r, err := f.s.DeleteGroups(f.now, RequestContext{}, plain(d))
		reply, _ := run(f, r, err, "", 0)
		for _, g := range reply {
			fmt.Fprintf(&f.out, "%s: %s %s\n", g.Group, code(g.ErrorCode), deref(g.ErrorMessage))
		}
	case "offset-delete":
		f.offsetDeleteCommand(d)
	case "list":
		for _, g := range f.s.ListGroups(list(d, "states"), list(d, "types")) {
			fmt.Fprintf(&f.out, "%s %q %s %s\n", g.Group, g.ProtocolType, g.GroupState, g.GroupType)
		}
	case "describe":
		for _, g := range f.s.DescribeGroups(int16(num(d, "v", 6)), plain(d)) {
			fmt.Fprintf(&f.out, "%s: %s %s state=%s type=%q protocol=%q authorized=%d\n", g.Group, code(g.ErrorCode), deref(g.ErrorMessage), g.State, g.ProtocolType, g.Protocol, g.AuthorizedOperations)
			for _, m := range g.Members {
				fmt.Fprintf(&f.out, "  %s %s client=%s host=%s metadata=%q assignment=%q\n", m.MemberID, deref(m.InstanceID), m.ClientID, m.ClientHost, m.ProtocolMetadata, m.MemberAssignment)
			}
		}
	case "advance":
		v, err := time.ParseDuration(plain(d)[0])
		if err != nil {
			f.t.Fatal(err)
		}
		f.advance(v)
	case "topic-deleted":
		f.topicDeleted(plain(d)[0], topicID(d))
	case "log":
		f.dump(int(num(d, "from", 0)))
	case "reload":
		f.reload()
	default:
		f.t.Fatalf("unknown command %s", d.Cmd)
	}
}

func (f *frame) classicCommand(d *datadriven.TestData) {
	ctx := RequestContext{ClientID: str(d, "client", "c"), ClientHost: "/127.0.0.1", Version: int16(num(d, "v", map[string]int64{"join": 9, "sync": 5, "heartbeat": 4, "leave": 5}[d.Cmd]))}
	group, member, instance, gen := str(d, "group", "g"), str(d, "member", ""), opt(d, "instance"), int32(num(d, "gen", 1))
	f.tok++
	switch d.Cmd {
	case "join":
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID = ctx.Version, group, member, instance
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(dur(d, "session", 10*time.Second).Milliseconds()), 10000
		req.ProtocolType = str(d, "type", "consumer")
		for _, p := range list(d, "protocols") {
			req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: p, Metadata: subscription(list(d, "topics"), list(d, "owned")...)})
		}
		if !d.HasArg("protocols") && !d.HasArg("no-protocols") {
			req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: subscription(list(d, "topics"), list(d, "owned")...)}}
		}
		r, err := f.s.JoinGroup(f.now, f.tok, ctx, req)
		if reply, parked := run(f, r, err, "join "+ctx.ClientID, f.tok); !parked {
			fmt.Fprintln(&f.out, show(reply))
		}
	case "sync":
		req := kmsg.NewPtrSyncGroupRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = ctx.Version, group, member, instance, gen
		if ctx.Version >= 5 {
			req.ProtocolType, req.Protocol = opt(d, "type"), opt(d, "protocol")
			if !d.HasArg("bare") && req.Protocol == nil {
				req.ProtocolType, req.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
			}
		}
		for _, a := range list(d, "assign") {
			who, what, _ := strings.Cut(a, ":")
			req.GroupAssignment = append(req.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: who, MemberAssignment: []byte(what)})
		}
		for _, a := range list(d, "assign-partitions") {
			who, what, _ := strings.Cut(a, ":")
			req.GroupAssignment = append(req.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: who, MemberAssignment: assignment(what)})
		}
		r, err := f.s.SyncGroup(f.now, f.tok, ctx, req)
		if reply, parked := run(f, r, err, "sync "+member, f.tok); !parked {
			fmt.Fprintln(&f.out, show(reply))
		}
	case "heartbeat":
		req := &kmsg.HeartbeatRequest{Group: group, Generation: gen, MemberID: member, InstanceID: instance}
		r, err := f.s.Heartbeat(f.now, ctx, req)
		reply, _ := run(f, r, err, "", 0)
		fmt.Fprintln(&f.out, show(reply))
	case "leave":
		req := &kmsg.LeaveGroupRequest{Version: ctx.Version, Group: group, MemberID: member}
		for _, m := range plain(d) {
			req.Members = append(req.Members, kmsg.LeaveGroupRequestMember{MemberID: m})
		}
		for _, i := range list(d, "instances") {
			req.Members = append(req.Members, kmsg.LeaveGroupRequestMember{InstanceID: kmsg.StringPtr(i)})
		}
		r, err := f.s.LeaveGroup(f.now, ctx, req)
		reply, _ := run(f, r, err, "", 0)
		fmt.Fprintln(&f.out, show(reply))
	}
}

func (f *frame) commitCommand(d *datadriven.TestData) {
	args := plain(d)
	topic, partition := topicPartition(args[0])
	offset, _ := strconv.ParseInt(args[1], 10, 64)
	group, member, instance, gen := str(d, "group", "g"), str(d, "member", ""), opt(d, "instance"), int32(num(d, "gen", -1))
	metadata := opt(d, "metadata")
	if n := num(d, "metadata-bytes", 0); n > 0 {
		metadata = kmsg.StringPtr(strings.Repeat("x", int(n)))
	}
	epoch := int32(num(d, "epoch", -1))
	if d.Cmd == "txn-commit" {
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.Group, req.MemberID, req.InstanceID, req.Generation, req.ProducerID = group, member, instance, gen, num(d, "pid", 1)
		req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: topic, TopicID: topicID(d), Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{
			Partition: partition, Offset: offset, LeaderEpoch: epoch, Metadata: metadata}}}}
		r, err := f.s.TxnOffsetCommit(f.now, RequestContext{Version: int16(num(d, "v", 5))}, req, nil)
		reply, _ := run(f, r, err, "", 0)
		fmt.Fprintln(&f.out, code(reply.Topics[0].Partitions[0].ErrorCode))
		return
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.InstanceID, req.Generation = group, member, instance, gen
	req.RetentionTimeMillis = num(d, "retention", -1)
	req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: topic, TopicID: topicID(d), Partitions: []kmsg.OffsetCommitRequestTopicPartition{{
		Partition: partition, Offset: offset, LeaderEpoch: epoch, Metadata: metadata}}}}
	r, err := f.s.OffsetCommit(f.now, RequestContext{Version: int16(num(d, "v", 9))}, req)
	reply, _ := run(f, r, err, "", 0)
	fmt.Fprintln(&f.out, code(reply.Topics[0].Partitions[0].ErrorCode))
}

func (f *frame) fetchCommand(d *datadriven.TestData) {
	req := kmsg.NewOffsetFetchRequestGroup()
	req.Group = str(d, "group", "g")
	if args := plain(d); args[0] != "all" {
		for _, a := range args {
			if a == "stable" {
				continue
			}
			topic, p := topicPartition(a)
			req.Topics = append(req.Topics, kmsg.OffsetFetchRequestGroupTopic{Topic: topic, TopicID: topicID(d), Partitions: []int32{p}})
		}
	}
	g := f.s.OffsetFetch(&req, d.HasArg("stable"))
	if g.ErrorCode != 0 {
		fmt.Fprintln(&f.out, code(g.ErrorCode))
	}
	for _, t := range g.Topics {
		for _, p := range t.Partitions {
			fmt.Fprintf(&f.out, "%s-%d %s offset=%d epoch=%d metadata=%s\n", t.Topic, p.Partition, code(p.ErrorCode), p.Offset, p.LeaderEpoch, deref(p.Metadata))
		}
	}
}

func (f *frame) offsetDeleteCommand(d *datadriven.TestData) {
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = str(d, "group", "g")
	for _, a := range plain(d) {
		topic, p := topicPartition(a)
		req.Topics = append(req.Topics, kmsg.OffsetDeleteRequestTopic{Topic: topic, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: p}}})
	}
	r, err := f.s.OffsetDelete(f.now, RequestContext{}, req)
	reply, _ := run(f, r, err, "", 0)
	fmt.Fprintln(&f.out, code(reply.ErrorCode))
	for _, t := range reply.Topics {
		fmt.Fprintf(&f.out, "%s-%d %s\n", t.Topic, t.Partitions[0].Partition, code(t.Partitions[0].ErrorCode))
	}
}

func (f *frame) topicDeleted(name string, id schema.UUID) {
	base := metadata.NewDelta(metadata.Empty("c"))
	if err := base.Replay(1, 1, &schema.TopicRecord{Name: name, TopicID: id}); err != nil {
		f.t.Fatal(err)
	}
	img := base.Image()
	delta := metadata.NewDelta(img)
	if err := delta.Replay(2, 1, &schema.RemoveTopicRecord{TopicID: id}); err != nil {
		f.t.Fatal(err)
	}
	f.setTimers(f.s.OnImage(f.now, delta.Image(), delta))
}

func subscription(topics []string, owned ...string) []byte {
	s := kmsg.NewConsumerMemberMetadata()
	s.Topics = topics
	for _, o := range owned {
		s.Version = 1
		name, p, _ := strings.Cut(o, ":")
		n, _ := strconv.Atoi(p)
		s.OwnedPartitions = append(s.OwnedPartitions, kmsg.ConsumerMemberMetadataOwnedPartition{Topic: name, Partitions: []int32{int32(n)}})
	}
	return s.AppendTo(nil)
}

func topicPartition(s string) (string, int32) {
	i := strings.LastIndexByte(s, '-')
	n, err := strconv.Atoi(s[i+1:])
	if err != nil {
		panic(err)
	}
	return s[:i], int32(n)
}

func topicID(d *datadriven.TestData) (id schema.UUID) {
	id[0] = byte(num(d, "id", 0))
	return id
}

func plain(d *datadriven.TestData) (out []string) {
	for _, a := range d.CmdArgs {
		if len(a.Vals) == 0 {
			out = append(out, a.Key)
		}
	}
	return out
}

func list(d *datadriven.TestData, key string) []string {
	for _, a := range d.CmdArgs {
		if a.Key == key {
			return a.Vals
		}
	}
	return nil
}

func str(d *datadriven.TestData, key, def string) string {
	if v := list(d, key); len(v) > 0 {
		return v[0]
	}
	return def
}

func opt(d *datadriven.TestData, key string) *string {
	if v := list(d, key); len(v) > 0 {
		return &v[0]
	}
	return nil
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
