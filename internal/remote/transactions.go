package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/txn"
)

// transactionTopic is where transactional ids are kept.
const transactionTopic = "__transaction_state"

// TransactionsOptions are what Transactions is made of; all but Logger are required.
type TransactionsOptions struct {
	Node    int32
	Image   func() *metadata.Image
	Runtime *coordinator.Runtime[*txn.Shard]
	Ask     Ask
	Clock   clock.Clock
	// Backoff is the first pause before a coordinator is asked again, BackoffMax the longest (add.partitions.to.txn.retry.backoff.ms).
	Backoff, BackoffMax time.Duration
	// Patience bounds how long one question is tried.
	Patience time.Duration
}

// Transactions asks the coordinator of a transactional id, wherever it is, on behalf of the partitions of this broker.
//
// Questions about one transactional id are answered in their order, so that the batches behind them stay in theirs: while one is under way on
// another broker the next ones wait and go together.
type Transactions struct {
	o      TransactionsOptions
	ctx    context.Context
	cancel context.CancelFunc
	out    *gatherer[sentQuestion]

	mu     sync.Mutex
	lines  map[string]*line // by transactional id; there is one while a question is under way
	closed bool
}

// line is the questions about one transactional id. This broker's own shard takes any number of them and keeps their order; those that it
// cannot answer now, and all behind them, go one after another.
type line struct {
	places  int
	direct  int         // with the shard
	failed  []*question // of those: to be asked again before all that wait
	waiting []*question
	running bool // one of those that waited is under way
}

// next takes the question whose turn it is, nil where there is none. REQUIRES: the lock of Transactions.
func (l *line) next() *question {
	if l.direct > 0 || l.running {
		return nil
	}
	// What the shard cannot take is refused before what it has taken is given up.
	slices.SortFunc(l.failed, func(a, b *question) int { return a.place - b.place })
	for _, q := range l.waiting {
		l.failed = appendQuestion(l.failed, q)
	}
	l.waiting, l.failed = l.failed, nil
	if len(l.waiting) == 0 {
		return nil
	}
	q := l.waiting[0]
	l.waiting = l.waiting[1:]
	l.running = true
	return q
}

func (l *line) idle() bool { return l.direct == 0 && !l.running && len(l.waiting)+len(l.failed) == 0 }

// question is about partitions of one transaction, from one call or several.
type question struct {
	id    string
	who   txn.Producer
	parts []txn.Partition
	join  bool
	dones []func(verdict func(txn.Partition) error)

	place int // among those of its line
	until time.Time
	pause time.Duration
}

// NewTransactions makes one that asks nobody yet.
func NewTransactions(o TransactionsOptions) *Transactions {
	t := &Transactions{o: o, lines: map[string]*line{}}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.out = newGatherer(1000, t.send)
	return t
}

// Close answers what is under way with what is known, and sends nothing more.
func (t *Transactions) Close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	t.out.close()
}

// Join makes partitions part of a producer's transaction, which begins with the first. It does not block.
func (t *Transactions) Join(id string, who txn.Producer, add []txn.Partition, done func(verdict func(txn.Partition) error)) {
	t.begin(&question{id: id, who: who, parts: add, join: true, dones: []func(func(txn.Partition) error){done}})
}

// Verify asks whether partitions are part of a producer's transaction. It does not block.
func (t *Transactions) Verify(id string, who txn.Producer, ask []txn.Partition, done func(verdict func(txn.Partition) error)) {
	t.begin(&question{id: id, who: who, parts: ask, dones: []func(func(txn.Partition) error){done}})
}

func (t *Transactions) begin(q *question) {
	partition, leader := t.coordinator(q.id)
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		q.answer(always(kerr.CoordinatorNotAvailable))
		return
	}
	l := t.lines[q.id]
	if l == nil {
		l = &line{}
		t.lines[q.id] = l
	}
	if leader == t.o.Node && !l.running && len(l.waiting)+len(l.failed) == 0 {
		l.direct++
		l.places++
		q.place = l.places
		t.mu.Unlock()
		t.local(partition, q, func(verdict func(txn.Partition) error) { t.heardHere(q, l, verdict) })
		return
	}
	l.waiting = appendQuestion(l.waiting, q)
	t.mu.Unlock()
	t.proceed(q.id, l)
}

// proceed asks the next question of a line, if it is time.
func (t *Transactions) proceed(id string, l *line) {
	t.mu.Lock()
	q := l.next()
	if l.idle() && t.lines[id] == l {
		delete(t.lines, id)
	}
	t.mu.Unlock()
	if q != nil {
		q.until, q.pause = t.o.Clock.Now().Add(t.o.Patience), t.o.Backoff
		t.attempt(q, l)
	}
}

// appendQuestion puts a question behind others; one that is like the last goes with it.
func appendQuestion(waiting []*question, q *question) []*question {
	if n := len(waiting); n > 0 {
		if last := waiting[n-1]; last.who == q.who && last.join == q.join {
			last.parts = append(last.parts[:len(last.parts):len(last.parts)], q.parts...)
			last.dones = append(last.dones, q.dones...)
			return waiting
		}
	}
	return append(waiting, q)
}

func (q *question) answer(verdict func(txn.Partition) error) {
	for _, done := range q.dones {
		done(verdict)
	}
}

func always(err error) func(txn.Partition) error { return func(txn.Partition) error { return err } }

// coordinator finds the partition of the log of transactions that owns an id, and its leader; -1 where nobody leads it.
func (t *Transactions) coordinator(id string) (partition, leader int32) {
	topic := t.o.Image().Topic(transactionTopic)
	if topic == nil {
		return 0, -1
	}
	n := coordinator.Home(id, len(topic.Partitions))
	return n, topic.Partitions[n].Leader
}

func (t *Transactions) attempt(q *question, l *line) {
	verdict := func(v func(txn.Partition) error) { t.heard(q, l, v) }
	partition, leader := t.coordinator(q.id)
	switch {
	case leader == t.o.Node:
		t.local(partition, q, verdict)
	case leader < 0:
		verdict(always(kerr.CoordinatorNotAvailable))
	default:
		if !t.out.add(leader, sentQuestion{q, l}) {
			verdict(always(kerr.CoordinatorNotAvailable))
		}
	}
}

// local asks the shard on this broker.
func (t *Transactions) local(partition int32, q *question, done func(verdict func(txn.Partition) error)) {
	if q.join {
		coordinator.Write(t.o.Runtime, partition, "join", func(s *txn.Shard, now time.Time, tok coordinator.Token) (coordinator.Result[struct{}], error) {
			return s.AddOrPark(now, tok, q.id, q.who, q.parts, txn.Version2)
		}, func(_ struct{}, err error) { done(always(err)) })
		return
	}
	coordinator.Read(t.o.Runtime, partition, "verify", func(s *txn.Shard, _ time.Time) (map[txn.Partition]error, error) {
		return s.Verify(q.id, q.who, q.parts), nil
	}, func(all map[txn.Partition]error, err error) {
		if err != nil {
			done(always(err))
			return
		}
		done(func(p txn.Partition) error { return all[p] })
	})
}

// heard takes an answer: it is asked again where that may help.
func (t *Transactions) heard(q *question, l *line, verdict func(txn.Partition) error) {
	if t.ctx.Err() == nil && t.o.Clock.Now().Before(q.until) && slices.ContainsFunc(q.parts, func(p txn.Partition) bool { return passing(verdict(p)) }) {
		pause := q.pause
		q.pause = min(2*q.pause, max(t.o.BackoffMax, t.o.Backoff))
		t.o.Clock.AfterFunc(pause, func() { t.attempt(q, l) })
		return
	}
	q.answer(verdict)
	t.mu.Lock()
	l.running = false
	t.mu.Unlock()
	t.proceed(q.id, l)
}

// heardHere takes an answer of this broker's own shard. Where that is on its way, here or elsewhere, the question begins to wait, and so do
// those behind it.
func (t *Transactions) heardHere(q *question, l *line, verdict func(txn.Partition) error) {
	t.mu.Lock()
	again := !t.closed && (slices.ContainsFunc(l.failed, func(before *question) bool { return before.place < q.place }) || slices.ContainsFunc(q.parts, func(p txn.Partition) bool { return passing(verdict(p)) }))
	if again {
		l.failed = append(l.failed, q)
	}
	t.mu.Unlock()
	if !again {
		q.answer(verdict)
	}
	t.mu.Lock()
	l.direct--
	t.mu.Unlock()
	t.proceed(q.id, l)
}

// errUnheard says that a coordinator could not be reached.
var errUnheard = errors.New("no answer")

// passing says whether the same question may be answered otherwise in a moment.
func passing(err error) bool {
	return errors.Is(err, kerr.NotCoordinator) || errors.Is(err, kerr.CoordinatorLoadInProgress) || errors.Is(err, kerr.CoordinatorNotAvailable) ||
		errors.Is(err, kerr.ConcurrentTransactions) || errors.Is(err, errUnheard) ||
		errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.OperationNotAttempted) // it has not heard of the topic yet
}

// sentQuestion is a question on its way to another broker.
type sentQuestion struct {
	*question
	line *line
}

// send makes one request of many questions, each about its own transaction.
func (t *Transactions) send(node int32, questions []sentQuestion) {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	for _, s := range questions {
		q := s.question
		e := kmsg.NewAddPartitionsToTxnRequestTransaction()
		e.TransactionalID, e.ProducerID, e.ProducerEpoch, e.VerifyOnly = q.id, q.who.ID, q.who.Epoch, !q.join
		at := map[string]int{}
		for _, p := range q.parts {
			i, ok := at[p.Topic]
			if !ok {
				i = len(e.Topics)
				at[p.Topic] = i
				et := kmsg.NewAddPartitionsToTxnRequestTransactionTopic()
				et.Topic = p.Topic
				e.Topics = append(e.Topics, et)
			}
			e.Topics[i].Partitions = append(e.Topics[i].Partitions, p.Partition)
		}
		req.Transactions = append(req.Transactions, e)
	}
	ctx, cancel := context.WithTimeout(t.ctx, t.o.Patience)
	defer cancel()
	resp, err := t.o.Ask(ctx, node, req)
	verdicts := map[string]map[txn.Partition]error{}
	if err == nil {
		r, ok := resp.(*kmsg.AddPartitionsToTxnResponse)
		switch {
		case !ok:
			err = fmt.Errorf("the answer to AddPartitionsToTxn is a %T", resp)
		case r.ErrorCode != 0:
			err = kerr.ErrorForCode(r.ErrorCode)
		default:
			for i := range r.Transactions {
				verdicts[r.Transactions[i].TransactionalID] = told(&r.Transactions[i])
			}
		}
	}
	for _, s := range questions {
		of := verdicts[s.id]
		t.heard(s.question, s.line, func(p txn.Partition) error {
			if err != nil {
				return fmt.Errorf("%w from node %d: %w: %v", errUnheard, node, kerr.CoordinatorNotAvailable, err)
			}
			verdict, ok := of[p]
			if !ok {
				return kerr.UnknownServerError
			}
			return verdict
		})
	}
}

func told(r *kmsg.AddPartitionsToTxnResponseTransaction) map[txn.Partition]error {
	out := map[txn.Partition]error{}
	for _, x := range r.Topics {
		for _, p := range x.Partitions {
			out[txn.Partition{Topic: x.Topic, Partition: p.Partition}] = kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return out
}
