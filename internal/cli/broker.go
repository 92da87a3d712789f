package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/balance"
	"github.com/ottla/ottla/internal/operate"
)

// carried is a broker in a list.
type carried struct {
	ID      int32  `json:"id"`
	Host    string `json:"host,omitempty"`
	Rack    string `json:"rack,omitempty"`
	Copies  int    `json:"copies"`
	Leaders int    `json:"leaders"`
	Bytes   int64  `json:"bytes"`
	Disk    int    `json:"disk_percent"` // -1 where it is not known
	Behind  int    `json:"copies_not_in_sync"`
	State   string `json:"state"`
}

func carriedRows(v *operate.View) []carried {
	var rows []carried
	for _, b := range v.Brokers {
		r := carried{ID: b.ID, Host: v.Hosts[b.ID], Rack: b.Rack, Bytes: v.Bytes[b.ID], Disk: -1, State: "up"}
		if b.DiskBytes > 0 {
			r.Disk = int(100 * b.UsedBytes / b.DiskBytes)
		}
		if b.Down {
			r.State = "down"
		}
		for _, p := range v.Partitions {
			if slices.Contains(p.Replicas, b.ID) {
				r.Copies++
				if !slices.Contains(p.ISR, b.ID) {
					r.Behind++
				}
			}
			if v.Leaders[operate.Name(p.Topic, p.Number)] == b.ID {
				r.Leaders++
			}
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b carried) int { return int(a.ID - b.ID) })
	return rows
}

func (c *command) brokerTable(rows []carried) error {
	return c.table("BROKER HOST RACK STATE COPIES LEADERS BEHIND BYTES DISK", func(row func(cells ...any)) {
		for _, r := range rows {
			disk, rack, host := "-", r.Rack, r.Host
			if r.Disk >= 0 {
				disk = strconv.Itoa(r.Disk) + "%"
			}
			if rack == "" {
				rack = "-"
			}
			if host == "" {
				host = "-"
			}
			row(r.ID, host, rack, r.State, r.Copies, r.Leaders, r.Behind, bytesText(r.Bytes), disk)
		}
	})
}

func (c *command) broker() *cobra.Command {
	cmd := &cobra.Command{Use: "broker", Short: "List brokers, empty them, replace and remove them"}
	list := &cobra.Command{Use: "list", Short: "List the brokers and what they carry", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return c.look(cmd, func(_ context.Context, _ *kadm.Client, v *operate.View) error {
			if c.json() {
				return c.printJSON(carriedRows(v))
			}
			return c.brokerTable(carriedRows(v))
		})
	}}
	var f moveFlags
	drain := &cobra.Command{Use: "drain BROKER", Short: "Move everything away from a broker", Args: cobra.ExactArgs(1),
		Long: "Move all copies away from a broker, and let it be given no new ones. The plan is refused before anything moves where a partition cannot be placed elsewhere.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.look(cmd, func(ctx context.Context, adm *kadm.Client, v *operate.View) error {
				return c.drain(ctx, adm, v, args[0], &f)
			})
		}}
	f.add(drain)
	undrain := &cobra.Command{Use: "undrain BROKER", Short: "Let a broker take copies again, and move back what was moved away", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.look(cmd, func(ctx context.Context, adm *kadm.Client, v *operate.View) error {
				return c.undrain(ctx, adm, v, args[0], &f)
			})
		}}
	f.add(undrain)
	replace := &cobra.Command{Use: "replace OLD NEW", Short: "Give all copies of a broker, which may be down, to another", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.look(cmd, func(ctx context.Context, adm *kadm.Client, v *operate.View) error {
				return c.replace(ctx, adm, v, args, &f)
			})
		}}
	f.add(replace)
	remove := &cobra.Command{Use: "remove BROKER", Short: "Strike an empty, stopped broker off the cluster", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.look(cmd, func(ctx context.Context, adm *kadm.Client, v *operate.View) error {
				return c.removeBroker(ctx, adm, v, args[0], f.dryRun)
			})
		}}
	remove.Flags().BoolVar(&f.dryRun, "dry-run", false, "say whether it could be removed, and do nothing")
	cmd.AddCommand(list, drain, undrain, replace, remove)
	return cmd
}

func brokerID(v *operate.View, s string) (*balance.Broker, error) {
	id, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%q is no broker id; `ottla broker list` shows them", s)
	}
	b := v.Broker(int32(id))
	if b == nil {
		return nil, fmt.Errorf("%w: %d is not in the cluster; `ottla broker list` shows those that are", errNoBroker, id)
	}
	return b, nil
}

func (c *command) drain(ctx context.Context, adm *kadm.Client, v *operate.View, arg string, f *moveFlags) error {
	b, err := brokerID(v, arg)
	if err != nil {
		return err
	}
	b.Leaving = true
	share, err := f.share()
	if err != nil {
		return err
	}
	p, err := balance.Make(v.Brokers, v.Partitions, balance.Options{DiskShare: share})
	if err != nil {
		return fmt.Errorf("broker %d cannot be drained: %w", b.ID, err)
	}
	if !f.dryRun && !b.Down {
		if err := v.Gate(); err != nil {
			return err
		}
		c.cordon(ctx, adm, b.ID, true)
	}
	return c.carry(ctx, adm, v, fmt.Sprintf("drain broker %d", b.ID), p.Moves, f)
}

// cordon says whether a broker may be given new copies (KIP-1066). A cluster that does not know how drains without.
func (c *command) cordon(ctx context.Context, adm *kadm.Client, id int32, on bool) {
	all, op := "*", kadm.SetConfig
	if !on {
		op = kadm.DeleteConfig
	}
	got, err := adm.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: op, Name: "cordoned.log.dirs", Value: &all}}, id)
	for _, r := range got {
		if err == nil {
			err = r.Err
		}
	}
	if err != nil && on {
		fmt.Fprintf(c.env.Stderr, "note: new topics may still be placed on broker %d, this cluster cannot cordon its log directories: %v\n", id, err)
	}
}

func (c *command) undrain(ctx context.Context, adm *kadm.Client, v *operate.View, arg string, f *moveFlags) error {
	b, err := brokerID(v, arg)
	if err != nil {
		return err
	}
	if !f.dryRun {
		c.cordon(ctx, adm, b.ID, false)
	}
	what := fmt.Sprintf("drain broker %d", b.ID)
	if p, err := operate.Load(f.file); err == nil && p.What == what {
		return c.undo(ctx, adm, f)
	}
	fmt.Fprintf(c.env.Stdout, "broker %d may take copies again; there is no plan of its drain in %s to take back, so `ottla balance run` gives it its share\n", b.ID, f.file)
	return nil
}

func (c *command) replace(ctx context.Context, adm *kadm.Client, v *operate.View, args []string, f *moveFlags) error {
	from, err := brokerID(v, args[0])
	if err != nil {
		return err
	}
	to, err := brokerID(v, args[1])
	if err != nil {
		return err
	}
	if to.Down || from.ID == to.ID {
		return fmt.Errorf("broker %d cannot take over from broker %d: it is down, or the same", to.ID, from.ID)
	}
	var moves []balance.Move
	for _, p := range v.Partitions {
		i := slices.Index(p.Replicas, from.ID)
		if i < 0 {
			continue
		}
		if slices.Contains(p.Replicas, to.ID) {
			return fmt.Errorf("topic %s partition %d has a copy on both brokers; broker %d cannot hold two: use `ottla broker drain %d`", p.Topic, p.Number, to.ID, from.ID)
		}
		m := balance.Move{Topic: p.Topic, Partition: p.Number, From: p.Replicas, To: slices.Clone(p.Replicas), Bytes: p.Bytes}
		m.To[i] = to.ID
		moves = append(moves, m)
	}
	return c.carry(ctx, adm, v, fmt.Sprintf("replace broker %d by %d", from.ID, to.ID), moves, f)
}

func (c *command) removeBroker(ctx context.Context, adm *kadm.Client, v *operate.View, arg string, dryRun bool) error {
	id, err := strconv.ParseInt(arg, 10, 32)
	if err != nil {
		return fmt.Errorf("%q is no broker id", arg)
	}
	for _, p := range v.Partitions {
		if slices.Contains(p.Replicas, int32(id)) {
			return fmt.Errorf("broker %d still has copies, first of topic %s partition %d; `ottla broker drain %d` moves them away, `ottla broker replace` gives them to another", id, p.Topic, p.Number, id)
		}
	}
	if b := v.Broker(int32(id)); b != nil && !b.Down {
		return fmt.Errorf("broker %d is running; stop it first", id)
	}
	if dryRun {
		fmt.Fprintf(c.env.Stdout, "broker %d would be removed\n", id)
		return nil
	}
	req := kmsg.NewPtrUnregisterBrokerRequest()
	req.BrokerID = int32(id)
	cl, err := c.client(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	resp, err := req.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("removing broker %d: %w", id, err)
	}
	fmt.Fprintf(c.env.Stdout, "broker %d is removed\n", id)
	return nil
}
