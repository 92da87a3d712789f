package group

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/coordinator/shardtest"
	"github.com/ottla/ottla/internal/group/classic"
	"github.com/ottla/ottla/internal/wire/schema"
)

// recorded is a shard that remembers the group records it was shown: a rebalance under way is in no record, so of a
// classic group the log carries its last record and not its state.
type recorded struct {
	*Shard
	groups map[string]string
}

func (r *recorded) Replay(offset, pid int64, epoch int16, rec coordinator.Record) error {
	if k, ok := rec.Key.(*schema.GroupMetadataKey); ok {
		delete(r.groups, k.Group)
		if rec.Value != nil {
			b, err := rec.Value.AppendTo(nil, 3)
			if err != nil {
				return err
			}
			r.groups[k.Group] = string(b)
		}
	}
	return r.Shard.Replay(offset, pid, epoch, rec)
}

// dump is what the log carries: offsets with the place of their records, pending ones, which groups there are.
func (r *recorded) dump() string {
	var b strings.Builder
	for _, g := range r.sorted() {
		fmt.Fprintf(&b, "%s %s %x\n", g.ID(), g.Kind(), r.groups[g.ID()])
		for _, k := range r.offsets.slots(g.ID()) {
			p, _ := r.offsets.get(k)
			fmt.Fprintf(&b, "  %v %+v open=%d\n", k, p, r.offsets.open[k])
		}
	}
	for _, pid := range slices.Sorted(maps.Keys(r.offsets.pending)) {
		for _, k := range slices.SortedFunc(maps.Keys(r.offsets.pending[pid]), slot.compare) {
			fmt.Fprintf(&b, "pending %d %v %+v\n", pid, k, r.offsets.pending[pid][k])
		}
	}
	return b.String()
}

// member is what a client of the test knows of itself.
type member struct {
	id  string
	gen int32
	all []string
}

// The shard keeps the frame's promises: live state is what the log gives, whatever fails, is refused or lost, and
// every request is answered once, after what it has seen is committed.
func TestShard(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := DefaultConfig()
		cfg.OffsetsRetention = 30 * time.Minute
		ids, members := 0, map[string]*member{}
		for _, c := range []string{"a", "b", "i"} {
			members[c] = &member{}
		}
		pick := func(t *rapid.T) (string, *member) {
			c := rapid.SampledFrom([]string{"a", "b", "i"}).Draw(t, "client")
			return c, members[c]
		}
		ops := offsetOps(pick)
		shardtest.Run(t, shardtest.Config[*recorded]{
			New: func() *recorded {
				return &recorded{New(Options{Config: cfg, NewID: func() string { ids++; return strconv.Itoa(ids) }}), map[string]string{}}
			},
			Decode: schema.ReadGroupRecord, Dump: (*recorded).dump, Check: consistent, MaxAdvance: 15 * time.Minute,
			Ops: with(ops, map[string]func(*rapid.T, env){
				"join": func(t *rapid.T, e env) {
					c, m := pick(t)
					req := kmsg.NewPtrJoinGroupRequest()
					req.Group, req.MemberID, req.InstanceID, req.ProtocolType = "g", m.id, instance(c), "consumer"
					req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 600_000, 60_000
					req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: subscription([]string{rapid.SampledFrom([]string{"t", "u"}).Draw(t, "topic")})}}
					if rapid.IntRange(0, 3).Draw(t, "restarted") == 0 {
						req.MemberID = ""
					}
					ctx := RequestContext{ClientID: c, Version: rapid.SampledFrom([]int16{3, 9}).Draw(t, "version")}
					shardtest.Do(e, "join", func(s *recorded, now time.Time, tok coordinator.Token) (coordinator.Result[*kmsg.JoinGroupResponse], error) {
						return s.JoinGroup(now, tok, ctx, req)
					}, func(r *kmsg.JoinGroupResponse, err error) {
						if err != nil || r.MemberID == "" {
							return
						}
						m.id, m.gen, m.all = r.MemberID, r.Generation, nil
						for _, x := range r.Members {
							m.all = append(m.all, x.MemberID)
						}
					})
				},
				"sync": func(t *rapid.T, e env) {
					c, m := pick(t)
					req := kmsg.NewPtrSyncGroupRequest()
					req.Group, req.MemberID, req.Generation, req.InstanceID = "g", m.id, m.gen, instance(c)
					for _, x := range m.all {
						req.GroupAssignment = append(req.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: x, MemberAssignment: []byte(x)})
					}
					if rapid.IntRange(0, 9).Draw(t, "huge") == 0 && len(req.GroupAssignment) > 0 {
						req.GroupAssignment[0].MemberAssignment = make([]byte, 2<<20)
					}
					shardtest.Do(e, "sync", func(s *recorded, now time.Time, tok coordinator.Token) (coordinator.Result[*kmsg.SyncGroupResponse], error) {
						return s.SyncGroup(now, tok, RequestContext{Version: 4}, req)
					}, nil)
				},
				"heartbeat": func(t *rapid.T, e env) {
					c, m := pick(t)
					req := &kmsg.HeartbeatRequest{Group: "g", MemberID: m.id, Generation: m.gen, InstanceID: instance(c)}
					shardtest.Do(e, "heartbeat", func(s *recorded, now time.Time, _ coordinator.Token) (coordinator.Result[*kmsg.HeartbeatResponse], error) {
						return s.Heartbeat(now, RequestContext{Version: 4}, req)
					}, nil)
				},
				"leave": func(t *rapid.T, e env) {
					c, m := pick(t)
					req := &kmsg.LeaveGroupRequest{Group: "g", Members: []kmsg.LeaveGroupRequestMember{{MemberID: m.id, InstanceID: instance(c)}}}
					shardtest.Do(e, "leave", func(s *recorded, now time.Time, _ coordinator.Token) (coordinator.Result[*kmsg.LeaveGroupResponse], error) {
						return s.LeaveGroup(now, RequestContext{Version: 5}, req)
					}, nil)
				},
			}),
		})
	})
}

type env = *shardtest.Env[*recorded]

// instance is the instance id of the one static client.
func instance(client string) *string {
	if client == "i" {
		return &client
	}
	return nil
}

func with(ops, more map[string]func(*rapid.T, env)) map[string]func(*rapid.T, env) {
	maps.Copy(ops, more)
	return ops
}

// offsetOps are the operations on offsets, by members and by others.
func offsetOps(pick func(*rapid.T) (string, *member)) map[string]func(*rapid.T, env) {
	group := func(t *rapid.T) string { return rapid.SampledFrom([]string{"g", "simple"}).Draw(t, "group") }
	return map[string]func(*rapid.T, env){
		"commit": func(t *rapid.T, e env) {
			req := kmsg.NewPtrOffsetCommitRequest()
			req.Group, req.Generation = group(t), -1
			if rapid.Bool().Draw(t, "as a member") {
				c, m := pick(t)
				req.MemberID, req.Generation, req.InstanceID = m.id, m.gen, instance(c)
			}
			req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: rapid.Int64Range(0, 9).Draw(t, "offset")}}}}
			shardtest.Do(e, "commit", func(s *recorded, now time.Time, _ coordinator.Token) (coordinator.Result[*kmsg.OffsetCommitResponse], error) {
				return s.OffsetCommit(now, RequestContext{Version: 9}, req)
			}, nil)
		},
		"txn commit": func(t *rapid.T, e env) {
			req := kmsg.NewPtrTxnOffsetCommitRequest()
			req.Group, req.Generation, req.ProducerID = group(t), -1, rapid.Int64Range(1, 2).Draw(t, "pid")
			req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Offset: 7}}}}
			shardtest.Do(e, "txn commit", func(s *recorded, now time.Time, _ coordinator.Token) (coordinator.Result[*kmsg.TxnOffsetCommitResponse], error) {
				return s.TxnOffsetCommit(now, RequestContext{Version: 5}, req, nil)
			}, nil)
		},
		"end txn": func(t *rapid.T, e env) {
			e.CompleteTransaction(coordinator.Marker{ProducerID: rapid.Int64Range(1, 2).Draw(t, "pid"), Commit: rapid.Bool().Draw(t, "commit")})
		},
		"delete": func(t *rapid.T, e env) {
			id := group(t)
			shardtest.Do(e, "delete", func(s *recorded, now time.Time, _ coordinator.Token) (coordinator.Result[[]kmsg.DeleteGroupsResponseGroup], error) {
				return s.DeleteGroups(now, RequestContext{}, []string{id})
			}, nil)
		},
	}
}

// consistent holds a stable group against its record, where that is of this generation.
func consistent(t *rapid.T, r *recorded) {
	for _, g := range r.sorted() {
		c, ok := g.(*classic.Group)
		if !ok || c.State() != classic.Stable {
			continue
		}
		b, err := c.Record().Value.AppendTo(nil, 3)
		if err != nil {
			t.Fatal(err)
		}
		if string(b) != r.groups[c.ID()] {
			t.Fatalf("stable group %s is not what its record says:\n%x\n%x", c.ID(), b, r.groups[c.ID()])
		}
	}
}
