package interop

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// If this fails, a group whose members move from the classic to the consumer protocol one by one, or back, loses records,
// stands still, or stays what it was.
func TestGroupMigration(t *testing.T) {
	eachLibrary(t, func(t *testing.T, lib library) {
		modern := lib
		if !lib.next {
			for _, l := range libraries() {
				if l.name == "franz-go" {
					modern = l
				}
			}
		}
		topic, group := createTopic(t, groupPartitions, nil), fresh("group")
		f := &feeder{t: t, cl: client(t, kgo.RecordPartitioner(kgo.ManualPartitioner())), topic: topic}
		for range 3 {
			f.round()
		}
		old := lib.join(t, topic, group, "classic")
		until(t, 40*time.Second, "the classic member reads everything", nil, func() bool { return len(old.seen) == len(f.sent) }, old)
		wantGroup(t, group, "classic", "Stable")
		next := modern.join(t, topic, group, "consumer")
		until(t, 60*time.Second, "both members get partitions", func() { f.round() }, func() bool { return len(next.by) > 0 }, old, next)
		wantGroup(t, group, "consumer", "Stable")
		half := len(f.sent)
		until(t, 30*time.Second, "the old one still reads", func() { f.round() }, func() bool {
			n := 0
			for _, v := range f.sent[half:] {
				n += old.seen[v]
			}
			return n > 0
		}, old, next)
		next.leave()
		gone := len(f.sent)
		until(t, 60*time.Second, "the classic member reads every partition again", func() { f.round() }, func() bool {
			return len(f.sent) >= gone+2*groupPartitions && old.hasSeen(f.sent[gone:gone+2*groupPartitions])
		}, old)
		wantGroup(t, group, "classic", "Stable")
		third := modern.join(t, topic, group, "consumer")
		until(t, 60*time.Second, "both members get partitions again", func() { f.round() }, func() bool { return len(third.by) > 0 }, old, third)
		old.leave()
		last := len(f.sent)
		until(t, 60*time.Second, "the consumer member reads every partition", func() { f.round() }, func() bool {
			return len(f.sent) >= last+2*groupPartitions && third.hasSeen(f.sent[last:last+2*groupPartitions])
		}, third)
		until(t, 30*time.Second, "the rest", nil, func() bool { return third.hasSeen(f.sent[last:]) }, third)
		wantGroup(t, group, "consumer", "Stable")
		for r := range old.replies {
			old.note(r, true)
		}
		for r := range next.replies {
			next.note(r, true)
		}
		for _, v := range f.sent {
			if old.seen[v]+next.seen[v]+third.seen[v] == 0 {
				t.Errorf("%s was delivered to nobody", v)
			}
		}
	})
}
