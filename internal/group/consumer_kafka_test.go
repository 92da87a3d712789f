package group

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/consumer"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire/schema"
)

// replayKafka feeds a shard with the consumer groups' records of a segment that Apache Kafka 4.4 wrote, up to an offset.
func replayKafka(t *testing.T, s *Shard, upTo int64, each func(off int64, key, value []byte)) {
	t.Helper()
	segment, err := os.ReadFile(filepath.Join("testdata", "kafka", "__consumer_offsets-2-00000000000000000000.log"))
	if err != nil {
		t.Fatal(err)
	}
	it := record.NewBatchIter(segment)
	for {
		batch, h, ok, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return
		}
		if h.IsControl() {
			continue
		}
		err = record.Records(batch, record.Limits{}, func(r *record.Record) error {
			off := r.Offset(&h)
			k, v, err := schema.ReadGroupRecord(r.Key, r.Value)
			if err != nil || off >= upTo {
				return err
			}
			if err := s.Replay(off, h.ProducerID, h.ProducerEpoch, coordinator.Record{Key: k, Value: v}); err != nil {
				return err
			}
			if each != nil {
				each(off, r.Key, r.Value)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func kafkaID(t *testing.T, s string) (id schema.UUID) {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != len(id) {
		t.Fatal(s, err)
	}
	copy(id[:], b)
	return id
}

// Consumer groups written by Kafka are read as Kafka means them, at every step of their lives.
func TestLoadsKafkaConsumers(t *testing.T) {
	at := func(upTo int64) *Shard {
		s := New(Options{Config: DefaultConfig()})
		replayKafka(t, s, upTo, nil)
		return s
	}
	group := func(s *Shard, id string) *consumer.Group {
		g, ok := s.find(id).(*consumer.Group)
		if !ok {
			t.Fatalf("%s is %T", id, s.find(id))
		}
		return g
	}
	const two = "g5049627d-k848"
	topic := kafkaID(t, "VxPVMUbVQuGik9UMeN9ZSA")
	if g := group(at(62), two); g.State() != consumer.Stable || g.Epoch() != 2 || g.Size() != 1 {
		t.Fatalf("after the first join: %s epoch %d", g.State(), g.Epoch())
	}
	if g := group(at(65), two); g.State() != consumer.Assigning || g.Epoch() != 3 || g.Size() != 2 {
		t.Fatalf("after the second join: %s epoch %d", g.State(), g.Epoch())
	}
	g := group(at(69), two)
	m := g.Member("g5049627d-m1")
	if g.State() != consumer.Reconciling || m.State != consumer.UnrevokedPartitions || m.Epoch != 2 || m.Assigned[topic][1] != 2 || len(m.Assigned[topic]) != 2 || m.Revoking[topic][2] != 2 {
		t.Fatalf("while the first gives up: %s %+v", g.State(), m)
	}
	g = group(at(71), two)
	m = g.Member("g5049627d-m2")
	if g.State() != consumer.Stable || m.Epoch != 3 || m.Previous != 2 || m.Assigned[topic][2] != 3 || len(m.Revoking) != 0 {
		t.Fatalf("both have theirs: %s %+v", g.State(), m)
	}
	if g = group(at(82), two); g.State() != consumer.Empty || g.Epoch() != 5 {
		t.Fatalf("both gone: %s epoch %d", g.State(), g.Epoch())
	}
	const byRegex = "ga2de0d67-k848r"
	g = group(at(24), byRegex)
	if m = g.Member("ga2de0d67-m1"); m.Regex != "ga2de0d67-kip848.*" || !g.Subscribed("ga2de0d67-kip848") || g.State() != consumer.Stable {
		t.Fatalf("by expression: %s %+v", g.State(), m)
	}
	if g = group(at(52), byRegex); g.State() != consumer.Empty || g.Subscribed("ga2de0d67-kip848") {
		t.Fatalf("by expression, gone: %s", g.State())
	}
	s := at(1 << 62)
	if s.find(byRegex) != nil {
		t.Fatal("the group was deleted")
	}
	if up := group(s, "ga2de0d67-up"); up.State() != consumer.Empty {
		t.Fatalf("the upgraded group is %s", up.State())
	}
}

// What we would write for a consumer group is, byte for byte, what Kafka wrote for the same state.
func TestWritesConsumersAsKafka(t *testing.T) {
	s := New(Options{Config: DefaultConfig()})
	seen := map[string]int{}
	replayKafka(t, s, 1<<62, func(off int64, key, value []byte) {
		k, v, err := schema.ReadGroupRecord(key, value)
		if err != nil {
			t.Fatal(err)
		}
		id, ok := consumerGroupOf(k)
		if !ok || v == nil {
			return
		}
		for _, r := range s.find(id).(*consumer.Group).Records() {
			if !bytes.Equal(schema.AppendCoordinatorKey(nil, r.Key), key) {
				continue
			}
			got, err := schema.AppendCoordinatorValue(nil, r.Value, r.ValueVersion)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, value) {
				t.Fatalf("offset %d: value %x, Kafka %x", off, got, value)
			}
			seen[k.MessageName()]++
		}
	})
	for _, name := range []string{"ConsumerGroupMetadataKey", "ConsumerGroupMemberMetadataKey", "ConsumerGroupTargetAssignmentMetadataKey",
		"ConsumerGroupTargetAssignmentMemberKey", "ConsumerGroupCurrentMemberAssignmentKey", "ConsumerGroupRegularExpressionKey"} {
		if seen[name] == 0 {
			t.Errorf("no %s compared: %v", name, seen)
		}
	}
}

// A group that comes from Kafka has no reason to rebalance: its hash of the topics is ours.
func TestHashAsKafka(t *testing.T) {
	for _, c := range []struct {
		name, id string
		hash     int64
	}{
		{"ga2de0d67-kip848", "ntVRwpuCRGOdglSivkktwA", 1215441162315377482},
		{"g5049627d-kip848", "VxPVMUbVQuGik9UMeN9ZSA", -5819542260459741292},
		{"g96d0ce86-kip848", "gJNpM8CPT0SRDO2yPlKDkQ", -376966461035818175},
	} {
		id := kafkaID(t, c.id)
		delta := metadata.NewDelta(metadata.Empty("c"))
		recs := []schema.Message{&schema.TopicRecord{Name: c.name, TopicID: id}}
		for p := range int32(3) {
			recs = append(recs, &schema.PartitionRecord{TopicID: id, PartitionID: p, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1, Directories: make([]schema.UUID, 1)})
		}
		for i, r := range recs {
			if err := delta.Replay(int64(i), 1, r); err != nil {
				t.Fatal(err)
			}
		}
		f := newFrame(t, DefaultConfig())
		f.img = delta.Image()
		f.setTimers(f.s.OnImage(f.now, f.img, delta))
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Group, req.MemberID, req.RebalanceTimeoutMillis = "g", "m", 1000
		req.SubscribedTopicNames, req.Topics = []string{c.name}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		if r := f.beat(req, 1); r.ErrorCode != 0 {
			t.Fatal(showBeat(f.img, r))
		}
		for _, r := range f.s.find("g").(*consumer.Group).Records() {
			if v, ok := r.Value.(*schema.ConsumerGroupMetadataValue); ok && v.MetadataHash != c.hash {
				t.Errorf("%s: hash %d, Kafka %d", c.name, v.MetadataHash, c.hash)
			}
		}
	}
}
