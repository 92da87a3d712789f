package cli

import (
	"fmt"
	"net"
	"strconv"

	"github.com/spf13/cobra"
)

func (c *command) dev() *cobra.Command {
	var data, host string
	var port, httpPort, brokers int
	var verbose bool
	var set []string
	cmd := &cobra.Command{
		Use: "dev", Short: "Run a broker on this machine: no configuration, no format step", Args: cobra.NoArgs,
		Example: "  ottla dev\n  ottla dev --data ./data --port 0\n  ottla dev --brokers 3",
	}
	cmd.Flags().StringVar(&data, "data", "./ottla-data", "folder of the data; made if absent")
	cmd.Flags().StringVar(&host, "host", "127.0.0.1", "address to listen on")
	cmd.Flags().IntVar(&port, "port", 9092, "port to listen on; 0 picks a free one")
	cmd.Flags().IntVar(&httpPort, "http-port", 9644, "port of metrics and health; another one where it is in use, 0 picks a free one, -1 has none")
	cmd.Flags().IntVar(&brokers, "brokers", 1, "how many brokers: several are a cluster of as many processes, on --port, --port+2 and so on")
	cmd.Flags().StringArrayVar(&set, "set", nil, "setting by Kafka's name, name=value (repeatable)")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log what the broker does")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if port < 0 || port > 65535 {
			return fmt.Errorf("--port %d is no port; give one from 0 (pick one) to 65535", port)
		}
		if brokers < 1 {
			return fmt.Errorf("--brokers %d; give 1 or more", brokers)
		}
		if brokers > 1 {
			return c.devCluster(cmd.Context(), data, host, port, brokers, set, verbose)
		}
		o := RunOptions{DataDir: data, Listen: net.JoinHostPort(host, strconv.Itoa(port)), Set: set, Dev: true, Verbose: verbose}
		if httpPort > 65535 {
			return fmt.Errorf("--http-port %d is no port; give one from 0 (pick one) to 65535, or -1 for none", httpPort)
		}
		if httpPort >= 0 {
			o.HTTP = net.JoinHostPort(host, strconv.Itoa(httpPort))
		}
		return c.env.Run(cmd.Context(), o, func(r Running) {
			out := c.env.Stdout
			for _, w := range r.Warnings {
				fmt.Fprintf(c.env.Stderr, "warning: %s\n", w)
			}
			at := ""
			if r.Address != "localhost:9092" && r.Address != "127.0.0.1:9092" {
				at = " -b " + r.Address
			}
			fmt.Fprintf(out, "Ottla is ready at %s (in %d ms)\n", r.Address, r.ReadyIn.Milliseconds())
			fmt.Fprintf(out, "data in %s, cluster %s\n", r.DataDir, r.ClusterID)
			if r.HTTP != "" {
				fmt.Fprintf(out, "metrics at http://%s/metrics\n", r.HTTP)
			}
			fmt.Fprintln(out)
			fmt.Fprintf(out, "  echo hello | %s produce greetings%s\n", c.env.Program, at)
			fmt.Fprintf(out, "  %s consume greetings%s\n", c.env.Program, at)
			fmt.Fprintf(out, "  %s topic list%s\n\n", c.env.Program, at)
			fmt.Fprintln(out, "Ctrl-C stops it.")
		})
	}
	return cmd
}
