package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottla/ottla/test/peer"
)

// kit is Kafka's command line tools for one cluster.
type kit struct {
	t     *testing.T
	kafka *peer.Kafka
	jvm   *peer.Tools
}

func newKit(t *testing.T) *kit {
	t.Helper()
	k, err := peer.FetchKafka()
	if errors.Is(err, peer.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	jvm, err := k.StartTools()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(jvm.Close)
	return &kit{t, k, jvm}
}

const (
	tools       = "org.apache.kafka.tools."
	clusterTool = tools + "ClusterTool"
)

// run runs a tool against one broker and gives all that it printed.
func (k *kit) run(b *broker, class string, args ...string) string {
	k.t.Helper()
	if class == clusterTool { // it ends its JVM
		r, err := k.kafka.RunTool(within(k.t, 90*time.Second), class, "", append(args, "--bootstrap-server", b.addr)...)
		if err != nil {
			k.t.Fatal(err)
		}
		return r.Out + "\n" + r.Stderr
	}
	r, err := k.jvm.Run(within(k.t, 90*time.Second), class, "", append([]string{"--bootstrap-server", b.addr}, args...)...)
	if err != nil {
		k.t.Fatal(err)
	}
	return r.Out + "\n" + r.Stderr
}

// want runs a tool until its output has a line for each pattern.
func (k *kit) want(b *broker, class string, args []string, patterns ...string) {
	k.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		out := k.run(b, class, args...)
		missing := ""
		for _, p := range patterns {
			if !regexp.MustCompile("(?m)" + p).MatchString(out) {
				missing = p
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			k.t.Fatalf("%s %v at broker %d: nothing like %q in\n%s", class, args, b.id, missing, out)
			return
		}
	}
}

func (k *kit) file(text string) string {
	k.t.Helper()
	name := filepath.Join(k.t.TempDir(), "file.json")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		k.t.Fatal(err)
	}
	return name
}

// Kafka's tools for operators do on three brokers of ours what they do on Kafka's, whichever broker is asked.
func TestKafkaToolsOnThreeBrokers(t *testing.T) {
	k, c := newKit(t), startTrio(t)
	one, two, three := c.brokers[0], c.brokers[1], c.brokers[2]
	for _, b := range c.brokers {
		k.want(b, tools+"MetadataQuorumCommand", []string{"describe", "--status"}, `^ClusterId: +[A-Za-z0-9_-]{22}$`, `^LeaderId: +\d$`, `^CurrentVoters: +\[\{"id": 1, .*\{"id": 2, .*\{"id": 3, .*"endpoints": \["CLUSTER://`, `^CurrentObservers: +\[\]$`)
		k.want(b, tools+"MetadataQuorumCommand", []string{"describe", "--replication"}, `^1\s+[A-Za-z0-9_-]{22}\s+\d+\s+\d+\s`, `^2\s+[A-Za-z0-9_-]{22}\s+\d+\s+\d+\s`, `^3\s+[A-Za-z0-9_-]{22}\s+\d+\s+\d+\s`, `\sLeader\s*$`, `\sFollower\s*$`)
	}
	k.want(two, clusterTool, []string{"cluster-id"}, `^Cluster ID: [A-Za-z0-9_-]{22}$`)
	k.want(three, clusterTool, []string{"list-endpoints"}, `^1 .*unfenced`, `^2 .*unfenced`, `^3 .*unfenced`)
	k.want(two, tools+"FeatureCommand", []string{"describe"}, `^Feature: share.version\s.*FinalizedVersionLevel: 2`)
	k.want(three, tools+"FeatureCommand", []string{"downgrade", "--feature", "share.version=1"}, `^share.version was downgraded to 1`)
	for _, b := range c.brokers {
		k.want(b, tools+"FeatureCommand", []string{"describe"}, `^Feature: share.version\s.*FinalizedVersionLevel: 1`)
	}
	k.want(two, tools+"FeatureCommand", []string{"upgrade", "--feature", "share.version=2"}, `^share.version was upgraded to 2`)

	k.want(two, tools+"TopicCommand", []string{"--create", "--topic", "moves", "--replica-assignment", "1:2,2:3,3:1"}, `^Created topic moves`)
	cl := c.client()
	for i := range 300 {
		cl.Produce(context.Background(), &kgo.Record{Topic: "moves", Value: fmt.Appendf(nil, "%d", i)}, nil)
	}
	if err := cl.Flush(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	c.movesThrottled(k)
	c.elects(k)
	configs := "kafka.admin.ConfigCommand"
	for _, rate := range []string{"leader.replication.throttled.rate", "follower.replication.throttled.rate"} {
		k.want(one, configs, []string{"--alter", "--entity-type", "brokers", "--entity-name", "2", "--add-config", rate + "=100000"}, `^Completed updating config for broker 2`)
		k.want(three, configs, []string{"--describe", "--entity-type", "brokers", "--entity-name", "2"}, rate+"=100000")
		k.want(two, configs, []string{"--alter", "--entity-type", "brokers", "--entity-name", "2", "--delete-config", rate}, `^Completed updating config for broker 2`)
	}
	if got := count(within(t, 30*time.Second), t, c, "moves", kgo.ReadUncommitted()); got != 300 {
		t.Errorf("%d of 300 records are left", got)
	}

	k.verifies(c)

	// A broker that is gone for good.
	three.kill()
	k.want(one, clusterTool, []string{"list-endpoints", "--include-fenced-brokers"}, `^3 .*\sfenced`)
	k.want(two, tools+"TopicCommand", []string{"--describe", "--under-replicated-partitions"}, `Topic: moves`)
	k.want(two, clusterTool, []string{"unregister", "--id", "3"}, `^Broker 3 is no longer registered`)
	k.dumps(c)
}

// verifies has Kafka's tool read every copy of every partition, as it does until it is stopped, and compare them.
func (k *kit) verifies(c *trio) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
	defer cancel()
	r, _ := k.kafka.RunTool(ctx, tools+"ReplicaVerificationTool", "", "--broker-list", strings.Join(c.seeds(), ","), "--topics-include", "moves", "--report-interval-ms", "1000")
	if !strings.Contains(r.Out, "max lag is 0 for partition moves-") || strings.Contains(r.Out, "doesn't match") {
		k.t.Errorf("the copies were not all compared and found equal:\n%s\n%s", r.Out, r.Stderr)
	}
}

// movesThrottled has all replicas moved under a throttle, which goes when the move is verified.
func (c *trio) movesThrottled(k *kit) {
	k.t.Helper()
	one, two, three := c.brokers[0], c.brokers[1], c.brokers[2]
	reassign := tools + "reassign.ReassignPartitionsCommand"
	k.want(one, reassign, []string{"--generate", "--topics-to-move-json-file", k.file(`{"topics":[{"topic":"moves"}],"version":1}`), "--broker-list", "1,2,3"}, `^Proposed partition reassignment`)
	plan := k.file(`{"version":1,"partitions":[{"topic":"moves","partition":0,"replicas":[3,2,1]},{"topic":"moves","partition":1,"replicas":[1,3]},{"topic":"moves","partition":2,"replicas":[2,1,3]}]}`)
	k.want(two, reassign, []string{"--execute", "--reassignment-json-file", plan, "--throttle", "5000000"}, `^The inter-broker throttle limit was set to 5000000 B/s`, `^Successfully started partition reassignments? for moves-0,moves-1,moves-2`)
	k.want(three, reassign, []string{"--verify", "--reassignment-json-file", plan}, `^Reassignment of partition moves-0 is completed`, `^Reassignment of partition moves-1 is completed`, `^Reassignment of partition moves-2 is completed`, `^Clearing broker-level throttles`)
	k.want(three, reassign, []string{"--list"}, `^No partition reassignments found`)
	k.want(one, "kafka.admin.ConfigCommand", []string{"--describe", "--entity-type", "topics", "--entity-name", "moves"}, `^Dynamic configs for topic moves are:\s*$`)
}

// elects has the preferred replicas lead.
func (c *trio) elects(k *kit) {
	k.t.Helper()
	k.want(c.brokers[1], tools+"LeaderElectionCommand", []string{"--election-type", "preferred", "--all-topic-partitions"}, `.`)
	adm := kadm.NewClient(c.client())
	ctx := within(k.t, 20*time.Second)
	for {
		topics, err := adm.ListTopics(ctx, "moves")
		if p := topics["moves"].Partitions; err == nil && len(p) == 3 && p[0].Leader == 3 && p[1].Leader == 1 && p[2].Leader == 2 && len(p[0].ISR) == 3 {
			return
		}
		select {
		case <-ctx.Done():
			k.t.Fatalf("preferred leaders: %v %+v", err, topics["moves"].Partitions)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// dumps has Kafka's tool read the metadata logs and snapshots of all brokers, stopped.
func (k *kit) dumps(c *trio) {
	k.t.Helper()
	for _, b := range c.brokers {
		b.kill()
		for _, pattern := range []string{"*.log", "*.checkpoint"} {
			files, err := filepath.Glob(filepath.Join(b.dir, "data", "__cluster_metadata-0", pattern))
			if err != nil {
				k.t.Fatal(err)
			}
			if len(files) == 0 && pattern == "*.log" {
				k.t.Errorf("broker %d has no metadata log", b.id)
			}
			for _, f := range files {
				r, err := k.jvm.Run(within(k.t, time.Minute), tools+"DumpLogSegments", "", "--cluster-metadata-decoder", "--files", f)
				if err != nil || r.Status != 0 || strings.Contains(r.Out, "Could not") || !strings.Contains(r.Out, `"type":"TOPIC_RECORD"`) && !strings.Contains(r.Out, "baseOffset") {
					k.t.Errorf("broker %d, %s: %v, status %d\n%s\n%s", b.id, f, err, r.Status, r.Out, r.Stderr)
				}
				if pattern == "*.log" && !strings.Contains(r.Out, `"name":"moves"`) {
					k.t.Errorf("broker %d, %s does not have the topic:\n%s", b.id, f, r.Out)
				}
			}
		}
	}
}
