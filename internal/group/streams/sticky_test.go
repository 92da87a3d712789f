package streams

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// Whatever members there are and whatever they had: every task has one member to work on it, every task with state its
// copies in other processes as far as there are any, all have about the same to do, and who asks again gets the same.
func TestAssign(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := assignInput{standbys: rapid.IntRange(0, 2).Draw(t, "standbys")}
		total := 0
		for i := range rapid.IntRange(1, 3).Draw(t, "subtopologies") {
			s := configuredSub{id: fmt.Sprint(i), tasks: int32(rapid.IntRange(1, 6).Draw(t, "tasks")), stateful: rapid.Bool().Draw(t, "stateful")}
			in.subs = append(in.subs, s)
			total += int(s.tasks)
		}
		processes := map[string]int{}
		for i := range rapid.IntRange(1, 6).Draw(t, "members") {
			p := rapid.SampledFrom([]string{"p", "q", "r", "s"}).Draw(t, "process")
			processes[p]++
			in.members = append(in.members, assignMember{id: fmt.Sprint("m", i), process: p, tag: func(string) (string, bool) { return "", false }, had: noRoles()})
		}
		first := assignTasks(in)
		checkAssigned(t, in, first, processes)
		for i := range in.members {
			in.members[i].had = first[in.members[i].id]
		}
		again := assignTasks(in)
		moved := 0
		for id, r := range again {
			for task := range r[Active].all() {
				if !first[id][Active].has(task) {
					moved++
				}
			}
		}
		// Quotas shrink in another order the second time, so a little may move, never much.
		if moved > len(in.members) {
			t.Fatalf("%d of %d tasks move though nothing has changed\n%v\n%v", moved, total, first, again)
		}
		checkAssigned(t, in, again, processes)
	})
}

func checkAssigned(t *rapid.T, in assignInput, out map[string]Roles, processes map[string]int) {
	process := map[string]string{}
	for _, m := range in.members {
		process[m.id] = m.process
	}
	active, copies, at := map[Task]int{}, map[Task]int{}, map[string]map[Task]bool{}
	least, most := 1<<30, 0
	for id, r := range out {
		for _, role := range []Role{Active, Standby} {
			for task := range r[role].all() {
				if role == Active {
					active[task]++
				} else {
					copies[task]++
				}
				if at[process[id]] == nil {
					at[process[id]] = map[Task]bool{}
				}
				if at[process[id]][task] {
					t.Fatalf("process %s has %v twice", process[id], task)
				}
				at[process[id]][task] = true
			}
		}
		least, most = min(least, r[Active].size()), max(most, r[Active].size())
	}
	for _, s := range in.subs {
		want := 0
		if s.stateful {
			want = min(in.standbys, len(processes)-1)
		}
		for p := range s.tasks {
			if task := (Task{s.id, p}); active[task] != 1 || copies[task] != want {
				t.Fatalf("%v is worked on by %d, copied %d times, not %d", task, active[task], copies[task], want)
			}
		}
	}
	if len(processes) == len(in.members) && in.standbys == 0 && most-least > 2 {
		t.Fatalf("from %d to %d active tasks a member: %v", least, most, out)
	}
}
