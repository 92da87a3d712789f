package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottla/ottla/chaos/history"
)

// transformers are numbered from here on as writers.
const firstTransformer = 1000

// transform turns each input into one output, in transactions that also commit the inputs' offsets. One in ten is aborted on purpose.
// A session that fails beyond repair is replaced by another under the same transactional id, as a restarted program would be.
func (l *Load) transform(i int) {
	t := &transformer{l: l, who: fmt.Sprintf("transformer-%d", i), writer: int32(firstTransformer + i), seq: make([]int64, l.o.Partitions), rng: rand.New(rand.NewPCG(l.o.Seed, uint64(1000+i)))}
	for l.pctx.Err() == nil {
		if err := t.session(); err != nil {
			l.errs.add(t.who, err)
			pause(l.pctx, 100*time.Millisecond)
		}
	}
}

type transformer struct {
	l      *Load
	who    string
	writer int32
	txn    int64
	seq    []int64
	rng    *rand.Rand
}

func (t *transformer) session() error {
	s, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(t.l.o.Bootstrap...), kgo.MetadataMinAge(100*time.Millisecond), kgo.DialTimeout(time.Second), kgo.RequestTimeoutOverhead(time.Second),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }), kgo.ProduceRequestTimeout(time.Second), kgo.DisableClientMetrics(),
		kgo.TransactionalID(t.who), kgo.TransactionTimeout(30*time.Second), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.ConsumerGroup(TransformGroup), kgo.ConsumeTopics(Input), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(500*time.Millisecond), kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(time.Second), kgo.ClientID(t.who), t.l.logged(t.who))
	if err != nil {
		return err
	}
	defer s.CloseAllowingRebalance()
	for t.l.pctx.Err() == nil {
		fs := s.PollRecords(t.l.pctx, 200)
		if t.l.pctx.Err() != nil {
			return nil
		}
		fs.EachError(func(_ string, _ int32, err error) { t.l.errs.add(t.who, err) })
		if fs.NumRecords() == 0 {
			continue
		}
		if err := t.one(s, fs.Records()); err != nil {
			return err
		}
	}
	return nil
}

// one runs one transaction. Its error ends the session.
func (t *transformer) one(s *kgo.GroupTransactSession, records []*kgo.Record) error {
	if err := s.Begin(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	t.txn++
	var mu sync.Mutex
	var failed error
	n := int64(0)
	for _, r := range records {
		in, err := history.Parse(r.Value)
		if err != nil {
			continue // the readers report it
		}
		part := (int(r.Partition) + int(r.Offset)) % t.l.o.Partitions
		v := history.Value{Topic: Output, Partition: int32(part), Writer: t.writer, Seq: t.seq[part], Txn: t.txn, InPart: in.Partition, InOwner: in.Writer, InSeq: in.Seq}
		t.seq[part]++
		n++
		t.l.o.Record(history.Event{Kind: history.Sent, Who: t.who, Value: &v})
		s.Produce(context.Background(), &kgo.Record{Topic: Output, Partition: v.Partition, Value: v.Bytes(80)}, func(r *kgo.Record, err error) {
			if err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
				t.l.o.Record(history.Event{Kind: history.Unknown, Who: t.who, Value: &v, Note: err.Error()})
				return
			}
			t.l.o.Record(history.Event{Kind: history.Acked, Who: t.who, Value: &v, Offset: r.Offset})
		})
	}
	end := history.Event{Kind: history.TxnUnknown, Who: t.who, Value: &history.Value{Writer: t.writer}, Txn: t.txn, N: n}
	try := kgo.TryCommit
	if t.rng.IntN(10) == 0 {
		try = kgo.TryAbort
	}
	ctx, cancel := context.WithTimeout(t.l.ctx, 90*time.Second)
	defer cancel()
	committed, err := s.End(ctx, try)
	mu.Lock()
	lost := failed
	mu.Unlock()
	switch {
	case err != nil:
		end.Note = err.Error()
	case committed:
		end.Kind = history.TxnCommit
	default:
		end.Kind = history.TxnAbort
	}
	t.l.o.Record(end)
	if err != nil {
		return fmt.Errorf("end: %w", err)
	}
	if lost != nil {
		t.l.errs.add(t.who+" produce", lost)
	}
	return nil
}
