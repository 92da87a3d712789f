package group

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/cockroachdb/datadriven"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/streams"
	"github.com/ottla/ottla/internal/wire/schema"
)

// streamsCommand runs the commands of streams groups:
//
//	topology name [epoch=]          lines: sub ID | source TOPIC | sink TOPIC | repartition TOPIC [PARTITIONS] | changelog TOPIC | together TOPIC...
//	sbeat member= epoch=            [topology=] [process=] [instance=] [owned=(active:0:1,...)] [tags=(k:v)] [endpoint=h:p] [seen=] [at=(0:1:n)]
//	                                [end=(0:1:n)] [timeout=] [shutdown] [v=]
//	describe-streams group...       ; topics-failed why
//	describe-topology member= epoch=
func (f *frame) streamsCommand(d *datadriven.TestData) {
	switch d.Cmd {
	case "topology":
		if f.topologies == nil {
			f.topologies = map[string]*kmsg.StreamsGroupHeartbeatRequestTopology{}
		}
		f.topologies[plain(d)[0]] = readTopology(int32(num(d, "epoch", 0)), d.Input)
	case "sbeat":
		req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
		req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = str(d, "group", "g"), str(d, "member", ""), int32(num(d, "epoch", 0)), opt(d, "instance")
		if req.MemberEpoch == 0 {
			req.RebalanceTimeoutMillis, req.ProcessID = 30_000, kmsg.StringPtr("p-"+req.MemberID)
			req.ActiveTasks, req.StandbyTasks, req.WarmupTasks = []kmsg.TaskIDs{}, []kmsg.TaskIDs{}, []kmsg.TaskIDs{}
		}
		req.Topology = f.topologies[str(d, "topology", "")]
		req.RebalanceTimeoutMillis = int32(num(d, "timeout", int64(req.RebalanceTimeoutMillis)))
		if d.HasArg("process") {
			req.ProcessID = opt(d, "process")
		}
		if d.HasArg("owned") {
			req.ActiveTasks, req.StandbyTasks, req.WarmupTasks = ownedTasks(list(d, "owned"))
		}
		for _, kv := range list(d, "tags") {
			k, v, _ := strings.Cut(kv, ":")
			req.ClientTags = append(req.ClientTags, kmsg.StreamsGroupHeartbeatRequestClientTag{Key: k, Value: v})
		}
		if e := opt(d, "endpoint"); e != nil {
			h, p, _ := strings.Cut(*e, ":")
			n, _ := strconv.Atoi(p)
			req.UserEndpoint = &kmsg.StreamsGroupHeartbeatRequestUserEndpoint{Host: h, Port: uint16(n)}
		}
		req.EndpointInformationEpoch = int32(num(d, "seen", 0))
		req.TaskOffsets, req.TaskEndOffsets, req.ShutdownApplication = taskOffsets(d, "at"), taskOffsets(d, "end"), d.HasArg("shutdown")
		fmt.Fprintln(&f.out, showStreamsBeat(f.streamsBeat(req, int16(num(d, "v", 1)))))
	case "describe-streams":
		for _, g := range f.s.StreamsGroupDescribe(plain(d), true) {
			f.out.WriteString(showStreamsDescribed(&g))
		}
	case "topics-failed":
		f.s.StreamsTopicsFailed("g", plain(d)[0])
	case "describe-topology":
		req := kmsg.NewPtrStreamsGroupTopologyDescriptionUpdateRequest()
		req.Group, req.MemberID, req.TopologyEpoch = "g", str(d, "member", ""), int32(num(d, "epoch", 0))
		req.TopologyDescription.Subtopologies = []kmsg.TopologyDescriptionSubtopology{{SubtopologyID: "0"}}
		if err := f.s.StreamsTopologyDescription(req); err != nil {
			fmt.Fprintln(&f.out, err)
		}
	}
}

func (f *frame) streamsBeat(req *kmsg.StreamsGroupHeartbeatRequest, version int16) *streams.Heartbeat {
	f.t.Helper()
	r, err := f.s.StreamsGroupHeartbeat(f.now, RequestContext{ClientID: "c", ClientHost: "/127.0.0.1", Version: version}, req)
	reply, _ := run(f, r, err, "", 0)
	return reply
}

func readTopology(epoch int32, input string) *kmsg.StreamsGroupHeartbeatRequestTopology {
	t := kmsg.NewStreamsGroupHeartbeatRequestTopology()
	t.Epoch = epoch
	var s *kmsg.StreamsGroupHeartbeatRequestTopologySubtopology
	for _, line := range strings.Split(strings.TrimSpace(input), "\n") {
		w := strings.Fields(line)
		switch w[0] {
		case "sub":
			t.Subtopologies = append(t.Subtopologies, kmsg.StreamsGroupHeartbeatRequestTopologySubtopology{SubtopologyID: w[1]})
			s = &t.Subtopologies[len(t.Subtopologies)-1]
		case "source":
			s.SourceTopics = append(s.SourceTopics, w[1])
		case "regex":
			s.SourceTopicRegex = append(s.SourceTopicRegex, w[1])
		case "sink":
			s.RepartitionSinkTopics = append(s.RepartitionSinkTopics, w[1])
		case "repartition", "changelog":
			info := kmsg.TopicInfo{Topic: w[1]}
			if len(w) > 2 {
				n, _ := strconv.Atoi(w[2])
				info.NumPartitions = int32(n)
			}
			if w[0] == "changelog" {
				info.Configs = []kmsg.TopicInfoConfig{{Key: "cleanup.policy", Value: "compact"}}
				s.StateChangelogTopics = append(s.StateChangelogTopics, info)
			} else {
				s.RepartitionSourceTopics = append(s.RepartitionSourceTopics, info)
			}
		case "together":
			var c kmsg.StreamsGroupHeartbeatRequestTopologySubtopologyCopartitionGroup
			for _, name := range w[1:] {
				for i, n := range s.SourceTopics {
					if n == name {
						c.SourceTopics = append(c.SourceTopics, int16(i))
					}
				}
				for i := range s.RepartitionSourceTopics {
					if s.RepartitionSourceTopics[i].Topic == name {
						c.RepartitionSourceTopics = append(c.RepartitionSourceTopics, int16(i))
					}
				}
			}
			s.CopartitionGroups = append(s.CopartitionGroups, c)
		default:
			panic(line)
		}
	}
	return &t
}

// ownedTasks reads role:subtopology:partition.
func ownedTasks(list []string) (active, standby, warmup []kmsg.TaskIDs) {
	active, standby, warmup = []kmsg.TaskIDs{}, []kmsg.TaskIDs{}, []kmsg.TaskIDs{}
	for _, o := range list {
		w := strings.Split(o, ":")
		if len(w) != 3 {
			continue
		}
		n, _ := strconv.Atoi(w[2])
		t := kmsg.TaskIDs{SubtopologyID: w[1], Partitions: []int32{int32(n)}}
		switch w[0] {
		case "active":
			active = append(active, t)
		case "standby":
			standby = append(standby, t)
		case "warmup":
			warmup = append(warmup, t)
		}
	}
	return active, standby, warmup
}

func taskOffsets(d *datadriven.TestData, key string) (out []kmsg.TaskOffset) {
	if !d.HasArg(key) {
		return nil
	}
	out = []kmsg.TaskOffset{}
	for _, o := range list(d, key) {
		w := strings.Split(o, ":")
		if len(w) != 3 {
			continue
		}
		p, _ := strconv.Atoi(w[1])
		at, _ := strconv.ParseInt(w[2], 10, 64)
		out = append(out, kmsg.TaskOffset{SubtopologyID: w[0], Partition: int32(p), Offset: at})
	}
	return out
}

func showTasks(name string, list []kmsg.TaskIDs) string {
	if len(list) == 0 {
		return ""
	}
	s := " " + name + "="
	for i, t := range list {
		if i > 0 {
			s += ","
		}
		s += fmt.Sprintf("%s%v", t.SubtopologyID, t.Partitions)
	}
	return s
}

func showStreamsBeat(h *streams.Heartbeat) string {
	r := h.Response
	if r.ErrorCode != 0 {
		return fmt.Sprintf("%s %s", code(r.ErrorCode), deref(r.ErrorMessage))
	}
	s := fmt.Sprintf("ok %s epoch=%d", r.MemberID, r.MemberEpoch)
	if r.ActiveTasks != nil {
		s += " assigned:" + showTasks("active", r.ActiveTasks) + showTasks("standby", r.StandbyTasks) + showTasks("warmup", r.WarmupTasks)
	}
	if r.EndpointInformationEpoch != 0 || r.PartitionsByUserEndpoint != nil {
		s += fmt.Sprintf(" endpoints@%d", r.EndpointInformationEpoch)
		for _, e := range r.PartitionsByUserEndpoint {
			s += fmt.Sprintf(" %s:%d", e.UserEndpoint.Host, e.UserEndpoint.Port)
			for _, p := range e.ActivePartitions {
				s += fmt.Sprintf(" %s%v", p.Topic, p.Partitions)
			}
			for _, p := range e.StandbyPartitions {
				s += fmt.Sprintf(" standby %s%v", p.Topic, p.Partitions)
			}
		}
	}
	if r.TopologyDescriptionRequired {
		s += " describe!"
	}
	for _, st := range r.Status {
		s += fmt.Sprintf("\n  status %d %s", st.StatusCode, st.StatusDetail)
	}
	for _, c := range h.Create {
		s += fmt.Sprintf("\n  create %s partitions=%d replicas=%d", c.Topic, c.NumPartitions, c.ReplicationFactor)
		for _, cc := range c.Configs {
			s += fmt.Sprintf(" %s=%s", cc.Name, *cc.Value)
		}
	}
	return s
}

func showStreamsDescribed(g *kmsg.StreamsGroupDescribeResponseGroup) string {
	if g.ErrorCode != 0 {
		return fmt.Sprintf("%s: %s %s\n", g.Group, code(g.ErrorCode), deref(g.ErrorMessage))
	}
	s := fmt.Sprintf("%s: %s epoch=%d assigned=%d assignor=%s description=%d\n", g.Group, g.State, g.Epoch, g.AssignmentEpoch, deref(g.AssignorName), g.TopologyDescriptionStatus)
	if t := g.Topology; t != nil {
		s += fmt.Sprintf("  topology %d configured=%t\n", t.Epoch, t.Subtopologies != nil)
		for _, sub := range t.Subtopologies {
			s += fmt.Sprintf("    %s sources=%v sinks=%v", sub.SubtopologyID, sub.SourceTopics, sub.RepartitionSinkTopics)
			for _, i := range sub.RepartitionSourceTopics {
				s += fmt.Sprintf(" %s/%d", i.Topic, i.NumPartitions)
			}
			for _, i := range sub.StateChangelogTopics {
				s += fmt.Sprintf(" %s/%d", i.Topic, i.NumPartitions)
			}
			s += "\n"
		}
	}
	for _, m := range g.Members {
		s += fmt.Sprintf("  %s epoch=%d topology=%d process=%s", m.MemberID, m.MemberEpoch, m.TopologyEpoch, m.ProcessID)
		a, t := m.Assignment, m.TargetAssignment
		s += " has:" + showTasks("active", a.ActiveTasks) + showTasks("standby", a.StandbyTasks) + showTasks("warmup", a.WarmupTasks)
		s += " target:" + showTasks("active", t.ActiveTasks) + showTasks("standby", t.StandbyTasks) + showTasks("warmup", t.WarmupTasks)
		s += "\n"
	}
	return s
}

// sameStreams compares a live streams group with what its log gives.
func sameStreams(t fataler, live, loaded *streams.Group) {
	t.Helper()
	if a, b := showStreamsRecords(live.Records()), showStreamsRecords(loaded.Records()); a != b {
		t.Fatalf("group %s differs:\nlive\n%s\nloaded\n%s", live.ID(), a, b)
	}
}

func showStreamsRecords(rs []coordinator.Record) (s string) {
	for _, r := range rs {
		s += showStreamsRecord(r.Key, r.Value) + "\n"
	}
	return s
}

func showStreamsRecord(key, value schema.Message) string {
	k, _ := json.Marshal(key)
	s := strings.TrimPrefix(fmt.Sprintf("%T", key), "*schema.") + " " + string(k)
	if value == nil {
		return s + " tombstone"
	}
	v, _ := json.Marshal(value)
	return s + " " + strings.ReplaceAll(string(v), ":[]", ":null") // a list that is read back may be nil where it was empty
}
