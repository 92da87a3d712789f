// Package fault is what goes wrong during a chaos run: a table of faults, each of which does its harm to a stand and says how to
// undo it. It knows processes, disks, the switch and clocks; it must never know a workload or judge what comes out.
package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ottla/ottla/chaos/cable"
	"github.com/ottla/ottla/chaos/disk"
	"github.com/ottla/ottla/chaos/skew"
	"github.com/ottla/ottla/chaos/stand"
)

// Env is what a fault may use.
type Env struct {
	Cluster *stand.Cluster
	View    *stand.View
	Rng     *rand.Rand
	Topic   string // whose leaders are looked for
	Hold    time.Duration
}

// Harm is a fault that is on.
type Harm struct {
	Targets []int32 // nodes that it hits
	Down    []int32 // nodes from which leadership must move away
	Detail  string
	Heal    func(context.Context) error // also ends what the fault still does by itself
	Short   bool                        // it is over by itself: no hold
}

// Fault is one kind.
type Fault struct {
	Name           string
	What           string
	Disks, Network bool // needs them
	Many           bool // needs three nodes
	Do             func(context.Context, *Env) (*Harm, error)
}

// Missing says why a fault cannot be done on a stand, nil if it can.
func (f Fault) Missing(o stand.Options) error {
	switch {
	case f.Many && o.Nodes < 3:
		return errors.New("needs three nodes")
	case f.Disks && !o.Disks:
		return fmt.Errorf("needs disks that fail (-disks): %w", orElse(disk.Possible(), "not asked for"))
	case f.Network && !o.Network:
		return fmt.Errorf("needs the switch (-network): %w", orElse(cable.Possible(), "not asked for"))
	}
	return nil
}

func orElse(err error, text string) error {
	if err == nil {
		return errors.New(text)
	}
	return err
}

// leader picks the leader of a random partition; if there is a choice, not the active controller.
func (e *Env) leader(ctx context.Context) (*stand.Node, error) {
	leaders, err := e.View.Leaders(ctx, e.Topic)
	if err != nil {
		return nil, err
	}
	controller := e.View.Controller(ctx)
	var ids []int32
	for _, id := range leaders {
		if id != controller && e.Cluster.Node(id) != nil && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	if len(ids) == 0 {
		ids = []int32{leaders[0]}
	}
	n := e.Cluster.Node(ids[e.Rng.IntN(len(ids))])
	if n == nil {
		return nil, fmt.Errorf("no leader among %v", leaders)
	}
	return n, nil
}

func (e *Env) controller(ctx context.Context) (*stand.Node, error) {
	id := e.View.Controller(ctx)
	if n := e.Cluster.Node(id); n != nil {
		return n, nil
	}
	return nil, fmt.Errorf("no active controller is known (%d)", id)
}

func (e *Env) any() *stand.Node { return e.Cluster.Nodes[e.Rng.IntN(len(e.Cluster.Nodes))] }

// All is every fault.
func All() []Fault {
	return slices.Concat(processes(), disks(), networks(), others())
}

// Find returns the faults of the given names.
func Find(names []string) ([]Fault, error) {
	var out []Fault
	for _, name := range names {
		i := slices.IndexFunc(All(), func(f Fault) bool { return f.Name == name })
		if i < 0 {
			var known []string
			for _, f := range All() {
				known = append(known, f.Name)
			}
			return nil, fmt.Errorf("fault %q: know %v", name, known)
		}
		out = append(out, All()[i])
	}
	return out, nil
}

func hit(n *stand.Node, heal func(context.Context) error) *Harm {
	return &Harm{Targets: []int32{n.ID}, Down: []int32{n.ID}, Heal: heal}
}

func kill(n *stand.Node) *Harm {
	n.Kill()
	return hit(n, func(context.Context) error { return n.Start() })
}

func processes() []Fault {
	return []Fault{
		{Name: "kill-leader", What: "kill -9 of a leader that is not the active controller", Do: func(ctx context.Context, e *Env) (*Harm, error) {
			n, err := e.leader(ctx)
			if err != nil {
				return nil, err
			}
			return kill(n), nil
		}},
		{Name: "kill-controller", What: "kill -9 of the active controller", Do: func(ctx context.Context, e *Env) (*Harm, error) {
			n, err := e.controller(ctx)
			if err != nil {
				return nil, err
			}
			return kill(n), nil
		}},
		{Name: "kill-all", What: "kill -9 of all nodes at once, started again at once", Do: func(ctx context.Context, e *Env) (*Harm, error) {
			h := &Harm{Short: true, Heal: func(context.Context) error { return startAll(e.Cluster) }}
			for _, n := range e.Cluster.Nodes {
				n.KillNow()
				h.Targets = append(h.Targets, n.ID)
			}
			for _, n := range e.Cluster.Nodes {
				n.Kill()
			}
			return h, nil
		}},
		{Name: "pause-leader", What: "SIGSTOP of a leader", Do: func(ctx context.Context, e *Env) (*Harm, error) {
			n, err := e.leader(ctx)
			if err != nil {
				return nil, err
			}
			return hit(n, func(context.Context) error { return n.Resume() }), n.Pause()
		}},
		{Name: "pause-short", What: "SIGSTOP of a leader for 4 s", Do: func(ctx context.Context, e *Env) (*Harm, error) {
			n, err := e.leader(ctx)
			if err != nil {
				return nil, err
			}
			if err := n.Pause(); err != nil {
				return nil, err
			}
			sleep(ctx, 4*time.Second)
			return &Harm{Targets: []int32{n.ID}, Short: true, Heal: func(context.Context) error { return n.Resume() }}, nil
		}},
		{Name: "roll", Many: true, What: "graceful restart of one node after the other", Do: roll},
	}
}

func startAll(c *stand.Cluster) error {
	var errs []error
	for _, n := range c.Nodes {
		errs = append(errs, n.Start())
	}
	return errors.Join(errs...)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func roll(ctx context.Context, e *Env) (*Harm, error) {
	h := &Harm{Short: true, Heal: func(context.Context) error { return nil }}
	for _, n := range e.Cluster.Nodes {
		h.Targets = append(h.Targets, n.ID)
		begin := time.Now()
		if err := n.Stop(90 * time.Second); err != nil {
			return h, err
		}
		stopped := time.Since(begin)
		if err := n.Start(); err != nil {
			return h, err
		}
		full, err := e.View.WaitWhole(ctx, 60*time.Second)
		if err != nil {
			return h, fmt.Errorf("after the restart of node %d: %w", n.ID, err)
		}
		h.Detail += fmt.Sprintf("node %d: stopped in %.1f s, whole %.1f s later; ", n.ID, stopped.Seconds(), full.Seconds())
	}
	return h, nil
}

func networks() []Fault {
	cut := cable.Rule{Cut: true}
	onLeader := func(name, what string, do func(e *Env, n int)) Fault {
		return Fault{Name: name, What: what, Network: true, Many: true, Do: func(ctx context.Context, e *Env) (*Harm, error) {
			n, err := e.leader(ctx)
			if err != nil {
				return nil, err
			}
			do(e, int(n.ID))
			return hit(n, func(context.Context) error { e.Cluster.Switch.Heal(); return nil }), nil
		}}
	}
	others := func(e *Env, n int, do func(other int)) {
		for _, o := range e.Cluster.Nodes {
			if int(o.ID) != n {
				do(int(o.ID))
			}
		}
	}
	soft := func(name, what string, r cable.Rule) Fault {
		return Fault{Name: name, What: what, Network: true, Many: true, Do: func(_ context.Context, e *Env) (*Harm, error) {
			n := e.any()
			for p := range len(e.Cluster.Nodes) + 1 {
				if p != int(n.ID) {
					e.Cluster.Switch.Both(int(n.ID), p, r)
				}
			}
			return &Harm{Targets: []int32{n.ID}, Heal: func(context.Context) error { e.Cluster.Switch.Heal(); return nil }}, nil
		}}
	}
	return []Fault{
		onLeader("cut-leader", "a leader is cut off from everybody", func(e *Env, n int) {
			others(e, n, func(o int) { e.Cluster.Switch.Both(n, o, cut) })
			e.Cluster.Switch.Both(n, 0, cut)
		}),
		onLeader("cut-leader-brokers", "a leader is cut off from the other nodes; clients still reach it", func(e *Env, n int) {
			others(e, n, func(o int) { e.Cluster.Switch.Both(n, o, cut) })
		}),
		onLeader("one-way", "a leader hears, and is not heard", func(e *Env, n int) {
			others(e, n, func(o int) { e.Cluster.Switch.Set(n, o, cut) })
			e.Cluster.Switch.Set(n, 0, cut)
		}),
		{Name: "bridge", What: "two nodes are blind to each other, the third sees both", Network: true, Many: true, Do: func(_ context.Context, e *Env) (*Harm, error) {
			i := e.Rng.IntN(len(e.Cluster.Nodes))
			a, b := e.Cluster.Nodes[i], e.Cluster.Nodes[(i+1)%len(e.Cluster.Nodes)]
			e.Cluster.Switch.Both(int(a.ID), int(b.ID), cut)
			return &Harm{Targets: []int32{a.ID, b.ID}, Heal: func(context.Context) error { e.Cluster.Switch.Heal(); return nil }}, nil
		}},
		soft("loss", "5 % of a node's packets are lost", cable.Rule{Loss: 0.05}),
		soft("delay", "a node's packets take 100 ms longer", cable.Rule{Delay: 100 * time.Millisecond}),
	}
}

func others() []Fault {
	clock := func(name, what string, d time.Duration, pick func(context.Context, *Env) (*stand.Node, error)) Fault {
		return Fault{Name: name, What: what, Do: func(ctx context.Context, e *Env) (*Harm, error) {
			n, err := pick(ctx, e)
			if err != nil {
				return nil, err
			}
			undo, err := skew.Set(n.Pid(), d)
			if err != nil {
				return nil, err
			}
			return &Harm{Targets: []int32{n.ID}, Heal: func(context.Context) error { return undo() }}, nil
		}}
	}
	return []Fault{
		clock("clock-ahead", "a node's clock jumps a day ahead", 24*time.Hour, func(_ context.Context, e *Env) (*stand.Node, error) { return e.any(), nil }),
		clock("clock-back", "the active controller's clock jumps an hour back", -time.Hour, func(ctx context.Context, e *Env) (*stand.Node, error) { return e.controller(ctx) }),
		{Name: "reassign", What: "replicas change places under load", Many: true, Do: reassign},
	}
}
