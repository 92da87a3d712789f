package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/vfs"
	"github.com/ottla/ottla/internal/wire/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func options(f vfs.FS, dir string) Options {
	n := uint64(1000)
	return Options{FS: f, Clock: clock.Real{}, Logger: quiet(), LogDirs: []string{dir}, NodeID: -1,
		NewID:     func() (id metadata.UUID) { n++; binary.BigEndian.PutUint64(id[8:], n); return id },
		Endpoints: []metadata.Endpoint{{Name: "CONTROLLER", Host: "localhost", Port: 9093}},
		Bootstrap: []metadata.Versioned{metadata.Newest(&schema.FeatureLevelRecord{Name: metadata.MetadataVersion, FeatureLevel: 33})}}
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func topicRecord(n int) metadata.Versioned {
	return metadata.Newest(&schema.TopicRecord{Name: fmt.Sprintf("topic-%d", n), TopicID: metadata.UUID{1, byte(n >> 16), byte(n >> 8), byte(n)}})
}

// propose commits records and gives their base offset.
func propose(t testing.TB, s *Store, records ...metadata.Versioned) int64 {
	t.Helper()
	type result struct {
		base int64
		err  error
	}
	ch := make(chan result)
	s.Propose(records, func(base int64, err error) { ch <- result{base, err} })
	r := <-ch
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.base
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNewClusterAndRestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, options(vfs.OS{}, dir))
	if !s.IsNew() || s.NodeID() != 1 || s.ClusterID() == "" || s.Image().Feature(metadata.MetadataVersion) != 33 || s.Image().ControllerID() != 1 {
		t.Fatalf("%+v", s)
	}
	next := s.Image().Offset() + 1
	for i := range 5 {
		if base := propose(t, s, topicRecord(2*i), topicRecord(2*i+1)); base != next {
			t.Fatalf("base %d, want %d", base, next)
		}
		next += 2
	}
	if s.Committed() != next {
		t.Fatal(s.Committed())
	}
	cluster, dirID, epoch := s.ClusterID(), s.DirectoryID(dir), s.Epoch()
	closeStore(t, s)

	s = open(t, options(vfs.OS{}, dir))
	defer closeStore(t, s)
	if s.IsNew() || s.ClusterID() != cluster || s.DirectoryID(dir) != dirID || s.Epoch() != epoch+1 || s.Image().TopicCount() != 10 {
		t.Fatalf("after a restart: %q %x epoch %d, %d topics", s.ClusterID(), s.DirectoryID(dir), s.Epoch(), s.Image().TopicCount())
	}
	if got := s.Image().Offset(); got != next { // the change of leadership took one
		t.Fatalf("offset %d, want %d", got, next)
	}
	propose(t, s, topicRecord(100))
	q, err := os.ReadFile(filepath.Join(dir, LogDir, "quorum-state"))
	if err != nil || !strings.Contains(string(q), fmt.Sprintf(`"leaderEpoch":%d`, s.Epoch())) {
		t.Fatalf("%s %v", q, err)
	}
}

// Snapshots stand for the log: what is before the older of two goes away, and a start needs only what is left.
func TestSnapshotsAndSegments(t *testing.T) {
	dir := t.TempDir()
	o := options(vfs.OS{}, dir)
	o.SegmentBytes, o.SnapshotBytes = 2000, 3000
	s := open(t, o)
	d := metadata.NewDelta(s.Image())
	for i := range 300 {
		base := propose(t, s, topicRecord(i))
		if err := d.Replay(base, s.Epoch(), topicRecord(i).Message); err != nil {
			t.Fatal(err)
		}
		img := d.Image()
		d = metadata.NewDelta(img)
		s.MaybeSnapshot(img)
	}
	closeStore(t, s)
	segments, checkpoints, parts, err := listDir(vfs.OS{}, filepath.Join(dir, LogDir))
	if err != nil || len(parts) != 0 {
		t.Fatal(parts, err)
	}
	if len(checkpoints) != 2 || segments[0] == 0 {
		t.Fatalf("%d checkpoints, first segment %d", len(checkpoints), segments[0])
	}
	for _, damage := range []string{"nothing", "newest snapshot"} {
		if damage == "newest snapshot" {
			newest := max(checkpoints[0].end, checkpoints[1].end)
			for _, c := range checkpoints {
				if c.end == newest {
					if err := os.Truncate(filepath.Join(dir, LogDir, checkpointName(c.end, c.epoch)), 700); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		s = open(t, o)
		if n := s.Image().TopicCount(); n != 300 {
			t.Errorf("%s damaged: %d topics", damage, n)
		}
		closeStore(t, s)
	}
}

// A torn end is cut; damage in the middle stops the start and says where.
func TestDamagedLog(t *testing.T) {
	dir := t.TempDir()
	s := open(t, options(vfs.OS{}, dir))
	var ends []int64
	for i := range 4 {
		propose(t, s, topicRecord(i))
		ends = append(ends, s.end)
	}
	closeStore(t, s)
	name := filepath.Join(dir, LogDir, segmentName(0))
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for cut := ends[2] + 1; cut < ends[3]; cut += 7 {
		if err := os.WriteFile(name, append(bytes.Clone(whole[:cut]), bytes.Repeat([]byte{0xee}, int(cut%3)*100)...), 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, options(vfs.OS{}, dir))
		if n := s.Image().TopicCount(); n != 3 {
			t.Fatalf("cut at %d: %d topics", cut, n)
		}
		propose(t, s, topicRecord(9))
		closeStore(t, s)
		s = open(t, options(vfs.OS{}, dir))
		if s.Image().Topic("topic-9") == nil {
			t.Fatalf("cut at %d: what was written after the cut is gone", cut)
		}
		closeStore(t, s)
	}
	bad := bytes.Clone(whole)
	bad[ends[1]-5] ^= 1
	if err := os.WriteFile(name, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(options(vfs.OS{}, dir))
	if err == nil || !strings.Contains(err.Error(), "damaged at byte") {
		t.Fatalf("opened a damaged log: %v", err)
	}
}

func TestIdentity(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	o := options(vfs.OS{}, a)
	o.NodeID = 7
	s := open(t, o)
	cluster := s.ClusterID()
	closeStore(t, s)
	refuse := func(what, want string, o Options) {
		t.Helper()
		if s, err := Open(o); err == nil {
			closeStore(t, s)
			t.Errorf("%s: opened", what)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	o.NodeID = 8
	refuse("another node", "node 7", o)
	o.NodeID, o.ClusterID = 7, "other"
	refuse("another cluster", "cluster other", o)
	o.ClusterID, o.LogDirs = "", []string{a, b}
	s = open(t, o)
	if s.ClusterID() != cluster || s.DirectoryID(b) == s.DirectoryID(a) {
		t.Errorf("a second directory: cluster %s", s.ClusterID())
	}
	closeStore(t, s)
	meta, err := os.ReadFile(filepath.Join(a, MetaFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b, MetaFile), meta, 0o600); err != nil {
		t.Fatal(err)
	}
	refuse("a copied directory", "copy", o)
	if err := os.WriteFile(filepath.Join(b, MetaFile), []byte("version=9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuse("a strange file", "version", o)
}

// What Apache Kafka 4.4 wrote opens here: the whole log, and a snapshot with a log that ends before it.
func TestKafkaDirectory(t *testing.T) {
	for _, withSnapshot := range []bool{false, true} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, LogDir), 0o755); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir("testdata/kafka-4.4")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), "1.checkpoint") && !withSnapshot {
				continue
			}
			content, err := os.ReadFile(filepath.Join("testdata/kafka-4.4", e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			to := filepath.Join(dir, LogDir, e.Name())
			if e.Name() == MetaFile {
				to = filepath.Join(dir, MetaFile)
			}
			if err := os.WriteFile(to, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := open(t, options(vfs.OS{}, dir))
		img := s.Image()
		if s.ClusterID() != "xfY3EKTrQeG012bi25rb2w" || s.NodeID() != 1 || s.IsNew() || s.Epoch() != 12 {
			t.Fatalf("cluster %s node %d epoch %d", s.ClusterID(), s.NodeID(), s.Epoch())
		}
		if img.Feature(metadata.MetadataVersion) != 33 || img.Feature("share.version") != 2 || img.Config(metadata.BrokerConfig, "")["min.insync.replicas"] != "1" {
			t.Errorf("features %v, configs %v", img.Features(), img.Config(metadata.BrokerConfig, ""))
		}
		b := img.Broker(1)
		if b == nil || len(b.Endpoints) != 2 || b.Endpoints[1].Port != 19194 || len(b.LogDirs) != 2 {
			t.Errorf("broker %+v", b)
		}
		want := int64(329) // the last record of the sample's log
		if withSnapshot {
			want = 7213
		}
		if img.Offset() != want+1 {
			t.Errorf("offset %d, want %d", img.Offset(), want+1)
		}
		propose(t, s, topicRecord(1))
		closeStore(t, s)
		s = open(t, options(vfs.OS{}, dir))
		if s.Image().TopicCount() != 1 {
			t.Error("the topic is gone")
		}
		closeStore(t, s)
	}
}

// A transaction whose writer is gone is aborted, so that later records count.
func TestUnfinishedTransaction(t *testing.T) {
	dir := t.TempDir()
	s := open(t, options(vfs.OS{}, dir))
	propose(t, s, metadata.Newest(&schema.BeginTransactionRecord{}), topicRecord(1))
	closeStore(t, s)
	s = open(t, options(vfs.OS{}, dir))
	propose(t, s, topicRecord(2))
	closeStore(t, s)
	s = open(t, options(vfs.OS{}, dir))
	defer closeStore(t, s)
	if s.Image().Topic("topic-1") != nil || s.Image().Topic("topic-2") == nil {
		t.Fatal("records of the transaction or after it")
	}
}

func TestReadCommitted(t *testing.T) {
	o := options(vfs.OS{}, t.TempDir())
	o.SegmentBytes = 3000
	s := open(t, o)
	defer closeStore(t, s)
	for i := range 100 {
		propose(t, s, topicRecord(i), topicRecord(1000+i))
	}
	at, batches := int64(0), 0
	for {
		b, end, err := s.Read(at, 500)
		if err != nil || end != s.Committed() {
			t.Fatal(end, err)
		}
		if len(b) == 0 {
			break
		}
		d := int64(binary.BigEndian.Uint64(b))
		if d != at {
			t.Fatalf("batch of offset %d at %d", d, at)
		}
		for len(b) > 0 {
			size := 12 + int(binary.BigEndian.Uint32(b[8:]))
			at = int64(binary.BigEndian.Uint64(b)) + int64(binary.BigEndian.Uint32(b[23:])) + 1
			b = b[size:]
			batches++
		}
	}
	if at != s.Committed() || batches != 102 {
		t.Fatalf("read to %d in %d batches, committed %d", at, batches, s.Committed())
	}
	if b, _, err := s.Read(at-1, 1); err != nil || int64(binary.BigEndian.Uint64(b)) != at-2 {
		t.Fatal("a batch is found by any of its offsets", err)
	}
	if _, _, err := s.Read(at+1, 1); err == nil {
		t.Fatal("read beyond the end")
	}
}

func BenchmarkOpen1000Topics(b *testing.B) {
	dir := b.TempDir()
	s := open(b, options(vfs.OS{}, dir))
	for i := range 1000 {
		propose(b, s, topicRecord(i), metadata.Newest(&schema.PartitionRecord{TopicID: topicRecord(i).Message.(*schema.TopicRecord).TopicID, Replicas: []int32{1}, Isr: []int32{1}}))
	}
	closeStore(b, s)
	for b.Loop() {
		s := open(b, options(vfs.OS{}, dir))
		b.StopTimer()
		closeStore(b, s)
		b.StartTimer()
	}
}
