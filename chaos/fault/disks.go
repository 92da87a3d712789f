package fault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/ottla/ottla/chaos/stand"
)

// powerCut takes the power of the nodes at one moment: what their disks had not been told to keep is gone.
func powerCut(e *Env, nodes []*stand.Node, torn float64) (*Harm, error) {
	h := &Harm{}
	for _, n := range nodes {
		h.Targets, h.Down = append(h.Targets, n.ID), append(h.Down, n.ID)
		if torn > 0 {
			n.Disk.Tear(e.Rng, torn)
		}
	}
	var errs []error
	for _, n := range nodes {
		errs = append(errs, n.Disk.Cut())
		n.KillNow()
	}
	for _, n := range nodes {
		n.Kill()
	}
	h.Heal = func(context.Context) error {
		var errs []error
		for _, n := range nodes {
			if err := n.Disk.Unmount(); err != nil {
				errs = append(errs, err)
				continue
			}
			errs = append(errs, n.Disk.Mount(), n.Start())
		}
		return errors.Join(errs...)
	}
	return h, errors.Join(errs...)
}

func disks() []Fault {
	onLeader := func(name, what string, do func(n *stand.Node) error, heal func(n *stand.Node) error) Fault {
		return Fault{Name: name, What: what, Disks: true, Do: func(ctx context.Context, e *Env) (*Harm, error) {
			n, err := e.leader(ctx)
			if err != nil {
				return nil, err
			}
			return hit(n, func(context.Context) error { return heal(n) }), do(n)
		}}
	}
	return []Fault{
		{Name: "power-one", What: "power cut of a leader", Disks: true, Do: func(ctx context.Context, e *Env) (*Harm, error) {
			n, err := e.leader(ctx)
			if err != nil {
				return nil, err
			}
			return powerCut(e, []*stand.Node{n}, 0.3)
		}},
		{Name: "power-all", What: "power cut of all nodes at once", Disks: true, Do: func(_ context.Context, e *Env) (*Harm, error) {
			h, err := powerCut(e, e.Cluster.Nodes, 0)
			if h != nil {
				h.Short, h.Down = true, nil
			}
			return h, err
		}},
		{Name: "power-all-torn", What: "the same, with files half written", Disks: true, Do: func(_ context.Context, e *Env) (*Harm, error) {
			h, err := powerCut(e, e.Cluster.Nodes, 0.3)
			if h != nil {
				h.Short, h.Down = true, nil
			}
			return h, err
		}},
		onLeader("disk-frozen", "a leader's disk hangs", func(n *stand.Node) error { return n.Disk.Freeze() }, func(n *stand.Node) error { n.Disk.Thaw(); return nil }),
		onLeader("disk-full", "a leader's disk is full", func(n *stand.Node) error { return n.Disk.Fill() }, func(n *stand.Node) error {
			return errors.Join(n.Disk.Empty(), n.Start())
		}),
		onLeader("disk-dead", "a leader's disk fails every access", func(n *stand.Node) error { return n.Disk.Cut() }, func(n *stand.Node) error {
			n.Kill()
			return errors.Join(n.Disk.Unmount(), n.Disk.Mount(), n.Start())
		}),
		onLeader("disk-readonly", "a leader's disk takes no more writes", func(n *stand.Node) error { return n.Disk.ReadOnly() }, func(n *stand.Node) error {
			n.Kill()
			return errors.Join(n.Disk.Repair(), n.Start())
		}),
		{Name: "bit-rot", What: "a bit changes in a segment of a running node", Do: func(_ context.Context, e *Env) (*Harm, error) {
			n := e.any()
			detail, err := flip(e, n)
			return &Harm{Targets: []int32{n.ID}, Detail: detail, Heal: func(context.Context) error { return nil }}, err
		}},
		{Name: "bit-rot-stopped", What: "a bit changes in a segment while the node is down", Do: func(_ context.Context, e *Env) (*Harm, error) {
			n := e.any()
			h := kill(n)
			var err error
			h.Detail, err = flip(e, n)
			return h, err
		}},
	}
}

// flip changes one bit in the first half of a segment of the topic on a node.
func flip(e *Env, n *stand.Node) (string, error) {
	var segments []string
	_ = filepath.WalkDir(n.LogDir(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".log") && strings.HasPrefix(filepath.Base(filepath.Dir(path)), e.Topic+"-") {
			if st, err := d.Info(); err == nil && st.Size() > 4096 {
				segments = append(segments, path)
			}
		}
		return nil
	})
	if len(segments) == 0 {
		return "", fmt.Errorf("node %d has no segment of %s yet", n.ID, e.Topic)
	}
	path := segments[e.Rng.IntN(len(segments))]
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	at := e.Rng.Int64N(st.Size() / 2)
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return "", err
	}
	b[0] ^= 1 << e.Rng.IntN(8)
	_, err = f.WriteAt(b[:], at)
	return fmt.Sprintf("%s at %d", filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path)), at), errors.Join(err, f.Sync())
}

// reassign turns every partition's replicas round by one and makes the first of them the leader.
func reassign(ctx context.Context, e *Env) (*Harm, error) {
	adm := e.View.Admin()
	topics, err := adm.ListTopics(ctx, e.Topic)
	if err != nil {
		return nil, err
	}
	var req kadm.AlterPartitionAssignmentsReq
	for _, p := range topics[e.Topic].Partitions {
		turned := append(append([]int32{}, p.Replicas[1:]...), p.Replicas[0])
		req.Assign(e.Topic, p.Partition, turned)
	}
	done, err := adm.AlterPartitionAssignments(ctx, req)
	if err == nil {
		err = done.Error()
	}
	h := &Harm{Detail: fmt.Sprintf("%d partitions", len(topics[e.Topic].Partitions)), Heal: func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		_, err := adm.ElectLeaders(ctx, kadm.ElectPreferredReplica, nil)
		return err
	}}
	return h, err
}
