package controller

import (
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/ottla/ottla/internal/metadata"
)

// Whatever is asked in whatever order: every record can be replayed, and the image keeps its rules. The operations
// of one batch see each other through the delta's view.
func TestRandomOperations(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, 1, nil)
		for id := range rapid.Int32Range(1, 4).Draw(rt, "brokers") {
			w.addBroker(id+1, rapid.SampledFrom([]string{"", "x", "y"}).Draw(rt, "rack"))
		}
		name := func() string { return rapid.SampledFrom([]string{"a", "b", "c.d", "c_d", "e"}).Draw(rt, "name") }
		d := metadata.NewDelta(w.img)
		for range rapid.IntRange(1, 30).Draw(rt, "ops") {
			img := d.View()
			env := w.env()
			env.Random = rapid.Uint32().Draw(rt, "random")
			var records Records
			switch rapid.IntRange(0, 4).Draw(rt, "op") {
			case 0, 1:
				req := kmsg.NewPtrCreateTopicsRequest()
				topic := kmsg.NewCreateTopicsRequestTopic()
				topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name(), rapid.Int32Range(-2, 4).Draw(rt, "p"), int16(rapid.IntRange(-2, 5).Draw(rt, "rf"))
				req.Topics = []kmsg.CreateTopicsRequestTopic{topic}
				records, _ = w.c.CreateTopics(img, req, env)
			case 2:
				req := kmsg.NewPtrDeleteTopicsRequest()
				req.Version, req.TopicNames = 5, []string{name(), name()}
				records, _ = w.c.DeleteTopics(img, req, env)
			case 3:
				req := kmsg.NewPtrCreatePartitionsRequest()
				req.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: name(), Count: rapid.Int32Range(0, 8).Draw(rt, "count")}}
				records, _ = w.c.CreatePartitions(img, req, env)
			case 4:
				value := rapid.SampledFrom([]string{"1", "2", "delete", "-1"}).Draw(rt, "value")
				req := kmsg.NewPtrIncrementalAlterConfigsRequest()
				req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: 2, ResourceName: name(), Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{
					{Name: rapid.SampledFrom([]string{"cleanup.policy", "retention.ms", "min.insync.replicas"}).Draw(rt, "key"), Op: kmsg.IncrementalAlterConfigOp(rapid.IntRange(0, 3).Draw(rt, "kind")), Value: &value}}}}
				records, _ = w.c.IncrementalAlterConfigs(img, req, env)
			}
			for _, r := range records {
				if err := d.Replay(d.View().Offset()+1, 1, r.Message); err != nil {
					rt.Fatal(err)
				}
			}
			if rapid.Bool().Draw(rt, "commit") {
				next := w.img.Apply(d)
				w.img, d = next, metadata.NewDelta(next)
			}
			check(rt, d.View())
		}
	})
}

// check holds the rules of an image.
func check(t *rapid.T, img *metadata.Image) {
	ids := map[metadata.UUID]bool{}
	keys := map[string]string{}
	n := 0
	for topic := range img.Topics() {
		if ids[topic.ID] || img.TopicByID(topic.ID) != topic || len(topic.Partitions) == 0 {
			t.Fatalf("topic %s id %x", topic.Name, topic.ID)
		}
		ids[topic.ID] = true
		key, _ := collisionKey(topic.Name)
		if other, ok := keys[key]; ok {
			t.Fatalf("%s and %s", topic.Name, other)
		}
		keys[key] = topic.Name
		for i, p := range topic.Partitions {
			n++
			bad := !slices.Contains(p.ISR, p.Leader) || len(p.Directories) != len(p.Replicas) || len(p.Replicas) != len(topic.Partitions[0].Replicas)
			for j, r := range p.Replicas {
				bad = bad || img.Broker(r) == nil || slices.Contains(p.Replicas[:j], r)
			}
			for _, r := range p.ISR {
				bad = bad || !p.Holds(r)
			}
			if bad {
				t.Fatalf("partition %s-%d: %+v", topic.Name, i, p)
			}
		}
	}
	for _, name := range img.ConfigResources(metadata.TopicConfig) {
		if img.Topic(name) == nil {
			t.Fatal(fmt.Sprint("settings of a topic that is gone: ", name))
		}
	}
	if n != img.PartitionCount() {
		t.Fatalf("%d partitions, the image says %d", n, img.PartitionCount())
	}
}

func BenchmarkCreateTopicAmong10000(b *testing.B) {
	w := newWorld(b, 1, nil)
	w.addBroker(1, "")
	for i := range 100 {
		req := kmsg.NewPtrCreateTopicsRequest()
		for j := range 100 {
			t := kmsg.NewCreateTopicsRequestTopic()
			t.Topic, t.NumPartitions, t.ReplicationFactor = fmt.Sprint("t", i*100+j), 1, 1
			req.Topics = append(req.Topics, t)
		}
		records, _ := w.c.CreateTopics(w.img, req, w.env())
		d := metadata.NewDelta(w.img)
		for _, r := range records {
			_ = d.Replay(1, 1, r.Message)
		}
		w.img = d.Image()
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = "new", 6, 1
	req.Topics = append(req.Topics, t)
	b.ReportAllocs()
	for b.Loop() {
		if records, _ := w.c.CreateTopics(w.img, req, w.env()); len(records) != 7 {
			b.Fatal(len(records))
		}
	}
}
