package interop

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ottla/ottla/test/peer"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// shareProperties shorten leases; dead-letter topics are made when they are needed.
var shareProperties = map[string]string{
	"group.share.min.record.lock.duration.ms": "1000", "group.share.min.heartbeat.interval.ms": "500", "group.share.heartbeat.interval.ms": "500",
	"group.share.min.session.timeout.ms": "2000", "group.share.session.timeout.ms": "3000",
	"errors.deadletterqueue.auto.create.topics.enable": "true",
}

// shareBroker is a broker for one test of share groups.
func shareBroker(t *testing.T) *peer.Broker {
	t.Helper()
	if testing.Short() {
		t.Skip("real clients against a broker process: not in -short")
	}
	b, err := startBroker(patience(t, time.Minute), t.TempDir(), shareProperties)
	skipOrFail(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the broker said:\n%s", b.Output())
		}
		_ = b.Stop()
	})
	return b
}

func shareClient(t *testing.T, b *peer.Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.Addr)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// configureGroup sets configs of a group.
func configureGroup(t *testing.T, cl *kgo.Client, group string, configs map[string]string) {
	t.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
	for k, v := range configs {
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Value = k, &v
		res.Configs = append(res.Configs, c)
	}
	req.Resources = append(req.Resources, res)
	resp, err := req.RequestWith(patience(t, 20*time.Second), cl)
	if err != nil {
		t.Fatal(err)
	}
	if r := resp.Resources[0]; r.ErrorCode != 0 {
		t.Fatalf("configs of group %s: %v %v", group, kerr.ErrorForCode(r.ErrorCode), r.ErrorMessage)
	}
}

// needShareGroups skips where the broker does not form share groups.
func needShareGroups(t *testing.T, cl *kgo.Client) {
	t.Helper()
	v, err := kadm.NewClient(cl).ApiVersions(patience(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range v {
		if _, ok := b.KeyMaxVersion(76); !ok {
			t.Skip("the broker announces no ShareGroupHeartbeat")
		}
	}
}

// outcomes gathers what members of a share group said of records.
type outcomes struct {
	mu    sync.Mutex
	done  map[string]map[string]int // value -> what -> times, answered by the broker
	tried map[string]int            // acknowledgements without an answer yet, by value
}

func newOutcomes() *outcomes {
	return &outcomes{done: map[string]map[string]int{}, tried: map[string]int{}}
}

func (o *outcomes) add(line string) {
	f := strings.Fields(line)
	if len(f) != 6 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	value, what := f[5], f[1]
	switch f[0] {
	case "got":
		o.tried[value]++
	case "done":
		o.tried[value]--
		if o.done[value] == nil {
			o.done[value] = map[string]int{}
		}
		o.done[value][what]++
	}
}

func (o *outcomes) count(value, what string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.done[value][what]
}

// unsure says that somebody acknowledged the value and never heard what became of it.
func (o *outcomes) unsure(value string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tried[value] > 0
}

// javaMember is a process of the Java share consumer.
type javaMember struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	end chan struct{}
}

func startJavaMember(t *testing.T, o *outcomes, b *peer.Broker, group, topic, mode string) *javaMember {
	t.Helper()
	k, err := peer.FetchKafka()
	skipOrFail(t, err)
	src, err := os.ReadFile(clientFile("java", "ShareClient.java"))
	if err != nil {
		t.Fatal(err)
	}
	classes, err := peer.CompileJava("ShareClient", src, k.BrokerJars)
	skipOrFail(t, err)
	m := &javaMember{end: make(chan struct{})}
	m.cmd = exec.Command(k.Java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=error", "-cp", classes+":"+k.BrokerJars+"/*",
		"ShareClient", b.Addr, group, topic, mode, "max.poll.records=50")
	errs, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	m.cmd.Stderr = errs
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if m.in, err = m.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(m.end)
		for s := bufio.NewScanner(out); s.Scan(); {
			o.add(s.Text())
			if strings.HasPrefix(s.Text(), "failed") {
				fmt.Fprintln(errs, s.Text())
			}
		}
		_ = m.cmd.Wait()
		errs.Close()
	}()
	t.Cleanup(func() {
		m.stop(t)
		if t.Failed() {
			text, _ := os.ReadFile(errs.Name())
			t.Logf("a member said:\n%s", text)
		}
	})
	return m
}

// stop has the member leave its group; a second time it does nothing.
func (m *javaMember) stop(t *testing.T) {
	m.in.Close()
	select {
	case <-m.end:
	case <-time.After(30 * time.Second):
		t.Error("a member does not close")
		_ = m.cmd.Process.Kill()
		<-m.end
	}
}

// letters are the records of a share group's test, and what becomes of them.
func shareLetters(n int) (values []string, fate map[string]string) {
	fate = map[string]string{}
	for i := range n {
		v, what := fmt.Sprintf("v-%d", i), "accept"
		switch {
		case i%40 == 3:
			v, what = fmt.Sprintf("reject-%d", i), "dead"
		case i == 17 || i == n/2:
			v, what = fmt.Sprintf("release-%d", i), "dead"
		case i%60 == 5:
			v = fmt.Sprintf("once-%d", i)
		case i%100 == 7:
			v = fmt.Sprintf("renew-%d", i)
		}
		values = append(values, v)
		fate[v] = what
	}
	return values, fate
}

func produceLetters(t *testing.T, cl *kgo.Client, topic string, values []string) {
	t.Helper()
	records := make([]*kgo.Record, len(values))
	for i, v := range values {
		records[i] = &kgo.Record{Topic: topic, Key: []byte(fmt.Sprint("k", i%20)), Value: []byte(v), Headers: []kgo.RecordHeader{{Key: "n", Value: []byte(fmt.Sprint(i))}}}
	}
	if err := cl.ProduceSync(patience(t, 30*time.Second), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// Java share consumers in both acquire modes, one of them killed, renewals, retries, records that nobody can use: every record is
// accepted by one member, or is in the dead-letter topic.
func TestShareGroupOfJavaMembers(t *testing.T) {
	b := shareBroker(t)
	cl := shareClient(t, b)
	needShareGroups(t, cl)
	const group, topic, dead = "letters", "letters", "dlq.letters"
	if _, err := kadm.NewClient(cl).CreateTopic(patience(t, 20*time.Second), 3, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	configureGroup(t, cl, group, map[string]string{"share.auto.offset.reset": "earliest", "share.record.lock.duration.ms": "2000",
		"errors.deadletterqueue.topic.name": dead, "errors.deadletterqueue.copy.record.enable": "true"})
	values, fate := shareLetters(1500)
	o := newOutcomes()
	produceLetters(t, cl, topic, values[:500])
	var members []*javaMember
	for _, mode := range []string{"batch_optimized", "record_limit", "batch_optimized"} {
		members = append(members, startJavaMember(t, o, b, group, topic, mode))
	}
	accounted := func(values []string) (missing []string) {
		for _, v := range values {
			if fate[v] == "accept" && o.count(v, "accept") == 0 && !o.unsure(v) || strings.HasPrefix(v, "reject") && o.count(v, "reject") == 0 && !o.unsure(v) {
				missing = append(missing, v)
			}
		}
		return missing
	}
	eventually(t, 60*time.Second, func() error { return none(accounted(values[:500])) })
	produceLetters(t, cl, topic, values[500:])
	eventually(t, 60*time.Second, func() error {
		if len(accounted(values[500:])) > 800 {
			return errors.New("nobody has got anything")
		}
		return nil
	})
	_ = members[0].cmd.Process.Kill()
	eventually(t, 90*time.Second, func() error { return none(accounted(values)) })
	for _, v := range values {
		if n := o.count(v, "accept"); n > 1 {
			t.Errorf("%s was accepted %d times", v, n)
		}
	}
	letters := readLetters(t, b, dead, fate)
	for _, v := range values {
		if (fate[v] == "dead") != (letters[v] > 0) {
			t.Errorf("%s should be %s; dead letters of it: %d, accepted %d", v, fate[v], letters[v], o.count(v, "accept"))
		}
	}
	for _, m := range members {
		m.stop(t)
	}
	redriveLetters(t, b, topic, dead, letters)
}

// redriveLetters has the dead letters copied back, once, with keys and headers.
func redriveLetters(t *testing.T, b *peer.Broker, topic, dead string, letters map[string]int) {
	t.Helper()
	n := 0
	for _, times := range letters {
		n += times
	}
	adm := kadm.NewClient(shareClient(t, b))
	before, err := adm.ListEndOffsets(patience(t, 20*time.Second), topic)
	if err != nil {
		t.Fatal(err)
	}
	bin, err := peer.BuildOttla(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ottla := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(patience(t, 60*time.Second), bin, append([]string{"-b", b.Addr, "dlq"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("ottla dlq %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	wantLines(t, ottla("list"), fmt.Sprintf(`^%s +%d +0$`, dead, n))
	wantLines(t, ottla("show", dead, "-c", "0"), `^\d+@\d+ +letters-\d@\d+ +letters +\d +Offset rejected by client\. +"k\d+" +"reject-\d+" +false$`)
	wantLines(t, ottla("redrive", dead, "--dry-run"), fmt.Sprintf("^%d letters would be copied", n))
	wantLines(t, ottla("redrive", dead), fmt.Sprintf("^%d letters copied", n))
	wantLines(t, ottla("redrive", dead), "^0 letters copied")
	wantLines(t, ottla("list"), fmt.Sprintf(`^%s +%d +%d$`, dead, n, n))
	from := map[int32]kgo.Offset{}
	before.Each(func(o kadm.ListedOffset) { from[o.Partition] = kgo.NewOffset().At(o.Offset) })
	cl := shareClient(t, b, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	got := map[string]int{}
	for ctx := patience(t, 30*time.Second); n > 0; {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d redriven records are missing", n)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			n--
			got[string(r.Value)]++
			if len(r.Headers) != 2 || r.Headers[0].Key != "n" || r.Headers[1].Key != "ottla.redriven.from" || len(r.Key) == 0 {
				t.Errorf("%s came back with key %q, headers %v", r.Value, r.Key, r.Headers)
			}
		})
	}
	for v, times := range letters {
		if got[v] != times {
			t.Errorf("%s was redriven %d times, there are %d letters", v, got[v], times)
		}
	}
}

// none is an error that names what is missing, nil where nothing is.
func none(missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("still missing: %s", strings.Join(missing, " "))
}

// readLetters reads a dead-letter topic until it holds what is fated to be there.
func readLetters(t *testing.T, b *peer.Broker, topic string, fate map[string]string) map[string]int {
	t.Helper()
	cl := shareClient(t, b, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	want := 0
	for _, f := range fate {
		if f == "dead" {
			want++
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	letters := map[string]int{}
	for len(letters) < want {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Errorf("%d dead letters, want %d", len(letters), want)
			return letters
		}
		fetches.EachRecord(func(r *kgo.Record) {
			letters[string(r.Value)]++
			h := map[string]string{}
			for _, x := range r.Headers {
				h[x.Key] = string(x.Value)
			}
			reason, count := "Offset rejected by client.", "1"
			if strings.HasPrefix(string(r.Value), "release") {
				reason, count = "Offset delivery count exceeded the threshold.", "5"
			}
			if h["__dlq.errors.message"] != reason || h["__dlq.errors.delivery.count"] < count || h["__dlq.errors.topic"] == "" || h["__dlq.errors.offset"] == "" {
				t.Errorf("headers of %s: %v", r.Value, h)
			}
		})
	}
	return letters
}

// franz-go's share consumer: the same promise.
func TestShareGroupOfFranzMembers(t *testing.T) {
	b := shareBroker(t)
	cl := shareClient(t, b)
	needShareGroups(t, cl)
	const group, topic = "franz", "franz"
	if _, err := kadm.NewClient(cl).CreateTopic(patience(t, 20*time.Second), 4, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	configureGroup(t, cl, group, map[string]string{"share.auto.offset.reset": "earliest", "share.record.lock.duration.ms": "2000"})
	const n = 2000
	var values []string
	for i := range n {
		values = append(values, fmt.Sprintf("v-%d", i))
	}
	produceLetters(t, cl, topic, values)
	var mu sync.Mutex
	accepted := map[string]int{}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	left := func() int { mu.Lock(); defer mu.Unlock(); return n - len(accepted) }
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			member := shareClient(t, b, kgo.ConsumeTopics(topic), kgo.ShareGroup(group), kgo.ShareMaxRecords(60))
			for left() > 0 && ctx.Err() == nil {
				poll, stop := context.WithTimeout(ctx, 300*time.Millisecond)
				fetches := member.PollFetches(poll)
				stop()
				fetches.EachRecord(func(r *kgo.Record) {
					if (int(r.Offset)+i)%9 == 0 && r.DeliveryCount() == 1 {
						r.Ack(kgo.AckRelease)
						return
					}
					r.Ack(kgo.AckAccept)
					mu.Lock()
					accepted[string(r.Value)]++
					mu.Unlock()
				})
				if err := member.FlushAcks(ctx); err != nil && ctx.Err() == nil {
					t.Errorf("acknowledgements: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if left() > 0 {
		t.Fatalf("%d of %d records were given to nobody", left(), n)
	}
	for v, times := range accepted {
		if times > 1 {
			t.Errorf("%s was accepted %d times", v, times)
		}
	}
}
