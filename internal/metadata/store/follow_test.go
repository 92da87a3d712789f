package store

import (
	"fmt"
	"math/rand"
	"path"
	"testing"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/vfs"
)

// A follower of a log loses power again and again, gets the batches from where it stands or a snapshot, and always ends with the leader's
// image. If this fails, a node that comes back has other metadata than the cluster.
func TestFollowThroughPowerLoss(t *testing.T) {
	lead := options(vfs.NewMem(), "/lead")
	s := open(t, lead)
	for i := range 60 {
		propose(t, s, topicRecord(2*i), topicRecord(2*i+1))
	}
	for seed := range int64(200) {
		r := rand.New(rand.NewSource(seed))
		disk := vfs.NewMem()
		reached := int64(-1)
		for life := range 5 {
			o := options(disk, "/f")
			o.NodeID, o.ClusterID, o.Follow, o.Bootstrap, o.SegmentBytes = 7, s.ClusterID(), true, nil, 700
			f, err := Open(o)
			if err != nil {
				t.Fatalf("seed %d life %d: %v", seed, life, err)
			}
			img := f.Image()
			checkFollower(t, fmt.Sprintf("seed %d life %d", seed, life), img, f.Committed())
			if r.Intn(4) == 0 { // the leader has cleaned its log: a snapshot comes
				img = imageAt(t, s, min(s.Committed(), f.Committed()+int64(r.Intn(40))))
				if img.Offset() >= f.Committed() {
					if err := f.Install(img); err != nil {
						t.Fatal(err)
					}
				}
			}
			for range r.Intn(30) {
				batches, _, err := s.Read(f.Committed(), 1)
				if err != nil {
					t.Fatal(err)
				}
				if len(batches) == 0 {
					break
				}
				if err := f.Append(batches, 1); err != nil {
					t.Fatal(err)
				}
			}
			reached = max(reached, f.Committed())
			if r.Intn(3) > 0 {
				disk = disk.CrashClone(r, vfs.CrashOptions{Data: r.Float64(), Names: r.Float64(), Uneven: seed%2 == 0})
			}
			closeStore(t, f)
		}
		if reached < 0 {
			t.Fatal("nothing was followed")
		}
	}
	closeStore(t, s)
}

// checkFollower says that an image is that of the leader's log up to end.
func checkFollower(t *testing.T, when string, img *metadata.Image, end int64) {
	t.Helper()
	if img.Offset() != end-1 {
		t.Fatalf("%s: image at %d, log ends at %d", when, img.Offset(), end)
	}
	for i := range img.TopicCount() {
		if img.Topic(fmt.Sprintf("topic-%d", i)) == nil {
			t.Fatalf("%s: topic-%d of %d is missing", when, i, img.TopicCount())
		}
	}
}

// imageAt replays the leader's log up to an offset.
func imageAt(t *testing.T, s *Store, end int64) *metadata.Image {
	t.Helper()
	d := metadata.NewDelta(metadata.Empty(s.ClusterID()))
	for at := int64(0); at < end; {
		b, _, err := s.Read(at, 1)
		if err != nil {
			t.Fatal(err)
		}
		h, err := record.ParseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := replayBatch(d, b, h, at); err != nil {
			t.Fatal(err)
		}
		at = h.NextOffset()
	}
	return d.Image()
}

func TestFollowedIsKept(t *testing.T) {
	s := open(t, options(vfs.NewMem(), "/lead"))
	defer closeStore(t, s)
	disk := vfs.NewMem()
	o := options(disk, "/f")
	o.NodeID, o.ClusterID, o.Follow = 7, s.ClusterID(), true
	f := open(t, o)
	b, _, err := s.Read(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Append(b, 1); err != nil {
		t.Fatal(err)
	}
	closeStore(t, f)
	if !Followed(disk, "/f", 7) || Followed(disk, "/f", 1) || Followed(disk, path.Join("/f", "none"), 7) {
		t.Error("who leads is not known from the files")
	}
	o.Follow = false
	if s, err := Open(o); err == nil {
		closeStore(t, s)
		t.Error("a node continues alone what others lead")
	}
}
