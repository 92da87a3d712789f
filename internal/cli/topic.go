package cli

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

func (c *command) topic() *cobra.Command {
	cmd := &cobra.Command{Use: "topic", Short: "Create, list, describe, alter and delete topics"}
	cmd.AddCommand(c.topicCreate(), c.topicList(), c.topicDescribe(), c.topicAlter(), c.topicDelete(), c.topicReassign())
	return cmd
}

func keyValues(pairs []string) (map[string]*string, error) {
	m := map[string]*string{}
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("%q is not of the form name=value", p)
		}
		m[k] = &v
	}
	return m, nil
}

func (c *command) topicCreate() *cobra.Command {
	var partitions int32
	var replication int16
	var configs []string
	var dryRun, ifAbsent bool
	cmd := &cobra.Command{
		Use: "create TOPIC...", Short: "Create topics", Args: cobra.MinimumNArgs(1),
		Example: "  ottla topic create flights --partitions 6 --set retention.ms=86400000",
	}
	cmd.Flags().Int32VarP(&partitions, "partitions", "p", -1, "number of partitions; -1: the broker's default")
	cmd.Flags().Int16VarP(&replication, "replication", "r", -1, "replicas of each partition; -1: the broker's default")
	cmd.Flags().StringArrayVar(&configs, "set", nil, "topic setting, name=value (repeatable)")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only check")
	cmd.Flags().BoolVar(&ifAbsent, "if-absent", false, "a topic that exists is no error")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		kv, err := keyValues(configs)
		if err != nil {
			return err
		}
		return c.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			create := adm.CreateTopics
			if dryRun {
				create = adm.ValidateCreateTopics
			}
			resp, err := create(ctx, partitions, replication, kv, args...)
			if err != nil {
				return err
			}
			type row struct {
				Topic       string `json:"topic"`
				ID          string `json:"id,omitempty"`
				Partitions  int32  `json:"partitions,omitempty"`
				Replication int16  `json:"replication,omitempty"`
				Error       string `json:"error,omitempty"`
			}
			var rows []row
			var errs []error
			for _, r := range resp.Sorted() {
				out := row{Topic: r.Topic, Partitions: r.NumPartitions, Replication: r.ReplicationFactor}
				if r.ID != (kadm.TopicID{}) {
					out.ID = topicID(r.ID)
				}
				if r.Err != nil && (!ifAbsent || !errorIs(r.Err, "TOPIC_ALREADY_EXISTS")) {
					out.Error = detail(r.Err, r.ErrMessage)
					errs = append(errs, topicError(r.Topic, r.Err, r.ErrMessage))
				}
				rows = append(rows, out)
			}
			if c.json() {
				return errors.Join(c.printJSON(rows), errors.Join(errs...))
			}
			for _, r := range rows {
				switch {
				case r.Error != "":
				case r.Partitions > 0:
					fmt.Fprintf(c.env.Stdout, "%s topic %s with %s, replication %d\n", map[bool]string{true: "could create", false: "created"}[dryRun], r.Topic, count(int64(r.Partitions), "partition"), r.Replication)
				default:
					fmt.Fprintf(c.env.Stdout, "topic %s exists\n", r.Topic)
				}
			}
			return errors.Join(errs...)
		})
	}
	return cmd
}

func errorIs(err error, code string) bool { return err != nil && strings.HasPrefix(err.Error(), code) }

func detail(err error, message string) string {
	if message != "" {
		return strings.SplitN(err.Error(), ":", 2)[0] + ": " + message
	}
	return err.Error()
}

func (c *command) topicList() *cobra.Command {
	var internal bool
	cmd := &cobra.Command{Use: "list", Short: "List topics", Args: cobra.NoArgs}
	cmd.Flags().BoolVar(&internal, "internal", false, "internal topics as well")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			list := adm.ListTopics
			if internal {
				list = adm.ListTopicsWithInternal
			}
			topics, err := list(ctx)
			if err != nil {
				return err
			}
			type row struct {
				Topic       string `json:"topic"`
				ID          string `json:"id"`
				Partitions  int    `json:"partitions"`
				Replication int    `json:"replication"`
				Internal    bool   `json:"internal,omitempty"`
			}
			rows := []row{}
			for _, t := range topics.Sorted() {
				rows = append(rows, row{t.Topic, topicID(t.ID), len(t.Partitions), t.Partitions.NumReplicas(), t.IsInternal})
			}
			if c.json() {
				return c.printJSON(rows)
			}
			return c.table("TOPIC PARTITIONS REPLICATION ID", func(out func(...any)) {
				for _, r := range rows {
					out(r.Topic, r.Partitions, r.Replication, r.ID)
				}
			})
		})
	}
	return cmd
}

type partitionRow struct {
	Partition   int32   `json:"partition"`
	Leader      int32   `json:"leader"`
	LeaderEpoch int32   `json:"leader_epoch"`
	Replicas    []int32 `json:"replicas"`
	ISR         []int32 `json:"isr"`
	Start       int64   `json:"log_start_offset"`
	End         int64   `json:"high_watermark"`
	Error       string  `json:"error,omitempty"`
}

type topicRow struct {
	Topic      string            `json:"topic"`
	ID         string            `json:"id"`
	Internal   bool              `json:"internal,omitempty"`
	Partitions []partitionRow    `json:"partitions"`
	Configs    map[string]string `json:"configs"`
}

func (c *command) topicDescribe() *cobra.Command {
	var all bool
	cmd := &cobra.Command{Use: "describe TOPIC...", Short: "Show partitions, offsets and settings of topics", Args: cobra.MinimumNArgs(1)}
	cmd.Flags().BoolVar(&all, "all-configs", false, "settings at their default as well")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			rows, err := describeTopics(ctx, adm, all, args)
			if err != nil {
				return err
			}
			if c.json() {
				return c.printJSON(rows)
			}
			for i, t := range rows {
				if i > 0 {
					fmt.Fprintln(c.env.Stdout)
				}
				fmt.Fprintf(c.env.Stdout, "topic %s  id %s  partitions %d\n", t.Topic, t.ID, len(t.Partitions))
				names := make([]string, 0, len(t.Configs))
				for k := range t.Configs {
					names = append(names, k)
				}
				sort.Strings(names)
				for _, k := range names {
					fmt.Fprintf(c.env.Stdout, "  %s=%s\n", k, t.Configs[k])
				}
				err := c.table("PARTITION LEADER EPOCH REPLICAS ISR START END", func(out func(...any)) {
					for _, p := range t.Partitions {
						out(p.Partition, p.Leader, p.LeaderEpoch, p.Replicas, p.ISR, p.Start, p.End, p.Error)
					}
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return cmd
}

func describeTopics(ctx context.Context, adm *kadm.Client, all bool, names []string) ([]topicRow, error) {
	topics, err := adm.ListTopicsWithInternal(ctx, names...)
	if err != nil {
		return nil, err
	}
	if err := topics.Error(); err != nil {
		for _, t := range topics.Sorted() {
			if t.Err != nil {
				return nil, topicError(t.Topic, t.Err, "")
			}
		}
	}
	starts, err := adm.ListStartOffsets(ctx, names...)
	if err != nil {
		return nil, err
	}
	ends, err := adm.ListEndOffsets(ctx, names...)
	if err != nil {
		return nil, err
	}
	configs, err := adm.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return nil, err
	}
	var rows []topicRow
	for _, t := range topics.Sorted() {
		row := topicRow{Topic: t.Topic, ID: topicID(t.ID), Internal: t.IsInternal, Partitions: []partitionRow{}, Configs: map[string]string{}}
		for _, p := range t.Partitions.Sorted() {
			pr := partitionRow{Partition: p.Partition, Leader: p.Leader, LeaderEpoch: p.LeaderEpoch, Replicas: p.Replicas, ISR: p.ISR, Start: -1, End: -1}
			if p.Err != nil {
				pr.Error = p.Err.Error()
			}
			if o, ok := starts.Lookup(t.Topic, p.Partition); ok && o.Err == nil {
				pr.Start = o.Offset
			}
			if o, ok := ends.Lookup(t.Topic, p.Partition); ok && o.Err == nil {
				pr.End = o.Offset
			}
			row.Partitions = append(row.Partitions, pr)
		}
		if rc, err := configs.On(t.Topic, nil); err == nil {
			for _, cfg := range rc.Configs {
				if all || cfg.Source.String() == "DYNAMIC_TOPIC_CONFIG" {
					row.Configs[cfg.Key] = cfg.MaybeValue()
				}
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (c *command) topicAlter() *cobra.Command {
	var set, unset []string
	var partitions int
	var dryRun bool
	cmd := &cobra.Command{Use: "alter TOPIC", Short: "Change settings or add partitions", Args: cobra.ExactArgs(1),
		Example: "  ottla topic alter flights --set retention.ms=3600000 --unset segment.bytes --partitions 12"}
	cmd.Flags().StringArrayVar(&set, "set", nil, "name=value (repeatable)")
	cmd.Flags().StringArrayVar(&unset, "unset", nil, "setting to put back to its default (repeatable)")
	cmd.Flags().IntVarP(&partitions, "partitions", "p", 0, "new total number of partitions; it can only grow")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only check")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		kv, err := keyValues(set)
		if err != nil {
			return err
		}
		var alter []kadm.AlterConfig
		for k, v := range kv {
			alter = append(alter, kadm.AlterConfig{Op: kadm.SetConfig, Name: k, Value: v})
		}
		for _, k := range unset {
			alter = append(alter, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: k})
		}
		if len(alter) == 0 && partitions == 0 {
			return errors.New("nothing to alter: give --set, --unset or --partitions")
		}
		return c.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			if len(alter) > 0 {
				do := adm.AlterTopicConfigs
				if dryRun {
					do = adm.ValidateAlterTopicConfigs
				}
				resp, err := do(ctx, alter, args[0])
				if err != nil {
					return err
				}
				for _, r := range resp {
					if r.Err != nil {
						return topicError(r.Name, r.Err, r.ErrMessage)
					}
				}
			}
			if partitions > 0 {
				do := adm.UpdatePartitions
				if dryRun {
					do = adm.ValidateUpdatePartitions
				}
				resp, err := do(ctx, partitions, args[0])
				if err != nil {
					return err
				}
				for _, r := range resp {
					if r.Err != nil {
						return topicError(r.Topic, r.Err, r.ErrMessage)
					}
				}
			}
			if c.json() {
				return c.printJSON(map[string]any{"topic": args[0], "altered": !dryRun})
			}
			_, err := fmt.Fprintf(c.env.Stdout, "%s topic %s\n", map[bool]string{true: "could alter", false: "altered"}[dryRun], args[0])
			return err
		})
	}
	return cmd
}

func (c *command) topicDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete TOPIC...", Short: "Delete topics and their records", Args: cobra.MinimumNArgs(1)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			resp, err := adm.DeleteTopics(ctx, args...)
			if err != nil {
				return err
			}
			var errs []error
			deleted := []string{}
			for _, r := range resp.Sorted() {
				if r.Err != nil {
					errs = append(errs, topicError(r.Topic, r.Err, r.ErrMessage))
					continue
				}
				deleted = append(deleted, r.Topic)
				if !c.json() {
					fmt.Fprintf(c.env.Stdout, "deleted topic %s\n", r.Topic)
				}
			}
			if c.json() {
				errs = append(errs, c.printJSON(map[string]any{"deleted": deleted}))
			}
			return errors.Join(errs...)
		})
	}
	return cmd
}
