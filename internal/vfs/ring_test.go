package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func aligned(n int) []byte {
	b := make([]byte, n+4096)
	shift := (4096 - int(uintptr(unsafe.Pointer(&b[0]))%4096)) % 4096
	return b[shift : shift+n]
}

// If this fails, a goroutine that waits for the disk is forgotten, or is told that something is done which is not.
func TestRingManyAtOnce(t *testing.T) {
	defer goleak.VerifyNone(t)
	fs := NewOS()
	if fs.ring == nil {
		t.Skip("the kernel offers no asynchronous I/O here")
	}
	defer fs.Close()
	dir := t.TempDir()
	f, err := fs.OpenFile(filepath.Join(dir, "direct"), os.O_RDWR|os.O_CREATE|unix.O_DIRECT|unix.O_DSYNC, 0o600)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("the temporary directory has no O_DIRECT")
	} else if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const workers, rounds, size = 200, 10, 8192 // more than the ring is deep
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			plain, err := fs.OpenFile(filepath.Join(dir, fmt.Sprint(w)), os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				t.Error(err)
				return
			}
			defer plain.Close()
			b := aligned(size)
			for r := range rounds {
				at := int64(w*rounds+r) * size
				for i := range b {
					b[i] = byte(w + r)
				}
				if n, err := f.WriteAt(b, at); err != nil || n != size {
					t.Errorf("wrote %d: %v", n, err)
				}
				if _, err := plain.WriteAt(b[:100], 0); err != nil {
					t.Error(err)
				}
				if err := plain.Sync(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		panic("somebody waits for ever")
	}
	got := aligned(size)
	for i := range workers * rounds {
		if _, err := f.ReadAt(got, int64(i)*size); err != nil {
			t.Fatal(err)
		}
		if want := bytes.Repeat([]byte{byte(i/rounds + i%rounds)}, size); !bytes.Equal(got, want) {
			t.Fatalf("block %d holds %d, not %d", i, got[0], want[0])
		}
	}
	if len(fs.ring.ops) != 0 {
		t.Fatalf("%d operations are left", len(fs.ring.ops))
	}
}

// If this fails, an error of the disk is lost on its way, or a file outlives the ring badly.
func TestRingErrors(t *testing.T) {
	fs := NewOS()
	name := filepath.Join(t.TempDir(), "f")
	f, err := fs.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := fs.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatalf("without its ring: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	fs = NewOS()
	defer fs.Close()
	if f, err = fs.OpenFile(name, os.O_RDWR, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); !errors.Is(err, os.ErrClosed) {
		t.Fatalf("sync of a closed file: %v", err)
	}
}
