package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ottla/ottla/test/peer"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// opticks is a real text that every Go installation has: Newton's Opticks, 9,000 lines.
func opticks(t *testing.T) []string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip(err)
	}
	b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "src", "testdata", "Isaac.Newton-Opticks.txt"))
	if err != nil {
		t.Skip(err)
	}
	return strings.Split(string(b), "\n")
}

func countWords(lines []string) map[string]int64 {
	counts := map[string]int64{}
	for _, l := range lines {
		for _, w := range strings.FieldsFunc(strings.ToLower(l), func(r rune) bool { return r < 'a' || r > 'z' }) {
			counts[w]++
		}
	}
	return counts
}

// app is one running instance of the word count.
type app struct {
	cmd *exec.Cmd
	dir string

	mu    sync.Mutex
	state string
	said  bytes.Buffer
}

// startWordCount starts an instance of clients/java/WordCount.java.
func startWordCount(t *testing.T, in, out string, settings ...string) *app {
	t.Helper()
	jars, err := peer.FetchStreams()
	skipOrFail(t, err)
	src, err := os.ReadFile(clientFile("java", "WordCount.java"))
	if err != nil {
		t.Fatal(err)
	}
	classes, err := peer.CompileJava("WordCount", src, jars)
	skipOrFail(t, err)
	a := &app{dir: t.TempDir()}
	args := append([]string{
		"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", classes + ":" + jars + "/*", "WordCount", in, out,
		"bootstrap.servers=" + broker(t).Addr, "state.dir=" + a.dir, "replication.factor=1",
	}, settings...)
	a.cmd = exec.Command("java", args...)
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	a.cmd.Stderr = &a.said
	stdout, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		sc := bufio.NewScanner(stdout)
		for sc.Scan() {
			if s, ok := strings.CutPrefix(sc.Text(), "STATE "); ok {
				a.mu.Lock()
				a.state = s
				a.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() {
		a.cmd.Process.Kill()
		wg.Wait()
		a.cmd.Wait()
		if t.Failed() {
			t.Logf("instance %v said:\n%s", settings, a.said.String())
		}
	})
	return a
}

func (a *app) runs() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state != "RUNNING" {
		return fmt.Errorf("the instance is %q", a.state)
	}
	return nil
}

// stop ends the instance as a user does. The published client now and then does not come to an end, with Apache Kafka as
// well: it is killed then, and the group has to notice.
func (a *app) stop(t *testing.T) {
	t.Helper()
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		a.mu.Lock()
		ended := a.state == "NOT_RUNNING"
		a.mu.Unlock()
		if ended {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Log("the instance does not end and is killed")
			a.cmd.Process.Kill()
			return
		}
	}
}

// isEmpty waits until a group has no member.
func isEmpty(t *testing.T, group string) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		listed, err := admin(t).ListGroups(patience(t, 10*time.Second))
		if err == nil && listed[group].State != "Empty" {
			err = fmt.Errorf("the group is %q", listed[group].State)
		}
		return err
	})
}

func produceLines(t *testing.T, topic string, lines []string) {
	t.Helper()
	cl := client(t, kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	var rs []*kgo.Record
	for _, l := range lines {
		rs = append(rs, kgo.StringRecord(l))
	}
	if err := cl.ProduceSync(patience(t, time.Minute), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// lastCounts reads a topic of counts from its beginning to its end: the last value of every key.
func lastCounts(ctx context.Context, addr, topic string, committed bool) (map[string]int64, error) {
	opts := []kgo.Opt{kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}
	if committed {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	got := map[string]int64{}
	for {
		// Transactions leave markers at the end, so that the end cannot be waited for: a second of silence is it.
		quiet, cancel := context.WithTimeout(ctx, time.Second)
		fs := cl.PollFetches(quiet)
		cancel()
		if fs.NumRecords() == 0 {
			return got, ctx.Err()
		}
		fs.EachRecord(func(r *kgo.Record) { got[string(r.Key)] = int64(binary.BigEndian.Uint64(r.Value)) })
	}
}

func wantCounts(t *testing.T, topic string, want map[string]int64, committed bool) {
	t.Helper()
	ctx := patience(t, 2*time.Minute)
	eventually(t, 2*time.Minute, func() error {
		got, err := lastCounts(ctx, broker(t).Addr, topic, committed)
		if err != nil || maps.Equal(got, want) {
			return err
		}
		differ := []string{}
		for w, n := range want {
			if got[w] != n {
				differ = append(differ, fmt.Sprintf("%s: %d, not %d", w, got[w], n))
			}
		}
		slices.Sort(differ)
		return fmt.Errorf("%d words of %d, %d differ: %v", len(got), len(want), len(differ), differ[:min(len(differ), 5)])
	})
}

// allCommitted waits until a group has committed everything that is in a topic.
func allCommitted(t *testing.T, group, topic string) {
	t.Helper()
	adm := admin(t)
	ctx := patience(t, time.Minute)
	eventually(t, time.Minute, func() error {
		ends, err := adm.ListEndOffsets(ctx, topic)
		if err != nil {
			return err
		}
		commits, err := adm.FetchOffsets(ctx, group)
		if err != nil {
			return err
		}
		var left []string
		ends.Each(func(e kadm.ListedOffset) {
			c, ok := commits.Lookup(e.Topic, e.Partition)
			if e.Offset > 0 && (!ok || c.At < e.Offset) {
				left = append(left, fmt.Sprintf("%s-%d at %d of %d", e.Topic, e.Partition, c.At, e.Offset))
			}
		})
		if len(left) > 0 {
			return fmt.Errorf("not committed: %v", left)
		}
		return nil
	})
}

// streamsGroups are the two ways in which an application's instances can share their work.
var streamsProtocols = map[string][]string{
	"streams": {"group.protocol=streams"},
	"classic": {"group.protocol=classic", "session.timeout.ms=6000", "heartbeat.interval.ms=1000"},
}

// Kafka Streams as published counts the words of a real text, in either group protocol; an instance that dies without a
// word is taken over by another, from its committed offsets and changelogs, and the counts are those of the text.
func TestStreamsWordCount(t *testing.T) {
	lines := opticks(t)
	broker(t)
	for name, settings := range streamsProtocols {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, out, id := createTopic(t, 4, nil), createTopic(t, 4, nil), fresh("wordcount")
			settings = append(slices.Clone(settings), "application.id="+id)
			half := len(lines) / 2
			produceLines(t, in, lines[:half])
			first := startWordCount(t, in, out, settings...)
			second := startWordCount(t, in, out, settings...)
			for _, a := range []*app{first, second} {
				eventually(t, 2*time.Minute, a.runs)
			}
			wantCounts(t, out, countWords(lines[:half]), false)
			// At least once means that what is not committed is counted again by the next instance: that is for the
			// test of exactly once.
			allCommitted(t, id, in)
			allCommitted(t, id, id+"-words-repartition")
			first.cmd.Process.Kill()
			produceLines(t, in, lines[half:])
			wantCounts(t, out, countWords(lines), false)
		})
	}
}

// announces tells whether the broker has an API.
func announces(t *testing.T, key int16) bool {
	t.Helper()
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(patience(t, 10*time.Second), client(t))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(resp.ApiKeys, func(k kmsg.ApiVersionsResponseApiKey) bool { return k.ApiKey == key })
}

// With exactly_once_v2 an instance may die in the middle of its work: nothing is counted twice, in either protocol.
func TestStreamsExactlyOnce(t *testing.T) {
	lines := opticks(t)
	broker(t)
	const endTxn = 26
	if !announces(t, endTxn) {
		t.Skip("the broker has no transactions yet")
	}
	for name, settings := range streamsProtocols {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, out, id := createTopic(t, 4, nil), createTopic(t, 4, nil), fresh("exactcount")
			settings = append(slices.Clone(settings), "application.id="+id, "processing.guarantee=exactly_once_v2", "transaction.timeout.ms=10000", "max.poll.records=100")
			first := startWordCount(t, in, out, settings...)
			second := startWordCount(t, in, out, settings...)
			for _, a := range []*app{first, second} {
				eventually(t, 2*time.Minute, a.runs)
			}
			half := len(lines) / 2
			produceLines(t, in, lines[:half])
			ctx := patience(t, time.Minute)
			eventually(t, time.Minute, func() error {
				got, err := lastCounts(ctx, broker(t).Addr, out, true)
				if err == nil && len(got) < 100 {
					err = fmt.Errorf("%d words", len(got))
				}
				return err
			})
			produceLines(t, in, lines[half:])
			first.cmd.Process.Kill()
			wantCounts(t, out, countWords(lines), true)
		})
	}
}

// streamsRoles counts the tasks of a streams group that its members have, by role.
func streamsRoles(t *testing.T, group string) (active, standby, members int) {
	t.Helper()
	req := kmsg.NewPtrStreamsGroupDescribeRequest()
	req.Groups = []string{group}
	resp, err := req.RequestWith(patience(t, 10*time.Second), client(t))
	if err != nil || len(resp.Groups) != 1 || resp.Groups[0].ErrorCode != 0 {
		t.Fatalf("describe %s: %v %+v", group, err, resp)
	}
	for _, m := range resp.Groups[0].Members {
		members++
		for _, a := range m.Assignment.ActiveTasks {
			active += len(a.Partitions)
		}
		for _, s := range m.Assignment.StandbyTasks {
			standby += len(s.Partitions)
		}
	}
	return active, standby, members
}

// With standby replicas asked for by the group's configuration, a second instance keeps copies of the state; what the
// first one did goes on there when it is killed.
func TestStreamsStandbys(t *testing.T) {
	lines := opticks(t)[:2000]
	in, out, id := createTopic(t, 2, nil), createTopic(t, 2, nil), fresh("standbycount")
	tool(t, "kafka.admin.ConfigCommand", "", "--alter", "--entity-type", "groups", "--entity-name", id, "--add-config", "streams.num.standby.replicas=1")
	produceLines(t, in, lines[:1000])
	settings := []string{"group.protocol=streams", "application.id=" + id}
	first := startWordCount(t, in, out, append(settings, "application.server=one:1")...)
	second := startWordCount(t, in, out, append(settings, "application.server=two:2")...)
	for _, a := range []*app{first, second} {
		eventually(t, 2*time.Minute, a.runs)
	}
	// Four tasks; the two that count have state.
	eventually(t, time.Minute, func() error {
		if active, standby, members := streamsRoles(t, id); active != 4 || standby != 2 || members != 2 {
			return fmt.Errorf("%d active and %d standby tasks of %d members", active, standby, members)
		}
		return nil
	})
	wantCounts(t, out, countWords(lines[:1000]), false)
	allCommitted(t, id, in)
	allCommitted(t, id, id+"-words-repartition")
	first.cmd.Process.Kill()
	produceLines(t, in, lines[1000:])
	wantCounts(t, out, countWords(lines), false)
	eventually(t, time.Minute, func() error {
		if active, standby, members := streamsRoles(t, id); active != 4 || standby != 0 || members != 1 {
			return fmt.Errorf("%d active and %d standby tasks of %d members", active, standby, members)
		}
		return nil
	})
}

// An application moves from the classic protocol to the streams one and back, stopped in between: it goes on from its
// offsets and state.
func TestStreamsMigration(t *testing.T) {
	lines := opticks(t)[:3000]
	in, out, id := createTopic(t, 2, nil), createTopic(t, 2, nil), fresh("movingcount")
	for i, protocol := range []string{"classic", "streams", "classic"} {
		produceLines(t, in, lines[i*1000:(i+1)*1000])
		a := startWordCount(t, in, out, append(slices.Clone(streamsProtocols[protocol]), "application.id="+id)...)
		eventually(t, 2*time.Minute, a.runs)
		wantCounts(t, out, countWords(lines[:(i+1)*1000]), false)
		allCommitted(t, id, in)
		allCommitted(t, id, id+"-words-repartition")
		wantLines(t, tool(t, toolsPackage+"GroupsCommand", "", "--list"), "(?i)^"+id+" +"+protocol)
		a.stop(t)
		isEmpty(t, id)
	}
}
