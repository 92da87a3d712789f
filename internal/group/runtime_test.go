package group

import (
	"context"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

var _ coordinator.Shard = (*Shard)(nil)

// memLog is a replicated log of one replica in memory: committed as soon as it is written.
type memLog struct {
	mu    sync.Mutex
	bytes []byte
	end   int64
	wrote chan int64
}

func (l *memLog) Append(_, epoch int32, batch []byte, _ coordinator.AppendOptions) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, err := record.ParseHeader(batch)
	if err != nil {
		return 0, err
	}
	record.SetBaseOffset(batch, l.end)
	record.SetLeaderEpoch(batch, epoch)
	l.bytes = append(l.bytes, batch...)
	l.end += int64(h.LastOffsetDelta) + 1
	l.wrote <- l.end
	return l.end - 1, nil
}

func (l *memLog) Bounds(int32) (start, end, hw int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return 0, l.end, l.end, nil
}

func (l *memLog) Read(_ int32, from int64, _ int) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	it := record.NewBatchIter(l.bytes)
	for {
		pos := it.Pos()
		_, h, ok, err := it.Next()
		if err != nil || !ok {
			return nil, err
		}
		if h.LastOffset() >= from {
			return l.bytes[pos:], nil
		}
	}
}

type answer[T any] struct {
	v   T
	err error
}

// ask makes a channel of an operation's done.
func ask[T any](start func(done func(T, error))) chan answer[T] {
	ch := make(chan answer[T], 1)
	start(func(v T, err error) { ch <- answer[T]{v, err} })
	return ch
}

func get[T any](t *testing.T, ch chan answer[T]) T {
	t.Helper()
	select {
	case a := <-ch:
		if a.err != nil {
			t.Fatal(a.err)
		}
		return a.v
	case <-time.After(20 * time.Second):
		t.Fatal("no answer")
		panic("unreachable")
	}
}

// load makes the runtime the coordinator in an epoch and waits until it is.
func load(t *testing.T, rt *coordinator.Runtime[*Shard], epoch int32) {
	t.Helper()
	rt.Load(0, epoch)
	for deadline := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		a := <-ask(func(done func(int, error)) {
			coordinator.Read(rt, 0, "Nothing", func(*Shard, time.Time) (int, error) { return 0, nil }, done)
		})
		switch {
		case a.err == nil:
			return
		case time.Now().After(deadline):
			t.Fatal(a.err)
		}
	}
}

// Two members in the real frame: waiting joins and syncs are answered across operations, the log loads elsewhere.
func TestInTheFrame(t *testing.T) {
	log := &memLog{wrote: make(chan int64, 100)}
	var ids atomic.Int64
	rt := coordinator.New(coordinator.Options[*Shard]{
		Name: "group", Topic: "__consumer_offsets", Log: log, Decode: schema.ReadGroupRecord,
		NewShard: func(int32) *Shard {
			return New(Options{Config: DefaultConfig(), NewID: func() string { return strconv.FormatInt(ids.Add(1), 10) }})
		},
	})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case end := <-log.wrote:
				rt.OnHighWatermark(0, end)
			case <-stop:
				return
			}
		}
	}()
	load(t, rt, 1)
	join := func(client, member string) chan answer[*kmsg.JoinGroupResponse] {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.MemberID, req.ProtocolType, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = "g", member, "consumer", 10000, 10000
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: subscription([]string{"t"})}}
		return ask(func(done func(*kmsg.JoinGroupResponse, error)) {
			coordinator.Write(rt, 0, "JoinGroup", func(s *Shard, now time.Time, tok coordinator.Token) (coordinator.Result[*kmsg.JoinGroupResponse], error) {
				return s.JoinGroup(now, tok, RequestContext{ClientID: client, Version: 3}, req)
			}, done)
		})
	}
	sync := func(member string, gen int32, assign ...kmsg.SyncGroupRequestGroupAssignment) chan answer[*kmsg.SyncGroupResponse] {
		req := kmsg.NewPtrSyncGroupRequest()
		req.Group, req.MemberID, req.Generation, req.GroupAssignment = "g", member, gen, assign
		return ask(func(done func(*kmsg.SyncGroupResponse, error)) {
			coordinator.Write(rt, 0, "SyncGroup", func(s *Shard, now time.Time, tok coordinator.Token) (coordinator.Result[*kmsg.SyncGroupResponse], error) {
				return s.SyncGroup(now, tok, RequestContext{Version: 4}, req)
			}, done)
		})
	}
	a := get(t, join("a", ""))
	waiting := join("b", "")
	a = get(t, join("a", a.MemberID))
	b := get(t, waiting)
	if a.Generation != 2 || b.Generation != 2 || b.LeaderID != a.MemberID || len(a.Members) != 2 {
		t.Fatalf("a %+v, b %+v", a, b)
	}
	follower := sync(b.MemberID, 2)
	leader := get(t, sync(a.MemberID, 2, kmsg.SyncGroupRequestGroupAssignment{MemberID: a.MemberID, MemberAssignment: []byte("A")},
		kmsg.SyncGroupRequestGroupAssignment{MemberID: b.MemberID, MemberAssignment: []byte("B")}))
	if f := get(t, follower); string(leader.MemberAssignment) != "A" || string(f.MemberAssignment) != "B" {
		t.Fatalf("%q %q", leader.MemberAssignment, f.MemberAssignment)
	}
	// b leaves. An assignment that no batch can hold is refused, and the group lives on.
	get(t, ask(func(done func(*kmsg.LeaveGroupResponse, error)) {
		coordinator.Write(rt, 0, "LeaveGroup", func(s *Shard, now time.Time, _ coordinator.Token) (coordinator.Result[*kmsg.LeaveGroupResponse], error) {
			return s.LeaveGroup(now, RequestContext{Version: 0}, &kmsg.LeaveGroupRequest{Group: "g", MemberID: b.MemberID})
		}, done)
	}))
	a = get(t, join("a", a.MemberID))
	huge := <-sync(a.MemberID, a.Generation, kmsg.SyncGroupRequestGroupAssignment{MemberID: a.MemberID, MemberAssignment: make([]byte, 2<<20)})
	if wire.CodeOf(huge.err) != kerr.MessageTooLarge.Code {
		t.Fatalf("%+v", huge)
	}
	last := get(t, sync(a.MemberID, a.Generation, kmsg.SyncGroupRequestGroupAssignment{MemberID: a.MemberID, MemberAssignment: []byte("all")}))
	if string(last.MemberAssignment) != "all" {
		t.Fatalf("%+v", last)
	}

	// The coordinator moves: the next one knows what the log knows.
	load(t, rt, 2)
	d := get(t, ask(func(done func([]kmsg.DescribeGroupsResponseGroup, error)) {
		coordinator.Read(rt, 0, "DescribeGroups", func(s *Shard, _ time.Time) ([]kmsg.DescribeGroupsResponseGroup, error) {
			return s.DescribeGroups(6, []string{"g"}), nil
		}, done)
	}))
	if d[0].State != "Stable" || len(d[0].Members) != 1 || string(d[0].Members[0].MemberAssignment) != "all" {
		t.Fatalf("%+v", d)
	}

	close(stop)
	<-stopped
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := rt.Close(ctx); err != nil {
		t.Fatal(err)
	}
}
