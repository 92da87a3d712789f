package peer

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

//go:embed maven/broker.xml
var brokerPOM []byte

//go:embed maven/tools.xml
var toolsPOM []byte

// Kafka is a fetched Apache Kafka.
type Kafka struct {
	Java       string
	BrokerJars string // directory of broker and client jars, 4.4
	ToolsJars  string // directory of command line tools and their client jars, 4.3
}

// FetchKafka brings Kafka's jars into the cache with Maven, on first use, and says where they are.
func FetchKafka() (*Kafka, error) {
	java, err := lookPath("java")
	if err != nil {
		return nil, err
	}
	k := &Kafka{Java: java}
	if k.BrokerJars, err = fetchJars("kafka-broker", brokerPOM); err != nil {
		return nil, err
	}
	if k.ToolsJars, err = fetchJars("kafka-tools", toolsPOM); err != nil {
		return nil, err
	}
	return k, nil
}

func fetchJars(name string, pom []byte) (string, error) {
	return Cached(name, pom, func(dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "pom.xml"), pom, 0o644); err != nil {
			return err
		}
		return Command(dir, nil, "mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+dir)
	})
}

// NewKafka formats a single-node broker (combined roles) on free ports without starting it; Restart or Launch does.
func (k *Kafka) NewKafka(o Options) (*Broker, error) {
	return k.newNode(1, "broker,controller", "", o)
}

// NewKafkaCluster formats n brokers, of which the first is the controller too, without starting them. Each has a directory of its
// own below that of the options.
func (k *Kafka) NewKafkaCluster(n int, o Options) ([]*Broker, error) {
	nodes := make([]*Broker, n)
	roles, control := "broker,controller", ""
	for i := range nodes {
		each := o
		each.Dir = filepath.Join(o.Dir, "kafka"+strconv.Itoa(i+1))
		var err error
		if nodes[i], err = k.newNode(i+1, roles, control, each); err != nil {
			return nil, err
		}
		roles, control = "broker", nodes[0].Control
	}
	return nodes, nil
}

// ClusterID is that of every Kafka cluster that this package formats.
const ClusterID = "b3R0bGEtdGVzdC1jbHVzdA"

// newNode formats a node. control is the address of the controller, "" where it is this node.
func (k *Kafka) newNode(id int, roles, control string, o Options) (*Broker, error) {
	if err := os.MkdirAll(filepath.Join(o.Dir, "data"), 0o755); err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	addr := "127.0.0.1:" + strconv.Itoa(port)
	listeners := "PLAINTEXT://" + addr
	if control == "" {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		control = "127.0.0.1:" + strconv.Itoa(port)
		listeners += ",CONTROLLER://" + control
	}
	b := &Broker{Name: "kafka", Addr: addr, Control: control, Dir: o.Dir, ready: hasBroker}
	conf := filepath.Join(o.Dir, "server.properties")
	err = writeProperties(conf, singleNode(), map[string]string{
		"process.roles":                  roles,
		"node.id":                        strconv.Itoa(id),
		"controller.quorum.voters":       "1@" + control,
		"listeners":                      listeners,
		"controller.listener.names":      "CONTROLLER",
		"listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT",
		"log.dirs":                       b.DataDir(),
	}, o.Properties)
	if err != nil {
		return nil, err
	}
	logging, err := quietLogging(o.Dir)
	if err != nil {
		return nil, err
	}
	heap := o.HeapMB
	if heap == 0 {
		heap = 1024
	}
	jvm := []string{fmt.Sprintf("-Xmx%dm", heap), fmt.Sprintf("-Xms%dm", heap), "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
		"-XX:InitiatingHeapOccupancyPercent=35", "-Djava.awt.headless=true", logging, "-cp", k.BrokerJars + "/*"}
	format := exec.Command(k.Java, append(jvm, "kafka.tools.StorageTool", "format", "-t", ClusterID, "-c", conf)...)
	if out, err := format.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("format %s: %w\n%s", o.Dir, err, out)
	}
	b.launch = func() (*process, error) {
		return startProcess(k.Java, append(jvm, "kafka.Kafka", conf), nil, o.Dir, filepath.Join(o.Dir, "broker.log"))
	}
	return b, nil
}

// StartKafka formats and starts a single-node broker and waits until it takes part in its cluster.
func (k *Kafka) StartKafka(ctx context.Context, o Options) (*Broker, error) {
	b, err := k.NewKafka(o)
	if err != nil {
		return nil, err
	}
	return b, b.start(ctx)
}

// quietLogging writes a log4j configuration that keeps warnings and returns the JVM flag naming it.
func quietLogging(dir string) (string, error) {
	path := filepath.Join(dir, "log4j2.properties")
	lines := []string{
		"status=error", "appender.c.type=Console", "appender.c.name=C", "appender.c.target=SYSTEM_ERR", "appender.c.follow=true",
		"appender.c.layout.type=PatternLayout", "appender.c.layout.pattern=%d %p %c{1} %m%n",
		"rootLogger.level=warn", "rootLogger.appenderRef.c.ref=C",
	}
	return "-Dlog4j2.configurationFile=" + path, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

// hasBroker says whether the cluster at addr names a live broker: Kafka's listener is open before it is unfenced.
func hasBroker(addr string) bool {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RetryTimeout(0), kgo.RequestRetries(0))
	if err != nil {
		return false
	}
	defer cl.Close()
	resp, err := kmsg.NewPtrMetadataRequest().RequestWith(context.Background(), cl)
	return err == nil && len(resp.Brokers) > 0
}
