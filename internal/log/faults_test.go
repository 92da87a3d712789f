package log

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/vfs"
)

// slowManager writes no checkpoint files by itself, so that a crash finds those of its start.
func slowManager(t *testing.T, fs vfs.FS, dirs ...string) *Manager {
	t.Helper()
	return slowManagerAt(t, fs, clock.Real{}, dirs...)
}

func slowManagerAt(t *testing.T, fs vfs.FS, c clock.Clock, dirs ...string) *Manager {
	t.Helper()
	m, err := NewManager(ManagerOptions{FS: fs, Clock: c, Logger: slog.New(slog.DiscardHandler), Dirs: dirs,
		JournalFiles: 3, JournalFileBytes: 256 << 10, DirectThresholdBytes: 32 << 10, CheckpointInterval: time.Hour, DiskReserveBytes: 1,
		Cleaner: CleanerOptions{Backoff: time.Hour, MapBytes: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	return m
}

func put(t *testing.T, l *Log, values ...string) {
	t.Helper()
	w := newWatch(l)
	info, err := l.Append(batch(-1, 0, values...), AppendOptions{Origin: Coordinator})
	if err != nil {
		t.Fatal(err)
	}
	if l.cfg.Load().Flush == FlushFsync {
		if err := w.wait(info.LastOffset + 1); err != nil {
			t.Fatal(err)
		}
	}
}

func open(t *testing.T, m *Manager, id byte, cfg Config) *Log {
	t.Helper()
	l, err := m.Open(TopicPartition{"t", 0}, [16]byte{id}, cfg, "/data")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// powerCut is the disk without anything that was not synced.
func powerCut(d *vfs.Mem) *vfs.Mem {
	return d.CrashClone(rand.New(rand.NewSource(1)), vfs.CrashOptions{})
}

// If this fails, a topic deleted and made again loses what was acknowledged to it, to the old topic's recovery point.
func TestNewTopicOldPoints(t *testing.T) {
	disk := vfs.NewMem()
	m := slowManager(t, disk, "/data")
	l := open(t, m, 1, DefaultConfig())
	for range 20 {
		put(t, l, "old")
	}
	closeManager(t, m)
	m = slowManager(t, disk, "/data")
	open(t, m, 1, DefaultConfig())
	if err := m.Delete(TopicPartition{"t", 0}); err != nil {
		t.Fatal(err)
	}
	put(t, open(t, m, 2, DefaultConfig()), "new")
	crashed := powerCut(disk)
	closeManager(t, m)
	m = slowManager(t, crashed, "/data")
	defer closeManager(t, m)
	if got := contents(t, open(t, m, 2, DefaultConfig())); got[0] != "new" {
		t.Fatalf("acknowledged to the new topic, gone after a power cut; found %v", got)
	}
}

// If this fails, a lost checkpoint file costs a log whose first segments went by retention.
func TestPointsFilesLost(t *testing.T) {
	disk := vfs.NewMem()
	m := slowManager(t, disk, "/data")
	l := open(t, m, 1, DefaultConfig())
	put(t, l, "a")
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
	put(t, l, "b")
	if _, err := l.DeleteRecords(1); err != nil {
		t.Fatal(err)
	}
	closeManager(t, m)
	for _, f := range []string{recoveryPointFile, logStartFile, cleanShutdownFile} {
		if err := disk.Remove(path.Join("/data", f)); err != nil {
			t.Fatal(err)
		}
	}
	m = slowManager(t, disk, "/data")
	defer closeManager(t, m)
	if got := contents(t, open(t, m, 1, DefaultConfig())); got[1] != "b" {
		t.Fatalf("the log was thrown away: %v", got)
	}
}

// If this fails, the journal writes over what compaction has put in a segment's place.
func TestReplayAfterCompaction(t *testing.T) {
	disk := vfs.NewMem()
	m := slowManager(t, disk, "/data")
	cfg := DefaultConfig()
	cfg.Compact, cfg.Delete = true, false
	l := open(t, m, 1, cfg)
	for i := range 10 {
		put(t, l, fmt.Sprint("same key ", i))
	}
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
	put(t, l, "active")
	c := &cleaner{m: m, o: m.o.Cleaner, clean: map[TopicPartition]int64{}, failed: map[*Log]bool{}}
	segs, _ := c.cleanable(l)
	if err := c.pass(context.Background(), l, segs, 0); err != nil {
		t.Fatal(err)
	}
	want := contents(t, l)
	crashed := powerCut(disk)
	closeManager(t, m)
	m = slowManager(t, crashed, "/data")
	defer closeManager(t, m)
	if got := contents(t, open(t, m, 1, cfg)); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("after the power cut %v, before %v", got, want)
	}
}

// If this fails, what is acknowledged after a topic left the page-cache mode hangs behind a hole.
func TestPageCacheThenFsync(t *testing.T) {
	disk := vfs.NewMem()
	m := slowManager(t, disk, "/data")
	cfg := DefaultConfig()
	cfg.Flush = FlushPageCache
	l := open(t, m, 1, cfg)
	put(t, l, "loose")
	l.UpdateConfig(DefaultConfig())
	put(t, l, "promised")
	crashed := powerCut(disk)
	closeManager(t, m)
	m = slowManager(t, crashed, "/data")
	defer closeManager(t, m)
	if got := contents(t, open(t, m, 1, DefaultConfig())); got[1] != "promised" {
		t.Fatalf("acknowledged after fsync was asked for, and gone: %v", got)
	}
}

// If this fails, deleted records keep the ones after them from coming back, or an offset is given twice.
func TestReplayIntoDeletedSegment(t *testing.T) {
	disk := vfs.NewMem()
	m := slowManager(t, disk, "/data")
	l := open(t, m, 1, DefaultConfig())
	put(t, l, "a")
	if err := l.checkpoint(false); err != nil {
		t.Fatal(err)
	}
	put(t, l, "b")
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
	put(t, l, "c")
	if _, err := l.DeleteRecords(2); err != nil {
		t.Fatal(err)
	}
	if err := disk.SyncDir("/data/t-0"); err != nil {
		t.Fatal(err)
	}
	crashed := powerCut(disk)
	closeManager(t, m)
	m = slowManager(t, crashed, "/data")
	defer closeManager(t, m)
	l = open(t, m, 1, DefaultConfig())
	if got := contents(t, l); got[2] != "c" || l.LogEnd().Offset != 3 {
		t.Fatalf("end %d, %v", l.LogEnd().Offset, got)
	}
}

// If this fails, a full disk takes the log dir out of service until a restart.
func TestFullDiskRecovers(t *testing.T) {
	disk := vfs.NewMem()
	m := slowManager(t, disk, "/data")
	defer closeManager(t, m)
	l := open(t, m, 1, DefaultConfig())
	put(t, l, "before")
	u, _ := disk.DiskUsage("/data")
	disk.SetCapacity(u.Total - u.Free + 100)
	if _, err := l.Append(batch(-1, 0, string(make([]byte, 20000))), AppendOptions{Origin: Coordinator}); err == nil {
		t.Fatal("an append found room on a full disk")
	}
	disk.SetCapacity(1 << 40)
	put(t, l, "after")
	if !m.Dirs()[0].Online {
		t.Fatal("the dir is offline")
	}
	if got := contents(t, l); got[0] != "before" || got[1] != "after" {
		t.Fatal(got)
	}
}

// If this fails, a move to another disk waits for ever for a commit that waits for it.
func TestMoveUnderLoad(t *testing.T) {
	disk := vfs.NewMem()
	m := slowManager(t, disk, "/data", "/other")
	defer closeManager(t, m)
	l := open(t, m, 1, DefaultConfig())
	put(t, l, "first")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := l.Append(batch(-1, 0, string(make([]byte, 40<<10))), AppendOptions{Origin: Coordinator}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan error, 1)
	go func() {
		for i := range 6 {
			if err := m.MoveTo(context.Background(), l.tp, []string{"/other", "/data"}[i%2]); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	select {
	case err := <-done:
		close(stop)
		wg.Wait()
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		panic("the move is stuck")
	}
}

// If this fails, deleting a topic while its log is being synced takes the whole log dir offline.
func TestDeleteWhileSyncing(t *testing.T) {
	disk := vfs.NewMem()
	m := slowManager(t, disk, "/data")
	defer closeManager(t, m)
	l := open(t, m, 1, DefaultConfig())
	put(t, l, "x")
	if err := m.Delete(l.tp); err != nil {
		t.Fatal(err)
	}
	_ = l.checkpoint(false) // the sweep had the log in its hands
	_, _ = l.Read(0, 1, l.LogEnd(), true)
	if !m.Dirs()[0].Online {
		t.Fatal("the dir is offline")
	}
}
