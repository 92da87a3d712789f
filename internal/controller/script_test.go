package controller

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire/schema"
)

// TestScripts plays testdata/scripts. Commands:
//
//	new [static settings, one a line]
//	broker id= [rack=] [dirs=] [register-only]   fence id=
//	create [validate] [random=n]    topic lines: name [p=n] [rf=n] [assign=1,2;2,1] [key=value ...]
//	grow [validate]                 topic lines: name count [assign=1;2]
//	delete                          names
//	alter / replace [validate]      lines: topic|broker|group|metrics|logger name: set|delete|append|subtract key[=value] ...
//	producer-ids id=                features lines: name level type
//	elect [type=n] [all]            lines: topic partition
//	reassign [fixed]                lines: topic partition 1,2 | cancel | none
//	unregister id=
//	change                          lines: topic partition leader 1,2 (isr)
//	show                            the partitions and settings
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		var w *world
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "new" {
				static := map[string]string{}
				for _, l := range lines(d.Input) {
					k, v, _ := strings.Cut(l, "=")
					static[k] = v
				}
				w = newWorld(t, 1, static)
				return ""
			}
			w.t = t
			return w.command(d)
		})
	})
}

func lines(s string) (out []string) {
	for _, l := range strings.Split(s, "\n") {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	return out
}

func (w *world) command(d *datadriven.TestData) string {
	var b strings.Builder
	env := w.env()
	if d.HasArg("random") {
		var n int
		d.ScanArgs(w.t.(*testing.T), "random", &n)
		env.Random = uint32(n)
	}
	id := int32(1)
	if d.HasArg("id") {
		d.ScanArgs(w.t.(*testing.T), "id", &id)
	}
	switch d.Cmd {
	case "broker":
		w.scriptBroker(&b, d, id)
	case "fence":
		w.write(Records{metadata.Newest(&schema.FenceBrokerRecord{ID: id})})
	case "create":
		w.scriptCreate(&b, d, env)
	case "grow":
		w.scriptGrow(&b, d, env)
	case "delete":
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.TopicNames = lines(d.Input)
		req.Version = 5
		records, resp := w.c.DeleteTopics(w.img, req, env)
		for _, t := range resp.Topics {
			fmt.Fprintln(&b, line(*t.Topic, t.ErrorCode, t.ErrorMessage))
		}
		w.apply(&b, records)
	case "alter", "replace":
		w.scriptAlter(&b, d, env)
	case "producer-ids":
		epoch := int64(-1)
		if br := w.img.Broker(id); br != nil && !d.HasArg("stale") {
			epoch = br.Epoch
		}
		records, first, err := w.c.AllocateProducerIDs(w.img, id, epoch)
		code, msg := status(err)
		fmt.Fprintln(&b, line(fmt.Sprint("first ", first), code, msg))
		w.write(records)
	case "features":
		req := kmsg.NewPtrUpdateFeaturesRequest()
		req.Version = 2
		for _, l := range lines(d.Input) {
			f := strings.Fields(l)
			level, _ := strconv.Atoi(f[1])
			typ, _ := strconv.Atoi(f[2])
			req.FeatureUpdates = append(req.FeatureUpdates, kmsg.UpdateFeaturesRequestFeatureUpdate{Feature: f[0], MaxVersionLevel: int16(level), UpgradeType: int8(typ)})
		}
		records, resp := w.c.UpdateFeatures(w.img, req, env)
		fmt.Fprintln(&b, line("features", resp.ErrorCode, resp.ErrorMessage))
		w.apply(&b, records)
	case "show":
		if d.HasArg("features") {
			for _, f := range FinalizedFeatures(w.img) {
				fmt.Fprintf(&b, "%s %d\n", f.Name, f.Max)
			}
			break
		}
		for _, t := range w.img.SortedTopics() {
			fmt.Fprintf(&b, "%s %v\n", t.Name, w.img.Config(metadata.TopicConfig, t.Name))
			for n, p := range t.Partitions {
				fmt.Fprintf(&b, "  %d: leader %d epoch %d replicas %v isr %v", n, p.Leader, p.LeaderEpoch, p.Replicas, p.ISR)
				if len(p.Adding)+len(p.Removing) > 0 {
					fmt.Fprintf(&b, " adding %v removing %v", p.Adding, p.Removing)
				}
				if p.RecoveryState != 0 {
					fmt.Fprint(&b, " recovering")
				}
				fmt.Fprintln(&b)
			}
		}
	case "elect", "reassign", "unregister", "change":
		w.scriptPlaces(&b, d, env)
	default:
		w.t.Fatalf("unknown command %s", d.Cmd)
	}
	return b.String()
}

// apply commits records and lists their kinds.
func (w *world) apply(b *strings.Builder, records Records) {
	var last string
	n := 0
	flush := func() {
		if n > 0 {
			fmt.Fprintf(b, "  %d x %s\n", n, last)
		}
	}
	for _, r := range records {
		if name := r.Message.MessageName(); name != last {
			flush()
			last, n = name, 0
		}
		n++
	}
	flush()
	w.write(records)
}

func (w *world) scriptBroker(b *strings.Builder, d *datadriven.TestData, id int32) {
	dirs, cluster := 1, "cluster"
	if d.HasArg("dirs") {
		d.ScanArgs(w.t.(*testing.T), "dirs", &dirs)
	}
	if d.HasArg("cluster") {
		d.ScanArgs(w.t.(*testing.T), "cluster", &cluster)
	}
	r := Registration{Broker: id, ClusterID: cluster, Incarnation: w.id(), Features: SupportedFeatures()}
	if old := w.img.Broker(id); old != nil {
		r.LogDirs = old.LogDirs
	}
	for len(r.LogDirs) < dirs {
		r.LogDirs = append(r.LogDirs, w.id())
	}
	if d.HasArg("rack") {
		rack := ""
		d.ScanArgs(w.t.(*testing.T), "rack", &rack)
		r.Rack = &rack
	}
	if d.HasArg("old") {
		r.Features = r.Features[:3]
	}
	records, epoch, err := w.c.RegisterBroker(w.img, r, w.env())
	if err != nil {
		code, msg := status(err)
		fmt.Fprintln(b, line("register", code, msg))
		return
	}
	w.apply(b, records)
	if w.img.Broker(id).Epoch != epoch || w.img.Offset() != epoch {
		w.t.Fatalf("epoch %d, offset %d", epoch, w.img.Offset())
	}
	if d.HasArg("register-only") {
		return
	}
	if records, err = w.c.UnfenceBroker(w.img, id, epoch); err != nil {
		w.t.Fatal(err)
	}
	w.apply(b, records)
}

func brokers(s string) (out []int32) {
	for _, f := range strings.Split(s, ",") {
		n, _ := strconv.Atoi(f)
		out = append(out, int32(n))
	}
	return out
}

func (w *world) scriptCreate(b *strings.Builder, d *datadriven.TestData, env Env) {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.ValidateOnly = d.HasArg("validate")
	for _, l := range lines(d.Input) {
		f := strings.Fields(l)
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = f[0], -1, -1
		for _, a := range f[1:] {
			k, v, _ := strings.Cut(a, "=")
			n, _ := strconv.Atoi(v)
			switch k {
			case "p":
				t.NumPartitions = int32(n)
			case "rf":
				t.ReplicationFactor = int16(n)
			case "assign":
				for i, p := range strings.Split(v, ";") {
					t.ReplicaAssignment = append(t.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: int32(i), Replicas: brokers(p)})
				}
			default:
				t.Configs = append(t.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: k, Value: &v})
			}
		}
		req.Topics = append(req.Topics, t)
	}
	records, resp := w.c.CreateTopics(w.img, req, env)
	for _, t := range resp.Topics {
		fmt.Fprintln(b, line(t.Topic, t.ErrorCode, t.ErrorMessage))
	}
	w.apply(b, records)
}

func (w *world) scriptGrow(b *strings.Builder, d *datadriven.TestData, env Env) {
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.ValidateOnly = d.HasArg("validate")
	for _, l := range lines(d.Input) {
		f := strings.Fields(l)
		t := kmsg.NewCreatePartitionsRequestTopic()
		n, _ := strconv.Atoi(f[1])
		t.Topic, t.Count = f[0], int32(n)
		if len(f) > 2 {
			for _, p := range strings.Split(strings.TrimPrefix(f[2], "assign="), ";") {
				t.Assignment = append(t.Assignment, kmsg.CreatePartitionsRequestTopicAssignment{Replicas: brokers(p)})
			}
		}
		req.Topics = append(req.Topics, t)
	}
	records, resp := w.c.CreatePartitions(w.img, req, env)
	for _, t := range resp.Topics {
		fmt.Fprintln(b, line(t.Topic, t.ErrorCode, t.ErrorMessage))
	}
	w.apply(b, records)
}

func (w *world) scriptAlter(b *strings.Builder, d *datadriven.TestData, env Env) {
	types := map[string]kmsg.ConfigResourceType{"topic": 2, "broker": 4, "logger": 8, "metrics": 16, "group": 32}
	ops := map[string]kmsg.IncrementalAlterConfigOp{"set": 0, "delete": 1, "append": 2, "subtract": 3}
	inc, old := kmsg.NewPtrIncrementalAlterConfigsRequest(), kmsg.NewPtrAlterConfigsRequest()
	inc.ValidateOnly, old.ValidateOnly = d.HasArg("validate"), d.HasArg("validate")
	for _, l := range lines(d.Input) {
		head, rest, _ := strings.Cut(l, ":")
		typ, name, _ := strings.Cut(head, " ")
		i := kmsg.IncrementalAlterConfigsRequestResource{ResourceType: types[typ], ResourceName: name}
		o := kmsg.AlterConfigsRequestResource{ResourceType: types[typ], ResourceName: name}
		f := strings.Fields(rest)
		for len(f) >= 2 {
			k, v, ok := strings.Cut(f[1], "=")
			s := kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: k, Op: ops[f[0]]}
			if ok {
				s.Value = &v
			}
			i.Configs = append(i.Configs, s)
			o.Configs = append(o.Configs, kmsg.AlterConfigsRequestResourceConfig{Name: k, Value: s.Value})
			f = f[2:]
		}
		inc.Resources, old.Resources = append(inc.Resources, i), append(old.Resources, o)
	}
	if inc.Resources[0].ResourceType == 8 {
		levels, err := w.c.AlterLoggers(func(n string) bool { return n == "root" || n == "log" }, &inc.Resources[0])
		code, msg := status(err)
		fmt.Fprintln(b, line("loggers", code, msg), levels)
		return
	}
	var records Records
	if d.Cmd == "alter" {
		recs, resp := w.c.IncrementalAlterConfigs(w.img, inc, env)
		records = recs
		for _, r := range resp.Resources {
			fmt.Fprintln(b, line(r.ResourceName, r.ErrorCode, r.ErrorMessage))
		}
	} else {
		recs, resp := w.c.AlterConfigs(w.img, old, env)
		records = recs
		for _, r := range resp.Resources {
			fmt.Fprintln(b, line(r.ResourceName, r.ErrorCode, r.ErrorMessage))
		}
	}
	w.apply(b, records)
}
