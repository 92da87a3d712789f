package schema_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire/schema"
)

// The files of testdata were written by Apache Kafka 4.4.

// eachRecord calls fn with every record of a sample log.
func eachRecord(t testing.TB, file string, fn func(offset int64, control bool, key, value []byte)) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	it := record.NewBatchIter(b)
	for {
		batch, h, ok, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if !record.CheckCRC(batch) {
			t.Fatalf("%s: wrong checksum at offset %d", file, h.BaseOffset)
		}
		err = record.Records(batch, record.Limits{}, func(r *record.Record) error {
			fn(r.Offset(&h), h.IsControl(), r.Key, r.Value)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if it.Pos() != len(b) {
		t.Fatalf("%s: %d bytes left over", file, len(b)-it.Pos())
	}
}

// control gives the message of a control record; its version stands in its own first field.
func control(t testing.TB, key, value []byte) (schema.Message, int16) {
	k := schema.NewControlRecordTypeSchema()
	if err := k.ReadFrom(key[2:], int16(binary.BigEndian.Uint16(key))); err != nil {
		t.Fatal(err)
	}
	m := map[int16]schema.Message{
		2: schema.NewLeaderChangeMessage(), 3: schema.NewSnapshotHeaderRecord(), 4: schema.NewSnapshotFooterRecord(),
		5: schema.NewKRaftVersionRecord(), 6: schema.NewVotersRecord(),
	}[k.Type]
	if m == nil {
		t.Fatalf("control record of type %d", k.Type)
	}
	return m, int16(binary.BigEndian.Uint16(value))
}

func TestCoordinatorTopics(t *testing.T) {
	for file, c := range map[string]struct {
		read func(k, v []byte) (schema.Message, schema.Message, error)
		want string // how many values of which type
	}{
		"consumer_offsets.log":  {schema.ReadGroupRecord, "ConsumerGroupCurrentMemberAssignmentValue:18 ConsumerGroupMemberMetadataValue:8 ConsumerGroupMetadataValue:16 ConsumerGroupRegularExpressionValue:1 ConsumerGroupTargetAssignmentMemberValue:11 ConsumerGroupTargetAssignmentMetadataValue:13 GroupMetadataValue:11 OffsetCommitValue:62 StreamsGroupCurrentMemberAssignmentValue:4 StreamsGroupMemberMetadataValue:3 StreamsGroupMetadataValue:5 StreamsGroupTargetAssignmentMemberValue:1 StreamsGroupTargetAssignmentMetadataValue:3 StreamsGroupTopologyValue:3 control:4 tombstone:41"},
		"transaction_state.log": {schema.ReadTxnRecord, "TransactionLogValue:55"},
		"share_group_state.log": {schema.ReadShareRecord, "ShareSnapshotValue:8 ShareUpdateValue:15 tombstone:4"},
	} {
		t.Run(file, func(t *testing.T) {
			count := map[string]int{}
			eachRecord(t, file, func(offset int64, isControl bool, key, value []byte) {
				if isControl {
					count["control"]++
					return
				}
				k, v, err := c.read(key, value)
				if err != nil {
					t.Fatalf("offset %d: %v\n%x", offset, err, value)
				}
				if got := schema.AppendCoordinatorKey(nil, k); !bytes.Equal(got, key) {
					t.Fatalf("offset %d: key %s\n got %x\nwant %x", offset, k.MessageName(), got, key)
				}
				if value == nil {
					if v != nil {
						t.Fatalf("offset %d: a tombstone has value %v", offset, v)
					}
					count["tombstone"]++
					return
				}
				count[v.MessageName()]++
				got, err := schema.AppendCoordinatorValue([]byte("x"), v, int16(binary.BigEndian.Uint16(value)))
				if err != nil || !bytes.Equal(got[1:], value) {
					t.Fatalf("offset %d: value %s\n got %x %v\nwant %x", offset, v.MessageName(), got[1:], err, value)
				}
			})
			if got := fmt.Sprint(count); got != "map["+c.want+"]" {
				t.Fatalf("values by type:\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestMetadataLog(t *testing.T) {
	for _, file := range []string{"cluster_metadata.log", "cluster_metadata.checkpoint"} {
		count := map[string]int{}
		eachRecord(t, file, func(offset int64, isControl bool, key, value []byte) {
			var m schema.Message
			var version int16
			var got []byte
			var err error
			if isControl {
				m, version = control(t, key, value)
				if err = m.ReadFrom(value, version); err == nil {
					got, err = m.AppendTo(nil, version)
				}
			} else {
				if m, version, err = schema.ReadMetadataRecord(value); err == nil {
					got, err = schema.AppendMetadataRecord(nil, m, version)
				}
			}
			if err != nil || !bytes.Equal(got, value) {
				t.Fatalf("%s: offset %d: %v version %d\n got %x %v\nwant %x", file, offset, m, version, got, err, value)
			}
			count[m.MessageName()]++
		})
		if count["TopicRecord"] == 0 && count["FeatureLevelRecord"] == 0 {
			t.Fatalf("%s: %v", file, count)
		}
	}
}

func TestProducerSnapshot(t *testing.T) {
	b, err := os.ReadFile("testdata/producers.snapshot")
	if err != nil {
		t.Fatal(err)
	}
	s := schema.NewProducerSnapshot()
	if err := s.ReadFrom(b[2:], int16(binary.BigEndian.Uint16(b))); err != nil {
		t.Fatal(err)
	}
	if len(s.ProducerEntries) != 2 || s.ProducerEntries[0].CurrentTxnFirstOffset != -1 {
		t.Fatalf("%+v", s)
	}
	if got, err := s.AppendTo(nil, 1); err != nil || !bytes.Equal(got, b[2:]) {
		t.Fatalf("%x %v", got, err)
	}
}

// all makes one of every message there is.
func all() []schema.Message {
	var out []schema.Message
	for key := range int16(64) {
		for _, f := range []func(int16) schema.Message{schema.NewMetadataRecord, schema.NewGroupKey, schema.NewGroupValue, schema.NewTxnKey, schema.NewTxnValue, schema.NewShareKey, schema.NewShareValue} {
			if m := f(key); m != nil {
				out = append(out, m)
			}
		}
	}
	return append(out, schema.NewControlRecordTypeSchema(), schema.NewEndTxnMarker(), schema.NewLeaderChangeMessage(), schema.NewKRaftVersionRecord(),
		schema.NewVotersRecord(), schema.NewSnapshotHeaderRecord(), schema.NewSnapshotFooterRecord(), schema.NewAbortedTxn(), schema.NewProducerSnapshot())
}

func fresh(m schema.Message) schema.Message {
	return reflect.New(reflect.TypeOf(m).Elem()).Interface().(schema.Message)
}

// fill sets v to something random: nil and empty where they are two things, and all tags.
func fill(rng *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(rng.Int64() >> (64 - v.Type().Bits()))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(rng.Uint64() >> (64 - v.Type().Bits()))
	case reflect.Float64:
		v.SetFloat(rng.NormFloat64())
	case reflect.String:
		v.SetString(strings.Repeat("ø", []int{0, 1, 7, 200}[rng.IntN(4)]))
	case reflect.Array:
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.Pointer:
		if rng.IntN(3) == 0 {
			v.SetZero()
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		fill(rng, v.Elem())
	case reflect.Slice:
		n := rng.IntN(4) - 1
		if n < 0 {
			v.SetZero()
			return
		}
		if v.Type() == reflect.TypeFor[[]schema.Tag]() {
			v.Set(reflect.ValueOf([]schema.Tag{{Tag: uint32(100 + n), Data: bytes.Repeat([]byte{7}, n*50)}, {Tag: 1 << 20, Data: []byte("x")}}))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(rng, v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(rng, v.Field(i))
		}
	}
}

// norm makes what an encoding cannot tell apart the same: no elements and nil.
func norm(m schema.Message) string {
	b, _ := json.Marshal(m)
	s := string(b)
	for _, r := range []string{"[]", `""`, "null"} {
		s = strings.ReplaceAll(s, ":"+r, ":-")
	}
	return s
}

// Every message, random content: what is encoded at the highest version is read back, at lower ones either refused or
// read back to something that encodes the same.
func TestRandomRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	refused, kept := 0, 0
	for range 60 {
		for _, m := range all() {
			fill(rng, reflect.ValueOf(m).Elem())
			for version := m.LowestVersion(); version <= m.HighestVersion(); version++ {
				b, err := m.AppendTo([]byte("prefix"), version)
				if err != nil {
					if version == m.HighestVersion() && !strings.Contains(err.Error(), "not in this version") {
						t.Fatalf("%s: %v", m.MessageName(), err)
					}
					if string(b) != "prefix" {
						t.Fatalf("%s: a failed encoding left bytes behind", m.MessageName())
					}
					refused++
					continue
				}
				got := fresh(m)
				if err := got.ReadFrom(b[6:], version); err != nil {
					t.Fatalf("%s version %d: %v", m.MessageName(), version, err)
				}
				again, err := got.AppendTo([]byte("prefix"), version)
				if err != nil || !bytes.Equal(again, b) {
					t.Fatalf("%s version %d: %v\n%x\n%x", m.MessageName(), version, err, b, again)
				}
				if version == m.HighestVersion() && m.MessageName() != "OffsetCommitValue" {
					if a, b := norm(m), norm(got); a != b {
						t.Fatalf("%s:\n%s\n%s", m.MessageName(), a, b)
					}
				}
				kept++
				for cut := range len(b) - 6 {
					if err := fresh(m).ReadFrom(b[6:6+cut], version); !errors.Is(err, schema.ErrMalformed) {
						t.Fatalf("%s version %d cut to %d of %d bytes: %v", m.MessageName(), version, cut, len(b)-6, err)
					}
				}
			}
		}
	}
	if refused == 0 || kept < 1000 {
		t.Fatalf("%d refused, %d kept", refused, kept)
	}
}

func TestVersions(t *testing.T) {
	v := schema.NewOffsetCommitValue()
	if v.LeaderEpoch != -1 || v.ExpireTimestamp != -1 {
		t.Fatalf("defaults: %+v", v)
	}
	v.Offset, v.LeaderEpoch, v.ExpireTimestamp = 7, 3, 99 // both ignorable
	b, err := v.AppendTo(nil, 0)
	if err != nil || len(b) != 8+2+8 {
		t.Fatalf("%x %v", b, err)
	}
	if _, err := v.AppendTo(nil, 5); !errors.Is(err, schema.ErrUnsupportedVersion) {
		t.Fatal(err)
	}
	p := schema.NewPartitionRecord()
	p.Directories = []schema.UUID{{1}}
	if _, err := p.AppendTo(nil, 0); err == nil || !strings.Contains(err.Error(), "Directories") {
		t.Fatalf("directories cannot be written at version 0: %v", err)
	}
	p.EligibleLeaderReplicas = []int32{} // empty is not null
	if b, err = p.AppendTo(nil, 2); err != nil {
		t.Fatal(err)
	}
	q := schema.NewPartitionRecord()
	if err := q.ReadFrom(b, 2); err != nil || q.EligibleLeaderReplicas == nil || q.LastKnownElr != nil {
		t.Fatalf("%+v %v", q, err)
	}
	long := &schema.OffsetCommitKey{Group: strings.Repeat("x", 40000)}
	if _, err := long.AppendTo(nil, 0); err == nil {
		t.Fatal("a string of 40000 bytes has no encoding")
	}
}

func TestUnknown(t *testing.T) {
	if _, _, err := schema.ReadGroupRecord([]byte{0, 99, 1}, nil); !errors.Is(err, schema.ErrUnknownRecordType) {
		t.Fatal(err)
	}
	if _, _, err := schema.ReadMetadataRecord([]byte{1, 99, 0, 0}); !errors.Is(err, schema.ErrUnknownRecordType) {
		t.Fatal(err)
	}
	if _, _, err := schema.ReadMetadataRecord([]byte{2, 2, 0, 0}); !errors.Is(err, schema.ErrUnsupportedVersion) {
		t.Fatal(err)
	}
	k := schema.AppendCoordinatorKey(nil, &schema.OffsetCommitKey{Group: "g", Topic: "t"})
	for _, v := range [][]byte{{}, {0}, {0, 9}, {0, 4}} {
		if _, _, err := schema.ReadGroupRecord(k, v); err == nil {
			t.Fatalf("value %x was taken", v)
		}
	}
	if _, v, err := schema.ReadGroupRecord(k, nil); err != nil || v != nil {
		t.Fatal(v, err)
	}
}

// A lying length must not cost memory.
func TestLyingLengths(t *testing.T) {
	for _, m := range all() {
		for version := m.LowestVersion(); version <= m.HighestVersion(); version++ {
			lie := bytes.Repeat([]byte{0xff, 0xff, 0xff, 0x7f}, 8)
			allocs := testing.AllocsPerRun(1, func() { _ = fresh(m).ReadFrom(lie, version) })
			if allocs > 40 {
				t.Errorf("%s version %d: %v allocations for 32 bytes", m.MessageName(), version, allocs)
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	messages := all()
	for _, file := range []string{"consumer_offsets.log", "transaction_state.log", "share_group_state.log"} {
		n := 0
		eachRecord(f, file, func(_ int64, isControl bool, key, value []byte) {
			if n++; !isControl && n < 20 {
				f.Add(byte(0), int16(3), append(append([]byte{}, key...), value...))
			}
		})
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for i, m := range messages {
		fill(rng, reflect.ValueOf(m).Elem())
		if b, err := m.AppendTo(nil, m.HighestVersion()); err == nil {
			f.Add(byte(i), m.HighestVersion(), b)
		}
	}
	f.Fuzz(func(t *testing.T, which byte, version int16, b []byte) {
		m := messages[int(which)%len(messages)]
		got := fresh(m)
		if err := got.ReadFrom(b, version); err != nil {
			return
		}
		once, err := got.AppendTo(nil, version)
		if err != nil {
			t.Fatalf("%s version %d was read but cannot be written: %v", m.MessageName(), version, err)
		}
		if len(once) > len(b)+16 {
			t.Fatalf("%d bytes became %d", len(b), len(once))
		}
		second := fresh(m)
		if err := second.ReadFrom(once, version); err != nil {
			t.Fatalf("%s version %d: what was written cannot be read: %v", m.MessageName(), version, err)
		}
		twice, err := second.AppendTo(nil, version)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%s version %d: %v\n%x\n%x", m.MessageName(), version, err, once, twice)
		}
		_, _, _ = schema.ReadGroupRecord(b, b)
		_, _, _ = schema.ReadMetadataRecord(b)
	})
}
