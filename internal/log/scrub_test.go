package log

import (
	"context"
	"errors"
	"os"
	"path"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/vfs"
)

func newScrub(m *Manager) *scrub {
	return &scrub{m: m, known: map[*segment]bool{}, o: ScrubOptions{
		Interval: func() time.Duration { return time.Millisecond }, BytesPerSecond: func() int64 { return 1 << 40 },
	}}
}

// flip damages one byte of a file behind the broker's back.
func flip(t *testing.T, fs vfs.FS, name string, at int64) {
	t.Helper()
	f, err := fs.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := []byte{0}
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x40
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// If this fails, bytes that went bad after they were written are served, or are never noticed while nobody reads them.
func TestScrubFindsDamage(t *testing.T) {
	disk := vfs.NewMem()
	m := slowManager(t, disk, "/data")
	defer closeManager(t, m)
	l := open(t, m, 1, DefaultConfig())
	for _, v := range []string{"first", "second", "third"} {
		put(t, l, v)
	}
	if err := l.checkpoint(false); err != nil {
		t.Fatal(err)
	}
	s := newScrub(m)
	s.pass(context.Background(), m.open())
	if len(s.known) != 0 {
		t.Fatal("whole segments were called damaged")
	}
	second, _, _, err := l.active().position(1, l.active().size.Load())
	if err != nil {
		t.Fatal(err)
	}
	flip(t, disk, path.Join("/data/t-0", segmentName(0)+logSuffix), second+65)
	if sl, err := l.Read(1, 1<<20, l.HighWatermark(), true); err != nil || sl.Len() == 0 {
		t.Fatalf("before the scrub: %v; what this run wrote is not verified at every read", err)
	} else {
		sl.Release()
	}
	s.pass(context.Background(), m.open())
	if !s.known[l.active()] {
		t.Fatal("the damage was not found")
	}
	if _, err := l.Read(1, 1<<20, l.HighWatermark(), true); !errors.Is(err, kerr.CorruptMessage) {
		t.Fatalf("after the scrub: %v", err)
	}
	for offset, want := range map[int64]string{0: "first", 2: "third"} {
		sl, err := l.Read(offset, 1, l.HighWatermark(), true)
		if err != nil || sl.Len() == 0 {
			t.Fatalf("%q is not served beside the damage: %v", want, err)
		}
		sl.Release()
	}
	put(t, l, "goes on")
}

// If this fails, the scrub calls a segment damaged that retention or a leader's truncation has shortened meanwhile.
func TestScrubBesideTruncation(t *testing.T) {
	m := slowManager(t, vfs.NewMem(), "/data")
	defer closeManager(t, m)
	l := open(t, m, 1, DefaultConfig())
	put(t, l, "stays")
	put(t, l, "goes")
	s := newScrub(m)
	seg, limit := l.active(), l.active().size.Load()
	if err := l.TruncateTo(1); err != nil {
		t.Fatal(err)
	}
	if next, err := verifyChunk(seg, seg.size.Load(), limit); err == nil {
		t.Fatalf("a batch was read behind the end, up to %d", next)
	}
	s.pass(context.Background(), m.open())
	if len(s.known) != 0 {
		t.Fatal("a truncated segment was called damaged")
	}
}
