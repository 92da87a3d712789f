package peer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// Without this the comparison with Kafka would compare with nothing: the peer starts, its tools reach it, and it comes back after a kill.
func TestKafkaStartsAndToolsReachIt(t *testing.T) {
	if testing.Short() {
		t.Skip("starts JVMs")
	}
	k, err := FetchKafka()
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	b, err := k.StartKafka(ctx, Options{Dir: t.TempDir(), HeapMB: 512})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { b.Kill() }()
	tools, err := k.StartTools()
	if err != nil {
		t.Fatal(err)
	}
	defer tools.Close()
	run := func(class string, args ...string) ToolResult {
		t.Helper()
		r, err := tools.Run(ctx, class, "", append([]string{"--bootstrap-server", b.Addr}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := run("org.apache.kafka.tools.TopicCommand", "--create", "--topic", "t", "--partitions", "3"); r.Status != 0 {
		t.Fatalf("create: %+v", r)
	}
	b.Kill()
	if err := b.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if r := run("org.apache.kafka.tools.TopicCommand", "--list"); !strings.Contains(r.Out, "t\n") {
		t.Fatalf("after kill and restart the topic is gone: %+v", r)
	}
	if r := run("org.apache.kafka.tools.TopicCommand", "--describe", "--topic", "absent"); r.Status == 0 {
		t.Fatalf("describing an absent topic succeeded: %+v", r)
	}
	u, err := b.Usage()
	if err != nil || u.RSSBytes < 50<<20 || u.CPUSeconds < 0.5 {
		t.Fatalf("usage %+v, %v: not that of a JVM that just started", u, err)
	}
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
}
