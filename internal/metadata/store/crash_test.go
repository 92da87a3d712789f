package store

import (
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/vfs"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Whenever the power goes: the log opens again and holds every answered proposal whole, and of one that was not
// answered everything or nothing.
func TestPowerLoss(t *testing.T) {
	for seed := range int64(400) {
		r := rand.New(rand.NewSource(seed))
		survive := vfs.CrashOptions{Data: []float64{0, 0.5, 0.9, 1}[seed%4], Names: []float64{0, 0.5, 1}[seed%3], Uneven: seed%5 == 0}
		disk := vfs.NewMem()
		answered, proposed := map[int]bool{}, 0
		var cluster string
		for range 1 + r.Intn(4) {
			o := options(disk, "/d")
			o.SegmentBytes, o.SnapshotBytes = 800, 1500
			s, err := Open(o)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if cluster != "" && s.ClusterID() != cluster && len(answered) > 0 {
				t.Fatalf("seed %d: another cluster", seed)
			}
			cluster = s.ClusterID()
			checkTopics(t, seed, s.Image(), answered, proposed)
			var mu sync.Mutex
			cut := make(chan *vfs.Mem, 1)
			stop := r.Intn(30)
			d := metadata.NewDelta(s.Image())
			n := 0
			var pending sync.WaitGroup
			for i := range 30 {
				id := proposed
				proposed++
				records := []metadata.Versioned{topicRecord(2 * id), topicRecord(2*id + 1)}
				mu.Lock()
				pending.Add(1)
				mu.Unlock()
				s.Propose(records, func(base int64, err error) {
					defer pending.Done()
					if err != nil {
						return
					}
					mu.Lock()
					defer mu.Unlock()
					if len(cut) == 0 {
						answered[id] = true
					}
					for k, v := range records {
						_ = d.Replay(base+int64(k), s.Epoch(), v.Message)
					}
					if n++; n%7 == 0 {
						img := d.Image()
						d = metadata.NewDelta(img)
						s.MaybeSnapshot(img)
					}
				})
				if i == stop {
					mu.Lock()
					cut <- disk.CrashClone(r, survive)
					mu.Unlock()
				}
				if r.Intn(3) == 0 {
					pending.Wait()
				}
			}
			pending.Wait()
			if err := s.Close(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			disk = <-cut
		}
	}
}

func checkTopics(t *testing.T, seed int64, img *metadata.Image, answered map[int]bool, proposed int) {
	t.Helper()
	for id := range proposed {
		a, b := img.Topic(fmt.Sprintf("topic-%d", 2*id)) != nil, img.Topic(fmt.Sprintf("topic-%d", 2*id+1)) != nil
		if a != b {
			t.Fatalf("seed %d: half of proposal %d", seed, id)
		}
		if answered[id] && !a {
			t.Fatalf("seed %d: answered proposal %d is lost", seed, id)
		}
	}
}

// After a failed write or sync nothing more is written or acknowledged, and the next start finds what was answered.
func TestFailedDisk(t *testing.T) {
	for _, op := range []vfs.Op{vfs.OpWrite, vfs.OpSync} {
		disk := vfs.NewMem()
		bad := vfs.NewInject(disk)
		s := open(t, options(bad, "/d"))
		propose(t, s, topicRecord(1))
		var touched atomic.Int32
		bad.SetRules(vfs.Rule{Ops: op, Path: ".log", Err: syscall.EIO}, vfs.Rule{Ops: vfs.OpWrite | vfs.OpSync, Path: ".log", Hook: func(vfs.Op, string) { touched.Add(1) }})
		for range 3 {
			ch := make(chan error, 1)
			s.Propose([]metadata.Versioned{topicRecord(2)}, func(_ int64, err error) { ch <- err })
			if err := <-ch; err == nil || !strings.Contains(err.Error(), syscall.EIO.Error()) || !errors.Is(err, kerr.KafkaStorageError) {
				t.Fatal(err)
			}
		}
		if n := touched.Load(); n > 2 {
			t.Errorf("%s: %d operations after the disk failed", op, n)
		}
		if err := s.Close(); err == nil {
			t.Error("closed as if nothing had happened")
		}
		s = open(t, options(disk.CrashClone(rand.New(rand.NewSource(1)), vfs.CrashOptions{}), "/d"))
		if s.Image().Topic("topic-1") == nil {
			t.Error("the answered topic is lost")
		}
		closeStore(t, s)
	}
}

// A record that cannot be encoded fails alone.
func TestBadRecord(t *testing.T) {
	s := open(t, options(vfs.NewMem(), "/d"))
	defer closeStore(t, s)
	ch := make(chan error, 1)
	s.Propose([]metadata.Versioned{{Message: &schema.TopicRecord{Name: "x"}, Version: 9}}, func(_ int64, err error) { ch <- err })
	if err := <-ch; err == nil {
		t.Fatal("taken")
	}
	propose(t, s, topicRecord(1))
}
