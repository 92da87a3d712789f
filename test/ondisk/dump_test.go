package ondisk

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/ottla/ottla/test/peer"
)

const dumper = "org.apache.kafka.tools.DumpLogSegments"

// dump runs Kafka's dump tool over files of one kind and fails where it complains.
type dump struct {
	t     *testing.T
	ctx   context.Context
	tools *peer.Tools
	dir   string
}

func (d dump) files(pattern string) []string {
	d.t.Helper()
	files, err := filepath.Glob(filepath.Join(d.dir, pattern))
	must(d.t, err)
	if len(files) == 0 {
		d.t.Errorf("there is no file %s", pattern)
	}
	return files
}

// complaints are what the tool prints, with exit status 0, about files that it finds wrong.
var complaints = regexp.MustCompile(`(?i)mismatch|not found|out of order|corrupt|invalid|exception|found timestamp|non-consecutive|could not|isvalid: false|bytes at the end|error`)

func (d dump) run(pattern string, args ...string) string {
	d.t.Helper()
	files := d.files(pattern)
	if len(files) == 0 {
		return ""
	}
	r, err := d.tools.Run(d.ctx, dumper, "", append(args, "--files", strings.Join(files, ","))...)
	must(d.t, err)
	if bad := complaints.FindString(r.Out + r.Stderr); r.Status != 0 || bad != "" {
		at := max(strings.Index(r.Out, bad)-200, 0)
		d.t.Errorf("%s %v: status %d, %q in\n%s\n%s", pattern, args, r.Status, bad, short(r.Out[at:]), short(r.Stderr))
	}
	return r.Out
}

// If this fails, Kafka's own tools cannot be used on our files, and no Kafka could be started on them.
func TestKafkaDumpsOurFiles(t *testing.T) {
	k := kafka(t)
	bin, err := peer.BuildOttla(t.TempDir())
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	b, err := peer.StartOttla(ctx, bin, peer.Options{Dir: t.TempDir(), Properties: map[string]string{"node.id": "1"}})
	must(t, err)
	defer func() { b.Kill() }()
	fill(t, ctx, b.Addr)
	must(t, b.Stop())
	tools, err := k.StartTools()
	must(t, err)
	defer tools.Close()
	dumpAll(t, dump{t, ctx, tools, b.DataDir()})

	// What a recovery after a kill has made is read just so.
	must(t, b.Restart(ctx))
	rounds(t, ctx, client(t, b.Addr), "codecs", 1, 3, 100)
	b.Kill()
	must(t, b.Restart(ctx))
	listed, err := kadm.NewClient(client(t, b.Addr)).ListEndOffsets(ctx, "codecs")
	must(t, err)
	if o, _ := listed.Lookup("codecs", 1); o.Offset != 69 {
		t.Errorf("codecs-1 ends at %d after a kill, not at 69", o.Offset)
	}
	must(t, b.Stop())
	d := dump{t, ctx, tools, b.DataDir()}
	d.run("*/*.log")
	d.run("*/*.index", "--index-sanity-check")
	d.run("*/*.timeindex", "--index-sanity-check")
	d.run("[a-z]*/*.snapshot")
}

func dumpAll(t *testing.T, d dump) {
	t.Helper()
	out := d.run("codecs-*/*.log", "--print-data-log")
	if n := strings.Count(out, "| offset: "); n != 5*20*3 {
		t.Errorf("the tool finds %d records in codecs, not 300", n)
	}
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		if n := strings.Count(out, "compresscodec: "+codec); n != 20 {
			t.Errorf("the tool finds %d batches of codec %s, not 20", n, codec)
		}
	}
	if n := len(d.files("rolled-0/*.log")); n != 3 {
		t.Errorf("rolled has %d segments, not the 3 that its 3 MB are in segments of 1 MiB", n)
	}
	d.run("rolled-0/00000000000000000000.log", "--deep-iteration") // of one that begins higher the tool says that -1 is followed by its base, of Kafka's own too
	for _, args := range [][]string{{"--index-sanity-check"}, {"--verify-index-only"}, nil} {
		for _, kind := range []string{"*/*.index", "*/*.timeindex"} {
			d.run(kind, args...)
		}
	}
	indexed := regexp.MustCompile(`(?m)^offset: \d+ position: \d+`).FindAllString(d.run("rolled-0/*.index"), -1)
	if len(indexed) < 250 {
		t.Errorf("the indexes of rolled have %d entries for its 300 batches of more than index.interval.bytes", len(indexed))
	}
	timesOfRolled(t, d)
	producers := d.run("codecs-1/*.snapshot")
	if !strings.Contains(producers, "lastSequence: 59") && !strings.Contains(producers, "seq=59") {
		t.Errorf("the producer snapshot does not tell of the last sequence 59:\n%s", short(producers))
	}
	offsets := d.run("__consumer_offsets-*/*.log", "--offsets-decoder")
	for _, g := range []string{group, groupNext} {
		for p := range 5 {
			key := `"group":"` + g + `","topic":"codecs","partition":` + strconv.Itoa(p)
			if !strings.Contains(offsets, key) {
				t.Errorf("the tool does not find the offset of %s in codecs-%d", g, p)
			}
		}
	}
	if !strings.Contains(offsets, `"offset":60`) {
		t.Error("the tool finds no committed offset 60")
	}
	records := d.run("__cluster_metadata-0/*.log", "--cluster-metadata-decoder")
	for _, want := range []string{"LeaderChange", `"REGISTER_BROKER_RECORD"`, `"TOPIC_RECORD"`, `"name":"codecs"`, `"PARTITION_RECORD"`, `"CONFIG_RECORD"`} {
		if !strings.Contains(records, want) {
			t.Errorf("the tool finds no %s in the metadata log", want)
		}
	}
	if files, _ := filepath.Glob(filepath.Join(d.dir, "__cluster_metadata-0/*.checkpoint")); len(files) > 0 {
		d.run("__cluster_metadata-0/*.checkpoint", "--cluster-metadata-decoder")
	}
}

// timesOfRolled checks that the time index of every segment ends with its largest time, as Kafka's does: Kafka and we take a
// segment's age from there.
func timesOfRolled(t *testing.T, d dump) {
	t.Helper()
	entry := regexp.MustCompile(`(?m)^timestamp: (\d+) offset: (\d+)`)
	last := entry.FindAllStringSubmatch(d.run("rolled-0/*.timeindex"), -1)
	var ends []string
	for i, e := range last {
		if i == len(last)-1 || len(e[2]) > len(last[i+1][2]) {
			ends = append(ends, e[1])
		}
	}
	want := strconv.FormatInt(epochMs+299*1000+9, 10)
	if len(ends) == 0 || ends[len(ends)-1] != want {
		t.Errorf("the last time in the indexes of rolled is %v, not %s", ends, want)
	}
	if info, err := os.Stat(filepath.Join(d.dir, "rolled-0", "00000000000000000000.timeindex")); err != nil || info.Size()%12 != 0 {
		t.Errorf("the first time index is not whole entries: %v %v", info.Size(), err)
	}
}
