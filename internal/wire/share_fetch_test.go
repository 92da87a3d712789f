package wire

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// What is encoded by hand is what kmsg reads, records in their places.
func TestShareFetchResponseReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.Ptr(rapid.StringN(0, 20, -1), true)
		r := ShareFetchResponse{ThrottleTimeMs: rapid.Int32().Draw(t, "throttle"), ErrorCode: rapid.Int16().Draw(t, "code"), ErrorMessage: text.Draw(t, "message"), LockTimeoutMs: rapid.Int32().Draw(t, "lock")}
		var records [][]byte
		for range rapid.IntRange(0, 3).Draw(t, "topics") {
			topic := ShareFetchTopicResponse{TopicID: [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))}
			for range rapid.IntRange(0, 3).Draw(t, "partitions") {
				b := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "records")
				p := ShareFetchPartitionResponse{Index: rapid.Int32().Draw(t, "index"), ErrorCode: rapid.Int16().Draw(t, "pcode"), ErrorMessage: text.Draw(t, "pmessage"),
					AckErrorCode: rapid.Int16().Draw(t, "acode"), AckErrorMessage: text.Draw(t, "amessage"), RecordsSize: int32(len(b)),
					CurrentLeader: LeaderAndEpoch{rapid.Int32().Draw(t, "leader"), rapid.Int32().Draw(t, "epoch")}}
				for range rapid.IntRange(0, 3).Draw(t, "acquired") {
					p.Acquired = append(p.Acquired, AcquiredRecords{rapid.Int64().Draw(t, "first"), rapid.Int64().Draw(t, "last"), rapid.Int16().Draw(t, "count")})
				}
				topic.Partitions = append(topic.Partitions, p)
				records = append(records, b)
			}
			r.Topics = append(r.Topics, topic)
		}
		for range rapid.IntRange(0, 2).Draw(t, "nodes") {
			r.NodeEndpoints = append(r.NodeEndpoints, NodeEndpoint{NodeID: rapid.Int32().Draw(t, "node"), Host: rapid.StringN(0, 9, -1).Draw(t, "host"), Port: rapid.Int32().Draw(t, "port"), Rack: text.Draw(t, "rack")})
		}
		b, at := r.Append(nil, nil)
		var whole []byte
		from := 0
		for _, x := range records {
			if len(x) > 0 {
				whole = append(append(whole, b[from:at[0]]...), x...)
				from, at = at[0], at[1:]
			}
		}
		whole = append(whole, b[from:]...)
		got := kmsg.NewPtrShareFetchResponse()
		got.Version = 2
		if err := got.ReadFrom(whole); err != nil {
			t.Fatal(err)
		}
		if again := got.AppendTo(nil); !bytes.Equal(again, whole) {
			t.Fatalf("kmsg reads something else:\n%x\n%x", whole, again)
		}
		if got.AcquisitionLockTimeoutMillis != r.LockTimeoutMs || len(got.Topics) != len(r.Topics) {
			t.Fatalf("read back as %+v", got)
		}
	})
}
