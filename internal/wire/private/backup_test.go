package private

import (
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

type message interface {
	AppendTo([]byte) []byte
	ReadFrom([]byte) error
}

func samples() []message {
	return []message{
		&ExportMetadataResponse{ErrorCode: 1, Message: "m", ClusterID: "c", Offset: 7, Records: [][]byte{{1}, {}}},
		&RestoreMetadataRequest{Step: RestoreTopics, Restore: "r", Topics: []RestoreTopic{{Name: "t", ID: [16]byte{1}, LeaderEpochs: []int32{0, 5}, Replicas: 3, Configs: []RestoreConfig{{"a", "b"}}}}, Records: [][]byte{}},
		&RestoreMetadataResponse{ErrorCode: 3, Message: "no"},
		&AppendRestoredRequest{Topic: "t", Partition: 2, Begin: -1, Batches: []byte{1, 2}, Start: 9},
		&AppendRestoredResponse{LogStart: 1, LogEnd: 2},
	}
}

// What is written is read again; what is cut off is refused.
func TestToolMessages(t *testing.T) {
	for _, m := range samples() {
		b := m.AppendTo(nil)
		back := reflect.New(reflect.TypeOf(m).Elem()).Interface().(message)
		if err := back.ReadFrom(b); err != nil || !reflect.DeepEqual(m, back) {
			t.Errorf("%T: %+v came back as %+v, %v", m, m, back, err)
		}
		for n := range b {
			if err := reflect.New(reflect.TypeOf(m).Elem()).Interface().(message).ReadFrom(b[:n]); err == nil {
				t.Errorf("%T: %d of %d bytes were taken", m, n, len(b))
			}
		}
	}
	var _ = []kmsg.Request{&ExportMetadataRequest{}, &RestoreMetadataRequest{}, &AppendRestoredRequest{}}
}

// No bytes from outside end the process or take more memory than they are worth.
func FuzzToolMessages(f *testing.F) {
	for _, m := range samples() {
		f.Add(m.AppendTo(nil))
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		for _, m := range samples() {
			_ = reflect.New(reflect.TypeOf(m).Elem()).Interface().(message).ReadFrom(b)
		}
	})
}
