package group

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/group/classic"
	"github.com/ottla/ottla/internal/group/effect"
	"github.com/ottla/ottla/internal/wire/schema"
)

// An OffsetFetch of every version, through the bytes of the wire, asks the same and is answered the same.
func TestOffsetFetchVersions(t *testing.T) {
	f := newFrame(t, DefaultConfig())
	id := [16]byte{9}
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group = "g"
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", TopicID: id, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: 1, Offset: 7, LeaderEpoch: 3, Metadata: kmsg.StringPtr("m")}}}}
	r, err := f.s.OffsetCommit(f.now, RequestContext{Version: 9}, commit)
	run(f, r, err, "", 0)

	for v := int16(1); v <= 10; v++ {
		for _, all := range []bool{false, true} {
			if all && v < 2 {
				continue // version 1 cannot ask for all
			}
			req := kmsg.NewPtrOffsetFetchRequest()
			req.Version = v
			if v < 8 {
				req.Group = "g"
				if !all {
					req.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{1, 2}}}
				}
			} else {
				g := kmsg.NewOffsetFetchRequestGroup()
				g.Group = "g"
				if !all {
					g.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", TopicID: id, Partitions: []int32{1, 2}}}
				}
				absent := kmsg.NewOffsetFetchRequestGroup()
				absent.Group = "absent"
				req.Groups = []kmsg.OffsetFetchRequestGroup{g, absent}
			}
			read := kmsg.NewPtrOffsetFetchRequest()
			read.Version = v
			if err := read.ReadFrom(req.AppendTo(nil)); err != nil {
				t.Fatal(err)
			}
			if v >= 10 && !all { // the caller resolves the id
				read.Groups[0].Topics[0].Topic = "t"
			}
			var groups []kmsg.OffsetFetchResponseGroup
			for _, g := range FetchGroups(read) {
				groups = append(groups, f.s.OffsetFetch(&g, read.RequireStable))
			}
			resp := kmsg.NewPtrOffsetFetchResponse()
			resp.Version = v
			if err := resp.ReadFrom(FetchAnswer(read, groups).AppendTo(nil)); err != nil {
				t.Fatal(err)
			}
			checkFetched(t, resp, all, id)
		}
	}
}

func checkFetched(t *testing.T, resp *kmsg.OffsetFetchResponse, all bool, id [16]byte) {
	t.Helper()
	type part struct {
		p        int32
		off      int64
		epoch    int32
		metadata string
	}
	var got []part
	if resp.Version < 8 {
		for _, p := range resp.Topics[0].Partitions {
			got = append(got, part{p.Partition, p.Offset, p.LeaderEpoch, *p.Metadata})
		}
	} else {
		if len(resp.Groups) != 2 || len(resp.Groups[1].Topics) != 0 || resp.Groups[1].ErrorCode != 0 {
			t.Fatalf("v%d: %+v", resp.Version, resp.Groups)
		}
		if resp.Version >= 10 && resp.Groups[0].Topics[0].TopicID != id {
			t.Fatalf("v%d: topic id %x", resp.Version, resp.Groups[0].Topics[0].TopicID)
		}
		for _, p := range resp.Groups[0].Topics[0].Partitions {
			got = append(got, part{p.Partition, p.Offset, p.LeaderEpoch, *p.Metadata})
		}
	}
	want := []part{{1, 7, 3, "m"}, {2, -1, -1, ""}}
	if all {
		want = want[:1]
	}
	if resp.Version < 5 {
		want[0].epoch = -1
	}
	if len(got) != len(want) {
		t.Fatalf("v%d all=%t: %+v", resp.Version, all, got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("v%d all=%t: got %+v, want %+v", resp.Version, all, got[i], want[i])
		}
	}
}

// An error of the whole goes where the version has room for it.
func TestOffsetFetchErrorShapes(t *testing.T) {
	failed := []kmsg.OffsetFetchResponseGroup{{Group: "g", ErrorCode: kerr.NotCoordinator.Code}}
	for v := int16(1); v <= 10; v++ {
		req := &kmsg.OffsetFetchRequest{Version: v, Group: "g", Topics: []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{4}}}}
		resp := FetchAnswer(req, failed)
		var code int16
		switch {
		case v == 1:
			code = resp.Topics[0].Partitions[0].ErrorCode
		case v < 8:
			code = resp.ErrorCode
		default:
			code = resp.Groups[0].ErrorCode
		}
		if code != kerr.NotCoordinator.Code {
			t.Fatalf("v%d: %+v", v, resp)
		}
	}
}

// An assignment that the log refuses is taken back: the members sync again, with a smaller one.
func TestRefusedAssignment(t *testing.T) {
	f := newFrame(t, DefaultConfig())
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = "g", "consumer", 10000, 10000
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
	jr, err := f.s.JoinGroup(f.now, 1, RequestContext{ClientID: "a", Version: 3}, join)
	joined, _ := run(f, jr, err, "", 1)

	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = "g", joined.MemberID, joined.Generation
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: joined.MemberID, MemberAssignment: make([]byte, 1<<20)}}
	sr, err := f.s.SyncGroup(f.now, 2, RequestContext{Version: 4}, sync)
	if err != nil || sr.OnRefused == nil || len(sr.Records) != 1 {
		t.Fatalf("%+v %v", sr, err)
	}
	sr.OnRefused(errors.New("too large"))
	f.setTimers(sr.Timers)
	if got := f.s.find("g").StateName(); got != "CompletingRebalance" {
		t.Fatalf("state %s after the refusal", got)
	}

	sync.GroupAssignment[0].MemberAssignment = []byte("small")
	sr, err = f.s.SyncGroup(f.now, 3, RequestContext{Version: 4}, sync)
	synced, parked := run(f, sr, err, "", 3)
	if parked || synced.ErrorCode != 0 || string(synced.MemberAssignment) != "small" {
		t.Fatalf("%+v", synced)
	}
	late := f.s.find("g").StateName()
	sr.OnRefused(errors.New("not asked for")) // of an earlier state: the generation is the same, so it applies
	if late != "Stable" || f.s.find("g").StateName() != "CompletingRebalance" {
		t.Fatalf("%s, then %s", late, f.s.find("g").StateName())
	}
	f.advance(time.Minute) // who does not sync again is out
	if got := f.s.find("g").StateName(); got != "Empty" {
		t.Fatalf("state %s in the end", got)
	}
}

// Names that a record cannot hold are refused before they get there.
func TestNamesTooLong(t *testing.T) {
	f := newFrame(t, DefaultConfig())
	long := strings.Repeat("x", 1<<15)
	join := func(change func(*kmsg.JoinGroupRequest, *RequestContext)) int16 {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.ProtocolType, req.SessionTimeoutMillis = "g", "consumer", 10000
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		ctx := RequestContext{ClientID: "a", Version: 9}
		change(req, &ctx)
		r, err := f.s.JoinGroup(f.now, 1, ctx, req)
		reply, _ := run(f, r, err, "", 1)
		return reply.ErrorCode
	}
	for name, c := range map[string]struct {
		change func(*kmsg.JoinGroupRequest, *RequestContext)
		want   *kerr.Error
	}{
		"group":    {func(r *kmsg.JoinGroupRequest, _ *RequestContext) { r.Group = long }, kerr.InvalidGroupID},
		"client":   {func(_ *kmsg.JoinGroupRequest, c *RequestContext) { c.ClientID = long }, kerr.InvalidRequest},
		"instance": {func(r *kmsg.JoinGroupRequest, _ *RequestContext) { r.InstanceID = &long }, kerr.InvalidRequest},
		"type":     {func(r *kmsg.JoinGroupRequest, _ *RequestContext) { r.ProtocolType = long }, kerr.InvalidRequest},
		"protocol": {func(r *kmsg.JoinGroupRequest, _ *RequestContext) { r.Protocols[0].Name = long }, kerr.InvalidRequest},
		"member":   {func(r *kmsg.JoinGroupRequest, _ *RequestContext) { r.MemberID = long }, kerr.InvalidRequest},
	} {
		if got := join(c.change); got != c.want.Code {
			t.Errorf("%s: code %d, want %s", name, got, c.want.Message)
		}
	}
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group, commit.Generation = long, -1
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: make([]kmsg.OffsetCommitRequestTopicPartition, 1)}}
	r, err := f.s.OffsetCommit(f.now, RequestContext{Version: 9}, commit)
	if reply, _ := run(f, r, err, "", 0); reply.Topics[0].Partitions[0].ErrorCode != kerr.InvalidGroupID.Code {
		t.Errorf("%+v", reply)
	}
	commit.Group, commit.Topics[0].Topic = "g", long
	r, err = f.s.OffsetCommit(f.now, RequestContext{Version: 9}, commit)
	if reply, _ := run(f, r, err, "", 0); reply.Topics[0].Partitions[0].ErrorCode != kerr.InvalidTopicException.Code {
		t.Errorf("%+v", reply)
	}
	if len(f.log) != 0 {
		t.Errorf("%d records written", len(f.log))
	}
}

// What the shard keeps of a request is its own: requests live in pooled buffers.
func TestCopiesRequestBytes(t *testing.T) {
	f := newFrame(t, DefaultConfig())
	meta, assignment := []byte("meta"), []byte("part")
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.SessionTimeoutMillis = "g", "other", 10000
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: meta}}
	jr, err := f.s.JoinGroup(f.now, 1, RequestContext{ClientID: "a", Version: 3}, join)
	joined, _ := run(f, jr, err, "", 1)
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = "g", joined.MemberID, 1
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: joined.MemberID, MemberAssignment: assignment}}
	sr, err := f.s.SyncGroup(f.now, 2, RequestContext{Version: 4}, sync)
	synced, _ := run(f, sr, err, "", 2)
	copy(meta, "XXXX")
	copy(assignment, "XXXX")
	d := f.s.DescribeGroups(6, []string{"g"})[0].Members[0]
	if string(d.ProtocolMetadata) != "meta" || string(d.MemberAssignment) != "part" || string(synced.MemberAssignment) != "part" {
		t.Fatalf("%q %q %q", d.ProtocolMetadata, d.MemberAssignment, synced.MemberAssignment)
	}
}

func TestTimerKeys(t *testing.T) {
	for _, group := range []string{"", "g", "3:x", "a\x00b:c"} {
		for _, name := range []string{"join", "member:x", ""} {
			g, n, ok := effect.ParseTimerKey(effect.TimerKey(group, name))
			if !ok || g != group || n != name {
				t.Errorf("%q %q became %q %q %t", group, name, g, n, ok)
			}
		}
	}
	for _, bad := range []string{"expire", "", "5:abc", "-1:abc", "x:y"} {
		if _, _, ok := effect.ParseTimerKey(bad); ok {
			t.Errorf("%q is no timer of a group", bad)
		}
	}
}

func TestStats(t *testing.T) {
	f := newFrame(t, DefaultConfig())
	for i, group := range []string{"a", "b"} {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.Generation, req.RetentionTimeMillis = group, -1, 1000
		req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: make([]kmsg.OffsetCommitRequestTopicPartition, 1)}}
		r, err := f.s.OffsetCommit(f.now, RequestContext{Version: int16(4 + i)}, req) // version 5 has no retention time
		run(f, r, err, "", 0)
	}
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.SessionTimeoutMillis = "c", "other", 1_000_000
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "p"}}
	r, err := f.s.JoinGroup(f.now, 1, RequestContext{ClientID: "a", Version: 3}, join)
	run(f, r, err, "", 1)
	f.advance(11 * time.Minute)
	st := f.s.Stats()
	if st.Commits != 2 || st.Expired != 1 || st.Offsets != 1 || st.Rebalances != 1 || st.Groups["classic"]["Empty"] != 1 || st.Groups["classic"]["CompletingRebalance"] != 1 {
		t.Fatalf("%+v", st)
	}
}

// A topic deleted, made anew and deleted again before the sweep: both topics' offsets go.
func TestTopicDeletedTwice(t *testing.T) {
	f := newFrame(t, DefaultConfig())
	for i := range int32(3) {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.Generation = "g", -1
		req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", TopicID: [16]byte{byte(i + 1)}, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: i, Offset: 1}}}}
		r, err := f.s.OffsetCommit(f.now, RequestContext{Version: 10}, req)
		run(f, r, err, "", 0)
	}
	f.topicDeleted("t", [16]byte{1})
	f.topicDeleted("t", [16]byte{2})
	f.advance(time.Second)
	if ks := f.s.offsets.slots("g"); len(ks) != 1 || ks[0].partition != 2 {
		t.Fatalf("left: %v", ks)
	}
	if len(f.s.lost) != 0 {
		t.Fatal("still looking for lost topics")
	}
}

// A sweep of many records goes on in further operations until all is done.
func TestSweepInParts(t *testing.T) {
	cfg := DefaultConfig()
	cfg.OffsetsRetention = time.Hour
	f := newFrame(t, cfg)
	const groups = 60
	for i := range groups {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.Generation = strings.Repeat("g", i+1), -1
		topic := kmsg.OffsetCommitRequestTopic{Topic: "t"}
		for p := range int32(maxSweep / 20) {
			topic.Partitions = append(topic.Partitions, kmsg.OffsetCommitRequestTopicPartition{Partition: p})
		}
		req.Topics = []kmsg.OffsetCommitRequestTopic{topic}
		r, err := f.s.OffsetCommit(f.now, RequestContext{Version: 9}, req)
		run(f, r, err, "", 0)
	}
	f.now = f.now.Add(2 * time.Hour)
	before := len(f.log)
	r, err := f.s.OnTimer(f.now, timerExpire)
	if err != nil || len(r.Records) < maxSweep || len(r.Records) > 2*maxSweep || !r.NonAtomic {
		t.Fatalf("%d records in one sweep, %v", len(r.Records), err)
	}
	run(f, r, err, "", 0)
	f.advance(time.Second)
	if st := f.s.Stats(); st.Offsets != 0 || len(st.Groups) != 0 {
		t.Fatalf("left after the sweep: %+v", st)
	}
	if got, want := len(f.log)-before, groups*(maxSweep/20+1); got != want {
		t.Fatalf("%d records, want %d", got, want)
	}
}

// A static member's replacement that the log refuses is taken back: the old process goes on, and is watched.
func TestRefusedReplacement(t *testing.T) {
	f := newFrame(t, DefaultConfig())
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.InstanceID, join.ProtocolType, join.SessionTimeoutMillis = "g", kmsg.StringPtr("i"), "consumer", 10000
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: subscription([]string{"t"})}}
	jr, err := f.s.JoinGroup(f.now, 1, RequestContext{ClientID: "a", Version: 9}, join)
	first, _ := run(f, jr, err, "", 1)
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = "g", first.MemberID, 1
	sr, err := f.s.SyncGroup(f.now, 2, RequestContext{Version: 4}, sync)
	run(f, sr, err, "", 2)
	logged := f.log[len(f.log)-1].value

	join.Protocols[0].Metadata = make([]byte, 2<<20)
	jr, err = f.s.JoinGroup(f.now, 3, RequestContext{ClientID: "b", Version: 9}, join)
	if err != nil || jr.OnRefused == nil || jr.Parked {
		t.Fatalf("%+v %v", jr, err)
	}
	jr.OnRefused(errors.New("too large"))
	f.setTimers(jr.Timers)
	now := f.s.find("g").(*classic.Group).Record()
	if b, _ := schema.AppendCoordinatorValue(nil, now.Value, now.ValueVersion); string(b) != string(logged) {
		t.Fatalf("not as the log has it: %+v", now.Value)
	}
	hr, err := f.s.Heartbeat(f.now, RequestContext{Version: 4}, &kmsg.HeartbeatRequest{Group: "g", Generation: 1, MemberID: first.MemberID, InstanceID: join.InstanceID})
	if reply, _ := run(f, hr, err, "", 0); reply.ErrorCode != 0 {
		t.Fatalf("the old process: %d", reply.ErrorCode)
	}
	f.advance(11 * time.Second)
	if got := f.s.find("g").StateName(); got != "Empty" {
		t.Fatalf("nobody watched its session: %s", got)
	}
}
