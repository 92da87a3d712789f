package stand

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/ottla/ottla/test/peer"
)

func writeProperties(path string, layers ...map[string]string) error {
	all := map[string]string{}
	for _, l := range layers {
		for k, v := range l {
			all[k] = v
		}
	}
	keys := make([]string, 0, len(all))
	for k := range all {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "%s=%s\n", k, all[k])
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

// common are the settings of both makes: the defaults of a cluster of this size, fewer internal partitions so that a small machine
// has few of them to fail over, and no wait before a group's first join.
func common(nodes int) map[string]string {
	rf, isr := strconv.Itoa(min(nodes, 3)), strconv.Itoa(max(1, min(nodes, 3)-1))
	return map[string]string{
		"num.partitions":                                   "1",
		"default.replication.factor":                       rf,
		"min.insync.replicas":                              isr,
		"offsets.topic.replication.factor":                 rf,
		"offsets.topic.num.partitions":                     "4",
		"transaction.state.log.replication.factor":         rf,
		"transaction.state.log.min.isr":                    isr,
		"transaction.state.log.num.partitions":             "4",
		"share.coordinator.state.topic.replication.factor": rf,
		"share.coordinator.state.topic.min.isr":            isr,
		"share.coordinator.state.topic.num.partitions":     "4",
		"group.initial.rebalance.delay.ms":                 "0",
		"log.retention.check.interval.ms":                  "3600000",
	}
}

// layKafka prepares combined KRaft nodes, all of them voters.
func (c *Cluster) layKafka(each []ports) error {
	k, err := peer.FetchKafka()
	if err != nil {
		return err
	}
	var voters []string
	for i, n := range c.Nodes {
		voters = append(voters, fmt.Sprintf("%d@%s:%d", n.ID, n.Host, each[i].second))
	}
	heap := c.opts.HeapMB
	if heap == 0 {
		heap = 384
	}
	for i, n := range c.Nodes {
		conf := filepath.Join(n.Dir, "server.properties")
		err := writeProperties(conf, common(len(c.Nodes)), map[string]string{
			"process.roles":                  "broker,controller",
			"node.id":                        strconv.Itoa(int(n.ID)),
			"controller.quorum.voters":       strings.Join(voters, ","),
			"listeners":                      fmt.Sprintf("PLAINTEXT://%s,CONTROLLER://%s:%d", n.Addr, n.Host, each[i].second),
			"controller.listener.names":      "CONTROLLER",
			"listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
			"log.dirs":                       n.LogDir(),
		}, c.opts.Properties)
		if err != nil {
			return err
		}
		logging := filepath.Join(n.Dir, "log4j2.properties")
		lines := "status=error\nappender.c.type=Console\nappender.c.name=C\nappender.c.target=SYSTEM_ERR\nappender.c.follow=true\n" +
			"appender.c.layout.type=PatternLayout\nappender.c.layout.pattern=%d %p %c{1} %m%n\nrootLogger.level=warn\nrootLogger.appenderRef.c.ref=C\n"
		if err := os.WriteFile(logging, []byte(lines), 0o644); err != nil {
			return err
		}
		jvm := []string{k.Java, fmt.Sprintf("-Xmx%dm", heap), fmt.Sprintf("-Xms%dm", heap), "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-Djava.awt.headless=true",
			"-Dlog4j2.configurationFile=" + logging, "-cp", k.BrokerJars + "/*"}
		format := append(append([]string{}, jvm...), "kafka.tools.StorageTool", "format", "-t", peer.ClusterID, "-c", conf)
		if out, err := exec.Command(format[0], format[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("format node %d: %w\n%s", n.ID, err, out)
		}
		n.argv = append(jvm, "kafka.Kafka", conf)
	}
	return nil
}

// layOttla prepares `ottla start` for the first node and `ottla start --join` for the others.
func (c *Cluster) layOttla(each []ports) error {
	bin, err := peer.BuildOttla(c.opts.Dir)
	if err != nil {
		return err
	}
	for i, n := range c.Nodes {
		conf := filepath.Join(n.Dir, "server.properties")
		err := writeProperties(conf, common(len(c.Nodes)), map[string]string{
			"listeners": "PLAINTEXT://" + n.Addr,
			"log.dirs":  n.LogDir(),
		}, c.clusterListener(n, each[i]), c.opts.Properties)
		if err != nil {
			return err
		}
		n.argv = []string{bin, "start", "-c", conf}
		if i > 0 {
			n.argv = append(n.argv, "--join", fmt.Sprintf("%s:%d", c.Nodes[0].Host, each[0].second))
		}
	}
	return nil
}

// clusterListener is the listener between nodes; a single node has none.
func (c *Cluster) clusterListener(n *Node, p ports) map[string]string {
	if len(c.Nodes) == 1 {
		return nil
	}
	return map[string]string{
		"listeners":                      fmt.Sprintf("PLAINTEXT://%s,CLUSTER://%s:%d", n.Addr, n.Host, p.second),
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CLUSTER:PLAINTEXT",
		"inter.broker.listener.name":     "CLUSTER",
	}
}

// Up starts all nodes and waits until they form the cluster. Ottla's first node makes the cluster, the others join it, one after the
// other, because ids are given in the order of joining and the stand wants to know who is who.
func (c *Cluster) Up(ctx context.Context) error {
	if c.Make != "ottla" {
		for _, n := range c.Nodes {
			if err := n.Start(); err != nil {
				return err
			}
		}
		return c.Ready(ctx)
	}
	for i, n := range c.Nodes {
		if i > 0 {
			// Where the cluster asks for a token, its first node has written it next to its data.
			token, err := os.ReadFile(filepath.Join(c.Nodes[0].LogDir(), "cluster.token"))
			switch {
			case err == nil:
				n.argv = append(n.argv, "--token", strings.TrimSpace(string(token)))
			case !errors.Is(err, os.ErrNotExist):
				return err
			}
		}
		if err := n.Start(); err != nil {
			return err
		}
		if err := (&Cluster{Nodes: c.Nodes[:i+1]}).Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}
