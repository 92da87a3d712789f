package quorum

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func members(nodes ...int32) []Member {
	var out []Member
	for _, n := range nodes {
		out = append(out, Member{Node: n, Dir: [16]byte{byte(n)}})
	}
	return out
}

func TestChoose(t *testing.T) {
	other := Member{Node: 2, Dir: [16]byte{99}}
	for _, c := range []struct {
		name                 string
		voters, learners, up []Member
		unknown, drained     []int32
		add, promote, remove []Member
	}{
		{name: "one node", voters: members(1), up: members(1)},
		{name: "two nodes are no reason for two voters", voters: members(1), up: members(1, 2)},
		{name: "three nodes", voters: members(1), up: members(1, 2, 3), add: members(2)},
		{name: "one learner waits for the other", voters: members(1), learners: members(2), up: members(1, 2, 3), add: members(3)},
		{name: "both get their vote together", voters: members(1), learners: members(2, 3), up: members(1, 2, 3), promote: members(2, 3)},
		{name: "a learner that went away", voters: members(1), learners: members(2, 3), up: members(1, 2)},
		{name: "another takes its place", voters: members(1), learners: members(2, 3), up: members(1, 2, 4), add: members(4)},
		{name: "a learner too many", voters: members(1, 2, 3), learners: members(4), up: members(1, 2, 3, 4), remove: members(4)},
		{name: "a drained learner", voters: members(1), learners: members(2), up: members(1, 3, 4), drained: []int32{2}, remove: members(2)},
		{name: "four nodes", voters: members(1, 2, 3), up: members(1, 2, 3, 4)},
		{name: "five nodes", voters: members(1, 2, 3), up: members(1, 2, 3, 4, 5), add: members(4)},
		{name: "nobody goes because it is away", voters: members(1, 2, 3), up: members(1)},
		{name: "nor because others are up", voters: members(1, 2, 3), up: members(1, 2, 4)},
		{name: "unregistered", voters: members(1, 2, 3), up: members(1, 2), unknown: []int32{3}, remove: members(3)},
		{name: "unregistered, and a majority cannot do without", voters: members(1, 2, 3), up: members(1), unknown: []int32{3}},
		{name: "came back with an empty disk", voters: members(1, 2, 3), up: append(members(1, 3), other), remove: members(2)},
		{name: "a learner with an empty disk", voters: members(1), learners: members(2), up: append(members(1), other), remove: members(2)},
		{name: "drained, with nobody to take over", voters: members(1, 2, 3), up: members(1, 2), drained: []int32{3}},
		{name: "drained", voters: members(1, 2, 3), up: members(1, 2, 4), drained: []int32{3}, add: members(4)},
		{name: "its vote goes to another", voters: members(1, 2, 3), learners: members(4), up: members(1, 2, 4), drained: []int32{3}, promote: members(4), remove: members(3)},
	} {
		t.Run(c.name, func(t *testing.T) {
			add, promote, remove := Choose(c.voters, c.learners, c.up, func(n int32) bool { return !slices.Contains(c.unknown, n) }, func(n int32) bool { return slices.Contains(c.drained, n) })
			if !slices.Equal(add, c.add) || !slices.Equal(promote, c.promote) || !slices.Equal(remove, c.remove) {
				t.Errorf("add %v promote %v remove %v; want %v %v %v", add, promote, remove, c.add, c.promote, c.remove)
			}
		})
	}
}

// Whatever comes and goes, choosing again and again comes to rest, with an odd number of voters that is never less than it was.
func TestChooseComesToRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := rapid.SliceOfNDistinct(rapid.Int32Range(1, 9), 1, 9, rapid.ID[int32]).Draw(t, "up")
		up := members(nodes...)
		drained := rapid.SliceOfDistinct(rapid.Int32Range(1, 9), rapid.ID[int32]).Draw(t, "drained")
		voters, learners := members(rapid.Int32Range(1, 9).Draw(t, "first")), []Member(nil)
		isDrained := func(n int32) bool { return slices.Contains(drained, n) }
		for range 50 {
			add, promote, remove := Choose(voters, learners, up, func(int32) bool { return true }, isDrained)
			if len(add)+len(promote)+len(remove) == 0 {
				if len(voters)%2 == 0 {
					t.Fatalf("%d voters", len(voters))
				}
				return
			}
			before := len(voters)
			learners = append(learners, add...)
			for _, m := range promote {
				learners = slices.DeleteFunc(learners, func(l Member) bool { return l == m })
				voters = append(voters, m)
			}
			voters = slices.DeleteFunc(voters, func(v Member) bool { return slices.Contains(remove, v) })
			learners = slices.DeleteFunc(learners, func(v Member) bool { return slices.Contains(remove, v) })
			if len(voters) < before {
				t.Fatalf("%d voters became %d", before, len(voters))
			}
		}
		t.Fatal("it never comes to rest")
	})
}
