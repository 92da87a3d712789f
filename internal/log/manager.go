package log

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/vfs"
)

// ManagerOptions are what a Manager is made of. Zero numbers mean the defaults.
type ManagerOptions struct {
	FS                   vfs.FS
	Clock                clock.Clock
	Logger               *slog.Logger
	Registerer           prometheus.Registerer // may be nil
	Dirs                 []string
	OpenFilesMax         int           // 4096
	JournalFiles         int           // per log dir; 4
	JournalFileBytes     int64         // 64 MiB
	DirectThresholdBytes int           // a log's share of a commit round from which on its segment is synced instead; 128 KiB
	DiskReserveBytes     int64         // free space below which producing is refused; 64 MiB
	CheckpointInterval   time.Duration // 1 s
	RetentionInterval    time.Duration // log.retention.check.interval.ms; 5 min
	RetentionDelay       time.Duration // log.initial.task.delay.ms; 30 s
	Cleaner              CleanerOptions
	CleanerNow           func() CleanerOptions // the bounds as they are now; nil: they stay
	Scrub                ScrubOptions          // none without an Interval
}

func (o ManagerOptions) withDefaults() ManagerOptions {
	def(&o.OpenFilesMax, 4096)
	def(&o.JournalFiles, 4)
	def(&o.JournalFileBytes, 64<<20)
	def(&o.DirectThresholdBytes, 128<<10)
	def(&o.DiskReserveBytes, 64<<20)
	def(&o.CheckpointInterval, time.Second)
	def(&o.RetentionInterval, 5*time.Minute)
	def(&o.RetentionDelay, 30*time.Second)
	o.Cleaner = o.Cleaner.withDefaults()
	return o
}

func def[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Manager owns the log dirs and the logs in them.
type Manager struct {
	o       ManagerOptions
	files   *fileCache
	metrics *metrics
	dirs    []*dir

	mu   sync.Mutex
	logs map[TopicPartition]*Log

	stop    context.CancelFunc
	look    chan struct{} // so much was appended that the space is to be looked at now
	running sync.WaitGroup
	timers  map[*laterCall]bool // guarded by mu
	closed  bool                // guarded by mu
}

// dir is one log dir.
type dir struct {
	path      string
	id        [16]byte
	lock      io.Closer
	committer committer
	clean     bool // the last run has closed it cleanly
	// pointsKnown says that there was a file of recovery points: it names every log that was ever open for a while.
	pointsKnown bool

	mu       sync.Mutex // guards the files of checkpoints, and what follows
	existing map[TopicPartition][16]byte
	points   map[TopicPartition]points // as of the start; of logs that are open the logs know better
	stale    map[TopicPartition]bool   // gone since the checkpoint files were written: they may still name them

	pointsDirty, startsDirty atomic.Bool
	full                     atomic.Bool  // too little space is free
	unlooked                 atomic.Int64 // bytes appended since the space was looked at
	unborn                   atomic.Int64 // logs that have no directory yet
	failure                  atomic.Pointer[error]
}

// points are what the checkpoint files say of a partition.
type points struct{ recovery, start, hw int64 }

// ExistingLog is a partition found on disk.
type ExistingLog struct {
	TopicPartition
	TopicID [16]byte // zero where the directory does not say
	Dir     string
}

// DirInfo describes a log dir.
type DirInfo struct {
	Path          string
	ID            [16]byte
	Total, Usable int64 // bytes of the volume, -1 where not known
	Online        bool
	// Full says that producing is refused until there is space.
	Full bool
}

type metrics struct {
	corrupt  prometheus.Counter
	scrubbed prometheus.Counter
	open     prometheus.GaugeFunc
	commit   *commitMetrics
}

func newMetrics(reg prometheus.Registerer, m *Manager) *metrics {
	x := &metrics{
		corrupt:  prometheus.NewCounter(prometheus.CounterOpts{Name: "ottla_log_corrupt_reads_total", Help: "Reads that met damaged data; it was not served."}),
		scrubbed: prometheus.NewCounter(prometheus.CounterOpts{Name: "ottla_log_scrubbed_bytes_total", Help: "Stored bytes whose checksums the background scrub has verified."}),
		open:     prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ottla_log_open_files", Help: "Files of logs that are open."}, func() float64 { return float64(m.files.count()) }),
		commit:   newCommitMetrics(reg),
	}
	if reg != nil {
		reg.MustRegister(x.corrupt, x.scrubbed, x.open)
	}
	return x
}

// NewManager locks the log dirs, reads their checkpoints and finds the partitions in them. It starts nothing.
func NewManager(o ManagerOptions) (*Manager, error) {
	o = o.withDefaults()
	if len(o.Dirs) == 0 {
		return nil, errors.New("no log dir is configured; set log.dirs")
	}
	m := &Manager{o: o, files: newFileCache(o.FS, o.OpenFilesMax), logs: map[TopicPartition]*Log{}, timers: map[*laterCall]bool{}, stop: func() {}, look: make(chan struct{}, 1)}
	m.metrics = newMetrics(o.Registerer, m)
	for _, p := range o.Dirs {
		d, err := m.openDir(p)
		if err != nil {
			m.unlock()
			return nil, fmt.Errorf("log dir %s: %w", p, err)
		}
		m.dirs = append(m.dirs, d)
	}
	return m, nil
}

func (m *Manager) unlock() {
	for _, d := range m.dirs {
		_ = d.lock.Close()
	}
}

// dirError says what to do about a log dir that cannot be opened.
func dirError(err error) error {
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return fmt.Errorf("another broker is running on it (%w); stop that one, or give this one another folder", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; the user who runs the broker must be able to write there", err)
	}
	return fmt.Errorf("%w; log.dirs (--data) must name a folder that is there or can be made", err)
}

func (m *Manager) openDir(p string) (*dir, error) {
	if err := makeDir(m.o.FS, p); err != nil {
		return nil, dirError(err)
	}
	lock, err := m.o.FS.Lock(path.Join(p, ".lock"))
	if err != nil {
		return nil, dirError(err)
	}
	d := &dir{path: p, lock: lock, existing: map[TopicPartition][16]byte{}, points: map[TopicPartition]points{}, stale: map[TopicPartition]bool{}}
	if err := m.readDir(d); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	d.committer = newGroupCommitter(committerOptions{
		FS: m.o.FS, Dir: p, Clock: m.o.Clock, Logger: m.o.Logger, Metrics: m.metrics.commit,
		JournalFiles: m.o.JournalFiles, JournalFileBytes: m.o.JournalFileBytes, DirectThresholdBytes: m.o.DirectThresholdBytes,
		wantCheckpoint: func(l *Log) { l.asked.Store(true) },
		onError:        func(err error) { m.offline(d, err) },
	})
	return d, nil
}

func (m *Manager) readDir(d *dir) error {
	d.clean = exists(m.o.FS, path.Join(d.path, cleanShutdownFile))
	if b, err := readFile(m.o.FS, path.Join(d.path, metaFile), 1<<20); err == nil {
		d.id, _ = parseDirID(b)
	}
	for name, set := range map[string]func(p *points, v int64){
		recoveryPointFile: func(p *points, v int64) { p.recovery = v },
		logStartFile:      func(p *points, v int64) { p.start = v },
		highWatermarkFile: func(p *points, v int64) { p.hw = v },
	} {
		b, err := readFile(m.o.FS, path.Join(d.path, name), maxCheckpointBytes)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		at, err := parseOffsets(b)
		if err != nil {
			m.o.Logger.Warn("a checkpoint file cannot be read; its logs are recovered in full", "dir", d.path, "file", name, "error", err)
			continue
		}
		for tp, v := range at {
			p := d.points[tp]
			set(&p, v)
			d.points[tp] = p
		}
		d.pointsKnown = d.pointsKnown || name == recoveryPointFile
	}
	entries, err := m.o.FS.ReadDir(d.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if strings.HasSuffix(e.Name(), deleteDirSuffix) {
			if err := m.o.FS.RemoveAll(path.Join(d.path, e.Name())); err != nil {
				return err
			}
			continue
		}
		if tp, ok := parseDirName(e.Name()); ok && tp.Topic != "__cluster_metadata" {
			var id [16]byte
			if b, err := readFile(m.o.FS, path.Join(d.path, e.Name(), partitionMetaFile), 1<<16); err == nil {
				id, _ = parsePartitionMeta(b)
			}
			d.existing[tp] = id
		}
	}
	return nil
}

const deleteDirSuffix = "-delete"

// Start replays the journals and starts the commit threads and the background work.
func (m *Manager) Start() error {
	ctx, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	for _, d := range m.dirs {
		if d.clean {
			// From here on a crash is a crash.
			if err := m.o.FS.Remove(path.Join(d.path, cleanShutdownFile)); err != nil {
				return err
			}
			if err := m.o.FS.SyncDir(d.path); err != nil {
				return err
			}
		}
		if !d.pointsKnown && len(d.existing) == 0 {
			if err := m.writePoints(d, true); err != nil {
				return err
			}
		}
		touched, err := m.replay(d)
		if err != nil {
			return fmt.Errorf("log dir %s: replay of the journal: %w", d.path, err)
		}
		d.committer.start()
		m.spawn(func() { m.settleReplay(d, touched) })
		m.spawn(func() { m.checkpoints(ctx, d) })
	}
	m.spawn(func() { m.housekeeping(ctx) })
	if !m.o.Cleaner.Disabled {
		m.spawn(func() { m.cleaning(ctx) })
	}
	if m.o.Scrub.Interval != nil {
		m.spawn(func() { m.scrubbing(ctx) })
	}
	return nil
}

func (m *Manager) spawn(f func()) { m.running.Go(f) }

// Existing lists the partitions on disk, as of the start.
func (m *Manager) Existing() []ExistingLog {
	var out []ExistingLog
	for _, d := range m.dirs {
		d.mu.Lock()
		for tp, id := range d.existing {
			out = append(out, ExistingLog{tp, id, d.path})
		}
		d.mu.Unlock()
	}
	return out
}

// Dirs describes the log dirs.
func (m *Manager) Dirs() []DirInfo {
	out := make([]DirInfo, len(m.dirs))
	for i, d := range m.dirs {
		out[i] = DirInfo{Path: d.path, ID: d.id, Total: -1, Usable: -1, Online: d.failure.Load() == nil, Full: d.full.Load()}
		if u, err := m.o.FS.DiskUsage(d.path); err == nil {
			out[i].Total, out[i].Usable = int64(u.Total), int64(u.Free)
		}
	}
	return out
}

// offline takes a dir out of service.
func (m *Manager) offline(d *dir, err error) {
	if !d.failure.CompareAndSwap(nil, &err) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.o.Logger.Error("a log dir is offline after a failed write or fsync; its partitions are gone until the disk is mended and the broker restarted", "dir", d.path, "error", err)
	if m.closed {
		return // nobody listens any more
	}
	m.spawn(func() {
		for _, l := range m.open() {
			if l.dir.Load() == d {
				l.onCommitError(&OfflineError{Dir: d.path, Cause: err})
			}
		}
	})
}

func (m *Manager) open() []*Log {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*Log, 0, len(m.logs))
	for _, l := range m.logs {
		out = append(out, l)
	}
	return out
}

// laterCall is work put off.
type laterCall struct {
	timer clock.Timer
	f     func()
}

// later runs f after d, or when the manager closes.
func (m *Manager) later(d time.Duration, f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return // the next start finds what there is to do
	}
	c := &laterCall{f: f}
	m.timers[c] = true
	c.timer = m.o.Clock.AfterFunc(d, func() {
		m.mu.Lock()
		due := m.timers[c] && !m.closed
		delete(m.timers, c)
		if due {
			m.running.Add(1)
		}
		m.mu.Unlock()
		if due {
			defer m.running.Done()
			c.f()
		}
	})
}

// Close flushes and closes every log and marks the dirs as closed cleanly.
func (m *Manager) Close(ctx context.Context) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	for c := range m.timers {
		c.timer.Stop()
	}
	m.mu.Unlock()
	m.stop()
	m.running.Wait()
	var errs []error
	for _, l := range m.open() {
		if ctx.Err() != nil {
			errs = append(errs, ctx.Err())
			l.shut() // nothing may reach the committer any more
			continue
		}
		if err := l.close(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", l.tp, err))
		}
	}
	for _, d := range m.dirs {
		errs = append(errs, d.committer.close())
		if d.failure.Load() == nil && errors.Join(errs...) == nil {
			errs = append(errs, m.writeClean(d))
		}
		errs = append(errs, d.lock.Close())
	}
	return errors.Join(errs...)
}
