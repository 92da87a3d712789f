// Package disk makes small real file systems that can fail: ext4 on a loop device, whose power can be cut, which can be frozen,
// filled, made read-only or dead. It knows mounts and ioctls (it needs root); it must never know what is stored on them.
package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ioctlShutdown = 0x8004587d // EXT4_IOC_SHUTDOWN
	noLogFlush    = 2          // EXT4_GOING_FLAGS_NOLOGFLUSH: nothing more is written, not even the journal
	ioctlFreeze   = 0xc0045877 // FIFREEZE
	ioctlThaw     = 0xc0045878 // FITHAW
)

// Disk is one mounted file system.
type Disk struct {
	Image, At string
	mounted   bool
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Possible says why disks cannot be made here, nil if they can.
func Possible() error {
	if os.Getuid() != 0 {
		return errors.New("disks that fail need root")
	}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount", "losetup"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("disks that fail need %s", tool)
		}
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return errors.New("disks that fail need loop devices")
	}
	return nil
}

// New makes an ext4 of the given size in an image file and mounts it.
func New(image, at string, mb int) (*Disk, error) {
	if err := Possible(); err != nil {
		return nil, err
	}
	d := &Disk{Image: image, At: at}
	f, err := os.Create(image)
	if err != nil {
		return nil, err
	}
	err = errors.Join(f.Truncate(int64(mb)<<20), f.Close())
	if err != nil {
		return nil, err
	}
	if err := run("mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1", image); err != nil {
		return nil, err
	}
	return d, d.Mount()
}

// Mount mounts it, replaying its journal as after a power cut.
func (d *Disk) Mount() error {
	if err := run("mount", "-o", "loop,errors=remount-ro", d.Image, d.At); err != nil {
		return err
	}
	d.mounted = true
	return nil
}

// Unmount takes it away; no process may use it any more.
func (d *Disk) Unmount() error {
	if !d.mounted {
		return nil
	}
	if err := run("umount", d.At); err != nil {
		if lazy := run("umount", "-l", d.At); lazy != nil {
			return errors.Join(err, lazy)
		}
	}
	d.mounted = false
	return nil
}

// Close unmounts; the image is the caller's directory's.
func (d *Disk) Close() error { return d.Unmount() }

func (d *Disk) ioctl(req uint, arg *uint32) error {
	f, err := os.Open(d.At)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(req), uintptr(unsafe.Pointer(arg))); e != 0 {
		return fmt.Errorf("ioctl %#x on %s: %w", req, d.At, e)
	}
	return nil
}

// Cut is the moment of a power cut, or of the disk's death: from now on nothing reaches the disk, every access fails, and what was
// not synced is gone at the next Mount.
func (d *Disk) Cut() error {
	arg := uint32(noLogFlush)
	return d.ioctl(ioctlShutdown, &arg)
}

// Tear starts writing back a random part of what is dirty, so that a Cut right after it leaves files half written. p is the
// probability for each file.
func (d *Disk) Tear(rng *rand.Rand, p float64) {
	_ = filepath.WalkDir(d.At, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || rng.Float64() >= p {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return nil
		}
		defer f.Close()
		if st, err := f.Stat(); err == nil && st.Size() > 0 {
			from := rng.Int64N(st.Size()) &^ 4095
			_ = unix.SyncFileRange(int(f.Fd()), from, 1+rng.Int64N(st.Size()-from), unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
		}
		return nil
	})
}

// Freeze lets every write hang until Thaw.
func (d *Disk) Freeze() error { return d.ioctl(ioctlFreeze, new(uint32)) }

// Thaw undoes Freeze; it is harmless where nothing is frozen.
func (d *Disk) Thaw() {
	if d.mounted {
		d.ForceThaw()
	}
}

// ForceThaw is Thaw of a disk that another process has mounted at At.
func (d *Disk) ForceThaw() { _ = d.ioctl(ioctlThaw, new(uint32)) }

const filler = "filler"

// Fill takes all the space there is.
func (d *Disk) Fill() error {
	f, err := os.Create(filepath.Join(d.At, filler))
	if err != nil {
		return err
	}
	defer f.Close()
	size := int64(0)
	for step := int64(64 << 20); step >= 4096; {
		switch err := unix.Fallocate(int(f.Fd()), 0, size, step); {
		case err == nil:
			size += step
		case errors.Is(err, unix.ENOSPC):
			step /= 2
		default:
			return err
		}
	}
	return nil
}

// Empty gives the space back.
func (d *Disk) Empty() error { return os.Remove(filepath.Join(d.At, filler)) }

// device is the loop device that the disk is mounted from.
func (d *Disk) device() (string, error) {
	out, err := exec.Command("losetup", "-j", d.Image, "-n", "-O", "NAME").Output()
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(string(out))
	if name == "" || strings.Contains(name, "\n") {
		return "", fmt.Errorf("%s is behind the loop devices %q", d.Image, name)
	}
	return name, nil
}

// ReadOnly makes the kernel find an error in the file system, upon which it allows no more writes. The next Mount is writable again.
func (d *Disk) ReadOnly() error {
	dev, err := d.device()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join("/sys/fs/ext4", filepath.Base(dev), "trigger_fs_error"), []byte("chaos"), 0o200)
}

// Repair unmounts, lets fsck clear the error marks, and mounts again.
func (d *Disk) Repair() error {
	if err := d.Unmount(); err != nil {
		return err
	}
	var exit *exec.ExitError
	if err := exec.Command("fsck.ext4", "-y", d.Image).Run(); err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 2) {
		return fmt.Errorf("fsck %s: %w", d.Image, err)
	}
	return d.Mount()
}
