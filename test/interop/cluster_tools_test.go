package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// failing runs a tool that is to say something went wrong; it returns all that it printed.
func failing(t *testing.T, class string, args ...string) string {
	t.Helper()
	r, err := tools(t).Run(patience(t, 90*time.Second), class, "", append([]string{"--bootstrap-server", broker(t).Addr}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return r.Out + "\n" + r.Stderr
}

// If this fails, kafka-client-metrics.sh cannot manage what is asked of clients, or kafka-configs.sh does not show it.
func TestClientMetricsCommand(t *testing.T) {
	t.Parallel()
	name, command := fresh("metrics"), toolsPackage+"ClientMetricsCommand"
	wantLines(t, tool(t, command, "", "--alter", "--name", name, "--metrics", "org.apache.kafka.producer.,org.apache.kafka.consumer.", "--interval", "60000", "--match", "client_id=nobody.*"),
		"^Altered client metrics config for "+name)
	eventually(t, 5*time.Second, func() error {
		if out := tool(t, command, "", "--list"); !strings.Contains(out, name) {
			return fmt.Errorf("%s is not listed: %s", name, out)
		}
		return nil
	})
	wantLines(t, tool(t, command, "", "--describe", "--name", name), "^  interval.ms=60000$", "^  match=client_id=nobody\\.\\*$", "^  metrics=org.apache.kafka.producer.,org.apache.kafka.consumer.$")
	wantLines(t, tool(t, "kafka.admin.ConfigCommand", "", "--describe", "--entity-type", "client-metrics", "--entity-name", name),
		"^Dynamic configs for client-metric "+name+" are:", `interval.ms=60000 sensitive=false synonyms=\{DYNAMIC_CLIENT_METRICS_CONFIG:interval.ms=60000\}`)
	tool(t, "kafka.admin.ConfigCommand", "", "--alter", "--entity-type", "client-metrics", "--entity-name", name, "--delete-config", "match")
	eventually(t, 5*time.Second, func() error {
		if out := tool(t, command, "", "--describe", "--name", name); !strings.Contains(out, "match=\n") {
			return fmt.Errorf("match is still set: %s", out)
		}
		return nil
	})
	if out := failing(t, command, "--alter", "--name", name, "--interval", "99"); !strings.Contains(out, "interval must be between 100 and 3600000") {
		t.Error(out)
	}
	if out := failing(t, "kafka.admin.ConfigCommand", "--alter", "--entity-type", "client-metrics", "--entity-name", name, "--add-config", "match=[client_name=x]"); !strings.Contains(out, "Illegal client matching pattern: client_name=x") {
		t.Error(out)
	}
	wantLines(t, tool(t, command, "", "--delete", "--name", name), "^Deleted client metrics config for "+name)
}

// If this fails, kafka-metadata-quorum.sh, kafka-leader-election.sh or kafka-reassign-partitions.sh do not work on one node.
func TestClusterCommands(t *testing.T) {
	t.Parallel()
	quorum := toolsPackage + "MetadataQuorumCommand"
	wantLines(t, tool(t, quorum, "", "describe", "--status"), "^ClusterId: +[A-Za-z0-9_-]{22}$", "^LeaderId: +1$", "^MaxFollowerLag: +0$", `^CurrentVoters: +\[\{"id": 1, .*"endpoints": \["[A-Z]+://`, `^CurrentObservers: +\[\]$`)
	wantLines(t, tool(t, quorum, "", "describe", "--replication"), `^1\s+[A-Za-z0-9_-]{22}\s+\d+\s+0\s+\d+\s+\d+\s+Leader`)

	topic := createTopic(t, 2, nil)
	elect := toolsPackage + "LeaderElectionCommand"
	tool(t, elect, "", "--election-type", "preferred", "--all-topic-partitions")
	wantLines(t, tool(t, elect, "", "--election-type", "preferred", "--topic", topic, "--partition", "0"), "^Valid replica already elected for partitions "+topic+"-0")
	if out := failing(t, elect, "--election-type", "unclean", "--topic", topic, "--partition", "7"); !strings.Contains(out, "No such partition as "+topic+"-7") {
		t.Error(out)
	}

	reassign := toolsPackage + "reassign.ReassignPartitionsCommand"
	move, plan := filepath.Join(t.TempDir(), "topics.json"), filepath.Join(t.TempDir(), "plan.json")
	for file, text := range map[string]string{
		move: fmt.Sprintf(`{"topics":[{"topic":%q}],"version":1}`, topic),
		plan: fmt.Sprintf(`{"version":1,"partitions":[{"topic":%q,"partition":0,"replicas":[1],"log_dirs":["any"]}]}`, topic),
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantLines(t, tool(t, reassign, "", "--generate", "--topics-to-move-json-file", move, "--broker-list", "1"), `^Proposed partition reassignment`, `"partition":1,"replicas":\[1\],"log_dirs":\["any"\]`)
	wantLines(t, tool(t, reassign, "", "--execute", "--reassignment-json-file", plan), "^Successfully started partition reassignment for "+topic+"-0")
	wantLines(t, tool(t, reassign, "", "--verify", "--reassignment-json-file", plan), "^Reassignment of partition "+topic+"-0 is completed")
	wantLines(t, tool(t, reassign, "", "--list"), "^No partition reassignments found")
	wantLines(t, tool(t, reassign, "", "--cancel", "--reassignment-json-file", plan), "^None of the specified partition reassignments are active")
}

// If this fails, kafka-features.sh cannot show, lower or raise the features of a cluster, what they gate does not follow, or a restart
// forgets them. It has a broker of its own: others need theirs as they are.
func TestFeatureCommand(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("real clients against a broker process: not in -short")
	}
	b, err := startBroker(patience(t, time.Minute), t.TempDir(), testProperties)
	skipOrFail(t, err)
	t.Cleanup(func() { b.Kill() })
	features := func(args ...string) string {
		t.Helper()
		r, err := tools(t).Run(patience(t, 60*time.Second), toolsPackage+"FeatureCommand", "", append([]string{"--bootstrap-server", b.Addr}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return r.Out + "\n" + r.Stderr
	}
	wantLines(t, features("describe"), `^Feature: group.version\s+SupportedMinVersion: 0\s+SupportedMaxVersion: 1\s+FinalizedVersionLevel: 1`,
		`^Feature: transaction.version\s.*SupportedMaxVersion: 2\s+FinalizedVersionLevel: 2`, `^Feature: eligible.leader.replicas.version\s.*FinalizedVersionLevel: 1`)
	wantLines(t, features("downgrade", "--feature", "group.version=0"), "^group.version was downgraded to 0")
	wantLines(t, features("disable", "--feature", "share.version"), "^share.version was disabled")
	wantLines(t, features("upgrade", "--feature", "nope=1"), "Local controller 1 does not support this feature")
	wantLines(t, features("upgrade", "--feature", "share.version=9"), "only supports versions 0-2")
	wantLines(t, features("downgrade", "--metadata", "3.9-IV0"), "Refusing to perform the requested downgrade because it might delete metadata information")

	join := func() int16 {
		t.Helper()
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		member := "AAAAAAAAAAAAAAAAAAAAAQ"
		req.Group, req.MemberID, req.RebalanceTimeoutMillis = "g", member, 5000
		req.SubscribedTopicNames, req.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		var code int16
		eventually(t, 30*time.Second, func() error {
			resp, err := req.RequestWith(patience(t, 10*time.Second), clientAt(t, b.Addr))
			if err != nil {
				return err
			}
			if code = resp.ErrorCode; code == 14 || code == 15 || code == 16 { // the coordinator is on its way
				return fmt.Errorf("error code %d", code)
			}
			return nil
		})
		return code
	}
	if code := join(); code != 35 {
		t.Errorf("joining a group of the consumer protocol without group.version: %d", code)
	}
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := b.Restart(patience(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	wantLines(t, features("describe"), `^Feature: group.version\s.*FinalizedVersionLevel: 0`, `^Feature: share.version\s.*FinalizedVersionLevel: 0`)
	wantLines(t, features("upgrade", "--feature", "group.version=1", "--feature", "share.version=1"), "^group.version was upgraded to 1", "^share.version was upgraded to 1")
	if code := join(); code != 0 {
		t.Errorf("joining a group of the consumer protocol with group.version: %d", code)
	}
}

// clientAt is a franz-go client of a broker of the test's own.
func clientAt(t *testing.T, addr string) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}
