package balance

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"
)

// A script's cluster: "broker 1 rack=a disk=100 used=10 leaving", "partition t-0 1,2 bytes=5".
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var brokers []Broker
			var parts []Partition
			for _, line := range strings.Split(d.Input, "\n") {
				f := strings.Fields(line)
				if len(f) == 0 {
					continue
				}
				opt := func(name string) (n int64) {
					for _, x := range f {
						if strings.HasPrefix(x, name+"=") {
							fmt.Sscanf(x[len(name)+1:], "%d", &n)
						}
					}
					return n
				}
				switch f[0] {
				case "broker":
					b := Broker{DiskBytes: opt("disk"), UsedBytes: opt("used"), Leaving: slices.Contains(f, "leaving"), Down: slices.Contains(f, "down")}
					fmt.Sscan(f[1], &b.ID)
					for _, x := range f {
						if r, ok := strings.CutPrefix(x, "rack="); ok {
							b.Rack = r
						}
					}
					brokers = append(brokers, b)
				case "partition":
					p := Partition{Bytes: opt("bytes")}
					i := strings.LastIndex(f[1], "-")
					p.Topic = f[1][:i]
					fmt.Sscan(f[1][i+1:], &p.Number)
					for _, r := range strings.Split(f[2], ",") {
						var id int32
						fmt.Sscan(r, &id)
						p.Replicas = append(p.Replicas, id)
					}
					parts = append(parts, p)
				}
			}
			o := Options{Even: d.Cmd == "balance"}
			if d.HasArg("moves") {
				d.ScanArgs(t, "moves", &o.MovesMax)
			}
			plan, err := Make(brokers, parts, o)
			if err != nil {
				return "refused: " + err.Error() + "\n"
			}
			var b strings.Builder
			for _, m := range plan.Moves {
				fmt.Fprintf(&b, "%s-%d %v -> %v copies %d bytes\n", m.Topic, m.Partition, m.From, m.To, m.Bytes)
			}
			if len(plan.Moves) == 0 {
				b.WriteString("nothing to do\n")
			}
			return b.String()
		})
	})
}

// Whatever the cluster: hard goals hold, the cost does not rise, nothing stays on a broker that leaves, and a plan carried out leaves
// nothing to do.
func TestPlansHoldTheirGoals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 7).Draw(t, "brokers")
		racks := rapid.IntRange(1, 3).Draw(t, "racks")
		var brokers []Broker
		leaving := 0
		for i := range n {
			b := Broker{ID: int32(i + 1), Rack: fmt.Sprint("r", i%racks)}
			if leaving < n-3 && rapid.IntRange(0, 4).Draw(t, "leaving") == 0 {
				b.Leaving = true
				leaving++
			}
			brokers = append(brokers, b)
		}
		var parts []Partition
		for i := range rapid.IntRange(0, 25).Draw(t, "partitions") {
			ids := rapid.Permutation(func() (ids []int32) {
				for _, b := range brokers {
					ids = append(ids, b.ID)
				}
				return ids
			}()).Draw(t, "order")
			parts = append(parts, Partition{Topic: fmt.Sprint("t", i%3), Number: int32(i), Replicas: ids[:rapid.IntRange(1, min(3, n)).Draw(t, "copies")], Bytes: rapid.Int64Range(0, 1000).Draw(t, "bytes")})
		}
		o := Options{Even: rapid.Bool().Draw(t, "even")}
		plan, err := Make(brokers, parts, o)
		if err != nil {
			for _, p := range parts {
				if strings.Contains(err.Error(), fmt.Sprintf("topic %s partition %d ", p.Topic, p.Number)) {
					return
				}
			}
			t.Fatalf("a refusal that names nothing: %v", err)
		}
		if leaving == 0 && plan.After > plan.Before+1e-9 {
			// Only spreading over racks may cost evenness.
			if racks == 1 {
				t.Fatalf("the cost rises from %v to %v", plan.Before, plan.After)
			}
		}
		after := slices.Clone(parts)
		for _, m := range plan.Moves {
			for i := range after {
				if after[i].Topic == m.Topic && after[i].Number == m.Partition {
					if !slices.Equal(after[i].Replicas, m.From) {
						t.Fatalf("%v does not begin at %v", m, after[i].Replicas)
					}
					after[i].Replicas = m.To
				}
			}
		}
		rackOf := func(ids []int32) int {
			seen := map[string]bool{}
			for _, id := range ids {
				seen[brokers[id-1].Rack] = true
			}
			return len(seen)
		}
		stay := map[string]bool{}
		for _, b := range brokers {
			if !b.Leaving {
				stay[b.Rack] = true
			}
		}
		for i, p := range after {
			if len(p.Replicas) != len(parts[i].Replicas) {
				t.Fatalf("%v had %d copies", p, len(parts[i].Replicas))
			}
			for k, id := range p.Replicas {
				if brokers[id-1].Leaving || slices.Contains(p.Replicas[:k], id) {
					t.Fatalf("%v: broker %d leaves or is there twice", p, id)
				}
			}
			if want := min(rackOf(parts[i].Replicas), len(stay)); rackOf(p.Replicas) < want {
				t.Fatalf("%v is on fewer racks than %v", p, parts[i])
			}
		}
		again, err := Make(brokers, after, o)
		if err != nil || len(again.Moves) != 0 {
			t.Fatalf("a second plan is not empty: %+v, %v", again, err)
		}
	})
}
