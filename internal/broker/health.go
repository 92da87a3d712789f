package broker

import (
	"errors"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/vfs"
)

// health says whether the disks of a broker do what they are asked. A disk that hangs gives no error, and a broker that waits for one holds up
// every partition it leads, while others could lead them. So a broker of a cluster writes a few bytes to each of its folders now and then, and
// asks to be fenced while none of them answers.
type health struct {
	fs    vfs.FS
	clock clock.Clock
	logs  *log.Manager
	id    func(dir string) metadata.UUID
	// onlyCopy says whether this broker holds the only copy of a partition.
	onlyCopy func() bool
	dirs     []*probedDir
	stop     chan struct{}
	done     sync.WaitGroup
}

// probedDir is one folder.
type probedDir struct {
	dir   string
	asked atomic.Pointer[time.Time] // when the write that is under way began; nil where none is
	bad   atomic.Bool               // the last one failed
}

const (
	probeName     = ".ottla-probe"
	probeInterval = 500 * time.Millisecond
	// probePatience is how long a write may take: far longer than a busy disk needs.
	probePatience = 1500 * time.Millisecond
	// probeCloseWait bounds the wait for a write that does not come back; the process ends anyway.
	probeCloseWait = time.Second
)

func newHealth(o Options, logs *log.Manager, id func(dir string) metadata.UUID, onlyCopy func() bool) *health {
	h := &health{fs: o.FS, clock: o.Clock, logs: logs, id: id, onlyCopy: onlyCopy, stop: make(chan struct{})}
	for _, d := range o.LogDirs {
		h.dirs = append(h.dirs, &probedDir{dir: d})
	}
	return h
}

// start begins to probe every folder, each on a goroutine of its own: one that hangs holds up nobody else.
func (h *health) start() {
	for _, d := range h.dirs {
		h.done.Go(func() { h.probe(d) })
	}
}

func (h *health) probe(d *probedDir) {
	for {
		t := h.clock.NewTimer(probeInterval)
		select {
		case <-t.C():
		case <-h.stop:
			t.Stop()
			return
		}
		now := h.clock.Now()
		d.asked.Store(&now)
		err := h.write(d.dir)
		d.bad.Store(err != nil && !errors.Is(err, syscall.ENOSPC)) // a full disk still serves readers, and recovers by itself
		d.asked.Store(nil)
	}
}

// write overwrites a few bytes and waits for the disk to have them. It needs no free space but for the first time.
func (h *health) write(dir string) error {
	f, err := h.fs.OpenFile(path.Join(dir, probeName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(h.clock.Now().UTC().Format(time.RFC3339)), 0)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// sick says that no folder can be written to: somebody else should lead. A full one counts as long as nobody depends on this broker for reading.
func (h *health) sick() bool {
	online, full := map[string]bool{}, true
	for _, d := range h.logs.Dirs() {
		online[d.Path] = d.Online
		full = full && d.Full
	}
	if full && !h.onlyCopy() {
		return true
	}
	for _, d := range h.dirs {
		asked := d.asked.Load()
		hangs := asked != nil && h.clock.Since(*asked) > probePatience
		if online[d.dir] && !d.bad.Load() && !hangs {
			return false
		}
	}
	return true
}

// offline are the directories that failed and will not be used by this process again.
func (h *health) offline() (ids [][16]byte) {
	for _, d := range h.logs.Dirs() {
		if !d.Online {
			ids = append(ids, h.id(d.Path))
		}
	}
	return ids
}

func (h *health) close() {
	close(h.stop)
	ended := make(chan struct{})
	go func() { h.done.Wait(); close(ended) }()
	t := h.clock.NewTimer(probeCloseWait)
	defer t.Stop()
	select {
	case <-ended:
	case <-t.C():
	}
}

// onlyCopy says whether a broker holds the only copy of a partition.
func onlyCopy(img *metadata.Image, node int32) bool {
	for t := range img.Topics() {
		for _, p := range t.Partitions {
			if p != nil && len(p.Replicas) == 1 && p.Replicas[0] == node {
				return true
			}
		}
	}
	return false
}
