package config

import (
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

var update = flag.Bool("update", false, "write docs/configs.md")

// The reference page says what the table says.
func TestDocs(t *testing.T) {
	const name = "../../docs/configs.md"
	want := Markdown()
	if *update {
		if err := os.MkdirAll("../../docs", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil || string(got) != want {
		t.Fatalf("%s is not current (%v): go test ./internal/config -run TestDocs -update", name, err)
	}
}

func TestLoad(t *testing.T) {
	datadriven.Walk(t, "testdata/load", func(t *testing.T, path string) {
		l := &Loader{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "file":
				var name string
				d.ScanArgs(t, "name", &name)
				l.File(name, []byte(d.Input))
				return ""
			case "env":
				l.Env(strings.Split(d.Input, "\n"))
				return ""
			case "set":
				l.Set(strings.Split(d.Input, "\n"))
				return ""
			case "result":
				values, warnings, err := l.Result()
				*l = Loader{}
				var out []string
				for n, v := range values {
					out = append(out, fmt.Sprintf("%s=%s", n, v))
				}
				sort.Strings(out)
				for _, w := range warnings {
					out = append(out, "warning: "+w)
				}
				for _, p := range AsProblems(err) {
					out = append(out, "refused: "+p.Error())
				}
				return strings.Join(out, "\n") + "\n"
			}
			d.Fatalf(t, "unknown command")
			return ""
		})
	})
}

func FuzzFile(f *testing.F) {
	f.Add("a.yaml", []byte("log:\n  retention:\n    hours: 3\nlisteners: [PLAINTEXT://:1, B://:2]\n"))
	f.Add("a.yaml", []byte("a: &x [*x]\n"))
	f.Add("server.properties", []byte("log.retention.hours=3\nlisteners = PLAINTEXT://:9092 \\\n  ,B://:1\n#x\n"))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		l := &Loader{}
		l.File(name, content)
		values, _, err := l.Result()
		if err != nil {
			return
		}
		if _, err := New(values); err != nil {
			t.Fatalf("the loader took what New refuses: %v", err)
		}
	})
}

func TestNearest(t *testing.T) {
	for in, want := range map[string]string{"log.retention.hour": "log.retention.hours", "listener": "listeners", "num.partition": "num.partitions", "advertised.listners": "advertised.listeners",
		"log.retention.sm": "log.retention.ms", "zzzzzzzzzz": ""} {
		if got := Nearest(Broker, in); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

// A broker must start where the tools' own variable is set, and in a container beside a service that is called ottla.
func TestEnvironmentOfOthers(t *testing.T) {
	var l Loader
	l.Env([]string{
		"OTTLA_BOOTSTRAP=localhost:9092", "OTTLA_LOG_RETENTION_HOURS=3", "HOME=/root",
		"OTTLA_PORT=tcp://10.0.0.1:9092", "OTTLA_SERVICE_HOST=10.0.0.1", "OTTLA_SERVICE_PORT=9092", "OTTLA_SERVICE_PORT_KAFKA=9092",
		"OTTLA_PORT_9092_TCP=tcp://10.0.0.1:9092", "OTTLA_PORT_9092_TCP_ADDR=10.0.0.1", "OTTLA_PORT_9092_TCP_PORT=9092", "OTTLA_PORT_9092_TCP_PROTO=tcp",
		"OTTLA_HEADLESS_SERVICE_HOST=10.0.0.1",
	})
	got, _, err := l.Result()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got["log.retention.hours"] != "3" {
		t.Errorf("settings %v", got)
	}
	l.Env([]string{"OTTLA_LOG_RETENTION_HUORS=3"})
	if _, _, err = l.Result(); err == nil || !strings.Contains(err.Error(), "log.retention.hours") {
		t.Errorf("a slip of the pen is told as %v", err)
	}
}
