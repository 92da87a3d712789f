package group

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cockroachdb/datadriven"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/group/share"
)

// shareCommand runs the commands of share groups:
//
//	qbeat member= epoch= [topics=(a,b)] [group=] [rack=]   ; states that the caller has to begin follow
//	begun [failed]                                         the states asked for last have begun, or could not
//	describe-share group...
//	alter topic= partition= at=                            ; unstate [topic=]; unstated topic=
func (f *frame) shareCommand(d *datadriven.TestData) {
	switch d.Cmd {
	case "qbeat":
		req := kmsg.NewPtrShareGroupHeartbeatRequest()
		req.GroupID, req.MemberID, req.MemberEpoch, req.RackID = str(d, "group", "g"), str(d, "member", ""), int32(num(d, "epoch", 0)), opt(d, "rack")
		if d.HasArg("topics") {
			req.SubscribedTopicNames = list(d, "topics")
		}
		r, err := f.s.ShareGroupHeartbeat(f.now, RequestContext{ClientID: "c", ClientHost: "/127.0.0.1", Version: 1}, req)
		beat, _ := run(f, r, err, "", 0)
		if x := beat.Response; x.ErrorCode != 0 {
			fmt.Fprintf(&f.out, "%s %s\n", code(x.ErrorCode), deref(x.ErrorMessage))
		} else {
			fmt.Fprintf(&f.out, "epoch %d heartbeat %d", x.MemberEpoch, x.HeartbeatIntervalMillis)
			if x.Assignment != nil {
				fmt.Fprint(&f.out, " assignment")
				for _, tp := range x.Assignment.TopicPartitions {
					fmt.Fprintf(&f.out, " %s%v", f.img.TopicByID(tp.TopicID).Name, tp.Partitions)
				}
			}
			fmt.Fprintln(&f.out)
		}
		f.showBegin(beat.Begin)
	case "begun":
		ok, failed := f.begin, []share.Partition(nil)
		if d.HasArg("failed") {
			ok, failed = nil, f.begin
		}
		r, err := f.s.ShareBegun(f.now, "g", ok, failed)
		run(f, r, err, "", 0)
	case "describe-share":
		for _, g := range f.s.ShareGroupDescribe(plain(d)) {
			fmt.Fprintf(&f.out, "%s: %s %s state=%s epoch=%d assignment=%d assignor=%q\n", g.GroupID, code(g.ErrorCode), deref(g.ErrorMessage), g.GroupState, g.GroupEpoch, g.AssignmentEpoch, g.Assignor)
			for _, m := range g.Members {
				fmt.Fprintf(&f.out, "  %s epoch=%d topics=%v", m.MemberID, m.MemberEpoch, m.SubscribedTopicNames)
				for _, tp := range m.Assignment.TopicPartitions {
					fmt.Fprintf(&f.out, " %s%v", tp.Topic, tp.Partitions)
				}
				fmt.Fprintln(&f.out)
			}
		}
	case "alter":
		at := map[share.Partition]int64{{Topic: f.img.Topic(str(d, "topic", "t")).ID, Index: int32(num(d, "partition", 0))}: num(d, "at", 0)}
		r, err := f.s.ShareAlter(f.now, "g", at)
		if err != nil {
			fmt.Fprintln(&f.out, err)
			return
		}
		b, _ := run(f, r, err, "", 0)
		f.showBegin(b)
	case "unstate":
		var topics [][16]byte
		if d.HasArg("topic") {
			topics = append(topics, f.img.Topic(str(d, "topic", "")).ID)
		}
		r, err := f.s.ShareUnstate(f.now, "g", topics)
		if err != nil {
			fmt.Fprintln(&f.out, err)
			return
		}
		ps, _ := run(f, r, err, "", 0)
		fmt.Fprintln(&f.out, "delete", f.partitions(ps))
	case "unstated":
		r, err := f.s.ShareUnstated(f.now, "g", [][16]byte{f.img.Topic(str(d, "topic", "")).ID})
		run(f, r, err, "", 0)
	}
}

func (f *frame) showBegin(b *share.Begin) {
	if b == nil {
		return
	}
	f.begin = b.Partitions
	fmt.Fprintf(&f.out, "begin in epoch %d: %s\n", b.StateEpoch, f.partitions(b.Partitions))
}

func (f *frame) partitions(ps []share.Partition) string {
	var out []string
	for _, p := range ps {
		out = append(out, fmt.Sprintf("%s-%d", f.img.TopicByID(p.Topic).Name, p.Index))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}
