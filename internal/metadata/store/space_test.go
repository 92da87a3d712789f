package store

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/metadata/loop"
	"github.com/ottla/ottla/internal/vfs"
	"github.com/ottla/ottla/internal/wire/schema"
)

func try(s *Store, records ...metadata.Versioned) error {
	ch := make(chan error)
	s.Propose(records, func(_ int64, err error) { ch <- err })
	return <-ch
}

func names(t *testing.T, f vfs.FS) (out []string) {
	t.Helper()
	entries, err := f.ReadDir("/data/" + LogDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// Without this a full disk ends every change of metadata until a restart, and with it the way to make room: deleting topics.
func TestFullDiskRefusesAndRecovers(t *testing.T) {
	mem := vfs.NewMem()
	disk := vfs.NewInject(mem)
	s := open(t, options(disk, "/data"))
	propose(t, s, topicRecord(1))
	full := vfs.Rule{Ops: vfs.OpWrite, Path: ".log", HasRoom: true, Room: 100} // a short write, then none
	disk.SetRules(full)
	err := try(s, topicRecord(2), topicRecord(3), topicRecord(4))
	if err == nil || !errors.Is(err, metadata.ErrNotWritten) || !strings.Contains(err.Error(), "free some space") {
		t.Fatalf("a full disk answers %v", err)
	}
	if got := strings.Join(names(t, mem), " "); strings.Contains(got, ballastName) {
		t.Errorf("the ballast was not used: %s", got)
	}
	if err := try(s, topicRecord(2)); !errors.Is(err, metadata.ErrNotWritten) {
		t.Fatalf("the second time it answers %v", err)
	}
	disk.SetRules()
	propose(t, s, topicRecord(5)) // shorter than what was left behind it
	propose(t, s, topicRecord(6))
	if got := strings.Join(names(t, mem), " "); !strings.Contains(got, ballastName) {
		t.Errorf("the ballast has not come back: %s", got)
	}
	disk.SetRules(full)
	if err := try(s, topicRecord(7), topicRecord(8), topicRecord(9)); !errors.Is(err, metadata.ErrNotWritten) {
		t.Fatal(err)
	}
	disk.SetRules()
	closeStore(t, s)
	s = open(t, options(mem, "/data"))
	defer closeStore(t, s)
	var have []string
	for _, topic := range s.Image().SortedTopics() {
		have = append(have, topic.Name)
	}
	if got := strings.Join(have, " "); got != "topic-1 topic-5 topic-6" {
		t.Errorf("after a restart there are %s", got)
	}
}

// The ballast alone is enough for a deletion.
func TestBallastMakesRoomOnce(t *testing.T) {
	mem := vfs.NewMem()
	disk := vfs.NewInject(mem)
	s := open(t, options(disk, "/data"))
	defer closeStore(t, s)
	propose(t, s, topicRecord(1))
	disk.SetRules(vfs.Rule{Ops: vfs.OpWrite, Path: ".log", Times: 1, Err: syscall.ENOSPC}, vfs.Rule{Ops: vfs.OpWrite, Path: ballastName, Err: syscall.ENOSPC})
	if err := try(s, topicRecord(2)); err != nil {
		t.Errorf("the ballast's room was not used: %v", err)
	}
}

// A refused proposal must not end the controller's loop.
func TestLoopOutlivesAFullDisk(t *testing.T) {
	disk := vfs.NewInject(vfs.NewMem())
	o := options(disk, "/data")
	s := open(t, o)
	defer closeStore(t, s)
	l := loop.New(loop.Options{Image: s.Image(), Proposer: s, Clock: o.Clock, Logger: quiet()})
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	create := func(n int) error {
		_, err := l.Do(t.Context(), func(*metadata.Image, time.Time) ([]metadata.Versioned, any, error) {
			return []metadata.Versioned{topicRecord(n)}, nil, nil
		})
		return err
	}
	disk.SetRules(vfs.Rule{Ops: vfs.OpWrite, Err: syscall.ENOSPC})
	if err := create(1); !errors.Is(err, metadata.ErrNotWritten) {
		t.Fatalf("a full disk answers %v", err)
	}
	if l.Image().Topic("topic-1") != nil {
		t.Fatal("a topic that was refused is there")
	}
	disk.SetRules()
	if err := create(2); err != nil {
		t.Fatalf("with room again: %v", err)
	}
}

func apply(t *testing.T, img *metadata.Image, at int64, records ...metadata.Versioned) *metadata.Image {
	t.Helper()
	d := metadata.NewDelta(img)
	for i, r := range records {
		if err := d.Replay(at+int64(i), 1, r.Message); err != nil {
			t.Fatal(err)
		}
	}
	return img.Apply(d)
}

func checkpoints(t *testing.T, f vfs.FS) (n int) {
	for _, name := range names(t, f) {
		if strings.HasSuffix(name, ".checkpoint") {
			n++
		}
	}
	return n
}

// A quiet cluster gets its snapshot within the interval, once, and none while nothing changes.
func TestSnapshotByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		o := options(mem, "/data")
		o.SnapshotInterval = time.Hour
		s := open(t, o)
		defer closeStore(t, s)
		img := s.Image()
		base := propose(t, s, topicRecord(1))
		img = apply(t, img, base, topicRecord(1))
		s.MaybeSnapshot(img)
		<-time.After(59 * time.Minute)
		synctest.Wait()
		if n := checkpoints(t, mem); n != 0 {
			t.Fatalf("%d snapshots before their time", n)
		}
		<-time.After(2 * time.Minute)
		synctest.Wait()
		if n := checkpoints(t, mem); n != 1 {
			t.Fatalf("%d snapshots after an hour with a change", n)
		}
		<-time.After(10 * time.Hour)
		synctest.Wait()
		if n := checkpoints(t, mem); n != 1 {
			t.Fatalf("%d snapshots though nothing changed", n)
		}
	})
}

// Old snapshots go by age and by bytes; the newest two stay whatever happens.
func TestSnapshotRetention(t *testing.T) {
	for _, c := range []struct {
		bytes int64
		age   time.Duration
		want  int
	}{
		{-1, -1, 10}, {0, -1, 2}, {-1, 0, 2}, {1 << 30, 24 * time.Hour, 10}, {1 << 30, 330 * time.Minute, 6},
	} {
		t.Run(fmt.Sprint(c.bytes, " bytes ", c.age), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem := vfs.NewMem()
				mem.SetClock(time.Now)
				o := options(mem, "/data")
				o.SnapshotBytes, o.RetentionBytes, o.RetentionTime = 1, c.bytes, c.age
				s := open(t, o)
				defer closeStore(t, s)
				img := s.Image()
				for i := range 10 {
					r := metadata.Newest(&schema.TopicRecord{Name: fmt.Sprint("t", i), TopicID: metadata.UUID{2, byte(i + 1)}})
					img = apply(t, img, propose(t, s, r), r)
					s.MaybeSnapshot(img)
					<-time.After(time.Hour)
					synctest.Wait()
				}
				if n := checkpoints(t, mem); n != c.want {
					t.Errorf("%d snapshots are left, %d were to be", n, c.want)
				}
			})
		})
	}
}
