package interop

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ottla/ottla/test/peer"
)

// metricsPage is what a scraper sees of a broker.
func metricsPage(address string) (string, error) {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := c.Get("http://" + address + "/metrics")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != 200 {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	return string(b), err
}

// onPage waits for a line of the page that matches.
func onPage(t *testing.T, address, pattern string) {
	t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	eventually(t, 30*time.Second, func() error {
		page, err := metricsPage(address)
		if err == nil && !re.MatchString(page) {
			var pushed []string
			for _, l := range strings.Split(page, "\n") {
				if strings.Contains(l, "client_telemetry") && !strings.HasPrefix(l, "#") || strings.Contains(l, "ottla_client_info") || strings.Contains(l, "topic_record_send_total{") {
					pushed = append(pushed, l)
				}
			}
			err = fmt.Errorf("no line of the page matches %q; %s", pattern, strings.Join(pushed, "\n"))
		}
		return err
	})
}

// If this fails, clients that push their metrics (KIP-714) cannot, or what they push is not shown by client.
func TestClientTelemetry(t *testing.T) {
	if target() != "ottla" {
		t.Skip("Apache Kafka takes metrics only with a plug-in")
	}
	if testing.Short() {
		t.Skip("real clients against a broker process: not in -short")
	}
	port, err := peer.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	page := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	props := map[string]string{"ottla.http.listen": page}
	for k, v := range testProperties {
		props[k] = v
	}
	b, err := startBroker(patience(t, time.Minute), t.TempDir(), props)
	skipOrFail(t, err)
	t.Cleanup(func() {
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	})
	// Kafka's own tool, in the JVM of the tools, asks the clients; interval.ms is a second.
	r, err := tools(t).Run(patience(t, time.Minute), toolsPackage+"ClientMetricsCommand", "", "--bootstrap-server", b.Addr, "--alter", "--name", "everybody",
		"--metrics", "org.apache.kafka.", "--interval", "1000")
	if err != nil || r.Status != 0 {
		t.Fatal(r, err)
	}
	for _, c := range []struct {
		lib, software    string
		producer, member string // metrics of a producer that comes and goes, and of a group's member that stays
	}{
		{"java", "apache-kafka-java", "org_apache_kafka_producer_record_send_total", "org_apache_kafka_consumer_coordinator_assigned_partitions"},
		{"confluent-kafka", "confluent-kafka-python", "org_apache_kafka_producer_", "org_apache_kafka_consumer_"},
		{"franz-go", "kgo", "org_apache_kafka_producer_connection_creation_total", "org_apache_kafka_consumer_connection_creation_total"},
	} {
		t.Run(c.lib, func(t *testing.T) {
			var lib library
			for _, l := range libraries() {
				if l.name == c.lib {
					lib = l
				}
			}
			topic := "letters-" + c.lib
			p := lib.startAt(t, b.Addr)
			p.ask(t, command{Cmd: "create", Topic: topic, Partitions: 1, Configs: map[string]string{"retention.ms": "-1"}})
			member := lib.startAt(t, b.Addr)
			member.send(t, command{Cmd: "group", Group: "g-" + c.lib, Topic: topic, Protocol: "classic", SessionMs: 6000})
			onPage(t, page, `^ottla_client_info\{.*client_software_name="[^"]*`+c.software+`[^"]*",.*\} 1$`)
			onPage(t, page, `^`+c.member+`.*\{client_id=.*\} [0-9.e+-]+$`)
			switch c.lib {
			case "java": // one that stays for some seconds
				r, err := tools(t).Run(patience(t, time.Minute), toolsPackage+"ProducerPerformance", "", "--bootstrap-server", b.Addr, "--topic", topic,
					"--num-records", "40", "--record-size", "10", "--throughput", "10")
				if err != nil || r.Status != 0 {
					t.Fatal(r, err)
				}
				// Pushed as deltas. The producer does not always push once more when it closes, so the end of the count may be missing.
				onPage(t, page, `^org_apache_kafka_producer_topic_record_send_total\{.*topic="letters-java"\} (1[0-9]|2[0-9]|3[0-9]|40)$`)
			case "confluent-kafka":
				p.ask(t, command{Cmd: "produce", Topic: topic, Codec: "none", Records: []rec{{K: []byte("k"), H: []header{}, V: []byte("v"), TS: time.Now().UnixMilli()}}})
			default:
				return // franz-go says nothing when it closes, and its producer here closes at once
			}
			onPage(t, page, `^`+c.producer+`.*\{client_id=.*\} [1-9]`)
		})
	}
	out, err := metricsPage(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"too_large", "invalid", "unsupported_compression"} {
		if strings.Contains(out, `ottla_client_telemetry_pushes_total{outcome="`+bad+`"`) {
			t.Errorf("pushes with the outcome %s", bad)
		}
	}
}
