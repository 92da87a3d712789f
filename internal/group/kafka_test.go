package group

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/group/classic"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire/schema"
)

// readKafka feeds a shard with a segment of __consumer_offsets as Apache Kafka 4.4 wrote it, up to an offset.
func readKafka(t *testing.T, s *Shard, upTo int64, each func(off int64, key, value []byte, k, v schema.Message)) {
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
		if !ok || h.BaseOffset >= upTo {
			return
		}
		if h.IsControl() {
			c, err := record.ParseControl(batch)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.ReplayEndTxn(h.ProducerID, h.ProducerEpoch, c.Type == record.ControlCommit); err != nil {
				t.Fatal(err)
			}
			continue
		}
		pid := int64(-1)
		if h.IsTransactional() {
			pid = h.ProducerID
		}
		err = record.Records(batch, record.Limits{}, func(r *record.Record) error {
			if typ := binary.BigEndian.Uint16(r.Key); typ > 2 {
				return nil // groups of other kinds
			}
			k, v, err := schema.ReadGroupRecord(r.Key, r.Value)
			if err != nil {
				return err
			}
			off := r.Offset(&h)
			if err := s.Replay(off, pid, h.ProducerEpoch, coordinator.Record{Key: k, Value: v}); err != nil {
				return err
			}
			if each != nil {
				each(off, r.Key, r.Value, k, v)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A partition written by Kafka is read as Kafka means it.
func TestLoadsKafka(t *testing.T) {
	s := New(Options{Config: DefaultConfig()})
	readKafka(t, s, 14, nil)
	const group = "ga2de0d67-grp"
	g, ok := s.find(group).(*classic.Group)
	if !ok || g.State() != classic.Stable || g.Generation() != 2 || g.Size() != 2 || g.Protocol() != "range" || g.Member(g.Leader()) == nil {
		t.Fatalf("%s is %+v", group, g)
	}
	if a := g.Members()[1].Assignment; string(a) != "B" {
		t.Fatalf("assignment %q", a)
	}
	if !g.Subscribed("ga2de0d67-cg") || g.Subscribed("other") {
		t.Fatal("the members read ga2de0d67-cg and nothing else")
	}
	req := kmsg.NewOffsetFetchRequestGroup()
	req.Group = group
	resp := s.OffsetFetch(&req, true)
	if len(resp.Topics) != 1 || resp.Topics[0].Topic != "ga2de0d67-cg" || resp.Topics[0].TopicID == [16]byte{} {
		t.Fatalf("%+v", resp)
	}
	if p := resp.Topics[0].Partitions; len(p) != 1 || p[0].Offset != 11 || *p[0].Metadata != "meta" {
		t.Fatalf("%+v", p)
	}

	s = New(Options{Config: DefaultConfig()})
	readKafka(t, s, 1<<62, nil)
	if s.find(group) != nil || len(s.offsets.byGroup[group]) != 0 {
		t.Fatalf("%s was deleted", group)
	}
	if len(s.offsets.pending) != 0 {
		t.Fatalf("all transactions are decided, pending: %v", s.offsets.pending)
	}
	if p, ok := s.offsets.get(slot{"g96d0ce86-txg", "g96d0ce86-t1", 0}); !ok || p.offset != 5 {
		t.Fatalf("the committed transaction's offset is %+v, %t", p, ok)
	}
}

// What we write is, byte for byte, what Kafka writes for the same state.
func TestWritesAsKafka(t *testing.T) {
	s := New(Options{Config: DefaultConfig()})
	seen := map[string]int{}
	readKafka(t, s, 1<<62, func(off int64, key, value []byte, k, v schema.Message) {
		var ours coordinator.Record
		switch k := k.(type) {
		case *schema.GroupMetadataKey:
			if g, ok := s.find(k.Group).(*classic.Group); ok && v != nil {
				ours = g.Record()
			}
		case *schema.OffsetCommitKey:
			at := slot{k.Group, k.Topic, k.Partition}
			if p, ok := s.offsets.get(at); ok && v != nil {
				ours = p.record(at)
			} else if v == nil {
				ours = at.tombstone()
			}
		}
		if ours.Key == nil {
			return
		}
		if got := schema.AppendCoordinatorKey(nil, ours.Key); !bytes.Equal(got, key) {
			t.Fatalf("offset %d: key %x, Kafka %x", off, got, key)
		}
		if ours.Value == nil {
			seen["tombstone"]++
			return
		}
		got, err := schema.AppendCoordinatorValue(nil, ours.Value, ours.ValueVersion)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, value) {
			t.Fatalf("offset %d: value %x, Kafka %x", off, got, value)
		}
		seen[k.(interface{ MessageName() string }).MessageName()]++
	})
	for _, name := range []string{"GroupMetadataKey", "OffsetCommitKey", "tombstone"} {
		if seen[name] == 0 {
			t.Fatalf("no %s compared: %v", name, seen)
		}
	}
	t.Log(seen)
}

// Offsets of Kafka before 0.9.
func TestLegacyOffset(t *testing.T) {
	s := New(Options{Config: DefaultConfig()})
	k := &schema.LegacyOffsetCommitKey{Group: "g", Topic: "t", Partition: 1}
	if err := s.Replay(0, -1, -1, coordinator.Record{Key: k, Value: &schema.LegacyOffsetCommitValue{Offset: 4, Metadata: "m", CommitTimestamp: 7}}); err != nil {
		t.Fatal(err)
	}
	want := position{offset: 4, metadata: "m", commitMs: 7, expireMs: -1, epoch: -1}
	if p, _ := s.offsets.get(slot{"g", "t", 1}); p != want {
		t.Fatalf("%+v", p)
	}
	if err := s.Replay(1, -1, -1, coordinator.Record{Key: k}); err != nil {
		t.Fatal(err)
	}
	if ks := s.offsets.slots("g"); len(ks) != 0 {
		t.Fatal(ks)
	}
}

// Broken or strange group records load as far as they make sense.
func TestStrangeGroupRecords(t *testing.T) {
	inst := "i"
	member := func(id string, instance *string) schema.GroupMetadataValueMemberMetadata {
		return schema.GroupMetadataValueMemberMetadata{MemberID: id, GroupInstanceID: instance, SessionTimeout: 10, RebalanceTimeout: -1}
	}
	v := &schema.GroupMetadataValue{ProtocolType: "consumer", Generation: 3, Leader: kmsg.StringPtr("gone"), Protocol: kmsg.StringPtr("range"),
		Members: []schema.GroupMetadataValueMemberMetadata{member("a", &inst), member("a", nil), member("b", &inst), member("c", nil)}}
	s := New(Options{Config: DefaultConfig()})
	if err := s.Replay(0, -1, -1, coordinator.Record{Key: &schema.GroupMetadataKey{Group: "g"}, Value: v}); err != nil {
		t.Fatal(err)
	}
	g := s.find("g").(*classic.Group)
	var ids []string
	for _, m := range g.Members() {
		ids = append(ids, m.ID)
		if m.RebalanceMs != 10 {
			t.Errorf("%s: rebalance timeout %d, want the session's", m.ID, m.RebalanceMs)
		}
	}
	if !slices.Equal(ids, []string{"a", "c"}) {
		t.Fatalf("members %v", ids)
	}
	if ts := s.OnLoaded(start, nil); len(ts) != 3 {
		t.Fatalf("two sessions and the sweep: %v", ts)
	}
}
