package group

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/ottla/ottla/internal/coordinator"
	"github.com/ottla/ottla/internal/coordinator/shardtest"
	"github.com/ottla/ottla/internal/group/share"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Share groups keep the frame's promises too, whatever fails, is refused or lost, also between a state that was asked for and
// the news of it. A member is given partitions with a state only.
func TestShardShares(t *testing.T) {
	images := newFrame(t, DefaultConfig())
	images.setTopics(map[string]int32{"t": 3, "u": 2})
	rapid.Check(t, func(t *rapid.T) {
		var asked []share.Partition
		epochs := map[string]int32{}
		id := func(t *rapid.T) string { return rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "member") }
		beat := func(e env, member string, epoch int32, topics []string) {
			req := kmsg.NewPtrShareGroupHeartbeatRequest()
			req.GroupID, req.MemberID, req.MemberEpoch, req.SubscribedTopicNames = "g", member, epoch, topics
			shardtest.Do(e, "share beat", func(s *recorded, now time.Time, _ coordinator.Token) (coordinator.Result[*share.Heartbeat], error) {
				return s.ShareGroupHeartbeat(now, RequestContext{ClientID: "c", ClientHost: "/h", Version: 1}, req)
			}, func(b *share.Heartbeat, err error) {
				if err != nil || b.Response.ErrorCode != 0 {
					return
				}
				epochs[member] = max(b.Response.MemberEpoch, 0)
				if b.Begin != nil {
					asked = append(asked, b.Begin.Partitions...)
				}
			})
		}
		shardtest.Run(t, shardtest.Config[*recorded]{
			New: func() *recorded {
				return &recorded{New(Options{Config: DefaultConfig(), NewID: func() string { return "x" }}), map[string]string{}}
			},
			Decode: schema.ReadGroupRecord, MaxAdvance: 30 * time.Second, Image: images.img,
			Dump: func(r *recorded) string {
				s := r.dump()
				for _, g := range r.sorted() {
					if sg, ok := g.(*share.Group); ok {
						s += sg.String()
					}
				}
				return s
			},
			Check: func(t *rapid.T, r *recorded) {
				for _, g := range r.sorted() {
					sg, ok := g.(*share.Group)
					if !ok {
						continue
					}
					for _, m := range sg.Members() {
						for p := range m.Assigned {
							if !sg.HasState(p.Topic) {
								t.Fatalf("%s has a partition without a state: %s", m.ID, sg)
							}
						}
					}
				}
			},
			Ops: map[string]func(*rapid.T, env){
				"join": func(t *rapid.T, e env) {
					beat(e, id(t), 0, []string{rapid.SampledFrom([]string{"t", "u", "absent"}).Draw(t, "topic")})
				},
				"beat":  func(t *rapid.T, e env) { m := id(t); beat(e, m, max(epochs[m], 1), nil) },
				"leave": func(t *rapid.T, e env) { beat(e, id(t), -1, nil) },
				"begun": func(t *rapid.T, e env) {
					n := rapid.IntRange(0, len(asked)).Draw(t, "well")
					ok, bad := asked[:n:n], asked[n:]
					asked = nil
					shardtest.Do(e, "share begun", func(s *recorded, now time.Time, _ coordinator.Token) (coordinator.Result[struct{}], error) {
						return s.ShareBegun(now, "g", ok, bad)
					}, nil)
				},
				"alter": func(t *rapid.T, e env) {
					at := map[share.Partition]int64{{Topic: images.img.Topic("t").ID, Index: 1}: 7}
					shardtest.Do(e, "share alter", func(s *recorded, now time.Time, _ coordinator.Token) (coordinator.Result[*share.Begin], error) {
						return s.ShareAlter(now, "g", at)
					}, func(b *share.Begin, err error) {
						if err == nil {
							asked = append(asked, b.Partitions...)
						}
					})
				},
				"end": func(t *rapid.T, e env) {
					topics := []schema.UUID{images.img.Topic("t").ID}
					if rapid.Bool().Draw(t, "all") {
						topics = nil
					}
					shardtest.Do(e, "share end", func(s *recorded, now time.Time, _ coordinator.Token) (coordinator.Result[[]share.Partition], error) {
						return s.ShareUnstate(now, "g", topics)
					}, nil)
				},
				"ended": func(t *rapid.T, e env) {
					shardtest.Do(e, "share ended", func(s *recorded, now time.Time, _ coordinator.Token) (coordinator.Result[struct{}], error) {
						return s.ShareUnstated(now, "g", []schema.UUID{images.img.Topic("t").ID})
					}, nil)
				},
				"delete": func(t *rapid.T, e env) {
					shardtest.Do(e, "delete", func(s *recorded, now time.Time, _ coordinator.Token) (coordinator.Result[[]kmsg.DeleteGroupsResponseGroup], error) {
						return s.DeleteGroups(now, RequestContext{}, []string{"g"})
					}, nil)
				},
			},
		})
	})
}
