package metadata

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ottla/ottla/internal/wire/schema"
)

func text(i *Image) string {
	var b strings.Builder
	i.Records(func(v Versioned) bool {
		enc, err := schema.AppendMetadataRecord(nil, v.Message, v.Version)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(&b, "%s %x\n", v.Message.MessageName(), enc)
		return true
	})
	return b.String()
}

// roundTrip writes the image as a snapshot, encodes, decodes and replays it.
func roundTrip(t interface{ Fatal(...any) }, img *Image) *Image {
	d := NewDelta(Empty(img.ClusterID()))
	img.Records(func(v Versioned) bool {
		enc, err := schema.AppendMetadataRecord(nil, v.Message, v.Version)
		if err != nil {
			t.Fatal(err)
		}
		m, version, err := schema.ReadMetadataRecord(enc)
		if err != nil || version != v.Version {
			t.Fatal(v.Message.MessageName(), err)
		}
		if err := d.Replay(-1, 0, m); err != nil {
			t.Fatal(err)
		}
		return true
	})
	d.SetPosition(img.Offset(), img.Epoch())
	return d.Image()
}

func uuid(n int) (u UUID) { u[15], u[14] = byte(n), byte(n>>8); return u }

// model is a generator of records that a log may hold, given what it has held.
type model struct {
	names  map[string]UUID
	counts map[UUID]int32
	next   int
}

func (m *model) record(t *rapid.T) schema.Message {
	names := make([]string, 0, len(m.names))
	for i := range 12 {
		if n := fmt.Sprintf("t%d", i); m.names[n] != (UUID{}) {
			names = append(names, n)
		}
	}
	kind := rapid.IntRange(0, 12).Draw(t, "kind")
	if len(names) == 0 && kind >= 1 && kind <= 4 {
		kind = 0
	}
	replicas := func(l string) []int32 { return rapid.SliceOfN(rapid.Int32Range(0, 4), 1, 3).Draw(t, l) }
	pick := func() (string, UUID) { n := rapid.SampledFrom(names).Draw(t, "topic"); return n, m.names[n] }
	switch kind {
	case 0:
		n := fmt.Sprintf("t%d", rapid.IntRange(0, 11).Draw(t, "name"))
		if m.names[n] != (UUID{}) {
			return &schema.NoOpRecord{}
		}
		m.next++
		m.names[n] = uuid(m.next)
		return &schema.TopicRecord{Name: n, TopicID: uuid(m.next)}
	case 1, 2:
		_, id := pick()
		r := schema.NewPartitionRecord()
		r.TopicID, r.PartitionID, r.Replicas, r.Isr, r.Leader = id, m.counts[id], replicas("r"), replicas("i"), 1
		r.Directories = make([]UUID, len(r.Replicas))
		m.counts[id]++
		return r
	case 3:
		_, id := pick()
		if m.counts[id] == 0 {
			return &schema.NoOpRecord{}
		}
		r := schema.NewPartitionChangeRecord()
		r.TopicID, r.PartitionID = id, rapid.Int32Range(0, m.counts[id]-1).Draw(t, "p")
		if rapid.Bool().Draw(t, "lead") {
			r.Leader = rapid.Int32Range(-1, 3).Draw(t, "leader")
		}
		if rapid.Bool().Draw(t, "shrink") {
			r.Isr, r.EligibleLeaderReplicas = replicas("i"), replicas("e")
		}
		return r
	case 4:
		n, id := pick()
		delete(m.names, n)
		delete(m.counts, id)
		return &schema.RemoveTopicRecord{TopicID: id}
	case 5, 6:
		r := &schema.ConfigRecord{ResourceType: rapid.SampledFrom([]int8{4, 16, 32}).Draw(t, "type"), ResourceName: rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "res"), Name: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key")}
		if rapid.Bool().Draw(t, "set") {
			v := rapid.String().Draw(t, "value")
			r.Value = &v
		}
		return r
	case 7:
		r := schema.NewRegisterBrokerRecord()
		r.BrokerID, r.BrokerEpoch = rapid.Int32Range(0, 3).Draw(t, "broker"), int64(m.next)
		r.EndPoints = []schema.RegisterBrokerRecordBrokerEndpoint{{Name: "PLAINTEXT", Host: "h", Port: 9092}}
		r.LogDirs = []UUID{uuid(7)}
		return r
	case 8:
		return &schema.FeatureLevelRecord{Name: rapid.SampledFrom([]string{"metadata.version", "group.version"}).Draw(t, "feature"), FeatureLevel: rapid.Int16Range(0, 3).Draw(t, "level")}
	case 9:
		return &schema.ProducerIdsRecord{BrokerID: 1, BrokerEpoch: 3, NextProducerID: rapid.Int64Range(1, 1<<40).Draw(t, "pid")}
	case 10:
		return &schema.AccessControlEntryRecord{ID: uuid(rapid.IntRange(0, 4).Draw(t, "acl")), Principal: "User:x", Host: "*"}
	case 11:
		name := "u"
		return &schema.ClientQuotaRecord{Entity: []schema.ClientQuotaRecordEntityData{{EntityType: "user", EntityName: &name}},
			Key: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "q"), Value: 5, Remove: rapid.Bool().Draw(t, "remove")}
	}
	return &schema.RemoveAccessControlEntryRecord{ID: uuid(rapid.IntRange(0, 4).Draw(t, "acl"))}
}

// Whatever the log holds: a snapshot of the image gives the image again, older images stay what they were, one
// delta or many make no difference, and the delta lists every topic that differs.
func TestImageRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{names: map[string]UUID{}, counts: map[UUID]int32{}}
		img := Empty("c")
		all := NewDelta(Empty("c"))
		var images []*Image
		var texts []string
		offset := int64(0)
		for range rapid.IntRange(1, 12).Draw(t, "batches") {
			d := NewDelta(img)
			for range rapid.IntRange(0, 12).Draw(t, "records") {
				r := m.record(t)
				for _, delta := range []*Delta{d, all} {
					if err := delta.Replay(offset, 1, r); err != nil {
						t.Fatal(err)
					}
				}
				offset++
				if rapid.IntRange(0, 5).Draw(t, "view") == 0 {
					_ = d.View().Topic("t1")
				}
			}
			next := img.Apply(d)
			checkChanges(t, d, img, next)
			img = next
			images, texts = append(images, img), append(texts, text(img))
		}
		for i := range images {
			if text(images[i]) != texts[i] {
				t.Fatalf("image %d changed after it was made", i)
			}
		}
		back := roundTrip(t, img)
		if text(back) != text(img) || back.PartitionCount() != img.PartitionCount() || back.TopicCount() != img.TopicCount() {
			t.Fatalf("image:\n%s\nafter a snapshot:\n%s", text(img), text(back))
		}
		if whole := all.Image(); text(whole) != text(img) || whole.Offset() != img.Offset() {
			t.Fatalf("in batches:\n%s\nat once:\n%s", text(img), text(whole))
		}
	})
}

func checkChanges(t *rapid.T, d *Delta, old, now *Image) {
	changed := map[UUID]bool{}
	for _, c := range d.Topics() {
		if c.New != nil {
			changed[c.New.ID] = true
			if now.TopicByID(c.New.ID) != c.New || now.Topic(c.New.Name) != c.New {
				t.Fatalf("change of %s is not what the image has", c.New.Name)
			}
		} else {
			changed[c.Old.ID] = true
		}
	}
	for _, img := range []*Image{old, now} {
		for topic := range img.Topics() {
			if other := map[*Image]*Image{old: now, now: old}[img].TopicByID(topic.ID); !reflect.DeepEqual(other, topic) && !changed[topic.ID] {
				t.Fatalf("topic %s differs and is not listed", topic.Name)
			}
		}
	}
}

func TestReplayRefusesContradictions(t *testing.T) {
	name := func(m schema.Message) string { return m.MessageName() }
	for _, m := range []schema.Message{
		&schema.PartitionRecord{TopicID: uuid(9)}, &schema.PartitionRecord{TopicID: uuid(1), PartitionID: maxPartitions}, &schema.PartitionRecord{TopicID: uuid(1), PartitionID: -1},
		&schema.PartitionChangeRecord{TopicID: uuid(1)}, &schema.RemoveTopicRecord{TopicID: uuid(9)}, &schema.TopicRecord{Name: "t", TopicID: uuid(2)}, &schema.TopicRecord{Name: "u", TopicID: uuid(1)},
		&schema.FenceBrokerRecord{ID: 7}, &schema.UnregisterBrokerRecord{BrokerID: 7}, &schema.EndTransactionRecord{}, &schema.ClearElrRecord{TopicName: "x"},
		&schema.LeaderChangeMessage{},
	} {
		d := NewDelta(Empty("c"))
		if err := d.Replay(0, 0, &schema.TopicRecord{Name: "t", TopicID: uuid(1)}); err != nil {
			t.Fatal(err)
		}
		if err := d.Replay(1, 0, m); err == nil {
			t.Errorf("%s was taken: %+v", name(m), m)
		}
	}
}

// Records of a metadata transaction count when it ends, and not at all when it is aborted.
func TestMetadataTransaction(t *testing.T) {
	for _, end := range []schema.Message{&schema.EndTransactionRecord{}, &schema.AbortTransactionRecord{}} {
		d := NewDelta(Empty("c"))
		for i, m := range []schema.Message{&schema.BeginTransactionRecord{}, &schema.TopicRecord{Name: "t", TopicID: uuid(1)}, end} {
			if err := d.Replay(int64(i), 0, m); err != nil {
				t.Fatal(err)
			}
			if i == 1 && d.View().Topic("t") != nil {
				t.Fatal("seen before the transaction ended")
			}
		}
		_, aborted := end.(*schema.AbortTransactionRecord)
		if (d.View().Topic("t") == nil) != aborted {
			t.Fatalf("after %s", end.MessageName())
		}
	}
}

// Local tells a broker what became of its copies.
func TestLocalChanges(t *testing.T) {
	d := NewDelta(Empty("c"))
	put := func(d *Delta, m schema.Message) {
		if err := d.Replay(0, 0, m); err != nil {
			t.Fatal(err)
		}
	}
	put(d, &schema.TopicRecord{Name: "t", TopicID: uuid(1)})
	for n := range int32(2) {
		put(d, &schema.PartitionRecord{TopicID: uuid(1), PartitionID: n, Replicas: []int32{n, 5}})
	}
	img := d.Image()
	if got := d.Local(5); len(got) != 2 || got[0].Old != nil || got[0].New == nil {
		t.Fatalf("%+v", got)
	}
	if got := d.Local(1); len(got) != 1 || got[0].Partition != 1 {
		t.Fatalf("%+v", got)
	}
	d = NewDelta(img)
	put(d, &schema.RemoveTopicRecord{TopicID: uuid(1)})
	if got := d.Local(1); len(got) != 1 || got[0].New != nil || !got[0].Deleted || got[0].Topic.Name != "t" {
		t.Fatalf("%+v", got)
	}
	if img.PartitionCount() != 2 || d.View().PartitionCount() != 0 {
		t.Fatal("partition counts")
	}
}

// Every record type that the schema knows has a replay case.
func TestEveryRecordIsReplayed(t *testing.T) {
	for key := range int16(64) {
		m := schema.NewMetadataRecord(key)
		if m == nil {
			continue
		}
		err := NewDelta(Empty("c")).Replay(0, 0, m)
		if err != nil && strings.Contains(err.Error(), "does not know") {
			t.Error(err)
		}
	}
}

func BenchmarkCreateTopicAmong10000(b *testing.B) {
	d := NewDelta(Empty("c"))
	for i := range 10000 {
		if err := d.Replay(int64(i), 0, &schema.TopicRecord{Name: fmt.Sprint("t", i), TopicID: uuid(i + 1)}); err != nil {
			b.Fatal(err)
		}
	}
	img := d.Image()
	b.ReportAllocs()
	for b.Loop() {
		d := NewDelta(img)
		_ = d.Replay(10001, 0, &schema.TopicRecord{Name: "new", TopicID: uuid(60000)})
		_ = d.Replay(10002, 0, &schema.PartitionRecord{TopicID: uuid(60000), Replicas: []int32{1}})
		_ = d.Image()
	}
}
