package disk

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func newDisk(t *testing.T) *Disk {
	t.Helper()
	if err := Possible(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	at := filepath.Join(dir, "at")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := New(filepath.Join(dir, "image"), at, 64)
	if err != nil {
		t.Skipf("no ext4 on a loop device here: %v", err)
	}
	t.Cleanup(func() {
		d.Thaw()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func write(t *testing.T, path string, body []byte, sync bool) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(body); err != nil {
		t.Fatal(err)
	}
	if sync {
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
}

// Without this the rig would say of every broker that it survives power cuts.
func TestAPowerCutTakesWhatWasNotSynced(t *testing.T) {
	d := newDisk(t)
	kept, lost := filepath.Join(d.At, "kept"), filepath.Join(d.At, "lost")
	body := bytes.Repeat([]byte("ledger "), 50000)
	write(t, kept, body, true)
	write(t, lost, body, false)
	if err := d.Cut(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.At, "after"), nil, 0o644); err == nil {
		t.Fatal("a disk without power took a write")
	}
	if err := errors.Join(d.Unmount(), d.Mount()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(kept); err != nil || !bytes.Equal(got, body) {
		t.Fatalf("what was synced is not there: %d bytes, %v", len(got), err)
	}
	if got, err := os.ReadFile(lost); err == nil && len(got) > 0 {
		t.Fatalf("%d bytes that were not synced survived", len(got))
	}
}

func TestFullAndReadOnly(t *testing.T) {
	d := newDisk(t)
	if err := d.Fill(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.At, "x"), make([]byte, 1<<16), 0o644); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("a full disk said %v", err)
	}
	if err := d.Empty(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(d.At, "y"), make([]byte, 1<<16), true)
	if err := d.ReadOnly(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.At, "z"), []byte("z"), 0o644); !errors.Is(err, unix.EROFS) {
		t.Fatalf("a read-only disk said %v", err)
	}
	if err := d.Repair(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(d.At, "z"), []byte("z"), true)
}

func TestAFrozenDiskHangsUntilItThaws(t *testing.T) {
	d := newDisk(t)
	if err := d.Freeze(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- os.WriteFile(filepath.Join(d.At, "x"), []byte("x"), 0o644) }()
	// Whether it hangs cannot be waited for; that a second freeze is refused says that it is frozen.
	if err := d.Freeze(); !errors.Is(err, unix.EBUSY) {
		t.Fatalf("freezing it again said %v", err)
	}
	select {
	case err := <-done:
		t.Fatalf("a frozen disk took a write: %v", err)
	default:
	}
	d.Thaw()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
