package stand

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"

	"github.com/ottla/ottla/chaos/cable"
	"github.com/ottla/ottla/chaos/disk"
)

// Clean takes away what runs have left whose process is gone: mounts, loop devices, namespaces, directories. The brokers themselves
// die with their run.
func Clean(out io.Writer) error {
	var errs []error
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), Prefix+"*"))
	for _, dir := range dirs {
		if pid, ok := owner(dir); ok && alive(pid) {
			fmt.Fprintf(out, "%s belongs to the run of process %d\n", dir, pid)
			continue
		}
		for _, at := range mountsBelow(dir) {
			(&disk.Disk{At: at}).ForceThaw()
			if b, err := exec.Command("umount", "-l", at).CombinedOutput(); err != nil {
				errs = append(errs, fmt.Errorf("umount %s: %w: %s", at, err, b))
			}
			fmt.Fprintf(out, "unmounted %s\n", at)
		}
		if err := os.RemoveAll(dir); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintf(out, "removed %s\n", dir)
	}
	spaces, _ := filepath.Glob(filepath.Join("/run/netns", cable.Prefix+"*"))
	for _, path := range spaces {
		name := filepath.Base(path)
		pid, _, _ := strings.Cut(strings.TrimPrefix(name, cable.Prefix), "-")
		if n, err := strconv.Atoi(pid); err == nil && alive(n) {
			continue
		}
		if b, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("namespace %s: %w: %s", name, err, b))
			continue
		}
		fmt.Fprintf(out, "removed namespace %s\n", name)
	}
	return errors.Join(errs...)
}

func owner(dir string) (int, bool) {
	b, err := os.ReadFile(filepath.Join(dir, "owner"))
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(string(b))
	return n, err == nil
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// mountsBelow are the mount points below a directory, innermost first.
func mountsBelow(dir string) (out []string) {
	b, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			out = append(out, f[1])
		}
	}
	sort.Sort(sort.Reverse(sort.StringSlice(out)))
	return out
}
