package private

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/wire"
)

// Keys of the messages by which a backup tool reads and writes what Kafka's protocol does not show. A tool is no node: they come on
// every listener, from whoever may act on the cluster.
const (
	ExportMetadataKey  int16 = 20040
	RestoreMetadataKey int16 = 20041
	AppendRestoredKey  int16 = 20042
)

// Steps of a RestoreMetadataRequest.
const (
	// RestoreTopics creates topics under their old ids, marked as being restored: nobody but AppendRestored writes to them.
	RestoreTopics int8 = iota + 1
	// RestoreCluster writes what does not belong to a topic: ACLs, credentials, quotas, settings, features.
	RestoreCluster
	// RestoreFinish takes the mark from topics; their partitions begin a new leader epoch.
	RestoreFinish
)

// plain is what messages without versions have in common.
type plain struct{}

func (plain) MaxVersion() int16 { return 0 }
func (plain) SetVersion(int16)  {}
func (plain) GetVersion() int16 { return 0 }
func (plain) IsFlexible() bool  { return false }

// ExportMetadataRequest asks for the records of the newest metadata image.
type ExportMetadataRequest struct{ plain }

// ExportMetadataResponse is a snapshot of the metadata, each record in the frame that the metadata log has it in.
type ExportMetadataResponse struct {
	plain
	ErrorCode int16
	Message   string
	ClusterID string
	Offset    int64
	Records   [][]byte
}

// RestoreTopic is a topic to bring back.
type RestoreTopic struct {
	Name string
	ID   [16]byte
	// LeaderEpochs of the partitions when they were saved. What follows gets higher ones.
	LeaderEpochs []int32
	Replicas     int16 // at most; fewer where there are fewer brokers
	Configs      []RestoreConfig
}

// RestoreConfig is one setting of a topic.
type RestoreConfig struct{ Name, Value string }

// RestoreMetadataRequest is one step of a restore. All of it happens or nothing. A step that was done already for the same Restore is
// done again without effect.
type RestoreMetadataRequest struct {
	plain
	Step    int8
	Restore string // names the restore, so that it can be taken up again
	Topics  []RestoreTopic
	Records [][]byte // RestoreCluster: metadata records in their frames
}

// RestoreMetadataResponse answers it.
type RestoreMetadataResponse struct {
	plain
	ErrorCode int16
	Message   string
}

// AppendRestoredRequest writes batches as they are, offsets and leader epochs included, to the end of a partition that is
// being restored. Batches below the end of the log are passed over.
type AppendRestoredRequest struct {
	plain
	Topic     string
	Partition int32
	Begin     int64  // where the log begins if nothing is in it; -1 leaves it
	Batches   []byte // whole batches, or nothing
	Start     int64  // log start offset to set in the end; -1 leaves it
}

// AppendRestoredResponse comes when the batches are committed.
type AppendRestoredResponse struct {
	plain
	ErrorCode int16
	Message   string
	LogStart  int64
	LogEnd    int64
}

func appendString(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(s))), s...)
}

func appendList(dst []byte, list [][]byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(list)))
	for _, b := range list {
		dst = append(binary.BigEndian.AppendUint32(dst, uint32(len(b))), b...)
	}
	return dst
}

func readString(r *wire.Reader) string { return string(r.Span(int(r.Int32()))) }

func readList(r *wire.Reader) [][]byte {
	n := r.Count(false, 4)
	list := make([][]byte, 0, n)
	for range n {
		list = append(list, r.Span(int(r.Int32())))
	}
	return list
}

// Key is the message's.
func (*ExportMetadataRequest) Key() int16 { return ExportMetadataKey }

// ResponseKind is the answer's type.
func (*ExportMetadataRequest) ResponseKind() kmsg.Response { return &ExportMetadataResponse{} }

// AppendTo encodes.
func (*ExportMetadataRequest) AppendTo(dst []byte) []byte { return dst }

// ReadFrom decodes.
func (*ExportMetadataRequest) ReadFrom([]byte) error { return nil }

// Key is the message's.
func (*ExportMetadataResponse) Key() int16 { return ExportMetadataKey }

// RequestKind is the request's type.
func (*ExportMetadataResponse) RequestKind() kmsg.Request { return &ExportMetadataRequest{} }

// AppendTo encodes.
func (m *ExportMetadataResponse) AppendTo(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(m.ErrorCode))
	dst = appendString(appendString(dst, m.Message), m.ClusterID)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Offset))
	return appendList(dst, m.Records)
}

// ReadFrom decodes; the records are parts of src.
func (m *ExportMetadataResponse) ReadFrom(src []byte) error {
	r := wire.NewReader(src)
	m.ErrorCode, m.Message, m.ClusterID, m.Offset = r.Int16(), readString(&r), readString(&r), r.Int64()
	m.Records = readList(&r)
	return r.Err()
}

// Key is the message's.
func (*RestoreMetadataRequest) Key() int16 { return RestoreMetadataKey }

// ResponseKind is the answer's type.
func (*RestoreMetadataRequest) ResponseKind() kmsg.Response { return &RestoreMetadataResponse{} }

// AppendTo encodes.
func (m *RestoreMetadataRequest) AppendTo(dst []byte) []byte {
	dst = appendString(append(dst, byte(m.Step)), m.Restore)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(m.Topics)))
	for _, t := range m.Topics {
		dst = append(appendString(dst, t.Name), t.ID[:]...)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(t.LeaderEpochs)))
		for _, e := range t.LeaderEpochs {
			dst = binary.BigEndian.AppendUint32(dst, uint32(e))
		}
		dst = binary.BigEndian.AppendUint16(dst, uint16(t.Replicas))
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(t.Configs)))
		for _, c := range t.Configs {
			dst = appendString(appendString(dst, c.Name), c.Value)
		}
	}
	return appendList(dst, m.Records)
}

// ReadFrom decodes; the records are parts of src.
func (m *RestoreMetadataRequest) ReadFrom(src []byte) error {
	r := wire.NewReader(src)
	m.Step, m.Restore = r.Int8(), readString(&r)
	for range r.Count(false, 30) {
		t := RestoreTopic{Name: readString(&r), ID: r.UUID()}
		for range r.Count(false, 4) {
			t.LeaderEpochs = append(t.LeaderEpochs, r.Int32())
		}
		t.Replicas = r.Int16()
		for range r.Count(false, 8) {
			t.Configs = append(t.Configs, RestoreConfig{readString(&r), readString(&r)})
		}
		m.Topics = append(m.Topics, t)
	}
	m.Records = readList(&r)
	return r.Err()
}

// Key is the message's.
func (*RestoreMetadataResponse) Key() int16 { return RestoreMetadataKey }

// RequestKind is the request's type.
func (*RestoreMetadataResponse) RequestKind() kmsg.Request { return &RestoreMetadataRequest{} }

// AppendTo encodes.
func (m *RestoreMetadataResponse) AppendTo(dst []byte) []byte {
	return appendString(binary.BigEndian.AppendUint16(dst, uint16(m.ErrorCode)), m.Message)
}

// ReadFrom decodes.
func (m *RestoreMetadataResponse) ReadFrom(src []byte) error {
	r := wire.NewReader(src)
	m.ErrorCode, m.Message = r.Int16(), readString(&r)
	return r.Err()
}

// Key is the message's.
func (*AppendRestoredRequest) Key() int16 { return AppendRestoredKey }

// ResponseKind is the answer's type.
func (*AppendRestoredRequest) ResponseKind() kmsg.Response { return &AppendRestoredResponse{} }

// AppendTo encodes.
func (m *AppendRestoredRequest) AppendTo(dst []byte) []byte {
	dst = appendString(dst, m.Topic)
	dst = binary.BigEndian.AppendUint32(dst, uint32(m.Partition))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Begin))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Start))
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(m.Batches))), m.Batches...)
}

// ReadFrom decodes; the batches are a part of src.
func (m *AppendRestoredRequest) ReadFrom(src []byte) error {
	r := wire.NewReader(src)
	m.Topic, m.Partition, m.Begin, m.Start = readString(&r), r.Int32(), r.Int64(), r.Int64()
	m.Batches = r.Span(int(r.Int32()))
	return r.Err()
}

// Key is the message's.
func (*AppendRestoredResponse) Key() int16 { return AppendRestoredKey }

// RequestKind is the request's type.
func (*AppendRestoredResponse) RequestKind() kmsg.Request { return &AppendRestoredRequest{} }

// AppendTo encodes.
func (m *AppendRestoredResponse) AppendTo(dst []byte) []byte {
	dst = appendString(binary.BigEndian.AppendUint16(dst, uint16(m.ErrorCode)), m.Message)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.LogStart))
	return binary.BigEndian.AppendUint64(dst, uint64(m.LogEnd))
}

// ReadFrom decodes.
func (m *AppendRestoredResponse) ReadFrom(src []byte) error {
	r := wire.NewReader(src)
	m.ErrorCode, m.Message, m.LogStart, m.LogEnd = r.Int16(), readString(&r), r.Int64(), r.Int64()
	return r.Err()
}
