package operate

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ottla/ottla/internal/balance"
)

// A pause that is written to the file while a run is at work is kept, together with how far the run is.
func TestPauseIsSeen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "plan.json")
	p := NewPlan("balance", &View{ClusterID: "c"}, []balance.Move{{Topic: "t", From: []int32{1}, To: []int32{2}}, {Topic: "t", Partition: 1, From: []int32{1}, To: []int32{2}}})
	if err := p.checkpoint(file); err != nil {
		t.Fatal(err)
	}
	other, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	other.Paused = true
	if err := other.Save(file); err != nil {
		t.Fatal(err)
	}
	p.Moves[0].State = Done
	if err := p.checkpoint(file); !errors.Is(err, ErrPaused) {
		t.Fatalf("a paused run goes on: %v", err)
	}
	if on, err := Load(file); err != nil || !on.Paused || on.Left() != 1 || on.Moves[0].State != Done {
		t.Errorf("the file says %+v, %v", on, err)
	}
	if _, err := Load(file + "x"); err == nil || !strings.Contains(err.Error(), "there is no plan") {
		t.Error(err)
	}
}

// The gates name the first partition that has no copy to spare.
func TestGates(t *testing.T) {
	v := &View{Partitions: []balance.Partition{
		{Topic: "a", Replicas: []int32{1, 2, 3}, ISR: []int32{1, 2, 3}, MinISR: 2},
		{Topic: "b", Number: 4, Replicas: []int32{1, 2, 3}, ISR: []int32{1, 2}, MinISR: 2},
	}}
	if err := v.Gate(); err != nil {
		t.Error(err)
	}
	if err := v.GateWithout(3); err != nil {
		t.Error(err)
	}
	if err := v.GateWithout(2); err == nil || !strings.Contains(err.Error(), "topic b partition 4") {
		t.Error(err)
	}
	v.Partitions[0].ISR = []int32{1}
	if err := v.Gate(); err == nil || !strings.Contains(err.Error(), "topic a partition 0") {
		t.Error(err)
	}
}
