package interop

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// If this fails, this library cannot manage topics: create with settings, list, read and change settings, delete.
func TestAdmin(t *testing.T) {
	eachLibrary(t, func(t *testing.T, lib library) {
		p := lib.start(t)
		topic := fresh("admin")
		p.ask(t, command{Cmd: "create", Topic: topic, Partitions: 5, Configs: map[string]string{"retention.ms": "123456789", "cleanup.policy": "compact"}})
		eventually(t, 10*time.Second, func() error {
			if list := p.ask(t, command{Cmd: "list"}).Topics; !slices.Contains(list, topic) {
				return fmt.Errorf("created topic %s is not in the list %v", topic, list)
			}
			return nil
		})
		details, err := admin(t).ListTopics(patience(t, 30*time.Second), topic)
		if err != nil || len(details[topic].Partitions) != 5 {
			t.Fatalf("topic of 5 partitions: %+v, %v", details[topic], err)
		}
		wantConfig(t, topic, "retention.ms", "123456789")
		t.Run("configs", func(t *testing.T) {
			got := p.ask(t, command{Cmd: "describe", Topic: topic}).Configs
			if got["retention.ms"] != "123456789" || got["cleanup.policy"] != "compact" || got["segment.bytes"] == "" {
				t.Fatalf("described %v", got)
			}
			p.ask(t, command{Cmd: "alter", Topic: topic, Configs: map[string]string{"retention.ms": "987654321"}})
			wantConfig(t, topic, "retention.ms", "987654321")
		})
		p.ask(t, command{Cmd: "delete", Topic: topic})
		eventually(t, 10*time.Second, func() error {
			if slices.Contains(p.ask(t, command{Cmd: "list"}).Topics, topic) {
				return fmt.Errorf("deleted topic %s is still listed", topic)
			}
			return nil
		})
	})
}

func wantConfig(t *testing.T, topic, key, want string) {
	t.Helper()
	eventually(t, 5*time.Second, func() error {
		rs, err := admin(t).DescribeTopicConfigs(patience(t, 10*time.Second), topic)
		if err != nil {
			return err
		}
		r, err := rs.On(topic, nil)
		if err != nil {
			return err
		}
		for _, c := range r.Configs {
			if c.Key == key && c.MaybeValue() == want {
				return nil
			}
		}
		return fmt.Errorf("%s of %s is not %s", key, topic, want)
	})
}

// If this fails, "start reading at nine o'clock" starts at the wrong record with this library.
func TestListOffsetsByTime(t *testing.T) {
	eachLibrary(t, func(t *testing.T, lib library) {
		p := lib.start(t)
		topic := createTopic(t, 2, nil)
		base := time.Now().Add(-time.Hour).UnixMilli()
		var rs []rec
		for i := range 40 {
			rs = append(rs, rec{P: int32(i % 2), V: []byte("v"), TS: base + int64(i/2)*1000})
		}
		produce(t, client(t, kgo.RecordPartitioner(kgo.ManualPartitioner())), topic, rs)
		for _, c := range []struct{ ts, want int64 }{{-2, 0}, {-1, 20}, {base, 0}, {base + 7000, 7}, {base + 7001, 8}} {
			got := p.ask(t, command{Cmd: "offsets", Topic: topic, Partitions: 2, TS: c.ts}).Offsets
			if len(got) != 2 || got[0] != c.want || got[1] != c.want {
				t.Errorf("offsets at %d (start%+d ms) are %v, want %d twice", c.ts, c.ts-base, got, c.want)
			}
		}
	})
}
