package group

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// naive is what offsets should be, by the simplest means: a list of what happened, searched from its end.
type naive struct {
	plain   map[slot]event           // committed
	pending map[int64]map[slot]event // by producer
}

type event struct {
	offset, seq int64
}

// The shard's offsets are those of the naive model after any history, live and loaded from the log.
func TestOffsetsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFrame(t, DefaultConfig())
		m := naive{plain: map[slot]event{}, pending: map[int64]map[slot]event{}}
		seq := int64(0)
		draw := func(t *rapid.T) slot {
			return slot{rapid.SampledFrom([]string{"g", "h"}).Draw(t, "group"), rapid.SampledFrom([]string{"t", "u"}).Draw(t, "topic"), int32(rapid.IntRange(0, 1).Draw(t, "partition"))}
		}
		forget := func(k slot) {
			delete(m.plain, k)
			for _, p := range m.pending {
				delete(p, k)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"commit": func(t *rapid.T) {
				k := draw(t)
				seq++
				req := kmsg.NewPtrOffsetCommitRequest()
				req.Group, req.Generation = k.group, -1
				req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: k.topic, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: k.partition, Offset: seq}}}}
				r, err := f.s.OffsetCommit(f.now, RequestContext{Version: 9}, req)
				run(f, r, err, "", 0)
				m.plain[k] = event{seq, seq}
			},
			"txn": func(t *rapid.T) {
				k, pid := draw(t), int64(rapid.IntRange(1, 2).Draw(t, "pid"))
				seq++
				req := kmsg.NewPtrTxnOffsetCommitRequest()
				req.Group, req.Generation, req.ProducerID = k.group, -1, pid
				req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: k.topic, Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Partition: k.partition, Offset: seq}}}}
				r, err := f.s.TxnOffsetCommit(f.now, RequestContext{Version: 5}, req, nil)
				run(f, r, err, "", 0)
				if m.pending[pid] == nil {
					m.pending[pid] = map[slot]event{}
				}
				m.pending[pid][k] = event{seq, seq}
			},
			"end": func(t *rapid.T) {
				pid, commit := int64(rapid.IntRange(1, 2).Draw(t, "pid")), rapid.Bool().Draw(t, "commit")
				f.log = append(f.log, entry{pid: pid, end: true, commit: commit})
				f.replay(f.s, len(f.log)-1)
				for k, e := range m.pending[pid] {
					if commit && e.seq > m.plain[k].seq {
						m.plain[k] = e
					}
				}
				delete(m.pending, pid)
			},
			"offset delete": func(t *rapid.T) {
				k := draw(t)
				req := kmsg.NewPtrOffsetDeleteRequest()
				req.Group = k.group
				req.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: k.topic, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: k.partition}}}}
				r, err := f.s.OffsetDelete(f.now, RequestContext{}, req)
				run(f, r, err, "", 0)
				forget(k)
			},
			"delete": func(t *rapid.T) {
				group := draw(t).group
				r, err := f.s.DeleteGroups(f.now, RequestContext{}, []string{group})
				run(f, r, err, "", 0)
				for _, topic := range []string{"t", "u"} {
					forget(slot{group, topic, 0})
					forget(slot{group, topic, 1})
				}
			},
			"sweep":  func(t *rapid.T) { f.advance(10 * time.Minute) },
			"reload": func(*rapid.T) { f.reload() },
			"": func(t *rapid.T) {
				for _, group := range []string{"g", "h"} {
					checkAgainst(t, f.s, &m, group)
				}
			},
		})
		f.reload()
	})
}

func checkAgainst(t *rapid.T, s *Shard, m *naive, group string) {
	for _, topic := range []string{"t", "u"} {
		for p := range int32(2) {
			k := slot{group, topic, p}
			unstable := false
			for _, slots := range m.pending {
				_, open := slots[k]
				unstable = unstable || open
			}
			want := int64(-1)
			if e, ok := m.plain[k]; ok {
				want = e.offset
			}
			req := kmsg.NewOffsetFetchRequestGroup()
			req.Group = group
			req.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: topic, Partitions: []int32{p}}}
			for _, stable := range []bool{false, true} {
				got := s.OffsetFetch(&req, stable).Topics[0].Partitions[0]
				expect := fmt.Sprint(want, 0)
				if stable && unstable {
					expect = fmt.Sprint(-1, 88)
				}
				if have := fmt.Sprint(got.Offset, got.ErrorCode); have != expect {
					t.Fatalf("%v stable=%t: %s, want %s", k, stable, have, expect)
				}
			}
		}
	}
}
