package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/ottla/ottla/internal/balance"
	"github.com/ottla/ottla/internal/operate"
)

func (c *command) topicReassign() *cobra.Command {
	var f moveFlags
	var brokers []int32
	var copies int
	cmd := &cobra.Command{
		Use: "reassign TOPIC", Short: "Move a topic to other brokers, or change its number of copies", Args: cobra.ExactArgs(1),
		Example: "  ottla topic reassign orders --replication-factor 3\n  ottla topic reassign orders --brokers 4,5,6 --dry-run",
	}
	f.add(cmd)
	cmd.Flags().Int32SliceVar(&brokers, "brokers", nil, "brokers that may have copies; default all")
	cmd.Flags().IntVar(&copies, "replication-factor", 0, "copies of each partition; default as many as now")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.look(cmd, func(ctx context.Context, adm *kadm.Client, v *operate.View) error {
			for _, id := range brokers {
				if b := v.Broker(id); b == nil || b.Down {
					return fmt.Errorf("%w: %d is not in the cluster, or down", errNoBroker, id)
				}
			}
			share, err := f.share()
			if err != nil {
				return err
			}
			moves, err := reassign(v, args[0], brokers, copies, share)
			if err != nil {
				return err
			}
			return c.carry(ctx, adm, v, "reassign "+args[0], moves, &f)
		})
	}
	return cmd
}

// reassign plans a topic's copies on some brokers: what may stay stays, the rest goes where the planner would put it.
func reassign(v *operate.View, topic string, only []int32, copies int, share float64) ([]balance.Move, error) {
	brokers := slices.Clone(v.Brokers)
	for i := range brokers {
		brokers[i].Leaving = brokers[i].Down || len(only) > 0 && !slices.Contains(only, brokers[i].ID)
	}
	var parts []balance.Partition
	was := map[int32]balance.Partition{}
	for _, p := range v.Partitions {
		if p.Topic != topic {
			continue
		}
		was[p.Number] = p
		p.Replicas = slices.Clone(p.Replicas)
		if copies > 0 {
			p.Replicas = p.Replicas[:min(copies, len(p.Replicas))]
			for id := int32(-1); len(p.Replicas) < copies; id-- {
				p.Replicas = append(p.Replicas, id) // a copy that nobody has, which the planner places
			}
		}
		parts = append(parts, p)
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("there is no topic %s", topic)
	}
	plan, err := balance.Make(brokers, parts, balance.Options{DiskShare: share})
	if err != nil {
		return nil, err
	}
	to := map[int32][]int32{}
	for _, p := range parts {
		to[p.Number] = p.Replicas
	}
	for _, m := range plan.Moves {
		to[m.Partition] = m.To
	}
	var moves []balance.Move
	for _, p := range parts {
		from := was[p.Number].Replicas
		if slices.Equal(from, to[p.Number]) {
			continue
		}
		m := balance.Move{Topic: topic, Partition: p.Number, From: from, To: to[p.Number]}
		for _, id := range m.To {
			if !slices.Contains(from, id) {
				m.Bytes += p.Bytes
			}
		}
		moves = append(moves, m)
	}
	return moves, nil
}
