package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

func (c *command) cluster() *cobra.Command {
	cmd := &cobra.Command{Use: "cluster", Short: "Look at the cluster"}
	cmd.AddCommand(c.clusterInfo())
	return cmd
}

type brokerRow struct {
	ID   int32   `json:"id"`
	Host string  `json:"host"`
	Port int32   `json:"port"`
	Rack *string `json:"rack,omitempty"`
	Log  int64   `json:"log_bytes"`
}

func (c *command) clusterInfo() *cobra.Command {
	return &cobra.Command{Use: "info", Short: "Show the cluster's id, brokers, topics and groups", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return c.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			meta, err := adm.Metadata(ctx)
			if err != nil {
				return err
			}
			partitions := 0
			for _, t := range meta.Topics {
				partitions += len(t.Partitions)
			}
			groups, groupErr := adm.ListGroups(ctx)
			dirs, _ := adm.DescribeAllLogDirs(ctx, nil)
			info := struct {
				ClusterID  string      `json:"cluster_id"`
				Controller int32       `json:"controller"`
				Topics     int         `json:"topics"`
				Partitions int         `json:"partitions"`
				Groups     int         `json:"groups"`
				Brokers    []brokerRow `json:"brokers"`
			}{ClusterID: meta.Cluster, Controller: meta.Controller, Topics: len(meta.Topics), Partitions: partitions, Groups: len(groups), Brokers: []brokerRow{}}
			for _, b := range meta.Brokers {
				row := brokerRow{ID: b.NodeID, Host: b.Host, Port: b.Port, Rack: b.Rack}
				for _, d := range dirs[b.NodeID] {
					row.Log += d.Size()
				}
				info.Brokers = append(info.Brokers, row)
			}
			if c.json() {
				return c.printJSON(info)
			}
			fmt.Fprintf(c.env.Stdout, "cluster %s  controller %d  topics %d  partitions %d", info.ClusterID, info.Controller, info.Topics, info.Partitions)
			if groupErr == nil {
				fmt.Fprintf(c.env.Stdout, "  groups %d", info.Groups)
			}
			fmt.Fprintln(c.env.Stdout)
			return c.table("BROKER HOST PORT LOG_BYTES", func(out func(...any)) {
				for _, b := range info.Brokers {
					out(b.ID, b.Host, b.Port, b.Log)
				}
			})
		})
	}}
}
