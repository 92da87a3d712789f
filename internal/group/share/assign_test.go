package share

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ottla/ottla/internal/wire/schema"
)

// Whoever comes and goes: every partition that somebody reads has a reader, every member reads something where its topics have
// partitions, the load is even where all read the same, and nothing moves without reason.
func TestAssign(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		had := map[string]Partitions{}
		for range rapid.IntRange(1, 6).Draw(t, "rounds") {
			var all []Partition
			reads := map[schema.UUID][]string{}
			same := rapid.Bool().Draw(t, "all read the same")
			for topic := range byte(rapid.IntRange(1, 3).Draw(t, "topics")) {
				id := schema.UUID{topic + 1}
				for i := range int32(rapid.IntRange(1, 7).Draw(t, "partitions")) {
					all = append(all, Partition{id, i})
				}
				reads[id] = nil
			}
			members := rapid.IntRange(1, 12).Draw(t, "members")
			reading := map[string]bool{}
			for i := range members {
				id := fmt.Sprintf("m%02d", i)
				for topic := byte(1); int(topic) <= len(reads); topic++ {
					if same || rapid.Bool().Draw(t, "reads") {
						reads[schema.UUID{topic}] = append(reads[schema.UUID{topic}], id)
						reading[id] = true
					}
				}
			}
			out := assignSimple(all, reads, had)
			readers := map[Partition]int{}
			for m, ps := range out {
				for p := range ps {
					readers[p]++
					if !slices.Contains(reads[p.Topic], m) {
						t.Fatalf("%s got %v, which it does not read", m, p)
					}
				}
			}
			for _, p := range all {
				if len(reads[p.Topic]) > 0 && readers[p] == 0 {
					t.Fatalf("nobody got %v: %v", p, out)
				}
			}
			least, most := 1<<30, 0
			for m := range reading {
				if len(out[m]) == 0 {
					t.Fatalf("%s got nothing: %v", m, out)
				}
				least, most = min(least, len(out[m])), max(most, len(out[m]))
			}
			if same && most-least > 1 {
				t.Fatalf("between %d and %d partitions a member: %v", least, most, out)
			}
			if again := assignSimple(all, reads, out); fmt.Sprint(again) != fmt.Sprint(out) {
				t.Fatalf("the same once more moves partitions:\n%v\n%v", out, again)
			}
			had = out
		}
	})
}
