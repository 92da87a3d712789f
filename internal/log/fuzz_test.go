package log

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/vfs"
)

// The small files beside a log are read after whatever a disk or an editor has made of them: nothing panics, and what is read is
// written and read again as it was.
func FuzzSmallFiles(f *testing.F) {
	f.Add([]byte("0\n2\ntopic 0 17\ntopic 1 0\n"))
	f.Add([]byte("0\n2\n0 0\n3 17\n"))
	f.Add([]byte("version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ"))
	f.Add([]byte("version=1\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAQ\n"))
	f.Add(appendAborted(nil, abortedEntry{1, 2, 3, 4}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if at, err := parseOffsets(b); err == nil {
			var lines []offsetLine
			for tp, v := range at {
				lines = append(lines, offsetLine{tp, v})
			}
			again, err := parseOffsets(appendOffsets(nil, lines))
			if err != nil || len(again) != len(at) {
				t.Fatalf("%d offsets are %d when read again: %v", len(at), len(again), err)
			}
		}
		if entries, err := parseEpochs(b); err == nil {
			again, err := parseEpochs(appendEpochs(nil, entries))
			if err != nil || len(again) != len(entries) {
				t.Fatalf("%d epochs are %d when read again: %v", len(entries), len(again), err)
			}
		}
		if id, err := parsePartitionMeta(b); err == nil {
			if again, err := parsePartitionMeta(appendPartitionMeta(nil, id)); err != nil || again != id {
				t.Fatalf("topic id %x is %x when read again: %v", id, again, err)
			}
		}
		if entries, err := parseAborted(b, 0); err == nil {
			var again []byte
			for _, e := range entries {
				again = appendAborted(again, e)
			}
			if !bytes.Equal(again, b) {
				t.Fatal("a transaction index is another when written again")
			}
		}
		_, _ = parseDirID(b)
		if tp, ok := parseDirName(string(b)); ok && tp.String() != string(b) {
			t.Fatalf("directory %q is of %v", b, tp)
		}
		if len(b) >= 10 { // the checksum would keep the fuzzer out
			c := bytes.Clone(b)
			binary.BigEndian.PutUint16(c, 1)
			binary.BigEndian.PutUint32(c[2:], crc32.Checksum(c[6:], castagnoli))
			_, _ = parseSnapshot(c)
		}
	})
}

// A partition's directory that holds anything at all opens or is refused, and serves nothing but whole batches.
func FuzzPartitionDir(f *testing.F) {
	whole := batch(1, 0, "a", "b")
	record.SetBaseOffset(whole, 0)
	second := batch(1, 2, "c")
	record.SetBaseOffset(second, 2)
	both := append(bytes.Clone(whole), second...)
	index := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 2), uint32(len(whole)))
	times := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, 1_600_000_000_000), 2)
	f.Add(both, index, times, appendAborted(nil, abortedEntry{1, 0, 2, 3}), []byte("0\n1\n0 0\n"), true)
	f.Add(both[:len(both)-3], index, times, []byte{}, []byte("0\n1\n7 0\n"), false)
	f.Add(append(bytes.Clone(both), make([]byte, 200)...), index[:3], times, []byte{1}, []byte("x"), false)
	f.Fuzz(func(t *testing.T, data, index, times, txns, epochs []byte, clean bool) {
		disk := vfs.NewMem()
		if err := disk.MkdirAll("/data/t-0", 0o755); err != nil {
			t.Fatal(err)
		}
		put := func(name string, content []byte) {
			if err := writeFile(disk, "/data/"+name, content, false); err != nil {
				t.Fatal(err)
			}
		}
		id := [16]byte{15: 1}
		put("t-0/"+partitionMetaFile, appendPartitionMeta(nil, id))
		for suffix, content := range map[string][]byte{".log": data, ".index": index, ".timeindex": times, ".txnindex": txns} {
			put("t-0/00000000000000000000"+suffix, content)
		}
		put("t-0/leader-epoch-checkpoint", epochs)
		if clean {
			put(cleanShutdownFile, []byte(`{"version":0,"brokerEpoch":-1}`))
			put(recoveryPointFile, appendOffsets(nil, []offsetLine{{TopicPartition{"t", 0}, 3}}))
		}
		m, err := NewManager(ManagerOptions{FS: disk, Clock: clock.Real{}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Dirs: []string{"/data"},
			JournalFiles: 2, JournalFileBytes: 64 << 10, CheckpointInterval: time.Hour, Cleaner: CleanerOptions{Disabled: true}})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = m.Close(context.Background()) }()
		l, err := m.Open(TopicPartition{"t", 0}, id, Config{SegmentBytes: 1 << 20, Delete: true, RetentionMs: -1, RetentionBytes: -1}, "")
		if err != nil {
			return
		}
		for at := l.LogStartOffset(); at < l.LogEnd().Offset; {
			s, err := l.Read(at, 1<<20, l.LogEnd(), true)
			if err != nil || s.Len() == 0 {
				break
			}
			b := make([]byte, s.Len())
			_, err = s.ReadAt(b, 0)
			s.Release()
			if err != nil {
				t.Fatal(err)
			}
			it := record.NewBatchIter(b)
			for {
				one, h, ok, err := it.Next()
				if err != nil {
					t.Fatalf("what is served is no batch: %v", err)
				}
				if !ok {
					break
				}
				if !record.CheckCRC(one) {
					t.Fatalf("a batch with a wrong checksum was served at %d", h.BaseOffset)
				}
				if h.NextOffset() <= at {
					t.Fatalf("offset %d was served twice", h.BaseOffset)
				}
				at = h.NextOffset()
			}
		}
		_, _, _ = l.OffsetForTimestamp(0, l.LogEnd())
		l.AbortedTxns(0, l.LogEnd().Offset)
		w := newWatch(l)
		info, err := l.Append(batch(-1, -1, "after"), AppendOptions{Now: 1_600_000_000_000})
		if err != nil {
			return
		}
		if err := w.wait(info.LastOffset + 1); err != nil {
			t.Fatal(err)
		}
	})
}
