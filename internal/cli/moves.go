package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/balance"
	"github.com/ottla/ottla/internal/operate"
)

// moveFlags are those of every command that moves copies.
type moveFlags struct {
	file     string
	atOnce   int
	throttle int64
	dryRun   bool
	disk     int // percent
}

// share is how full a disk may get.
func (f *moveFlags) share() (float64, error) {
	if f.disk < 1 || f.disk > 100 {
		return 0, fmt.Errorf("--disk-percent %d: it is 1 to 100", f.disk)
	}
	return float64(f.disk) / 100, nil
}

func (f *moveFlags) addDisk(cmd *cobra.Command) {
	cmd.Flags().IntVar(&f.disk, "disk-percent", 85, "how full a broker's disks may get by a move")
}

const planFile = "ottla-plan.json"

func (f *moveFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, "plan", planFile, "file of the plan: what is done and what was there before, for pause, undo and going on")
	cmd.Flags().IntVar(&f.atOnce, "at-once", 5, "partitions that move at the same time at most")
	cmd.Flags().Int64Var(&f.throttle, "throttle", 0, "bytes a second that copying may take on each broker; 0 has no bound")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would move, and move nothing")
	f.addDisk(cmd)
}

// look runs f with an admin client and what the cluster looks like; f is not bound by the request timeout.
func (c *command) look(cmd *cobra.Command, f func(ctx context.Context, adm *kadm.Client, v *operate.View) error) error {
	cl, err := c.client(cmd.Context())
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
	v, err := operate.Look(ctx, adm)
	if err == nil {
		v.Controller = quorumLeader(ctx, cl, v.Controller)
	}
	cancel()
	if err != nil {
		return err
	}
	return f(cmd.Context(), adm, v)
}

// carry shows moves and, unless it is a dry run, makes them.
func (c *command) carry(ctx context.Context, adm *kadm.Client, v *operate.View, what string, moves []balance.Move, f *moveFlags) error {
	if err := v.Gate(); err != nil && !f.dryRun {
		return err
	}
	if len(moves) == 0 {
		fmt.Fprintln(c.env.Stdout, "nothing has to move")
		return nil
	}
	if f.dryRun {
		return c.showMoves(moves)
	}
	if old, err := operate.Load(f.file); err == nil && old.Left() > 0 {
		return fmt.Errorf("%s holds a plan that is not finished (%s, %d moves left): `ottla balance run --plan %s` goes on with it, `ottla balance undo --plan %s` takes it back", f.file, old.What, old.Left(), f.file, f.file)
	}
	return c.execute(ctx, adm, operate.NewPlan(what, v, moves), f)
}

func (c *command) execute(ctx context.Context, adm *kadm.Client, p *operate.Plan, f *moveFlags) error {
	p.Paused = false
	err := operate.Run(ctx, adm, p, operate.Options{File: f.file, AtOnce: f.atOnce, Throttle: f.throttle, Progress: c.progress()})
	if err != nil {
		return fmt.Errorf("%s: %d of %d moves are done: %w", p.What, len(p.Moves)-p.Left(), len(p.Moves), err)
	}
	fmt.Fprintf(c.env.Stdout, "%s: %d partitions moved; `ottla balance undo --plan %s` takes it back\n", p.What, len(p.Moves), f.file)
	return nil
}

func (c *command) showMoves(moves []balance.Move) error {
	if c.json() {
		return c.printJSON(moves)
	}
	var bytes int64
	for _, m := range moves {
		bytes += m.Bytes
	}
	if err := c.table("TOPIC PARTITION FROM TO BYTES", func(row func(cells ...any)) {
		for _, m := range moves {
			row(m.Topic, m.Partition, m.From, m.To, bytesText(m.Bytes))
		}
	}); err != nil {
		return err
	}
	fmt.Fprintf(c.env.Stdout, "%d partitions would move, %s to copy\n", len(moves), bytesText(bytes))
	return nil
}

func (c *command) balance() *cobra.Command {
	cmd := &cobra.Command{Use: "balance", Short: "Even out copies, sizes and leaders over brokers and racks"}
	var f moveFlags
	var most int
	even := func(v *operate.View) (*balance.Plan, error) {
		share, err := f.share()
		if err != nil {
			return nil, err
		}
		return balance.Make(v.Brokers, v.Partitions, balance.Options{Even: true, MovesMax: most, DiskShare: share})
	}
	status := &cobra.Command{Use: "status", Short: "Show what each broker carries, and how far a plan is", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return c.look(cmd, func(_ context.Context, _ *kadm.Client, v *operate.View) error {
			return c.balanceStatus(v, f.file, even)
		})
	}}
	status.Flags().StringVar(&f.file, "plan", planFile, "file of the plan")
	plan := &cobra.Command{Use: "plan", Short: "Show what evening out would move", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return c.look(cmd, func(_ context.Context, _ *kadm.Client, v *operate.View) error {
			p, err := even(v)
			if err != nil {
				return err
			}
			return c.showMoves(p.Moves)
		})
	}}
	f.addDisk(plan)
	f.addDisk(status)
	run := &cobra.Command{Use: "run", Short: "Even out, or go on with a plan that was paused or stopped", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return c.look(cmd, func(ctx context.Context, adm *kadm.Client, v *operate.View) error {
			if old, err := operate.Load(f.file); err == nil && old.Left() > 0 && !f.dryRun {
				return c.execute(ctx, adm, old, &f)
			}
			p, err := even(v)
			if err != nil {
				return err
			}
			return c.carry(ctx, adm, v, "balance", p.Moves, &f)
		})
	}}
	f.add(run)
	for _, x := range []*cobra.Command{plan, run} {
		x.Flags().IntVar(&most, "moves", 0, "plan so many moves at most; 0 has no bound")
	}
	pause := &cobra.Command{Use: "pause", Short: "Let a run end after the moves that are under way", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		p, err := operate.Load(f.file)
		if err != nil {
			return err
		}
		p.Paused = true
		return p.Save(f.file)
	}}
	pause.Flags().StringVar(&f.file, "plan", planFile, "file of the plan")
	undo := &cobra.Command{Use: "undo", Short: "Cancel what of a plan is under way, and move back what is done", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return c.look(cmd, func(ctx context.Context, adm *kadm.Client, _ *operate.View) error { return c.undo(ctx, adm, &f) })
	}}
	f.add(undo)
	cmd.AddCommand(status, plan, run, pause, undo)
	return cmd
}

func (c *command) undo(ctx context.Context, adm *kadm.Client, f *moveFlags) error {
	p, err := operate.Load(f.file)
	if err != nil {
		return err
	}
	if f.dryRun {
		var moves []balance.Move
		for _, m := range slices.Backward(p.Moves) {
			if m.State != "" {
				moves = append(moves, balance.Move{Topic: m.Topic, Partition: m.Partition, From: m.To, To: m.From, Bytes: m.Bytes})
			}
		}
		return c.showMoves(moves)
	}
	back, err := operate.Undo(ctx, adm, p)
	if err != nil {
		return err
	}
	if len(back.Moves) == 0 {
		fmt.Fprintln(c.env.Stdout, "nothing of the plan was done")
		return os.Remove(f.file)
	}
	return c.execute(ctx, adm, back, f)
}

func (c *command) balanceStatus(v *operate.View, file string, even func(*operate.View) (*balance.Plan, error)) error {
	p, err := even(v)
	if err != nil {
		return err
	}
	rows := carriedRows(v)
	if c.json() {
		return c.printJSON(map[string]any{"brokers": rows, "moves": len(p.Moves), "cost": p.Before})
	}
	if err := c.brokerTable(rows); err != nil {
		return err
	}
	fmt.Fprintf(c.env.Stdout, "%d moves would even it out\n", len(p.Moves))
	if plan, err := operate.Load(file); err == nil && plan.Left() > 0 {
		fmt.Fprintf(c.env.Stdout, "%s: %d of %d moves done since %s\n", plan.What, len(plan.Moves)-plan.Left(), len(plan.Moves), plan.Made.Format(time.RFC3339))
	}
	return nil
}

var errNoBroker = errors.New("no such broker")

// quorumLeader is the active controller. Metadata names any broker in its place, because clients may send requests for it to all of them.
func quorumLeader(ctx context.Context, cl *kgo.Client, otherwise int32) int32 {
	req := kmsg.NewPtrDescribeQuorumRequest()
	t := kmsg.NewDescribeQuorumRequestTopic()
	t.Topic, t.Partitions = "__cluster_metadata", []kmsg.DescribeQuorumRequestTopicPartition{kmsg.NewDescribeQuorumRequestTopicPartition()}
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil || resp.ErrorCode != 0 || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 || resp.Topics[0].Partitions[0].ErrorCode != 0 {
		return otherwise
	}
	return resp.Topics[0].Partitions[0].LeaderID
}
