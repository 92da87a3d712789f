package interop

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ask sends one request in exactly the version that is set.
func ask(t *testing.T, addr string, req kmsg.Request) kmsg.Response {
	t.Helper()
	nc, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := nc.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("interop")).AppendRequest(nil, req, 1)); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(nc, head); err != nil {
		t.Fatalf("%s v%d: %v", kmsg.NameForKey(req.Key()), req.GetVersion(), err)
	}
	body := make([]byte, binary.BigEndian.Uint32(head))
	if _, err := io.ReadFull(nc, body); err != nil {
		t.Fatal(err)
	}
	body = body[4:]
	if req.IsFlexible() {
		body = body[1:]
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if err := resp.ReadFrom(body); err != nil {
		t.Fatal(err)
	}
	return resp
}

// txnBatch is a transactional batch of one record.
func txnBatch(pid int64, epoch int16, seq int32) []byte {
	rec := kmsg.Record{Value: []byte("v")}
	rec.Length = int32(len(rec.AppendTo(nil)) - 1)
	b := kmsg.RecordBatch{Magic: 2, Attributes: 0x10, PartitionLeaderEpoch: -1, FirstTimestamp: time.Now().UnixMilli(), MaxTimestamp: time.Now().UnixMilli(),
		ProducerID: pid, ProducerEpoch: epoch, FirstSequence: seq, NumRecords: 1, Records: rec.AppendTo(nil)}
	raw := b.AppendTo(nil)
	b.Length = int32(len(raw) - 12)
	raw = b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

func code(n int16) string {
	if n == 0 {
		return "ok"
	}
	return kerr.ErrorForCode(n).(*kerr.Error).Message
}

// txnLevel is a life of transactional ids at one level of transaction.version.
type txnLevel struct {
	t     *testing.T
	addr  string
	level int16
	lines []string
}

func (l *txnLevel) say(format string, args ...any) {
	l.lines = append(l.lines, fmt.Sprintf("level %d: ", l.level)+fmt.Sprintf(format, args...))
}

// retried asks again while the broker says that something is under way.
func retried(f func() int16) string {
	for n := 0; ; n++ {
		switch c := f(); {
		case n < 200 && (c == kerr.ConcurrentTransactions.Code || c == kerr.NotCoordinator.Code || c == kerr.CoordinatorNotAvailable.Code || c == kerr.CoordinatorLoadInProgress.Code || c == kerr.NotEnoughReplicas.Code || c == kerr.NotLeaderForPartition.Code):
			<-time.After(20 * time.Millisecond)
		default:
			return code(c)
		}
	}
}

func (l *txnLevel) begin(id string) (pid int64, epoch int16) {
	q := kmsg.NewPtrInitProducerIDRequest()
	q.SetVersion(5)
	q.TransactionalID, q.TransactionTimeoutMillis = &id, 60000
	l.say("%s: init: %s", id, retried(func() int16 {
		r := ask(l.t, l.addr, q).(*kmsg.InitProducerIDResponse)
		pid, epoch = r.ProducerID, r.ProducerEpoch
		return r.ErrorCode
	}))
	return pid, epoch
}

func (l *txnLevel) produce(id, topic string, version int16, pid int64, epoch int16, seq int32) {
	q := kmsg.NewPtrProduceRequest()
	q.SetVersion(version)
	q.TransactionID, q.Acks, q.TimeoutMillis = &id, -1, 5000
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = txnBatch(pid, epoch, seq)
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.Partitions = topic, append(rt.Partitions, p)
	q.Topics = append(q.Topics, rt)
	l.say("%s: produce v%d: %s", id, version, retried(func() int16 {
		return ask(l.t, l.addr, q).(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode
	}))
}

func (l *txnLevel) add(id, topic string, pid int64, epoch int16) {
	q := kmsg.NewPtrAddPartitionsToTxnRequest()
	q.SetVersion(3)
	q.TransactionalID, q.ProducerID, q.ProducerEpoch = id, pid, epoch
	q.Topics = append(q.Topics, kmsg.AddPartitionsToTxnRequestTopic{Topic: topic, Partitions: []int32{0}})
	l.say("%s: add v3: %s", id, retried(func() int16 {
		return ask(l.t, l.addr, q).(*kmsg.AddPartitionsToTxnResponse).Topics[0].Partitions[0].ErrorCode
	}))
}

func (l *txnLevel) end(id string, version int16, pid int64, epoch int16) (next int16) {
	q := kmsg.NewPtrEndTxnRequest()
	q.SetVersion(version)
	q.TransactionalID, q.ProducerID, q.ProducerEpoch, q.Commit = id, pid, epoch, true
	next = epoch
	status := retried(func() int16 {
		r := ask(l.t, l.addr, q).(*kmsg.EndTxnResponse)
		if r.ErrorCode == 0 && version >= 5 {
			next = r.ProducerEpoch
		}
		return r.ErrorCode
	})
	l.say("%s: end v%d: %s, the epoch grows by %d", id, version, status, next-epoch)
	return next
}

// stored is how the last record of a transactional id is written.
func (l *txnLevel) stored(cl *kgo.Client, id string) {
	var last []byte
	var bounds kadm.ListedOffsets
	ctx := patience(l.t, 30*time.Second)
	adm := kadm.NewClient(cl)
	bounds, err := adm.ListEndOffsets(ctx, "__transaction_state")
	if err != nil {
		l.t.Fatal(err)
	}
	from := map[string]map[int32]kgo.Offset{"__transaction_state": {}}
	left := map[int32]int64{}
	bounds.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			from[o.Topic][o.Partition], left[o.Partition] = kgo.NewOffset().AtStart(), o.Offset
		}
	})
	reader, err := kgo.NewClient(kgo.SeedBrokers(l.addr), kgo.ConsumePartitions(from), kgo.KeepControlRecords())
	if err != nil {
		l.t.Fatal(err)
	}
	defer reader.Close()
	for len(left) > 0 {
		fs := reader.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			l.t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if bytes.HasSuffix(r.Key, []byte(id)) && len(r.Value) > 0 {
				last = r.Value
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	if len(last) < 2 {
		l.t.Fatalf("no record of %s", id)
	}
	l.say("%s: its last record is of version %d", id, binary.BigEndian.Uint16(last))
}

// If this fails, a cluster whose transaction.version is lowered writes what the release before cannot read, or answers otherwise than Kafka.
func TestTransactionsAtLowerLevels(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	b, err := startBroker(ctx, t.TempDir(), nil) // of its own: levels are the cluster's
	skipOrFail(t, err)
	defer b.Kill()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.SetVersion(4)
	find.CoordinatorType, find.CoordinatorKeys = 1, []string{"x"}
	retried(func() int16 { return ask(t, b.Addr, find).(*kmsg.FindCoordinatorResponse).Coordinators[0].ErrorCode })
	var lines []string
	for _, level := range []int16{2, 1, 0} {
		l := &txnLevel{t: t, addr: b.Addr, level: level}
		if level < 2 {
			q := kmsg.NewPtrUpdateFeaturesRequest()
			q.SetVersion(1)
			u := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
			u.Feature, u.MaxVersionLevel, u.UpgradeType = "transaction.version", level, 2
			q.FeatureUpdates = append(q.FeatureUpdates, u)
			l.say("downgrade: %s", code(ask(t, b.Addr, q).(*kmsg.UpdateFeaturesResponse).ErrorCode))
		}
		id := fmt.Sprintf("new-%d", level)
		pid, epoch := l.begin(id)
		l.produce(id, "t", 12, pid, epoch, 0)
		if level > 0 { // Kafka leaves the id in a state that nothing leads out of
			next := l.end(id, 5, pid, epoch)
			l.end(id, 5, pid, epoch)
			l.produce(id, "t", 12, pid, next, 0)
			l.end(id, 5, pid, next)
		}
		l.stored(cl, id)
		id = fmt.Sprintf("old-%d", level)
		pid, epoch = l.begin(id)
		l.add(id, "t", pid, epoch)
		l.produce(id, "t", 11, pid, epoch, 0)
		l.end(id, 4, pid, epoch)
		l.stored(cl, id)
		l.produce(id, "t", 11, pid, epoch, 1)
		lines = append(lines, l.lines...)
	}
	got := strings.Join(lines, "\n") + "\n"
	if *updateFacts {
		if err := os.WriteFile("testdata/txn_levels.txt", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile("testdata/txn_levels.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
