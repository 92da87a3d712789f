package store

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/ottla/ottla/internal/vfs"
)

func seed(f *testing.F, name string) []byte {
	b, err := os.ReadFile(filepath.Join("testdata/kafka-4.4", name))
	if err != nil {
		f.Fatal(err)
	}
	return b
}

func FuzzMeta(f *testing.F) {
	f.Add(seed(f, MetaFile))
	f.Add([]byte("version=1\nnode.id=1\ncluster.id=x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMeta(b)
		if err != nil || m.NodeID < 0 || m.ClusterID == "" {
			return
		}
		again, err := ParseMeta(m.Append(nil))
		if err != nil {
			t.Fatalf("%q: %v", m.Append(nil), err)
		}
		if again.NodeID != m.NodeID || again.DirectoryID != m.DirectoryID || len(again.extra) != len(m.extra) {
			t.Fatalf("%+v became %+v", m, again)
		}
	})
}

func FuzzQuorumState(f *testing.F) {
	f.Add(seed(f, "quorum-state"))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := ParseQuorumState(b)
		if err != nil {
			return
		}
		out, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseQuorumState(out)
		if err != nil || !reflect.DeepEqual(q, again) {
			t.Fatalf("%s: %+v, %v", out, again, err)
		}
	})
}

// Whatever stands in a log or a snapshot: no panic, no large allocation, and what opens stays usable.
func FuzzLog(f *testing.F) {
	log := seed(f, segmentName(0))
	cp := seed(f, checkpointName(0, 0))
	f.Add(log[:2000], cp)
	f.Add(log[:700], []byte{})
	f.Fuzz(func(t *testing.T, log, snapshot []byte) {
		dir := t.TempDir()
		at := filepath.Join(dir, LogDir)
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, segmentName(0)), log, 0o600); err != nil {
			t.Fatal(err)
		}
		if len(snapshot) > 0 {
			if err := os.WriteFile(filepath.Join(at, checkpointName(9, 1)), snapshot, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(options(vfs.OS{}, dir))
		if err != nil {
			return
		}
		before := s.Image().TopicCount()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s, err = Open(options(vfs.OS{}, dir))
		if err != nil {
			t.Fatalf("opened once, not again: %v", err)
		}
		if s.Image().TopicCount() != before {
			t.Fatalf("%d topics, then %d", before, s.Image().TopicCount())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
