// Package ops tries the commands that move partitions and save clusters on real processes: three nodes of Apache Kafka, and Ottla killed in
// the middle. It knows the command line; it must never know what is behind it.
package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottla/ottla/internal/cli"
	"github.com/ottla/ottla/test/peer"
)

// run is one command; it gives what it printed.
func run(t *testing.T, addr string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	env := cli.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }, Program: "ottla"}
	if code := cli.Execute(ctx, env, append([]string{"--bootstrap", addr}, args...)); code != 0 {
		return out.String(), errors.New(errs.String())
	}
	return out.String(), nil
}

func ok(t *testing.T, addr string, args ...string) string {
	t.Helper()
	out, err := run(t, addr, args...)
	if err != nil {
		t.Fatalf("ottla %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func refused(t *testing.T, addr, want string, args ...string) {
	t.Helper()
	if _, err := run(t, addr, args...); err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("ottla %s: %v; it should say %q", strings.Join(args, " "), err, want)
	}
}

func replicas(t *testing.T, adm *kadm.Client, topic string) map[int32][]int32 {
	t.Helper()
	ts, err := adm.ListTopics(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	out := map[int32][]int32{}
	for _, p := range ts[topic].Partitions {
		out[p.Partition] = p.Replicas
	}
	return out
}

// full: the disk of a machine that runs tests may be as full as it likes.
const full = "--disk-percent=100"

type row struct {
	ID      int32 `json:"id"`
	Copies  int   `json:"copies"`
	Leaders int   `json:"leaders"`
}

func brokers(t *testing.T, addr string) map[int32]row {
	t.Helper()
	var rows []row
	if err := json.Unmarshal([]byte(ok(t, addr, "broker", "list", "-o", "json")), &rows); err != nil {
		t.Fatal(err)
	}
	out := map[int32]row{}
	for _, r := range rows {
		out[r.ID] = r
	}
	return out
}

// On three nodes of Apache Kafka: an uneven topic is evened out, a broker is emptied and filled as it was, what cannot be is refused before
// anything moves.
func TestVerbsOnKafka(t *testing.T) {
	if testing.Short() {
		t.Skip("starts JVMs")
	}
	k, err := peer.FetchKafka()
	if errors.Is(err, peer.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	nodes, err := k.NewKafkaCluster(3, peer.Options{Dir: t.TempDir(), HeapMB: 384})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if err := n.Restart(ctx); err != nil {
			t.Fatal(err)
		}
		defer n.Kill()
	}
	addr := nodes[0].Addr
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	for len(brokers(t, addr)) < 3 {
		if ctx.Err() != nil {
			t.Fatal("three brokers did not come")
		}
	}
	if got, err := adm.CreateTopics(ctx, 6, 2, nil, "t"); err != nil || got.Error() != nil {
		t.Fatal(err, got.Error())
	}
	for i := range 60 {
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Key: fmt.Append(nil, i), Value: bytes.Repeat([]byte("x"), 1000)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	plan := func(name string) string { return "--plan=" + filepath.Join(dir, name) }

	// Everything on 1 and 2, led by 1.
	uneven := kadm.AlterPartitionAssignmentsReq{}
	for p := range int32(6) {
		uneven.Assign("t", p, []int32{1, 2})
	}
	if _, err := adm.AlterPartitionAssignments(ctx, uneven); err != nil {
		t.Fatal(err)
	}
	for brokers(t, addr)[3].Copies > 0 {
		if ctx.Err() != nil {
			t.Fatal("the uneven placement did not come")
		}
	}
	if out := ok(t, addr, "balance", "run", full, "--dry-run", plan("b")); !strings.Contains(out, "would move") {
		t.Errorf("a dry run says %q", out)
	}
	if brokers(t, addr)[3].Copies > 0 {
		t.Error("a dry run has moved something")
	}
	ok(t, addr, "balance", "run", full, plan("b"), "--at-once", "2", "--throttle", "100000000")
	for id, b := range brokers(t, addr) {
		if b.Copies < 3 || b.Copies > 5 {
			t.Errorf("broker %d has %d of 12 copies", id, b.Copies)
		}
	}
	if out := ok(t, addr, "balance", "plan", full); !strings.Contains(out, "0 partitions would move") {
		t.Errorf("after evening out there is more to do:\n%s", out)
	}

	before := replicas(t, adm, "t")
	ok(t, addr, "broker", "drain", "3", full, plan("d"))
	if n := brokers(t, addr)[3].Copies; n != 0 {
		t.Errorf("%d copies are left on the drained broker", n)
	}
	ok(t, addr, "broker", "undrain", "3", plan("d"))
	for p, have := range replicas(t, adm, "t") {
		if !slices.Equal(have, before[p]) {
			t.Errorf("after the undo partition %d is on %v, not on %v", p, have, before[p])
		}
	}
	ok(t, addr, "balance", "undo", plan("b"))
	for p, have := range replicas(t, adm, "t") {
		if !slices.Equal(have, []int32{1, 2}) {
			t.Errorf("after the undo partition %d is on %v", p, have)
		}
	}
	copiesAndUpgrades(ctx, t, addr, adm, plan)
}

func copiesAndUpgrades(ctx context.Context, t *testing.T, addr string, adm *kadm.Client, plan func(string) string) {
	t.Helper()
	ok(t, addr, "topic", "reassign", "t", "--replication-factor", "3", full, plan("r"))
	for p, have := range replicas(t, adm, "t") {
		if len(have) != 3 {
			t.Errorf("partition %d is on %v", p, have)
		}
	}
	refused(t, addr, "topic t partition 0", "broker", "drain", "3", full, plan("x"))
	refused(t, addr, "still has copies, first of topic t", "broker", "remove", "3")
	if out := ok(t, addr, "upgrade", "plan"); !strings.Contains(out, "[2 3 1]") {
		t.Errorf("the order of restarts is not the controller's last:\n%s", out)
	}
	ok(t, addr, "upgrade", "finalize", "--dry-run")
	min := "3"
	if _, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "min.insync.replicas", Value: &min}}, "t"); err != nil {
		t.Fatal(err)
	}
	refused(t, addr, "topic t partition 0 would have 2 copies", "upgrade", "plan")
}
