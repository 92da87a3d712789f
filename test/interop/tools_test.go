package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ottla/ottla/test/peer"
	"github.com/twmb/franz-go/pkg/kgo"
)

// keepAll is for topics whose records have timestamps of years ago.
var keepAll = map[string]string{"retention.ms": "-1"}

const toolsPackage = "org.apache.kafka.tools."

// tool runs one of Kafka's command line tools and wants it to succeed; it returns what the tool printed.
func tool(t *testing.T, class, stdin string, args ...string) string {
	t.Helper()
	b := broker(t)
	r, err := tools(t).Run(patience(t, 90*time.Second), class, stdin, append([]string{"--bootstrap-server", b.Addr}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	if r.Status != 0 {
		t.Fatalf("%s %v: exit status %d\n%s\n%s", class, args, r.Status, r.Out, r.Stderr)
	}
	if said := noise.ReplaceAllString(r.Stderr, ""); said != "" {
		t.Logf("%s %v said: %s", class, args, said) // some tools report an error and exit with 0
	}
	return r.Out
}

// noise is what the tools say besides: about their logger, and about the exit that the shared JVM keeps them from.
var noise = regexp.MustCompile(`(?m)^(SLF4J:.*|null|Driver\$Exited|The consumer rebalance protocol .*|Processed a total of .*|)\n`)

// ownJVM is tool for a class that ends its JVM itself.
func ownJVM(t *testing.T, class string, args ...string) string {
	t.Helper()
	k, err := peer.FetchKafka()
	skipOrFail(t, err)
	r, err := k.RunTool(patience(t, 90*time.Second), class, "", append([]string{"--bootstrap-server", broker(t).Addr}, args...)...)
	if err != nil || r.Status != 0 {
		t.Fatalf("%s %v: exit status %d, %v\n%s\n%s", class, args, r.Status, err, r.Out, r.Stderr)
	}
	return r.Out
}

func wantLines(t *testing.T, out string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile("(?m)" + p).MatchString(out) {
			t.Fatalf("no line matches %q in\n%s", p, out)
		}
	}
}

// If this fails, kafka-topics.sh cannot create, show, grow or delete topics.
func TestTopicCommand(t *testing.T) {
	t.Parallel()
	topic, class := fresh("cli"), toolsPackage+"TopicCommand"
	tool(t, class, "", "--create", "--topic", topic, "--partitions", "3", "--config", "retention.ms=3600000")
	tool(t, class, "", "--create", "--topic", topic, "--if-not-exists")
	wantLines(t, tool(t, class, "", "--list"), "^"+topic+"$")
	wantLines(t, tool(t, class, "", "--describe", "--topic", topic), `PartitionCount: 3\s+ReplicationFactor: 1\s+Configs: .*retention.ms=3600000`, `Partition: 2\s+Leader: \d+\s+Replicas: \d+\s+Isr: \d+`)
	tool(t, class, "", "--alter", "--topic", topic, "--partitions", "5")
	eventually(t, 10*time.Second, func() error {
		if out := tool(t, class, "", "--describe", "--topic", topic); !strings.Contains(out, "PartitionCount: 5") {
			return fmt.Errorf("after growing to 5:\n%s", out)
		}
		return nil
	})
	tool(t, class, "", "--delete", "--topic", topic)
	r, err := tools(t).Run(patience(t, 60*time.Second), class, "", "--bootstrap-server", broker(t).Addr, "--create", "--topic", "bad name!")
	if err != nil || r.Status == 0 || !strings.Contains(r.Out+r.Stderr, "invalid") {
		t.Fatalf("a bad name was not refused with a reason: %+v, %v", r, err)
	}
}

// If this fails, the two programs of every Kafka quick start do not work.
func TestConsoleProducerAndConsumer(t *testing.T) {
	for _, codec := range codecs {
		t.Run(codec, func(t *testing.T) {
			t.Parallel()
			topic := createTopic(t, 1, nil)
			var in strings.Builder
			for i := range 50 {
				fmt.Fprintf(&in, "h:%d\tkey%d\tvalue %d ü\n", i, i, i)
			}
			tool(t, toolsPackage+"ConsoleProducer", in.String(), "--topic", topic, "--compression-codec="+codec,
				"--reader-property", "parse.key=true", "--reader-property", "parse.headers=true")
			out := tool(t, toolsPackage+"consumer.ConsoleConsumer", "", "--topic", topic, "--from-beginning", "--max-messages", "50", "--timeout-ms", "30000",
				"--formatter-property", "print.key=true", "--formatter-property", "print.headers=true")
			if out != in.String() {
				t.Fatalf("read\n%s\nwritten\n%s", out, in.String())
			}
		})
	}
}

// If this fails, operators cannot see the lag of a group or move its offsets with kafka-consumer-groups.sh.
func TestConsumerGroupCommand(t *testing.T) {
	for _, protocol := range []string{"classic", "consumer"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			topic, group, class := createTopic(t, 2, keepAll), fresh("cli-group"), toolsPackage+"consumer.group.ConsumerGroupCommand"
			var rs []rec
			for i := range 20 {
				rs = append(rs, rec{P: int32(i % 2), V: []byte("v"), TS: 1700000000000 + int64(i)})
			}
			produce(t, client(t, kgo.RecordPartitioner(kgo.ManualPartitioner())), topic, rs)
			tool(t, toolsPackage+"consumer.ConsoleConsumer", "", "--topic", topic, "--group", group, "--max-messages", "20", "--timeout-ms", "30000",
				"--command-property", "auto.offset.reset=earliest", "--command-property", "group.protocol="+protocol)
			wantLines(t, tool(t, class, "", "--list"), "^"+group+"$")
			out := tool(t, class, "", "--describe", "--group", group)
			wantLines(t, out, group+`\s+`+topic+`\s+0\s+10\s+10\s+0\s`, group+`\s+`+topic+`\s+1\s+10\s+10\s+0\s`)
			wantLines(t, tool(t, class, "", "--describe", "--group", group, "--state"), group+`\s+.*Empty`)
			reset := func(to int, how ...string) {
				t.Helper()
				out := tool(t, class, "", append([]string{"--reset-offsets", "--group", group, "--topic", topic, "--execute"}, how...)...)
				wantLines(t, out, fmt.Sprintf(`%s\s+%s\s+0\s+%d\s`, group, topic, to))
			}
			reset(0, "--to-earliest")
			wantCommitted(t, group, topic, 2, 0)
			reset(4, "--shift-by", "4")
			reset(5, "--to-datetime", "2023-11-14T22:13:20.010")
			wantCommitted(t, group, topic, 2, 5)
			wantLines(t, tool(t, class, "", "--delete-offsets", "--group", group, "--topic", topic), topic+`\s+0\s+Successful`)
			tool(t, class, "", "--delete", "--group", group)
			if out := tool(t, class, "", "--list"); strings.Contains(out, group+"\n") {
				t.Fatalf("the deleted group is still listed\n%s", out)
			}
		})
	}
}

// If this fails, settings of topics, brokers, groups and client metrics cannot be read or changed with kafka-configs.sh.
func TestConfigCommand(t *testing.T) {
	t.Parallel()
	topic, class := createTopic(t, 1, nil), "kafka.admin.ConfigCommand"
	nodes, err := admin(t).BrokerMetadata(patience(t, 30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	node := fmt.Sprint(nodes.Brokers[0].NodeID)
	for _, c := range []struct{ kind, name, key, value string }{
		{"topics", topic, "max.message.bytes", "2000000"},
		{"brokers", node, "log.cleaner.threads", "2"},
		{"groups", fresh("conf-group"), "consumer.session.timeout.ms", "7000"},
		{"client-metrics", fresh("conf-metrics"), "interval.ms", "30000"},
	} {
		t.Run(c.kind, func(t *testing.T) {
			who := []string{"--entity-type", c.kind, "--entity-name", c.name}
			has := func(want bool) {
				t.Helper()
				eventually(t, 15*time.Second, func() error {
					out := tool(t, class, "", append([]string{"--describe"}, who...)...)
					if strings.Contains(out, c.key+"="+c.value) != want {
						return fmt.Errorf("%s=%s shown: want %v in\n%s", c.key, c.value, want, out)
					}
					return nil
				})
			}
			tool(t, class, "", append([]string{"--alter", "--add-config", c.key + "=" + c.value}, who...)...)
			has(true)
			tool(t, class, "", append([]string{"--alter", "--delete-config", c.key}, who...)...)
			has(false)
		})
	}
	t.Run("refused", func(t *testing.T) {
		r, err := tools(t).Run(patience(t, 60*time.Second), class, "", "--bootstrap-server", broker(t).Addr, "--alter", "--entity-type", "topics", "--entity-name", topic,
			"--add-config", "retention.ms=soon")
		if err != nil || r.Status == 0 {
			t.Fatalf("a value that is no number was taken: %+v, %v", r, err)
		}
	})
}

// If this fails, kafka-get-offsets.sh and kafka-delete-records.sh lie about or do not move the ends of a partition.
func TestGetOffsetShellAndDeleteRecords(t *testing.T) {
	t.Parallel()
	topic := createTopic(t, 2, keepAll)
	var rs []rec
	for i := range 20 {
		rs = append(rs, rec{P: int32(i % 2), V: []byte("v"), TS: 1700000000000 + int64(i/2)*1000})
	}
	produce(t, client(t, kgo.RecordPartitioner(kgo.ManualPartitioner())), topic, rs)
	at := func(time string, want int) {
		t.Helper()
		out := tool(t, toolsPackage+"GetOffsetShell", "", "--topic", topic, "--time", time)
		wantLines(t, out, fmt.Sprintf("^%s:0:%d$", topic, want))
	}
	at("latest", 10)
	at("earliest", 0)
	at("max-timestamp", 9)
	at("1700000004000", 4)
	file := filepath.Join(t.TempDir(), "offsets.json")
	spec := fmt.Sprintf(`{"partitions":[{"topic":%q,"partition":0,"offset":3}],"version":1}`, topic)
	if err := os.WriteFile(file, []byte(spec), 0o644); err != nil {
		t.Fatal(err)
	}
	wantLines(t, tool(t, toolsPackage+"DeleteRecordsCommand", "", "--offset-json-file", file), `partition: `+topic+`-0\s+low_watermark: 3`)
	at("earliest", 3)
	at("latest", 10)
}

// If this fails, kafka-log-dirs.sh cannot tell how large a topic is.
func TestLogDirsCommand(t *testing.T) {
	t.Parallel()
	topic := createTopic(t, 1, nil)
	produce(t, client(t, kgo.ProducerBatchCompression(kgo.NoCompression())), topic, []rec{{V: make([]byte, 10000), TS: time.Now().UnixMilli()}})
	out := tool(t, toolsPackage+"LogDirsCommand", "", "--describe", "--topic-list", topic)
	var report struct {
		Brokers []struct {
			LogDirs []struct {
				Error      *string
				Partitions []struct {
					Partition string
					Size      int64
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &report); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	for _, b := range report.Brokers {
		for _, d := range b.LogDirs {
			for _, p := range d.Partitions {
				if p.Partition == topic+"-0" && p.Size > 10000 && p.Size < 11000 {
					return
				}
			}
		}
	}
	t.Fatalf("no partition %s-0 of about 10,000 bytes in\n%s", topic, out)
}

// If this fails, Kafka's own performance tools cannot measure this broker.
func TestPerformanceTools(t *testing.T) {
	t.Parallel()
	topic := createTopic(t, 3, nil)
	out := tool(t, toolsPackage+"ProducerPerformance", "", "--topic", topic, "--num-records", "20000", "--record-size", "500", "--throughput", "-1",
		"--command-property", "compression.type=lz4")
	wantLines(t, out, `^20000 records sent, .* 99\.9th`)
	out = tool(t, toolsPackage+"ConsumerPerformance", "", "--topic", topic, "--num-records", "20000", "--timeout", "30000")
	if n := strings.Count(out, "\n"); n < 2 || !strings.Contains(out, ", 20000, ") {
		t.Fatalf("consumed:\n%s", out)
	}
}

// If this fails, Kafka's own verification clients see a record acknowledged and not delivered, in either group protocol.
func TestVerifiableProducerAndConsumer(t *testing.T) {
	for _, protocol := range []string{"classic", "consumer"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			topic := createTopic(t, 2, nil)
			out := ownJVM(t, toolsPackage+"VerifiableProducer", "--topic", topic, "--max-messages", "500", "--acks", "-1")
			if n := strings.Count(out, `"name":"producer_send_success"`); n != 500 {
				t.Fatalf("%d of 500 acknowledged:\n%.2000s", n, out)
			}
			args := []string{"--topic", topic, "--group-id", fresh("verify"), "--max-messages", "500", "--reset-policy", "earliest", "--group-protocol", protocol, "--verbose"}
			if protocol == "consumer" {
				args = append(args, "--group-remote-assignor", "uniform")
			}
			out = ownJVM(t, toolsPackage+"VerifiableConsumer", args...)
			if n := strings.Count(out, `"name":"record_data"`); n != 500 {
				t.Fatalf("%d of 500 delivered:\n%.2000s", n, out)
			}
			wantLines(t, out, `"name":"offsets_committed".*"success":true|"success":true.*"name":"offsets_committed"`)
		})
	}
}

// If this fails, kafka-broker-api-versions.sh and kafka-groups.sh cannot show what the broker offers and holds.
func TestBrokerApiVersionsAndGroupsCommand(t *testing.T) {
	t.Parallel()
	out := tool(t, toolsPackage+"BrokerApiVersionsCommand", "")
	wantLines(t, out, `Produce\(0\): 0 to 1[3-9]`, `Fetch\(1\): 4 to 1[789]`, `ConsumerGroupHeartbeat\(68\): 0 to 1`, `Metadata\(3\): 0 to 1[3-9]`)
	if strings.Contains(out, "UNSUPPORTED") {
		t.Logf("the broker leaves APIs out:\n%s", strings.Join(regexp.MustCompile(`\w+\(\d+\): UNSUPPORTED`).FindAllString(out, -1), "\n"))
	}
	tool(t, toolsPackage+"GroupsCommand", "", "--list")
	r, err := tools(t).Run(patience(t, 60*time.Second), toolsPackage+"ClusterTool", "", "cluster-id", "--bootstrap-server", broker(t).Addr)
	if err != nil || r.Status != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	wantLines(t, r.Out, "^Cluster ID: .+")
}
