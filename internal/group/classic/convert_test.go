package classic

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func FuzzReadSubscription(f *testing.F) {
	s := kmsg.NewConsumerMemberMetadata()
	s.Version, s.Topics = 3, []string{"a", "b"}
	s.OwnedPartitions = []kmsg.ConsumerMemberMetadataOwnedPartition{{Topic: "a", Partitions: []int32{1}}}
	f.Add(s.AppendTo(nil))
	short := kmsg.NewConsumerMemberMetadata()
	short.Topics = []string{"a"}
	f.Add(append([]byte{0, 1}, short.AppendTo(nil)[2:]...)) // as kafka-go has it
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadSubscription(b)
		if err == nil && len(b) < 2+4 {
			t.Fatalf("%d bytes make %+v", len(b), s)
		}
	})
}

func TestReadSubscription(t *testing.T) {
	s := kmsg.NewConsumerMemberMetadata()
	s.Topics = []string{"a", "b"}
	b := s.AppendTo(nil)
	b[1] = 1 // the fields of version 1 are missing
	got, err := ReadSubscription(b)
	if err != nil || !slices.Equal(got.Topics, s.Topics) || len(got.OwnedPartitions) != 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := ReadSubscription([]byte{0, 1, 0, 0, 0, 9}); err == nil {
		t.Fatal("nine topics of nothing")
	}
}
