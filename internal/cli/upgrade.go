package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/ottla/ottla/internal/operate"
)

// upgradeFile is what an upgrade has to remember: the levels from before, which nothing raises until it is finalized.
type upgradeFile struct {
	ClusterID string           `json:"cluster_id"`
	Started   time.Time        `json:"started"`
	Levels    map[string]int16 `json:"levels"`
	Order     []int32          `json:"order"`
}

// levels are the features of a cluster: the finalized levels, and what all brokers together and each alone could go up to.
type levels struct {
	Now     map[string]int16           `json:"finalized"`
	Highest map[string]int16           `json:"highest"` // that every broker understands
	Brokers map[int32]map[string]int16 `json:"brokers"`
}

func featureLevels(ctx context.Context, adm *kadm.Client) (*levels, error) {
	all, err := adm.ApiVersions(ctx)
	if err != nil {
		return nil, err
	}
	l := &levels{Now: map[string]int16{}, Highest: map[string]int16{}, Brokers: map[int32]map[string]int16{}}
	for id, b := range all {
		if b.Err != nil {
			return nil, fmt.Errorf("broker %d does not answer: %w", id, b.Err)
		}
		raw := b.Raw()
		l.Brokers[id] = map[string]int16{}
		for _, f := range raw.SupportedFeatures {
			l.Brokers[id][f.Name] = f.MaxVersion
			if have, ok := l.Highest[f.Name]; !ok || f.MaxVersion < have {
				l.Highest[f.Name] = f.MaxVersion
			}
		}
		for _, f := range raw.FinalizedFeatures {
			l.Now[f.Name] = max(l.Now[f.Name], f.MaxVersionLevel)
		}
	}
	for name := range l.Highest {
		for _, b := range l.Brokers {
			if _, ok := b[name]; !ok {
				delete(l.Highest, name) // somebody does not know it at all
			}
		}
	}
	return l, nil
}

func (c *command) upgrade() *cobra.Command {
	cmd := &cobra.Command{Use: "upgrade", Short: "Bring a cluster to a new version, broker by broker, with a way back until it is finalized",
		Long: "A new version runs beside the old one: what is written stays as the old one writes it until `finalize` raises the feature levels. Until then every broker can go back. " +
			"`plan` says in which order to restart the brokers and refuses where a restart would take a partition below min.insync.replicas; `start` watches the restarts, one broker at a time."}
	var file string
	var dryRun bool
	add := func(use, short string, f func(ctx context.Context, adm *kadm.Client, v *operate.View, l *levels) error) *cobra.Command {
		x := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			return c.look(cmd, func(ctx context.Context, adm *kadm.Client, v *operate.View) error {
				l, err := featureLevels(ctx, adm)
				if err != nil {
					return err
				}
				return f(ctx, adm, v, l)
			})
		}}
		x.Flags().StringVar(&file, "state", "ottla-upgrade.json", "file with the levels from before")
		cmd.AddCommand(x)
		return x
	}
	add("plan", "Say what an upgrade would do, and whether it can", func(_ context.Context, _ *kadm.Client, v *operate.View, l *levels) error {
		order, err := restartOrder(v)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.env.Stdout, "restart the brokers with the new version in this order, one at a time: %v (the controller last)\n", order)
		return c.levelTable(l)
	})
	start := add("start", "Watch the restarts, one broker at a time", func(ctx context.Context, adm *kadm.Client, v *operate.View, l *levels) error {
		order, err := restartOrder(v)
		if err != nil {
			return err
		}
		if dryRun {
			fmt.Fprintf(c.env.Stdout, "would wait for restarts of %v\n", order)
			return nil
		}
		b, err := json.MarshalIndent(upgradeFile{ClusterID: v.ClusterID, Started: time.Now().UTC(), Levels: l.Now, Order: order}, "", "  ")
		if err == nil {
			err = os.WriteFile(file, append(b, '\n'), 0o644)
		}
		if err != nil {
			return err
		}
		return c.watchRestarts(ctx, adm, order)
	})
	start.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be waited for")
	add("status", "Say which broker speaks what, and whether all is in sync", func(_ context.Context, _ *kadm.Client, v *operate.View, l *levels) error {
		if err := c.levelTable(l); err != nil || c.json() {
			return err
		}
		if err := v.Gate(); err != nil {
			fmt.Fprintln(c.env.Stdout, "not in sync:", err)
		}
		return nil
	})
	add("rollback", "Say whether the brokers can go back to the version from before", func(_ context.Context, _ *kadm.Client, v *operate.View, l *levels) error {
		return c.rollback(v, l, file)
	})
	final := add("finalize", "Raise the feature levels to what every broker understands; there is no way back after it", func(ctx context.Context, adm *kadm.Client, v *operate.View, l *levels) error {
		if err := v.Gate(); err != nil {
			return err
		}
		return c.finalize(ctx, adm, l, dryRun)
	})
	final.Flags().BoolVar(&dryRun, "dry-run", false, "ask the controller whether it would, and change nothing")
	return cmd
}

// restartOrder is every broker once, the controller last; refused where one of them cannot be missed.
func restartOrder(v *operate.View) ([]int32, error) {
	if err := v.Gate(); err != nil {
		return nil, err
	}
	var order []int32
	for _, b := range v.Brokers {
		if b.Down {
			return nil, fmt.Errorf("broker %d is down; start it, or `ottla broker remove %d` it, first", b.ID, b.ID)
		}
		if err := v.GateWithout(b.ID); err != nil {
			return nil, fmt.Errorf("broker %d cannot be restarted: %w", b.ID, err)
		}
		if b.ID != v.Controller {
			order = append(order, b.ID)
		}
	}
	slices.Sort(order)
	if v.Broker(v.Controller) != nil {
		order = append(order, v.Controller)
	}
	return order, nil
}

func (c *command) levelTable(l *levels) error {
	if c.json() {
		return c.printJSON(l)
	}
	return c.table("FEATURE FINALIZED CAN-BE BROKERS", func(row func(cells ...any)) {
		for _, name := range slices.Sorted(maps.Keys(l.Highest)) {
			at := map[int16][]int32{}
			for id, b := range l.Brokers {
				at[b[name]] = append(at[b[name]], id)
			}
			text := ""
			for _, level := range slices.Sorted(maps.Keys(at)) {
				slices.Sort(at[level])
				text += fmt.Sprintf("%v:%d ", at[level], level)
			}
			row(name, l.Now[name], l.Highest[name], text)
		}
	})
}

// watchRestarts asks for one restart after the other, and waits until each broker is back and in sync everywhere.
func (c *command) watchRestarts(ctx context.Context, adm *kadm.Client, order []int32) error {
	for i, id := range order {
		fmt.Fprintf(c.env.Stdout, "%d of %d: restart broker %d with the new version\n", i+1, len(order), id)
		for _, want := range []bool{false, true} { // away, then back and in sync
			for {
				v, err := operate.Look(ctx, adm)
				if err == nil {
					b := v.Broker(id)
					up := b != nil && !b.Down
					if up == want && (!want || inSync(v)) {
						break
					}
				} else if ctx.Err() != nil {
					return ctx.Err()
				}
				t := time.NewTimer(300 * time.Millisecond)
				select {
				case <-t.C:
				case <-ctx.Done():
					t.Stop()
					return errors.Join(ctx.Err(), errors.New("brokers that were restarted stay as they are; `ottla upgrade start` begins again"))
				}
			}
		}
	}
	fmt.Fprintln(c.env.Stdout, "all brokers were restarted; try the new version, then `ottla upgrade finalize`, or restart with the old one")
	return nil
}

func inSync(v *operate.View) bool {
	for _, p := range v.Partitions {
		if len(p.ISR) < len(p.Replicas) {
			return false
		}
	}
	return true
}

func (c *command) rollback(v *operate.View, l *levels, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("there is no upgrade to take back: %w", err)
	}
	u := &upgradeFile{}
	if err := json.Unmarshal(b, u); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if u.ClusterID != v.ClusterID {
		return fmt.Errorf("%s belongs to cluster %s, and this is %s", file, u.ClusterID, v.ClusterID)
	}
	for name, level := range l.Now {
		if was := u.Levels[name]; level > was {
			return fmt.Errorf("the upgrade was finalized: feature %s went from level %d to %d, and the version from before may not know what is written now; restore a backup instead", name, was, level)
		}
	}
	order, err := restartOrder(v)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.env.Stdout, "nothing was finalized: restart the brokers with the old version in this order, one at a time: %v\n", order)
	return nil
}

func (c *command) finalize(ctx context.Context, adm *kadm.Client, l *levels, dryRun bool) error {
	var updates []kadm.FeatureUpdate
	for _, name := range slices.Sorted(maps.Keys(l.Highest)) {
		if to := l.Highest[name]; to > l.Now[name] && name != "kraft.version" {
			updates = append(updates, kadm.FeatureUpdate{Feature: name, MaxVersionLevel: to, UpgradeType: 1})
		}
	}
	if len(updates) == 0 {
		fmt.Fprintln(c.env.Stdout, "every feature is at the highest level that all brokers understand")
		return nil
	}
	got, err := adm.UpdateFeatures(ctx, dryRun, updates...)
	if err != nil {
		return fmt.Errorf("raising the levels: %w", err)
	}
	for _, u := range updates {
		if r, ok := got[u.Feature]; ok && r.Err != nil {
			return fmt.Errorf("feature %s to level %d: %w", u.Feature, u.MaxVersionLevel, r.Err)
		}
	}
	verb := "raised"
	if dryRun {
		verb = "would be raised"
	}
	for _, u := range updates {
		fmt.Fprintf(c.env.Stdout, "%s %s from %d to %d\n", u.Feature, verb, l.Now[u.Feature], u.MaxVersionLevel)
	}
	return nil
}
