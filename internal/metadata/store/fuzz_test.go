package store

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/ottla/ottla/internal/record"
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

// lazyFS is the real file system without its waiting for the disk.
type lazyFS struct{ vfs.OS }

func (lazyFS) SyncDir(string) error { return nil }

func (f lazyFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	file, err := f.OS.OpenFile(name, flag, perm)
	return lazyFile{file}, err
}

type lazyFile struct{ vfs.File }

func (lazyFile) Sync() error { return nil }

// seal makes the checksums of what looks like batches right, so that the fuzzer gets past them.
func seal(b []byte) []byte {
	b = bytes.Clone(b)
	for at := 0; at+record.HeaderSize <= len(b); {
		h, err := record.ParseHeader(b[at:])
		if err != nil || h.Size() < record.HeaderSize || at+h.Size() > len(b) {
			break
		}
		record.SetCRC(b[at : at+h.Size()])
		at += h.Size()
	}
	return b
}

// Whatever stands in a log or a snapshot: no panic, no large allocation, and what opens stays usable.
func FuzzLog(f *testing.F) {
	log := seed(f, segmentName(0))
	cp := seed(f, checkpointName(0, 0))
	f.Add(log[:2000], cp)
	f.Add(log[:700], []byte{})
	f.Fuzz(func(t *testing.T, log, snapshot []byte) {
		log, snapshot = seal(log), seal(snapshot)
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
		s, err := Open(options(lazyFS{}, dir))
		if err != nil {
			return
		}
		before := s.Image().TopicCount()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s, err = Open(options(lazyFS{}, dir))
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
