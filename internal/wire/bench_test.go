package wire

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func benchProduceBody(recordBytes int) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.Version = 12
	for _, name := range []string{"orders", "payments"} {
		tp := kmsg.NewProduceRequestTopic()
		tp.Topic = name
		for i := range int32(5) {
			p := kmsg.NewProduceRequestTopicPartition()
			p.Partition, p.Records = i, make([]byte, recordBytes)
			tp.Partitions = append(tp.Partitions, p)
		}
		req.Topics = append(req.Topics, tp)
	}
	return req.AppendTo(nil)
}

func BenchmarkProduceDecode(b *testing.B) {
	body := benchProduceBody(1000)
	b.Run("wire", func(b *testing.B) {
		var req ProduceRequest
		b.ReportAllocs()
		for b.Loop() {
			if err := req.Decode(12, body); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("kmsg", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			req := kmsg.NewPtrProduceRequest()
			req.Version = 12
			if err := req.ReadFrom(body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkFetchResponseEncode(b *testing.B) {
	resp := FetchResponse{SessionID: 7}
	for _, name := range []string{"orders", "payments"} {
		t := FetchTopicResponse{Name: name}
		for i := range int32(5) {
			t.Partitions = append(t.Partitions, FetchPartitionResponse{Index: i, HighWatermark: 100, LastStableOffset: 100, RecordsSize: 1000})
		}
		resp.Topics = append(resp.Topics, t)
	}
	dst, parts := make([]byte, 0, 4096), make([]FetchPart, 0, 16)
	b.ReportAllocs()
	for b.Loop() {
		dst, parts, _ = resp.AppendFrame(dst[:0], 12, 1, parts[:0])
	}
}

func BenchmarkDecodeRequest(b *testing.B) {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group, req.MemberID = 4, "group", "member-00112233-4455"
	heartbeat := req.AppendTo(nil)
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Version, commit.Group = 9, "group"
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = "orders"
	for i := range int32(50) {
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition = i
		t.Partitions = append(t.Partitions, p)
	}
	commit.Topics = append(commit.Topics, t)
	commitBody := commit.AppendTo(nil)
	for _, c := range []struct {
		name         string
		key, version int16
		body         []byte
	}{{"Heartbeat", 12, 4, heartbeat}, {"OffsetCommit50", 8, 9, commitBody}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeRequest(c.key, c.version, c.body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
