package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/coordinator/shardtest"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/txn"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is three brokers that share the log of transactions, one of which coordinates.
type cluster struct {
	t     *testing.T
	log   *shardtest.Log
	nodes []*node

	mu     sync.Mutex
	img    *metadata.Image
	leader int32
	epoch  int32
	chance func() float64 // of what becomes of a request
	asked  int
}

type node struct {
	c    *cluster
	id   int32
	rt   *coordinator.Runtime[*txn.Shard]
	txns *Transactions
}

var txnTopic = schema.UUID{7}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, log: shardtest.NewLog(), chance: func() float64 { return 1 }}
	for id := range int32(3) {
		n := &node{c: c, id: id}
		n.rt = coordinator.New(coordinator.Options[*txn.Shard]{
			Name: "txn", Topic: transactionTopic, Log: n, Decode: schema.ReadTxnRecord,
			NewShard: func(int32) *txn.Shard {
				return txn.New(txn.Options{MaxTimeoutMs: 60000, Expiration: time.Hour, ExpiryInterval: time.Hour, Announce: func(string) {}, Log: slog.New(slog.DiscardHandler)})
			},
		})
		n.txns = NewTransactions(TransactionsOptions{
			Node: id, Image: c.image, Runtime: n.rt, Ask: c.ask, Clock: clock.Real{}, Backoff: time.Millisecond, BackoffMax: 4 * time.Millisecond, Patience: 20 * time.Second,
		})
		c.nodes = append(c.nodes, n)
	}
	c.move(0)
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.txns.Close()
			if err := n.rt.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	return c
}

func (c *cluster) image() *metadata.Image {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.img
}

// move makes another broker the coordinator: what it hears first, and in which order the others do, is anybody's guess.
func (c *cluster) move(to int32) {
	c.mu.Lock()
	c.leader, c.epoch = to, c.epoch+1
	d := metadata.NewDelta(metadata.Empty("c"))
	for i, r := range []schema.Message{
		&schema.TopicRecord{Name: transactionTopic, TopicID: txnTopic},
		&schema.PartitionRecord{TopicID: txnTopic, Replicas: []int32{0, 1, 2}, Isr: []int32{0, 1, 2}, Leader: to, LeaderEpoch: c.epoch},
		&schema.FeatureLevelRecord{Name: "transaction.version", FeatureLevel: 2},
	} {
		if err := d.Replay(int64(i), 1, r); err != nil {
			c.t.Fatal(err)
		}
	}
	c.img = d.Image()
	img, epoch := c.img, c.epoch
	c.mu.Unlock()
	for _, n := range c.nodes {
		n.rt.OnMetadata(nil, img)
		if n.id == to {
			n.rt.Load(0, epoch)
		} else {
			n.rt.Unload(0, epoch)
		}
	}
}

// A node is its own way to the log, which takes appends of the leader only and commits them at once.

func (n *node) Append(p, leaderEpoch int32, batch []byte, o coordinator.AppendOptions) (int64, error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if n.c.epoch != leaderEpoch || n.c.leader != n.id {
		return 0, kerr.NotLeaderForPartition
	}
	last, err := n.c.log.Append(p, leaderEpoch, batch, o)
	n.c.log.Commit(last + 1)
	n.rt.OnHighWatermark(0, last+1)
	return last, err
}

func (n *node) Bounds(p int32) (start, end, hw int64, err error) { return n.c.log.Bounds(p) }

func (n *node) Read(p int32, from int64, maxBytes int) ([]byte, error) {
	return n.c.log.Read(p, from, maxBytes)
}

var errLost = errors.New("lost")

// ask serves AddPartitionsToTxn on a node; some requests and some answers are lost.
func (c *cluster) ask(ctx context.Context, id int32, req kmsg.Request) (kmsg.Response, error) {
	c.mu.Lock()
	fate := c.chance()
	c.asked++
	c.mu.Unlock()
	if fate < 0.1 {
		return nil, errLost
	}
	q := req.(*kmsg.AddPartitionsToTxnRequest)
	resp := kmsg.NewPtrAddPartitionsToTxnResponse()
	seen := map[string]bool{}
	for _, t := range q.Transactions {
		if seen[t.TransactionalID] {
			c.t.Errorf("two questions about %s at once", t.TransactionalID)
		}
		seen[t.TransactionalID] = true
		var parts []txn.Partition
		for _, x := range t.Topics {
			for _, p := range x.Partitions {
				parts = append(parts, txn.Partition{Topic: x.Topic, Partition: p})
			}
		}
		who := txn.Producer{ID: t.ProducerID, Epoch: t.ProducerEpoch}
		answer := make(chan func(txn.Partition) error, 1)
		if t.VerifyOnly {
			coordinator.Read(c.nodes[id].rt, 0, "verify", func(s *txn.Shard, _ time.Time) (map[txn.Partition]error, error) {
				return s.Verify(t.TransactionalID, who, parts), nil
			}, func(all map[txn.Partition]error, err error) {
				answer <- func(p txn.Partition) error {
					if err != nil {
						return err
					}
					return all[p]
				}
			})
		} else {
			coordinator.Write(c.nodes[id].rt, 0, "add", func(s *txn.Shard, now time.Time, _ coordinator.Token) (coordinator.Result[struct{}], error) {
				return s.AddPartitions(now, t.TransactionalID, who, parts, txn.Version2)
			}, func(_ struct{}, err error) { answer <- always(err) })
		}
		verdict := <-answer
		rt := kmsg.NewAddPartitionsToTxnResponseTransaction()
		rt.TransactionalID = t.TransactionalID
		for _, x := range t.Topics {
			e := kmsg.NewAddPartitionsToTxnResponseTransactionTopic()
			e.Topic = x.Topic
			for _, p := range x.Partitions {
				e.Partitions = append(e.Partitions, kmsg.AddPartitionsToTxnResponseTransactionTopicPartition{Partition: p, ErrorCode: wire.CodeOf(verdict(txn.Partition{Topic: x.Topic, Partition: p}))})
			}
			rt.Topics = append(rt.Topics, e)
		}
		resp.Transactions = append(resp.Transactions, rt)
	}
	if fate < 0.2 {
		return nil, errLost
	}
	return resp, nil
}

// on runs an operation on whoever coordinates, until it is committed.
func (c *cluster) on(op func(s *txn.Shard, now time.Time) (coordinator.Result[txn.Granted], error)) txn.Granted {
	c.t.Helper()
	for range 2000 {
		c.mu.Lock()
		leader := c.leader
		c.mu.Unlock()
		type out struct {
			g   txn.Granted
			err error
		}
		ch := make(chan out, 1)
		coordinator.Write(c.nodes[leader].rt, 0, "op", func(s *txn.Shard, now time.Time, _ coordinator.Token) (coordinator.Result[txn.Granted], error) {
			return op(s, now)
		}, func(g txn.Granted, err error) { ch <- out{g, err} })
		o := <-ch
		if o.err == nil {
			return o.g
		}
		if !passing(o.err) {
			c.t.Fatal(o.err)
		}
		<-time.After(time.Millisecond)
	}
	c.t.Fatal("no coordinator")
	return txn.Granted{}
}

// If this fails, batches of a transaction are written to partitions that its coordinator does not know of, and its end leaves them open, or
// they change places.
func TestPartitionsJoinTransactionsWhereverTheirCoordinatorIs(t *testing.T) {
	c := newCluster(t)
	rng := rand.New(rand.NewPCG(1, 2))
	var rngMu sync.Mutex
	random := func() float64 { rngMu.Lock(); defer rngMu.Unlock(); return rng.Float64() }
	const ids, joins = 6, 60
	who := make([]txn.Producer, ids)
	for i := range who {
		who[i] = c.on(func(s *txn.Shard, now time.Time) (coordinator.Result[txn.Granted], error) {
			return s.InitProducerID(now, fmt.Sprint("id", i), 60000, txn.Producer{ID: -1, Epoch: -1}, int64(100+i))
		}).Producer
	}
	c.mu.Lock()
	c.chance = random
	c.mu.Unlock()
	var all sync.WaitGroup
	var mu sync.Mutex
	order := make([][]int32, ids)
	for n := range joins {
		for i := range ids {
			all.Add(1)
			p := txn.Partition{Topic: "t", Partition: int32(n)}
			c.nodes[i%3].txns.Join(fmt.Sprint("id", i), who[i], []txn.Partition{p}, func(verdict func(txn.Partition) error) {
				if err := verdict(p); err != nil {
					t.Errorf("id%d joins %d: %v", i, n, err)
				}
				mu.Lock()
				order[i] = append(order[i], p.Partition)
				mu.Unlock()
				all.Done()
			})
		}
		if n%7 == 3 {
			c.move(int32(n) % 3)
		}
	}
	all.Wait()
	c.move(1)
	for i := range ids {
		for n, p := range order[i] {
			if int32(n) != p {
				t.Fatalf("id%d: answer %d is about partition %d: %v", i, n, p, order[i])
			}
		}
		c.on(func(s *txn.Shard, _ time.Time) (r coordinator.Result[txn.Granted], err error) {
			if got := s.Get(fmt.Sprint("id", i)); len(got.Partitions) != joins || got.State != txn.Ongoing {
				t.Errorf("id%d is %v with %d partitions", i, got.State, len(got.Partitions))
			}
			return r, nil
		})
		ask := []txn.Partition{{Topic: "t", Partition: 0}, {Topic: "t", Partition: joins}}
		heard := make(chan struct{})
		c.nodes[2].txns.Verify(fmt.Sprint("id", i), who[i], ask, func(verdict func(txn.Partition) error) {
			if verdict(ask[0]) != nil || !errors.Is(verdict(ask[1]), kerr.TransactionAbortable) {
				t.Errorf("id%d: %v, %v", i, verdict(ask[0]), verdict(ask[1]))
			}
			close(heard)
		})
		<-heard
	}
	if c.asked == 0 {
		t.Error("nobody asked another broker")
	}
}

// If this fails, a producer that is fenced goes on writing when its coordinator is elsewhere.
func TestAFencedProducerHearsOfItFromElsewhere(t *testing.T) {
	c := newCluster(t)
	init := func(fresh int64) txn.Producer {
		return c.on(func(s *txn.Shard, now time.Time) (coordinator.Result[txn.Granted], error) {
			return s.InitProducerID(now, "id", 60000, txn.Producer{ID: -1, Epoch: -1}, fresh)
		}).Producer
	}
	old := init(5)
	init(-1)
	heard := make(chan error)
	p := txn.Partition{Topic: "t"}
	c.nodes[1].txns.Join("id", old, []txn.Partition{p}, func(verdict func(txn.Partition) error) { heard <- verdict(p) })
	if err := <-heard; !errors.Is(err, kerr.ProducerFenced) {
		t.Fatal(err)
	}
}

// If this fails, markers of different transactions are mixed up on their way, or one is taken for written that is not.
func TestMarkersGoTogetherAndAreAnsweredOneByOne(t *testing.T) {
	hold := make(chan struct{})
	var mu sync.Mutex
	var requests []*kmsg.WriteTxnMarkersRequest
	m := NewMarkers(func(_ context.Context, node int32, req kmsg.Request) (kmsg.Response, error) {
		<-hold
		q := req.(*kmsg.WriteTxnMarkersRequest)
		mu.Lock()
		requests = append(requests, q)
		mu.Unlock()
		resp := kmsg.NewPtrWriteTxnMarkersResponse()
		for _, e := range q.Markers {
			re := kmsg.NewWriteTxnMarkersResponseMarker()
			re.ProducerID = e.ProducerID
			for _, x := range e.Topics {
				rt := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
				rt.Topic = x.Topic
				for _, p := range x.Partitions {
					if p == 9 {
						continue // forgotten
					}
					rp := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
					rp.Partition = p
					if e.ProducerID == 2 && p == 1 {
						rp.ErrorCode = kerr.NotLeaderForPartition.Code
					}
					rt.Partitions = append(rt.Partitions, rp)
				}
				re.Topics = append(re.Topics, rt)
			}
			resp.Markers = append(resp.Markers, re)
		}
		return resp, nil
	})
	var all sync.WaitGroup
	got := map[string]error{}
	send := func(producer int64, partition int32) {
		all.Add(1)
		m.Send(4, txn.Partition{Topic: "t", Partition: partition}, coordinator.Marker{ProducerID: producer, Commit: true, TransactionVersion: 2}, func(err error) {
			mu.Lock()
			got[fmt.Sprintf("%d/%d", producer, partition)] = err
			mu.Unlock()
			all.Done()
		})
	}
	send(1, 0) // goes alone
	for _, p := range []int32{1, 2, 9} {
		send(1, p)
		send(2, p)
	}
	close(hold)
	all.Wait()
	m.Close()
	if len(requests) > 3 {
		t.Errorf("%d requests", len(requests))
	}
	for k, err := range got {
		switch k {
		case "2/1":
			if !errors.Is(err, kerr.NotLeaderForPartition) {
				t.Errorf("%s: %v", k, err)
			}
		case "1/9", "2/9":
			if err == nil {
				t.Errorf("%s was forgotten and counts as written", k)
			}
		default:
			if err != nil {
				t.Errorf("%s: %v", k, err)
			}
		}
	}
	if len(got) != 7 {
		t.Errorf("%d answers", len(got))
	}
	m.Send(4, txn.Partition{}, coordinator.Marker{}, func(err error) { got["late"] = err })
	if got["late"] == nil {
		t.Error("a marker counts as written after the end")
	}
}
