package group

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/coordinator/shardtest"
	"github.com/ottla/ottla/internal/group/consumer"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Groups of both protocols, and those that move between them, keep the frame's promises too: what is live is what the
// log gives, whatever fails, is refused or lost.
func TestShardConsumers(t *testing.T) {
	images := newFrame(t, DefaultConfig())
	images.setTopics(map[string]int32{"t": 3, "u": 2})
	rapid.Check(t, func(t *rapid.T) {
		cfg := DefaultConfig()
		ids, members := 0, map[string]*member{}
		for _, c := range []string{"a", "b", "i"} {
			members[c] = &member{id: c}
		}
		pick := func(t *rapid.T) (string, *member) {
			c := rapid.SampledFrom([]string{"a", "b", "i"}).Draw(t, "client")
			return c, members[c]
		}
		shardtest.Run(t, shardtest.Config[*recorded]{
			New: func() *recorded {
				return &recorded{New(Options{Config: cfg, NewID: func() string { ids++; return strconv.Itoa(ids) }}), map[string]string{}}
			},
			Decode: schema.ReadGroupRecord, Check: consistent, MaxAdvance: 30 * time.Second, Image: images.img,
			Dump: func(r *recorded) string {
				s := r.dump()
				for _, g := range r.sorted() {
					if c, ok := g.(*consumer.Group); ok {
						for _, rec := range c.Records() {
							s += showRecord(nil, rec.Key, rec.Value) + "\n"
						}
					}
				}
				return s
			},
			Ops: with(offsetOps(pick), consumerOps(pick)),
		})
	})
}

func consumerOps(pick func(*rapid.T) (string, *member)) map[string]func(*rapid.T, env) {
	beat := func(e env, req *kmsg.ConsumerGroupHeartbeatRequest, m *member) {
		ctx := RequestContext{ClientID: "c", ClientHost: "/h", Version: 1}
		shardtest.Do(e, "beat", func(s *recorded, now time.Time, _ coordinator.Token) (coordinator.Result[*kmsg.ConsumerGroupHeartbeatResponse], error) {
			return s.ConsumerGroupHeartbeat(now, ctx, req, nil)
		}, func(r *kmsg.ConsumerGroupHeartbeatResponse, err error) {
			if err == nil && r.ErrorCode == 0 {
				m.gen = max(r.MemberEpoch, 0)
			}
		})
	}
	return map[string]func(*rapid.T, env){
		"join as consumer": func(t *rapid.T, e env) {
			c, m := pick(t)
			m.id = c + rapid.SampledFrom([]string{"1", "2"}).Draw(t, "process")
			req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
			req.Group, req.MemberID, req.InstanceID, req.RebalanceTimeoutMillis = "g", m.id, instance(c), 20_000
			req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
			if rapid.Bool().Draw(t, "expression") {
				req.SubscribedTopicRegex = kmsg.StringPtr(rapid.SampledFrom([]string{"t|u", "u.*"}).Draw(t, "regex"))
			} else {
				req.SubscribedTopicNames = []string{rapid.SampledFrom([]string{"t", "u"}).Draw(t, "topic")}
			}
			beat(e, req, m)
		},
		"beat": func(t *rapid.T, e env) {
			c, m := pick(t)
			req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
			req.Group, req.MemberID, req.InstanceID, req.MemberEpoch = "g", m.id, instance(c), max(m.gen, 1)
			if rapid.Bool().Draw(t, "has given up") {
				req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
			}
			beat(e, req, m)
		},
		"leave as consumer": func(t *rapid.T, e env) {
			c, m := pick(t)
			req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
			req.Group, req.MemberID, req.InstanceID, req.MemberEpoch = "g", m.id, instance(c), -1
			if req.InstanceID != nil && rapid.Bool().Draw(t, "for a while") {
				req.MemberEpoch = -2
			}
			beat(e, req, m)
		},
		"join as classic": func(t *rapid.T, e env) {
			c, m := pick(t)
			req := kmsg.NewPtrJoinGroupRequest()
			req.Group, req.MemberID, req.InstanceID, req.ProtocolType = "g", m.id, instance(c), "consumer"
			req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 600_000, 60_000
			req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: subscription([]string{rapid.SampledFrom([]string{"t", "u"}).Draw(t, "topic")})}}
			if rapid.Bool().Draw(t, "restarted") {
				req.MemberID = ""
			}
			shardtest.Do(e, "join", func(s *recorded, now time.Time, tok coordinator.Token) (coordinator.Result[*kmsg.JoinGroupResponse], error) {
				return s.JoinGroup(now, tok, RequestContext{ClientID: c, Version: 3}, req)
			}, func(r *kmsg.JoinGroupResponse, err error) {
				if err == nil && r.MemberID != "" {
					m.id, m.gen = r.MemberID, r.Generation
				}
			})
		},
		"sync": func(t *rapid.T, e env) {
			c, m := pick(t)
			req := kmsg.NewPtrSyncGroupRequest()
			req.Group, req.MemberID, req.Generation, req.InstanceID = "g", m.id, m.gen, instance(c)
			req.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: m.id, MemberAssignment: assignment(fmt.Sprintf("t/%d", rapid.IntRange(0, 2).Draw(t, "partition")))}}
			shardtest.Do(e, "sync", func(s *recorded, now time.Time, tok coordinator.Token) (coordinator.Result[*kmsg.SyncGroupResponse], error) {
				return s.SyncGroup(now, tok, RequestContext{Version: 3}, req)
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
	}
}
