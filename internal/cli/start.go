package cli

import (
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"
)

func (c *command) start() *cobra.Command {
	o := RunOptions{Verbose: true}
	var join []string
	cmd := &cobra.Command{
		Use: "start", Short: "Run a broker from a configuration", Args: cobra.NoArgs,
		Long:    "Run a broker from a configuration: ottla.yaml or a Kafka server.properties, with Kafka's own names.\nEnvironment variables (OTTLA_LOG_RETENTION_HOURS=24) go over the file, --set over both.",
		Example: "  ottla start -c ottla.yaml\n  ottla start -c server.properties --set log.retention.hours=24\n  ottla start --data b --join first.example:9093",
	}
	cmd.Flags().StringVarP(&o.ConfigFile, "config", "c", "", "configuration: a .yaml file, or .properties as Kafka's")
	cmd.Flags().StringVar(&o.DataDir, "data", "", "folder of the data; instead of log.dirs")
	cmd.Flags().StringArrayVar(&o.Set, "set", nil, "setting, name=value (repeatable)")
	cmd.Flags().StringSliceVar(&join, "join", nil, "address of a node of the cluster that this one shall be part of, host:port of its cluster listener (repeatable)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		for _, addr := range join {
			if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
				return fmt.Errorf("--join %s is no address; give host:port of a node's cluster listener, such as localhost:9093", addr)
			}
		}
		if len(join) > 0 {
			o.Set = append(o.Set, "ottla.cluster.join="+strings.Join(join, ","))
		}
		return c.env.Run(cmd.Context(), o, func(r Running) {
			for _, w := range r.Warnings {
				fmt.Fprintf(c.env.Stderr, "warning: %s\n", w)
			}
			fmt.Fprintf(c.env.Stdout, "Ottla is ready at %s (in %d ms)\ndata in %s, cluster %s\n", r.Address, r.ReadyIn.Milliseconds(), r.DataDir, r.ClusterID)
			if r.HTTP != "" {
				fmt.Fprintf(c.env.Stdout, "metrics at http://%s/metrics\n", r.HTTP)
			}
		})
	}
	return cmd
}
