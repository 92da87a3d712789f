package group

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/consumer"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire/schema"
)

// consumerCommand runs the commands of consumer groups:
//
//	topics name=partitions...       these are the topics now (a topic keeps its id; 0 deletes it)
//	group-config name value         a setting of group g
//	beat member= epoch=             [instance=] [topics=(...)] [regex=] [owned=(t:0,t:1)] [timeout=] [assignor=] [rack=] [v=]
//	describe-consumer group...
//	fetch-as member= epoch=
func (f *frame) consumerCommand(d *datadriven.TestData) {
	switch d.Cmd {
	case "topics":
		want := map[string]int32{}
		for _, a := range d.CmdArgs {
			n, _ := strconv.Atoi(a.Vals[0])
			want[a.Key] = int32(n)
		}
		f.setTopics(want)
	case "group-config":
		f.changeImage(&schema.ConfigRecord{ResourceType: metadata.GroupConfig, ResourceName: "g", Name: plain(d)[0], Value: kmsg.StringPtr(plain(d)[1])})
	case "beat":
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = str(d, "group", "g"), str(d, "member", ""), int32(num(d, "epoch", 0)), opt(d, "instance")
		req.SubscribedTopicNames, req.SubscribedTopicRegex, req.ServerAssignor, req.RackID = list(d, "topics"), opt(d, "regex"), opt(d, "assignor"), opt(d, "rack")
		if req.MemberEpoch == 0 {
			req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
			req.RebalanceTimeoutMillis = 30_000
		}
		if d.HasArg("timeout") {
			req.RebalanceTimeoutMillis = int32(num(d, "timeout", 0))
		}
		if d.HasArg("owned") {
			req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
			for _, o := range list(d, "owned") {
				name, p, ok := strings.Cut(o, ":")
				if !ok {
					continue
				}
				n, _ := strconv.Atoi(p)
				req.Topics = append(req.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: idOf(name), Partitions: []int32{int32(n)}})
			}
		}
		fmt.Fprintln(&f.out, showBeat(f.img, f.beat(req, int16(num(d, "v", 1)))))
	case "describe-consumer":
		for _, g := range f.s.ConsumerGroupDescribe(plain(d)) {
			f.out.WriteString(showDescribed(&g))
		}
	case "fetch-as":
		req := kmsg.NewOffsetFetchRequestGroup()
		req.Group, req.MemberID, req.MemberEpoch = str(d, "group", "g"), opt(d, "member"), int32(num(d, "epoch", -1))
		fmt.Fprintln(&f.out, code(f.s.OffsetFetch(&req, false).ErrorCode))
	}
}

func (f *frame) beat(req *kmsg.ConsumerGroupHeartbeatRequest, version int16) *kmsg.ConsumerGroupHeartbeatResponse {
	f.t.Helper()
	ctx := RequestContext{ClientID: "c", ClientHost: "/127.0.0.1", Version: version}
	r, err := f.s.ConsumerGroupHeartbeat(f.now, ctx, req, nil)
	reply, _ := run(f, r, err, "", 0)
	return reply
}

func idOf(name string) (id schema.UUID) {
	copy(id[:], name)
	return id
}

// setTopics makes the image have these topics.
func (f *frame) setTopics(want map[string]int32) {
	var recs []schema.Message
	if f.img == nil {
		f.img = metadata.Empty("c")
	}
	for t := range f.img.Topics() {
		if n, ok := want[t.Name]; ok && n == 0 {
			recs = append(recs, &schema.RemoveTopicRecord{TopicID: t.ID})
		}
	}
	for _, name := range sortedNames(want) {
		n := want[name]
		have := int32(0)
		if t := f.img.Topic(name); t != nil {
			have = int32(len(t.Partitions))
		} else if n > 0 {
			recs = append(recs, &schema.TopicRecord{Name: name, TopicID: idOf(name)})
		}
		for p := have; p < n; p++ {
			recs = append(recs, &schema.PartitionRecord{TopicID: idOf(name), PartitionID: p, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1, Directories: make([]schema.UUID, 1)})
		}
	}
	f.changeImage(recs...)
}

func (f *frame) changeImage(recs ...schema.Message) {
	f.t.Helper()
	if f.img == nil {
		f.img = metadata.Empty("c")
	}
	delta := metadata.NewDelta(f.img)
	for i, r := range recs {
		if err := delta.Replay(f.img.Offset()+int64(i)+1, 1, r); err != nil {
			f.t.Fatal(err)
		}
	}
	f.img = delta.Image()
	f.setTimers(f.s.OnImage(f.now, f.img, delta))
}

func sortedNames[V any](m map[string]V) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func nameOf(img *metadata.Image, id schema.UUID) string {
	if img != nil {
		if t := img.TopicByID(id); t != nil {
			return t.Name
		}
	}
	return strings.TrimRight(string(id[:]), "\x00")
}

func showBeat(img *metadata.Image, r *kmsg.ConsumerGroupHeartbeatResponse) string {
	if r.ErrorCode != 0 {
		return code(r.ErrorCode) + " " + deref(r.ErrorMessage)
	}
	s := fmt.Sprintf("%s epoch=%d every=%s", *r.MemberID, r.MemberEpoch, time.Duration(r.HeartbeatIntervalMillis)*time.Millisecond)
	if r.Assignment == nil {
		return s
	}
	s += " assignment:"
	for _, t := range r.Assignment.Topics {
		s += fmt.Sprintf(" %s%v", nameOf(img, t.TopicID), t.Partitions)
	}
	return s
}

func showDescribed(g *kmsg.ConsumerGroupDescribeResponseGroup) string {
	if g.ErrorCode != 0 {
		return fmt.Sprintf("%s: %s %s\n", g.Group, code(g.ErrorCode), deref(g.ErrorMessage))
	}
	named := func(ps []kmsg.AssignmentTopicPartition) (s string) {
		for _, t := range ps {
			s += fmt.Sprintf("%s%v", t.Topic, t.Partitions)
		}
		return s
	}
	s := fmt.Sprintf("%s: %s epoch=%d assignment=%d by %s\n", g.Group, g.State, g.Epoch, g.AssignmentEpoch, g.AssignorName)
	for _, m := range g.Members {
		s += fmt.Sprintf("  %s instance=%s rack=%s epoch=%d client=%s%s topics=%v regex=%s has=%s target=%s type=%d\n", m.MemberID, deref(m.InstanceID), deref(m.RackID),
			m.MemberEpoch, m.ClientID, m.ClientHost, m.SubscribedTopics, deref(m.SubscribedTopicRegex), named(m.Assignment.TopicPartitions), named(m.TargetAssignment.TopicPartitions), m.MemberType)
	}
	return s
}

// showRecord shows a record of a consumer group.
func showRecord(img *metadata.Image, key, value schema.Message) string {
	parts := func(l []schema.ConsumerGroupCurrentMemberAssignmentValueTopicPartitions) (s string) {
		for _, t := range l {
			s += fmt.Sprintf(" %s%v since %v", nameOf(img, t.TopicID), t.Partitions, t.AssignmentEpochs)
		}
		return s
	}
	end := func(s string) string {
		if value == nil {
			return s + " tombstone"
		}
		return s
	}
	switch k := key.(type) {
	case *schema.ConsumerGroupMetadataKey:
		s := end("consumer group " + k.GroupID)
		if v, ok := value.(*schema.ConsumerGroupMetadataValue); ok {
			s += fmt.Sprintf(" epoch=%d hashed=%t", v.Epoch, v.MetadataHash != 0)
		}
		return s
	case *schema.ConsumerGroupPartitionMetadataKey:
		return end("metadata " + k.GroupID)
	case *schema.ConsumerGroupMemberMetadataKey:
		s := end("member " + k.GroupID + "/" + k.MemberID)
		if v, ok := value.(*schema.ConsumerGroupMemberMetadataValue); ok {
			s += fmt.Sprintf(" instance=%s rack=%s topics=%v regex=%s timeout=%d assignor=%s classic=%t", deref(v.InstanceID), deref(v.RackID), v.SubscribedTopicNames,
				deref(v.SubscribedTopicRegex), v.RebalanceTimeoutMs, deref(v.ServerAssignor), v.ClassicMemberMetadata != nil)
		}
		return s
	case *schema.ConsumerGroupTargetAssignmentMetadataKey:
		s := end("target " + k.GroupID)
		if v, ok := value.(*schema.ConsumerGroupTargetAssignmentMetadataValue); ok {
			s += fmt.Sprintf(" epoch=%d at=%d", v.AssignmentEpoch, v.AssignmentTimestamp)
		}
		return s
	case *schema.ConsumerGroupTargetAssignmentMemberKey:
		s := end("target " + k.GroupID + "/" + k.MemberID)
		if v, ok := value.(*schema.ConsumerGroupTargetAssignmentMemberValue); ok {
			for _, t := range v.TopicPartitions {
				s += fmt.Sprintf(" %s%v", nameOf(img, t.TopicID), t.Partitions)
			}
		}
		return s
	case *schema.ConsumerGroupCurrentMemberAssignmentKey:
		s := end("current " + k.GroupID + "/" + k.MemberID)
		if v, ok := value.(*schema.ConsumerGroupCurrentMemberAssignmentValue); ok {
			s += fmt.Sprintf(" epoch=%d previous=%d state=%d has:%s gives up:%s", v.MemberEpoch, v.PreviousMemberEpoch, v.State, parts(v.AssignedPartitions), parts(v.PartitionsPendingRevocation))
		}
		return s
	case *schema.ConsumerGroupRegularExpressionKey:
		s := end("regex " + k.GroupID + "/" + k.RegularExpression)
		if v, ok := value.(*schema.ConsumerGroupRegularExpressionValue); ok {
			s += fmt.Sprintf(" topics=%v", v.Topics)
		}
		return s
	}
	if _, ok := streamsGroupOf(key); ok {
		return showStreamsRecord(key, value)
	}
	return fmt.Sprintf("%T", key)
}

// sameConsumer compares a live consumer group with what its log gives.
func sameConsumer(t fataler, live, loaded *consumer.Group) {
	t.Helper()
	show := func(rs []coordinator.Record) (s string) {
		for _, r := range rs {
			s += showRecord(nil, r.Key, r.Value) + "\n"
		}
		return s
	}
	if a, b := show(live.Records()), show(loaded.Records()); a != b {
		t.Fatalf("group %s differs:\nlive\n%s\nloaded\n%s", live.ID(), a, b)
	}
}

// assignment is a topic and its partitions, t/0/1, as a leader of the classic protocol hands it out.
func assignment(what string) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	parts := strings.Split(what, "/")
	at := kmsg.ConsumerMemberAssignmentTopic{Topic: parts[0]}
	for _, p := range parts[1:] {
		n, _ := strconv.Atoi(p)
		at.Partitions = append(at.Partitions, int32(n))
	}
	a.Topics = append(a.Topics, at)
	return a.AppendTo(nil)
}

func showAssignment(b []byte) string {
	var a kmsg.ConsumerMemberAssignment
	if err := a.ReadFrom(b); err != nil {
		return strconv.Quote(string(b))
	}
	s := "partitions"
	for _, t := range a.Topics {
		s += fmt.Sprintf(" %s%v", t.Topic, t.Partitions)
	}
	return s
}
