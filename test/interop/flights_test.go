package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ottla/ottla/test/peer"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// flights are 200,000 real flights, one JSON text each. The data set has neither carrier nor date; the distance flown
// stands for the route and is the key.
type flights struct {
	input []byte              // lines key:value, as kcat reads them
	byKey map[string][]string // values in order
	count int
}

func loadFlights(t *testing.T) *flights {
	t.Helper()
	dir, err := nodePackages("node")
	skipOrFail(t, err)
	b, err := os.ReadFile(filepath.Join(dir, "node_modules", "vega-datasets", "data", "flights-200k.json"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []json.RawMessage
	if err := json.Unmarshal(b, &rows); err != nil {
		t.Fatal(err)
	}
	f := &flights{byKey: map[string][]string{}, count: len(rows)}
	for _, r := range rows {
		var flight struct {
			Distance json.Number `json:"distance"`
		}
		if err := json.Unmarshal(r, &flight); err != nil {
			t.Fatal(err)
		}
		f.input = fmt.Appendf(f.input, "%s:%s\n", flight.Distance, r)
		f.byKey[flight.Distance.String()] = append(f.byKey[flight.Distance.String()], string(r))
	}
	if f.count < 200_000 {
		t.Fatalf("only %d flights", f.count)
	}
	return f
}

// collected is what one reader got, by key in order.
type collected map[string][]string

func (f *flights) compare(got collected) error {
	n := 0
	for k, vs := range got {
		n += len(vs)
		want := f.byKey[k]
		for i, v := range vs {
			if i >= len(want) || want[i] != v {
				return fmt.Errorf("key %s: record %d is %q, not what was sent in that place (%d sent, %d read)", k, i, v, len(want), len(vs))
			}
		}
	}
	if n != f.count {
		return fmt.Errorf("%d flights sent, %d read", f.count, n)
	}
	return nil
}

// If this fails, real data written with kcat in some codec does not survive a crash of the broker, or is read back changed,
// out of order or incomplete by the Java console consumer, kafka-python or our own consume command.
func TestFlights(t *testing.T) {
	if testing.Short() {
		t.Skip("200,000 records five times, five kills: not in -short")
	}
	if _, err := exec.LookPath("kcat"); err != nil {
		t.Skip("kcat is not installed (Debian package kcat)")
	}
	f := loadFlights(t)
	ctx := patience(t, 8*time.Minute)
	b, err := startBroker(ctx, filepath.Join(t.TempDir(), "broker"), testProperties)
	skipOrFail(t, err)
	defer func() { b.Kill() }()
	for _, codec := range codecs {
		t.Run(codec, func(t *testing.T) {
			topic := "flights-" + codec
			f.produceThroughKill(t, ctx, b, topic, codec)
			t.Run("java", func(t *testing.T) { f.readJava(t, b, topic) })
			t.Run("kafka-python", func(t *testing.T) { f.readPython(t, b, topic) })
			t.Run("ottla-consume", func(t *testing.T) { f.readOttla(t, b, topic) })
		})
	}
}

// produceThroughKill writes all flights with kcat and kills the broker when about half of them are in; kcat ends with
// success only if every record was acknowledged.
func (f *flights) produceThroughKill(t *testing.T, ctx context.Context, b *peer.Broker, topic, codec string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(ctx, 4, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(ctx, "kcat", "-b", b.Addr, "-P", "-E", "-t", topic, "-K:", "-z", codec, "-X", "enable.idempotence=true", "-X", "acks=all", "-X", "reconnect.backoff.max.ms=200")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	c.Stderr = &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	half := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer in.Close()
		middle := len(f.input)/2 + bytes.IndexByte(f.input[len(f.input)/2:], '\n') + 1
		in.Write(f.input[:middle])
		close(half)
		// The second half goes in slowly, so that the kill falls among records on their way.
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for rest := f.input[middle:]; len(rest) > 0; <-tick.C {
			n := min(len(rest), 8<<10)
			if _, err := in.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
	})
	<-half
	var before int64
	eventually(t, time.Minute, func() error {
		ends, err := adm.ListEndOffsets(ctx, topic)
		if err != nil {
			return err
		}
		before = 0
		ends.Each(func(o kadm.ListedOffset) { before += o.Offset })
		if before < int64(f.count)/3 {
			return fmt.Errorf("%d flights stored", before)
		}
		return nil
	})
	b.Kill()
	if err := b.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("kcat: %v\n%s", err, said.String())
	}
	t.Logf("killed with %d of %d flights stored; kcat had all acknowledged after the restart", before, f.count)
}

func (f *flights) readJava(t *testing.T, b *peer.Broker, topic string) {
	r, err := tools(t).Run(patience(t, 2*time.Minute), toolsPackage+"consumer.ConsoleConsumer", "", "--bootstrap-server", b.Addr, "--topic", topic, "--from-beginning",
		"--max-messages", fmt.Sprint(f.count), "--timeout-ms", "20000", "--formatter-property", "print.key=true", "--formatter-property", "key.separator=:")
	if err != nil {
		t.Fatal(err)
	}
	f.compareLines(t, r.Out)
}

// compareLines takes lines key:value.
func (f *flights) compareLines(t *testing.T, out string) {
	t.Helper()
	got := collected{}
	sc := bufio.NewScanner(strings.NewReader(out))
	for sc.Scan() {
		k, v, _ := strings.Cut(sc.Text(), ":")
		got[k] = append(got[k], v)
	}
	if err := f.compare(got); err != nil {
		t.Fatal(err)
	}
}

func (f *flights) readPython(t *testing.T, b *peer.Broker, topic string) {
	p := library{name: "kafka-python", command: pythonClient("kafka_python_client.py")}.startAt(t, b.Addr)
	got := collected{}
	for _, r := range p.ask(t, command{Cmd: "consume", Topic: topic, Partitions: 4, Count: f.count}).Records {
		got[string(r.K)] = append(got[string(r.K)], string(r.V))
	}
	if err := f.compare(got); err != nil {
		t.Fatal(err)
	}
}

func (f *flights) readOttla(t *testing.T, b *peer.Broker, topic string) {
	bin, err := ottlaBinary()
	skipOrFail(t, err)
	c := exec.CommandContext(patience(t, time.Minute), bin, "consume", topic, "-b", b.Addr, "-o", "start", "-c", fmt.Sprint(f.count), "-f", `%k:%s\n`)
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", c.Args, err, said.String())
	}
	f.compareLines(t, string(out))
}
