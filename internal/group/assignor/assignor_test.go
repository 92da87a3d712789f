package assignor

import (
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

func id(n int) TopicID { return TopicID{byte(n)} }

func drawInput(t *rapid.T, same bool) Input {
	topics := rapid.IntRange(0, 5).Draw(t, "topics")
	in := Input{Partitions: map[TopicID]int32{}}
	var all []TopicID
	for i := range topics {
		in.Partitions[id(i)] = int32(rapid.IntRange(0, 12).Draw(t, "partitions"))
		all = append(all, id(i))
	}
	for i := range rapid.IntRange(1, 7).Draw(t, "members") {
		m := Member{ID: fmt.Sprint("m", i)}
		if rapid.Bool().Draw(t, "static") {
			m.Instance = fmt.Sprint("i", 9-i)
		}
		for _, top := range all {
			if same || rapid.Bool().Draw(t, "subscribes") {
				m.Topics = append(m.Topics, top)
			}
		}
		m.Topics = append(m.Topics, id(99)) // one that is not there
		in.Members = append(in.Members, m)
	}
	return in
}

// check holds the promise of all assignors, and says how much each member has.
func check(t *rapid.T, in Input, out map[string]Assignment) map[string]int {
	if len(out) != len(in.Members) {
		t.Fatalf("%d assignments for %d members", len(out), len(in.Members))
	}
	owner, load, wanted := map[tp]string{}, map[string]int{}, map[TopicID]bool{}
	for _, m := range in.Members {
		may := map[TopicID]bool{}
		for _, top := range m.Topics {
			may[top], wanted[top] = true, true
		}
		for top, ps := range out[m.ID] {
			if !may[top] || len(ps) == 0 {
				t.Fatalf("%s has %v of %v", m.ID, ps, top)
			}
			for i, p := range ps {
				if i > 0 && ps[i-1] >= p {
					t.Fatalf("not in order: %v", ps)
				}
				if o, taken := owner[tp{top, p}]; taken || p < 0 || p >= in.Partitions[top] {
					t.Fatalf("partition %d with %s and %q", p, m.ID, o)
				}
				owner[tp{top, p}] = m.ID
				load[m.ID]++
			}
		}
	}
	for top, n := range in.Partitions {
		for p := range n {
			if _, ok := owner[tp{top, p}]; wanted[top] && !ok {
				t.Fatalf("partition %d of %v has nobody", p, top)
			}
		}
	}
	return load
}

func adopt(in *Input, out map[string]Assignment) {
	for i := range in.Members {
		in.Members[i].Current = out[in.Members[i].ID]
	}
}

func moved(before, after map[string]Assignment) (n int) {
	owner := map[tp]string{}
	for m, a := range before {
		for top, ps := range a {
			for _, p := range ps {
				owner[tp{top, p}] = m
			}
		}
	}
	for m, a := range after {
		for top, ps := range a {
			for _, p := range ps {
				if o, ok := owner[tp{top, p}]; ok && o != m {
					n++
				}
			}
		}
	}
	return n
}

func total(in Input) (n int) {
	for _, p := range in.Partitions {
		n += int(p)
	}
	return n
}

func balanced(t *rapid.T, in Input, load map[string]int) {
	for _, m := range in.Members {
		if n := load[m.ID]; n < total(in)/len(in.Members) || n > (total(in)+len(in.Members)-1)/len(in.Members) {
			t.Fatalf("%s has %d of %d among %d", m.ID, n, total(in), len(in.Members))
		}
	}
}

// Members with the same subscriptions: shares within one, and no move that balance does not ask for.
func TestUniformEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t, true)
		first := Uniform(in)
		balanced(t, in, check(t, in, first))
		adopt(&in, first)
		if again := Uniform(in); !reflect.DeepEqual(first, again) {
			t.Fatalf("nothing changed, and yet\n%v\n%v", first, again)
		}
		// One more member: only what it gets moves.
		grown := in
		grown.Members = append(append([]Member{}, in.Members...), Member{ID: "a-new", Topics: in.Members[0].Topics})
		next := Uniform(grown)
		load := check(t, grown, next)
		balanced(t, grown, load)
		if n := moved(first, next); n != load["a-new"] {
			t.Fatalf("%d moved, the new member got %d", n, load["a-new"])
		}
		// One member less: nothing moves but what it had.
		if len(in.Members) > 1 {
			gone := in
			gone.Members = in.Members[1:]
			delete(first, in.Members[0].ID)
			next := Uniform(gone)
			balanced(t, gone, check(t, gone, next))
			if n := moved(first, next); n != 0 {
				t.Fatalf("%d moved", n)
			}
		}
	})
}

// Members with different subscriptions: no single move evens out, and a second run changes nothing.
func TestUniformUneven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t, false)
		// What members claim to have may be wild: of topics not theirs, of partitions that are not, of each other.
		for i := range in.Members {
			in.Members[i].Current = Assignment{}
			for range rapid.IntRange(0, 6).Draw(t, "claims") {
				top := id(rapid.IntRange(0, 6).Draw(t, "topic"))
				in.Members[i].Current[top] = append(in.Members[i].Current[top], int32(rapid.IntRange(-1, 13).Draw(t, "partition")))
			}
		}
		out := Uniform(in)
		load := check(t, in, out)
		for _, a := range in.Members {
			for _, b := range in.Members {
				for _, top := range b.Topics {
					if len(out[a.ID][top]) > 0 && load[a.ID] >= load[b.ID]+2 {
						t.Fatalf("%s has %d, %s %d, and could take %v", a.ID, load[a.ID], b.ID, load[b.ID], top)
					}
				}
			}
		}
		adopt(&in, out)
		if again := Uniform(in); !reflect.DeepEqual(out, again) {
			t.Fatalf("nothing changed, and yet\n%v\n%v", out, again)
		}
	})
}

func TestRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t, rapid.Bool().Draw(t, "same"))
		out := Range(in)
		check(t, in, out)
		for _, m := range in.Members {
			for top, ps := range out[m.ID] {
				if int(ps[len(ps)-1]-ps[0]) != len(ps)-1 {
					t.Fatalf("%s has %v of %v: no run", m.ID, ps, top)
				}
				readers := 0
				for _, o := range in.Members {
					for _, x := range o.Topics {
						if x == top {
							readers++
						}
					}
				}
				n := int(in.Partitions[top])
				if len(ps) < n/readers || len(ps) > (n+readers-1)/readers {
					t.Fatalf("%s has %d of %d among %d", m.ID, len(ps), n, readers)
				}
			}
		}
		adopt(&in, out)
		if again := Range(in); !reflect.DeepEqual(out, again) {
			t.Fatalf("nothing changed, and yet\n%v\n%v", out, again)
		}
	})
}

// Topics with equally many partitions that the same members read are shared in the same way.
func TestRangeTogether(t *testing.T) {
	in := Input{Partitions: map[TopicID]int32{id(1): 5, id(2): 5}}
	for _, m := range []Member{{ID: "z", Instance: "1"}, {ID: "a"}, {ID: "b", Instance: "0"}} {
		m.Topics = []TopicID{id(1), id(2)}
		in.Members = append(in.Members, m)
	}
	want := map[string]Assignment{
		"b": {id(1): {0, 1}, id(2): {0, 1}}, "z": {id(1): {2, 3}, id(2): {2, 3}}, "a": {id(1): {4}, id(2): {4}},
	}
	if got := Range(in); !reflect.DeepEqual(got, want) {
		t.Fatal(got)
	}
}

func TestNobody(t *testing.T) {
	in := Input{Partitions: map[TopicID]int32{id(1): 3}}
	if len(Uniform(in)) != 0 || len(Range(in)) != 0 {
		t.Fatal("assignments for nobody")
	}
	if _, ok := ByName("nonsense"); ok {
		t.Fatal("nonsense found")
	}
}
