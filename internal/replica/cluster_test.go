package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/replica/core"
	"github.com/ottla/ottla/internal/replica/fetchsession"
	"github.com/ottla/ottla/internal/timewheel"
	"github.com/ottla/ottla/internal/vfs"
	"github.com/ottla/ottla/internal/wire"
)

// cluster is some managers that fetch from each other, each on a disk in memory, and a controller of one partition.
type cluster struct {
	t     *testing.T
	tp    log.TopicPartition
	id    [16]byte
	nodes map[int32]*member

	leaderRate, followerRate atomic.Int64 // of throttled replicas

	mu    sync.Mutex
	state metadata.Partition
	cut   map[int32]bool // cannot be reached nor reach anybody
}

type member struct {
	c        *cluster
	id       int32
	disk     *vfs.Mem
	logs     *log.Manager
	wheel    *timewheel.Wheel
	m        *Manager
	sessions *fetchsession.Cache
	alive    bool
}

func newClusterOf(t *testing.T, ids ...int32) *cluster {
	c := &cluster{t: t, tp: log.TopicPartition{Topic: "a"}, id: [16]byte{7}, nodes: map[int32]*member{}, cut: map[int32]bool{}}
	c.leaderRate.Store(math.MaxInt64)
	c.followerRate.Store(math.MaxInt64)
	c.state = metadata.Partition{Replicas: ids, ISR: ids, Leader: ids[0]}
	for _, id := range ids {
		n := &member{c: c, id: id, disk: vfs.NewMem()}
		c.nodes[id] = n
		n.start()
	}
	c.publish()
	return c
}

func (n *member) start() {
	logger := slog.New(slog.DiscardHandler)
	var err error
	n.logs, err = log.NewManager(log.ManagerOptions{FS: n.disk, Clock: clock.Real{}, Logger: logger, Dirs: []string{"/data"}, JournalFileBytes: 1 << 20, Cleaner: log.CleanerOptions{Disabled: true}})
	if err == nil {
		err = n.logs.Start()
	}
	if err != nil {
		n.c.t.Fatal(err)
	}
	n.wheel = timewheel.New(clock.Real{}, time.Millisecond)
	n.wheel.Start()
	next := int32(0)
	n.sessions = fetchsession.NewCache(100, time.Minute, func() int32 { next++; return next })
	n.m = NewManager(Options{
		Logs: n.logs, Wheel: n.wheel, Logger: logger, Node: n.id,
		TopicConfig: func(string) log.Config {
			return log.Config{SegmentBytes: 1 << 16, Delete: true, RetentionMs: -1, RetentionBytes: -1}
		},
		Replication: func(string) core.Settings {
			return core.Settings{MinISR: 2, LagMax: 5 * time.Second, ShedAfter: 500 * time.Millisecond}
		},
		Ask: func(ctx context.Context, node int32, _ string, req kmsg.Request) (kmsg.Response, error) {
			return n.c.ask(ctx, n.id, node, req)
		},
		AlterPartition: n.c.alter,
		Throttles:      func() (int64, int64) { return n.c.leaderRate.Load(), n.c.followerRate.Load() },
		Throttled:      func(log.TopicPartition) (bool, bool) { return true, true },
	})
	n.c.mu.Lock()
	n.alive = true
	n.c.mu.Unlock()
}

// stop ends a member as a crash would: what was not synced is lost where lose says so.
func (n *member) stop(lose bool) {
	n.c.mu.Lock()
	n.alive = false
	n.c.mu.Unlock()
	disk := n.disk
	if lose {
		disk = n.disk.CrashClone(rand.New(rand.NewSource(1)), vfs.CrashOptions{})
	}
	n.m.Close()
	n.wheel.Close()
	_ = n.logs.Close(context.Background())
	n.disk = disk
}

// publish tells all members that live of the partition.
func (c *cluster) publish() {
	c.mu.Lock()
	s := c.state
	c.state.PartitionEpoch++
	var told []*member
	for _, id := range s.Replicas {
		if n := c.nodes[id]; n.alive && !c.cut[id] {
			told = append(told, n)
		}
	}
	c.mu.Unlock()
	for _, n := range told {
		n.m.Set(c.tp, c.id, &s)
	}
}

// elect makes a broker the leader, and leaves another out of the in-sync replicas.
func (c *cluster) elect(leader int32, isr ...int32) {
	c.mu.Lock()
	if c.state.Leader != leader || !slices.Contains(isr, c.state.Leader) {
		c.state.LeaderEpoch++
	}
	c.state.Leader, c.state.ISR = leader, isr
	c.mu.Unlock()
	c.publish()
}

func (c *cluster) alter(_ context.Context, req *kmsg.AlterPartitionRequest) (*kmsg.AlterPartitionResponse, error) {
	resp := kmsg.NewPtrAlterPartitionResponse()
	for _, t := range req.Topics {
		rt := kmsg.NewAlterPartitionResponseTopic()
		rt.TopidID = t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewAlterPartitionResponseTopicPartition()
			c.mu.Lock()
			if c.cut[req.BrokerID] {
				c.mu.Unlock()
				return nil, errors.New("no way to the controller")
			}
			if p.LeaderEpoch != c.state.LeaderEpoch || p.PartitionEpoch != c.state.PartitionEpoch-1 {
				rp.ErrorCode = 95 // INVALID_UPDATE_VERSION
				c.mu.Unlock()
			} else {
				c.state.ISR = p.NewISR
				rp.LeaderID, rp.LeaderEpoch, rp.ISR, rp.PartitionEpoch = c.state.Leader, p.LeaderEpoch, p.NewISR, c.state.PartitionEpoch
				c.mu.Unlock()
				c.publish()
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}

// ask is the network between two members, and what internal/api does with a follower's fetch.
func (c *cluster) ask(ctx context.Context, from, to int32, req kmsg.Request) (kmsg.Response, error) {
	c.mu.Lock()
	n := c.nodes[to]
	up := n.alive && !c.cut[from] && !c.cut[to]
	c.mu.Unlock()
	if !up {
		return nil, fmt.Errorf("broker %d is not reached", to)
	}
	switch q := req.(type) {
	case *kmsg.FetchRequest:
		return n.serve(ctx, from, q)
	case *kmsg.ListOffsetsRequest:
		p, err := n.m.Get(c.tp)
		resp := kmsg.NewPtrListOffsetsResponse()
		rp := kmsg.NewListOffsetsResponseTopicPartition()
		if rp.ErrorCode = wire.CodeOf(err); err == nil {
			l, _ := p.Log()
			if rp.Offset = l.LogStartOffset(); q.Topics[0].Partitions[0].Timestamp == -1 {
				rp.Offset = l.LogEnd().Offset
			}
		}
		resp.Topics = []kmsg.ListOffsetsResponseTopic{{Topic: "a", Partitions: []kmsg.ListOffsetsResponseTopicPartition{rp}}}
		return resp, nil
	}
	return nil, fmt.Errorf("%T is not served here", req)
}

func (n *member) serve(ctx context.Context, from int32, q *kmsg.FetchRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrFetchResponse()
	var named []fetchsession.Partition
	for _, t := range q.Topics {
		for _, p := range t.Partitions {
			named = append(named, fetchsession.Partition{Key: fetchsession.Key{TopicID: t.TopicID, Partition: p.Partition}, FetchOffset: p.FetchOffset,
				LogStartOffset: p.LogStartOffset, MaxBytes: p.PartitionMaxBytes, CurrentLeaderEpoch: p.CurrentLeaderEpoch, LastFetchedEpoch: p.LastFetchedEpoch})
		}
	}
	var forgot []fetchsession.Key
	for _, t := range q.ForgottenTopics {
		for _, p := range t.Partitions {
			forgot = append(forgot, fetchsession.Key{TopicID: t.TopicID, Partition: p})
		}
	}
	if q.SessionEpoch == fetchsession.EpochFinal && len(named) == 0 {
		n.m.ReleaseFollower(from)
	}
	s, err := n.sessions.Begin(time.Now(), q.SessionID, q.SessionEpoch, true, named, forgot)
	if err != nil {
		resp.ErrorCode = wire.CodeOf(err)
		return resp, nil
	}
	var parts []FetchPartition
	for _, p := range s.Partitions {
		parts = append(parts, FetchPartition{TP: n.c.tp, TopicID: p.TopicID, FetchOffset: p.FetchOffset, CurrentLeaderEpoch: p.CurrentLeaderEpoch, LastFetchedEpoch: p.LastFetchedEpoch, MaxBytes: p.MaxBytes, LogStart: p.LogStartOffset})
	}
	params := FetchParams{AnyReplica: q.ReplicaID < 0, MinBytes: q.MinBytes, MaxBytes: q.MaxBytes, MaxWait: time.Duration(q.MaxWaitMillis) * time.Millisecond, Follower: q.ReplicaID >= 0, Replica: from, BrokerEpoch: -1}
	done := make(chan []FetchResult, 1)
	n.m.Fetch(params, parts, func(r []FetchResult) { done <- r })
	var results []FetchResult
	select {
	case results = <-done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	include := s.Finish(func(i int) fetchsession.Answer {
		r := &results[i]
		return fetchsession.Answer{HighWatermark: r.HighWatermark, LogStart: r.LogStart, Bytes: r.Slice.Len(), Error: r.Err != nil, Diverging: r.DivergingEpoch >= 0}
	})
	resp.SessionID = s.SessionID()
	rt := kmsg.NewFetchResponseTopic()
	rt.TopicID = n.c.id
	for i := range results {
		r := &results[i]
		if include[i] {
			rp := kmsg.NewFetchResponseTopicPartition()
			rp.ErrorCode, rp.HighWatermark, rp.LogStartOffset = wire.CodeOf(r.Err), r.HighWatermark, r.LogStart
			if r.DivergingEpoch >= 0 {
				rp.DivergingEpoch.Epoch, rp.DivergingEpoch.EndOffset = r.DivergingEpoch, r.DivergingEnd
			}
			if r.Slice.Len() > 0 {
				rp.RecordBatches = make([]byte, r.Slice.Len())
				_, _ = r.Slice.ReadAt(rp.RecordBatches, 0)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Slice.Release()
	}
	resp.Topics = append(resp.Topics, rt)
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if !n.alive || n.c.cut[n.id] || n.c.cut[from] {
		return nil, errors.New("the connection broke")
	}
	return resp, nil
}

// produce appends to a leader and gives what an acks=all produce is told.
func (c *cluster) produce(leader int32, n int, value string) error {
	p, err := c.nodes[leader].m.Get(c.tp)
	if err != nil {
		return err
	}
	if err := p.EnoughInSync(); err != nil {
		return err
	}
	b := record.NewBuilder(record.BuilderOptions{ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1})
	for range n {
		b.Append(1000, nil, []byte(value), nil)
	}
	info, err := p.Append(b.Finish(), log.AppendOptions{Origin: log.Client, Now: 1000})
	if err != nil {
		return err
	}
	told := make(chan error, 1)
	d := c.nodes[leader].m.DelayProduce(1, func(errs []error) { told <- errs[0] })
	p.Wait(info.LastOffset+1, d, 0)
	d.Arm(3 * time.Second)
	return <-told
}

func (c *cluster) bytes(id int32) []byte {
	p, err := c.nodes[id].m.Replica(c.tp)
	if err != nil {
		c.t.Fatal(err)
	}
	l, err := p.Log()
	if err != nil {
		c.t.Fatal(err)
	}
	var out []byte
	for at := l.LogStartOffset(); at < l.LogEnd().Offset; {
		s, err := l.Read(at, 1<<20, l.LogEnd(), true)
		if err != nil {
			c.t.Fatal(err)
		}
		b := make([]byte, s.Len())
		_, _ = s.ReadAt(b, 0)
		s.Release()
		out = append(out, b...)
		it := record.NewBatchIter(b)
		for {
			_, h, ok, err := it.Next()
			if err != nil {
				c.t.Fatal(err)
			}
			if !ok {
				break
			}
			at = h.NextOffset()
		}
	}
	return out
}

// equal waits until all members have the same log.
func (c *cluster) equal(ids ...int32) {
	c.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		same := true
		for _, id := range ids[1:] {
			same = same && bytes.Equal(c.bytes(ids[0]), c.bytes(id))
		}
		if same && len(c.bytes(ids[0])) > 0 {
			return
		}
		if time.Now().After(deadline) {
			for _, id := range ids {
				c.t.Logf("broker %d: %d bytes", id, len(c.bytes(id)))
			}
			c.t.Fatal("the copies do not become equal")
		}
		<-time.After(10 * time.Millisecond)
	}
}

func (c *cluster) awaitISR(n int) {
	c.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		c.mu.Lock()
		isr := c.state.ISR
		c.mu.Unlock()
		if len(isr) == n {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("in sync are %v, not %d", isr, n)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func (c *cluster) close() {
	for _, n := range c.nodes {
		if n.alive {
			n.stop(false)
		}
	}
}

func expect(t *testing.T, what string, err error, want int16) {
	t.Helper()
	if got := wire.CodeOf(err); got != want || err != nil && want == 0 {
		t.Fatalf("%s: %v (code %d, not %d)", what, err, got, want)
	}
}

// TestLeaderDies: a leader that dies with records that nobody else has finds them gone when it is back, and everything acknowledged there.
func TestLeaderDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClusterOf(t, 1, 2, 3)
		defer c.close()
		expect(t, "produce", c.produce(1, 10, "one"), 0)
		c.equal(1, 2, 3)

		// Cut off, the leader takes records that it cannot have acknowledged.
		c.mu.Lock()
		c.cut[1] = true
		c.mu.Unlock()
		expect(t, "produce to a leader that is cut off", c.produce(1, 5, "lost"), 7)
		c.elect(2, 2, 3)
		expect(t, "produce to the new leader", c.produce(2, 7, "two"), 0)
		if bytes.Contains(c.bytes(2), []byte("lost")) {
			t.Fatal("the new leader has what nobody gave it")
		}
		c.nodes[1].stop(true)
		c.mu.Lock()
		delete(c.cut, 1)
		c.mu.Unlock()
		c.nodes[1].start()
		c.publish()
		c.awaitISR(3)
		expect(t, "produce to three", c.produce(2, 1, "three"), 0)
		c.equal(1, 2, 3)
		if b := c.bytes(1); bytes.Contains(b, []byte("lost")) || !bytes.Contains(b, []byte("two")) {
			t.Fatal("the former leader has another log")
		}
	})
}

// TestMinISR: with too few in sync nothing is written, and what was written before is not called committed.
func TestMinISR(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClusterOf(t, 1, 2)
		defer c.close()
		expect(t, "produce", c.produce(1, 1, "one"), 0)
		c.nodes[2].stop(false)
		expect(t, "produce while the follower is still in sync", c.produce(1, 1, "two"), 7)
		c.awaitISR(1) // the leader leaves it out after its lag
		synctest.Wait()
		expect(t, "produce with one in sync", c.produce(1, 1, "three"), 19)
		p, _ := c.nodes[1].m.Get(c.tp)
		if hw := mustLog(t, p).HighWatermark().Offset; hw != 1 {
			t.Fatalf("the high watermark is %d below min.insync.replicas", hw)
		}
		c.nodes[2].start()
		c.publish()
		c.awaitISR(2)
		expect(t, "produce with two in sync", c.produce(1, 1, "four"), 0)
		c.equal(1, 2)
	})
}

// TestShed: a follower that holds up the others leaves the in-sync replicas long before its lag is reached.
func TestShed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClusterOf(t, 1, 2, 3)
		defer c.close()
		expect(t, "produce", c.produce(1, 1, "one"), 0)
		c.mu.Lock()
		c.cut[3] = true
		c.mu.Unlock()
		begun := time.Now()
		expect(t, "produce over a slow follower", c.produce(1, 1, "two"), 0)
		if d := time.Since(begun); d > time.Second {
			t.Fatalf("a slow follower held a produce up for %s", d)
		}
		c.awaitISR(2)
		c.mu.Lock()
		delete(c.cut, 3)
		c.mu.Unlock()
		c.publish()
		c.awaitISR(3)
		c.equal(1, 2, 3)
	})
}

// TestLowWatermark: records are deleted once no replica has them.
func TestLowWatermark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClusterOf(t, 1, 2, 3)
		defer c.close()
		expect(t, "produce", c.produce(1, 10, "one"), 0)
		p, _ := c.nodes[1].m.Get(c.tp)
		if _, err := mustLog(t, p).DeleteRecords(4); err != nil {
			t.Fatal(err)
		}
		told := make(chan error, 1)
		d := c.nodes[1].m.DelayProduce(1, func(errs []error) { told <- errs[0] })
		p.WaitLow(4, d, 0)
		d.Arm(5 * time.Second)
		expect(t, "delete records", <-told, 0)
		for _, id := range []int32{2, 3} {
			f, _ := c.nodes[id].m.Replica(c.tp)
			if start := mustLog(t, f).LogStartOffset(); start != 4 {
				t.Fatalf("the log of broker %d begins at %d", id, start)
			}
		}
	})
}

// TestThrottle: a copy that is being built up takes no more than its rate, on either side; those in sync are not held.
func TestThrottle(t *testing.T) {
	for _, leader := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c := newClusterOf(t, 1, 2, 3)
			defer c.close()
			c.nodes[3].stop(false)
			c.elect(1, 1, 2)
			<-time.After(6 * time.Second) // nobody waits any longer for one that has just been in sync and might be again
			if leader {
				c.leaderRate.Store(1000)
			} else {
				c.followerRate.Store(1000)
			}
			for range 60 {
				expect(t, "produce", c.produce(1, 10, "some bytes"), 0)
			}
			size := len(c.bytes(1))
			begun := time.Now()
			c.nodes[3].start()
			c.publish()
			c.awaitISR(3)
			if took, least := time.Since(begun), time.Duration(size-2000)*time.Millisecond; !leader && took < least/10 || leader && took < least {
				t.Fatalf("%d bytes at 1000 a second took %s", size, took)
			}
			c.equal(1, 2, 3)
		})
	}
}

// TestDamage: a flipped bit in any copy is never served, and repaired from another one.
func TestDamage(t *testing.T) {
	for _, broken := range []int32{1, 2} { // the leader and a follower
		synctest.Test(t, func(t *testing.T) {
			c := newClusterOf(t, 1, 2, 3)
			defer c.close()
			for i := range 20 {
				expect(t, "produce", c.produce(1, 10, fmt.Sprint("value ", i)), 0)
			}
			c.equal(1, 2, 3)
			n := c.nodes[broken]
			n.stop(false) // cleanly, so that the segment is trusted no more when it comes back
			flip(t, n.disk, "/data/a-0/00000000000000000000.log", 700)
			n.start()
			c.publish()
			p, _ := n.m.Replica(c.tp)
			for tries := 0; ; tries++ {
				l := mustLog(t, p)
				s, err := l.Read(0, 1<<20, l.LogEnd(), true) // up to the damage
				whole := err == nil && s.Position()+int64(s.Len()) == l.LogEnd().Position
				s.Release()
				if tries == 0 && whole {
					t.Fatal("damage was served")
				}
				if whole {
					break
				}
				if tries == 100 {
					t.Fatal("the damage is still there")
				}
				<-time.After(100 * time.Millisecond)
			}
			c.equal(1, 2, 3)
		})
	}
}

func flip(t *testing.T, disk *vfs.Mem, name string, at int64) {
	t.Helper()
	f, err := disk.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err = f.ReadAt(b[:], at); err == nil {
		b[0] ^= 0x10
		_, err = f.WriteAt(b[:], at)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func mustLog(t *testing.T, p *Partition) *log.Log {
	t.Helper()
	l, err := p.Log()
	if err != nil {
		t.Fatal(err)
	}
	return l
}
