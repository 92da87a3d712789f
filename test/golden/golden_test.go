// Package golden runs a recorder of Kafka's wire behaviour, given from outside, against a broker and counts the answers
// that differ from what Apache Kafka answered. It knows how to build and call that program and which settings its
// recording was made with; it must never know what the recorded behaviours are.
//
// GOLDEN_DIR names the program's source directory; beside it lie behaviours/golden.jsonl and behaviours/broker.properties.
// Without it the test is skipped: the project's own tests hold the same facts. GOLDEN_RUN narrows the groups (a regular
// expression), GOLDEN_TARGET=kafka runs Apache Kafka instead, GOLDEN_ALLOWED is the number of differences that pass.
package golden

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ottla/ottla/test/peer"
)

// settings reads the recording's properties and moves its addresses to free ports and its directories below dir.
// Names of classes that only the recording broker had stay as they are: a broker ignores them with a warning.
func settings(t *testing.T, file, dir string) (props map[string]string, plain, sasl string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ports := map[string]string{}
	moved := regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllStringFunc(string(b), func(addr string) string {
		if ports[addr] == "" {
			p, err := peer.FreePort()
			if err != nil {
				t.Fatal(err)
			}
			ports[addr] = "127.0.0.1:" + strconv.Itoa(p)
		}
		return ports[addr]
	})
	props = map[string]string{}
	for _, line := range strings.Split(moved, "\n") {
		if k, v, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			props[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	}
	var dirs []string
	for i := range strings.Split(props["log.dirs"], ",") {
		dirs = append(dirs, filepath.Join(dir, "data"+strconv.Itoa(i)))
	}
	props["log.dirs"] = strings.Join(dirs, ",")
	for _, l := range strings.Split(props["listeners"], ",") {
		name, addr, _ := strings.Cut(l, "://")
		switch name {
		case "PLAINTEXT":
			plain = addr
		case "SASL_PLAINTEXT":
			sasl = addr
		}
	}
	if plain == "" {
		t.Fatalf("%s has no PLAINTEXT listener", file)
	}
	return props, plain, sasl
}

func start(t *testing.T, ctx context.Context, file string) (b *peer.Broker, sasl string) {
	t.Helper()
	dir := t.TempDir()
	props, plain, sasl := settings(t, file, dir)
	o := peer.Options{Dir: dir, Properties: props, HeapMB: 768}
	var err error
	if os.Getenv("GOLDEN_TARGET") == "kafka" {
		// A static voter instead of the recording's bootstrap address; and its metrics plug-in is not among the jars.
		props["controller.quorum.voters"] = "1@" + props["controller.quorum.bootstrap.servers"]
		delete(props, "controller.quorum.bootstrap.servers")
		delete(props, "metric.reporters")
		var k *peer.Kafka
		if k, err = peer.FetchKafka(); err == nil {
			b, err = k.NewKafka(o)
		}
	} else {
		// One process of ours is broker and controller on its own; there is no listener to give the controller.
		for _, k := range []string{"listeners", "listener.security.protocol.map"} {
			props[k] = regexp.MustCompile(`CONTROLLER:(//)?[^,]*,?`).ReplaceAllString(props[k], "")
		}
		delete(props, "controller.listener.names")
		delete(props, "controller.quorum.bootstrap.servers")
		var bin string
		if bin, err = peer.BuildOttla(t.TempDir()); err == nil {
			b, err = peer.NewOttla(bin, o)
		}
	}
	if errors.Is(err, peer.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.Addr = plain
	if err := b.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	return b, sasl
}

// If this fails, a client that relies on how Apache Kafka answers in some corner gets another answer here.
func TestGolden(t *testing.T) {
	dir := os.Getenv("GOLDEN_DIR")
	if dir == "" {
		t.Skip("GOLDEN_DIR names no recorder")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	bin := filepath.Join(t.TempDir(), "golden")
	build := exec.CommandContext(ctx, "go", "build", "-o", bin, ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	facts := filepath.Join(dir, "..", "behaviours")
	b, sasl := start(t, ctx, filepath.Join(facts, "broker.properties"))
	defer func() { b.Kill() }()
	args := []string{"-bootstrap", b.Addr, "-sasl", sasl, "-diff", filepath.Join(facts, "golden.jsonl")}
	if re := os.Getenv("GOLDEN_RUN"); re != "" {
		args = append(args, "-run", re)
	}
	run := exec.CommandContext(ctx, bin, args...)
	run.Dir = dir
	out, err := run.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if !b.Alive() {
		t.Errorf("the broker died:\n%s", b.Output())
	}
	report(t, string(out))
}

// report prints the differences group by group and fails beyond the allowed number.
func report(t *testing.T, out string) {
	t.Helper()
	groups, broken, total := map[string][]string{}, []string{}, ""
	sc := bufio.NewScanner(strings.NewReader(out))
	sc.Buffer(nil, 16<<20)
	n := 0
	for sc.Scan() {
		line := sc.Text()
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "FAIL ") && len(f) > 1:
			id := strings.TrimSuffix(f[1], ":")
			group, _, _ := strings.Cut(id, ".")
			groups[group] = append(groups[group], id)
			n++
		case strings.HasPrefix(line, "GROUP BROKEN"):
			broken = append(broken, line)
		case strings.Contains(line, " passed, "):
			total = line
		}
	}
	if file := os.Getenv("GOLDEN_REPORT"); file != "" {
		if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
			t.Error(err)
		}
	}
	names := make([]string, 0, len(groups))
	for g := range groups {
		names = append(names, g)
	}
	sort.Strings(names)
	for _, g := range names {
		fmt.Printf("%-20s %3d differ: %s\n", g, len(groups[g]), strings.Join(groups[g], " "))
	}
	for _, l := range broken {
		fmt.Println(l)
	}
	fmt.Println("golden:", total)
	allowed, _ := strconv.Atoi(os.Getenv("GOLDEN_ALLOWED"))
	if total == "" || n > allowed {
		t.Errorf("%d answers differ, %d allowed; GOLDEN_REPORT=FILE keeps the details", n, allowed)
	}
}
