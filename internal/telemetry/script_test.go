package telemetry

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/twmb/franz-go/pkg/kerr"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

// stepped is a clock that stands still until it is told to go on.
type stepped struct {
	clock.Real
	now time.Time
}

func (s *stepped) Now() time.Time { return s.now }

type world struct {
	t     *testing.T
	m     *Manager
	clock *stepped
	img   *metadata.Image
	ids   byte
	named map[string]metadata.UUID
	subs  map[string]int32
}

func newWorld(t *testing.T, set map[string]string) *world {
	w := &world{t: t, clock: &stepped{now: time.Unix(1_700_000_000, 0)}, img: metadata.Empty("cluster"), named: map[string]metadata.UUID{}, subs: map[string]int32{}}
	w.m = New(Options{Values: config.MustNew(set), Clock: w.clock, NewID: func() metadata.UUID { w.ids++; return metadata.UUID{0: 0xaa, 15: w.ids} }})
	return w
}

// set changes a client-metrics resource: key=value, or key for its removal.
func (w *world) set(name string, pairs []string) {
	d := metadata.NewDelta(w.img)
	for i, p := range pairs {
		r := &schema.ConfigRecord{ResourceType: metadata.ClientMetricsConfig, ResourceName: name}
		k, v, ok := strings.Cut(p, "=")
		if r.Name = k; ok {
			r.Value = &v
		}
		if err := d.Replay(w.img.Offset()+1+int64(i), 1, r); err != nil {
			w.t.Fatal(err)
		}
	}
	w.img = d.Image()
	w.m.OnMetadata(d, w.img)
}

func say(err error) string {
	if err == nil {
		return "ok"
	}
	k := kerr.ErrorForCode(wire.CodeOf(err)).(*kerr.Error)
	return k.Message
}

func compressed(t *testing.T, codec string, b []byte) (int8, []byte) {
	var out bytes.Buffer
	switch codec {
	case "gzip":
		z := gzip.NewWriter(&out)
		_, _ = z.Write(b)
		_ = z.Close()
		return 1, out.Bytes()
	case "lz4":
		z := lz4.NewWriter(&out)
		_, _ = z.Write(b)
		_ = z.Close()
		return 3, out.Bytes()
	case "zstd":
		z, err := zstd.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = z.Write(b)
		_ = z.Close()
		return 4, out.Bytes()
	case "9":
		return 9, b
	}
	return 0, b
}

// Commands:
//
//	new                              settings, one a line
//	set name=                        settings of a client-metrics resource: key=value, or key to remove it
//	wait 1s
//	get as= [client=] [software=] [address=]   as names the instance from then on
//	push as= [terminating] [codec=] [sub=wrong] [zeros=n] [hex=] [id=hex]     the input is OTLP as text
//	page                             what a scraper sees
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		w := newWorld(t, nil)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			w.t = t
			return w.command(d)
		})
	})
}

func arg(d *datadriven.TestData, name, otherwise string) string {
	for _, a := range d.CmdArgs {
		if a.Key == name && len(a.Vals) > 0 {
			return a.Vals[0]
		}
	}
	return otherwise
}

func (w *world) client(d *datadriven.TestData) Client {
	return Client{ID: arg(d, "client", "app"), SoftwareName: arg(d, "software", "apache-kafka-java"), SoftwareVersion: "4.4.0", Address: arg(d, "address", "10.0.0.1"), Port: "1234"}
}

func (w *world) command(d *datadriven.TestData) string {
	switch d.Cmd {
	case "new":
		set := map[string]string{}
		for _, l := range strings.Fields(d.Input) {
			k, v, _ := strings.Cut(l, "=")
			set[k] = v
		}
		*w = *newWorld(w.t, set)
		return ""
	case "set":
		w.set(arg(d, "name", "s"), strings.Fields(d.Input))
		return ""
	case "wait":
		dur, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			w.t.Fatal(err)
		}
		w.clock.now = w.clock.now.Add(dur)
		return ""
	case "get":
		as := arg(d, "as", "a")
		s, err := w.m.Get(w.client(d), w.named[as])
		if err != nil {
			return say(err)
		}
		if w.named[as] != (metadata.UUID{}) && w.named[as] != s.InstanceID {
			w.t.Fatal("the instance has another id than before")
		}
		changed := w.subs[as] != s.ID
		w.named[as], w.subs[as] = s.InstanceID, s.ID
		return fmt.Sprintf("ok every %d ms at most %d bytes, new subscription %v: %q", s.IntervalMs, s.MaxBytes, changed, s.Metrics)
	case "push":
		return w.push(d)
	case "page":
		return w.page()
	}
	w.t.Fatalf("unknown command %s", d.Cmd)
	return ""
}

func (w *world) push(d *datadriven.TestData) string {
	as := arg(d, "as", "a")
	p := Push{InstanceID: w.named[as], Subscription: w.subs[as], Terminating: d.HasArg("terminating")}
	if d.HasArg("sub") {
		p.Subscription++
	}
	if h := arg(d, "id", ""); h != "" {
		b, err := hex.DecodeString(h)
		if err != nil {
			w.t.Fatal(err)
		}
		copy(p.InstanceID[16-len(b):], b)
	}
	data := &metricspb.MetricsData{}
	if err := prototext.Unmarshal([]byte(d.Input), data); err != nil {
		w.t.Fatal(err)
	}
	b, err := proto.Marshal(data)
	if err != nil {
		w.t.Fatal(err)
	}
	if h := arg(d, "hex", ""); h != "" {
		if b, err = hex.DecodeString(h); err != nil {
			w.t.Fatal(err)
		}
	}
	if d.HasArg("zeros") { // an unknown field of so many bytes
		var n int
		d.ScanArgs(w.t, "zeros", &n)
		b = append([]byte{0xfa, 0x01, byte(n)&0x7f | 0x80, byte(n>>7)&0x7f | 0x80, byte(n >> 14)}, make([]byte, n)...)
	}
	p.Codec, p.Metrics = compressed(w.t, arg(d, "codec", ""), b)
	return say(w.m.Push(w.client(d), p))
}

// page is what a scraper sees; a registry checks it as Prometheus would.
func (w *world) page() string {
	fams, err := prometheus.Gatherers{prometheus.NewRegistry(), w.m}.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range fams {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			w.t.Fatal(err)
		}
	}
	var out []string
	for _, l := range strings.Split(b.String(), "\n") {
		if !strings.HasPrefix(l, "# HELP") {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n") + fmt.Sprintf("series %d", w.m.pages.count())
}
