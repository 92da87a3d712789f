package vfs

import (
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
)

// Op is a set of kinds of operation.
type Op uint16

// The operations that Inject can spoil.
const (
	OpOpen Op = 1 << iota // OpenFile, Lock
	OpRead
	OpWrite
	OpSync
	OpTruncate
	OpPreallocate
	OpClose
	OpRename // the path is either name
	OpRemove // Remove, RemoveAll
	OpMkdir
	OpReadDir
	OpStat // Stat, DiskUsage, Size
	OpSyncDir

	OpAll Op = 1<<iota - 1
)

// Rule says what goes wrong. It matches an operation of Ops on a path that contains Path.
type Rule struct {
	Ops  Op
	Path string // "" matches all
	// Skip lets so many matching operations pass first.
	Skip int
	// Times is how many fail after that; 0: all.
	Times int
	// Err is what they fail with, wrapped in *fs.PathError; nil: nothing fails, but Hook runs.
	Err error
	// Room lets so many bytes be written before Err (ENOSPC if nil) is given; the write that crosses it is short.
	// Writes only, and only where HasRoom is set; Skip and Times do not count then.
	Room    int64
	HasRoom bool
	// Short makes a failing write put the first Short bytes on the disk all the same.
	Short int
	// After fails the operation after it was done, as when a sync's error comes too late.
	After bool
	// Hook is called with the path before the operation, with no lock held; it may block.
	Hook func(op Op, path string)
}

// Inject is a file system whose operations fail by rule. The kernel's file (OSFile) stays reachable beneath it:
// what is read from there is not counted.
type Inject struct {
	fs FS

	mu    sync.Mutex
	rules []*ruleState
}

type ruleState struct {
	Rule
	seen    int
	failed  int
	written int64
}

// NewInject wraps a file system. The first rule that fails an operation decides; the hooks of those before it have run.
func NewInject(fsys FS, rules ...Rule) *Inject {
	i := &Inject{fs: fsys}
	i.SetRules(rules...)
	return i
}

// SetRules puts rules in the place of those there were; files that are open obey them at once.
func (i *Inject) SetRules(rules ...Rule) {
	states := make([]*ruleState, len(rules))
	for n, r := range rules {
		states[n] = &ruleState{Rule: r}
	}
	i.mu.Lock()
	i.rules = states
	i.mu.Unlock()
}

// Failed counts the operations that the nth rule of the current ones has failed.
func (i *Inject) Failed(n int) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.rules[n].failed
}

// verdict is how an operation ends: with err if that is not nil, for a write after allow bytes.
type verdict struct {
	err   error
	allow int
	after bool
}

// judge runs hooks and finds the failure of an operation. size is the length of a write, else 0.
func (i *Inject) judge(op Op, size int, paths ...string) verdict {
	i.mu.Lock()
	rules := i.rules
	i.mu.Unlock()
	for _, r := range rules {
		if r.Ops&op == 0 {
			continue
		}
		path, ok := r.match(paths)
		if !ok {
			continue
		}
		if r.Hook != nil {
			r.Hook(op, path)
		}
		i.mu.Lock()
		v := r.decide(op, size, path)
		i.mu.Unlock()
		if v.err != nil {
			return v
		}
	}
	return verdict{}
}

func (r *ruleState) match(paths []string) (string, bool) {
	for _, p := range paths {
		if strings.Contains(p, r.Path) {
			return p, true
		}
	}
	return "", false
}

func (r *ruleState) decide(op Op, size int, path string) verdict {
	if r.HasRoom {
		if op != OpWrite {
			return verdict{}
		}
		if r.written += int64(size); r.written <= r.Room {
			return verdict{}
		}
		allow := max(r.Room-(r.written-int64(size)), 0)
		r.written = r.Room
		r.failed++
		err := r.Err
		if err == nil {
			err = syscall.ENOSPC
		}
		return verdict{err: &fs.PathError{Op: op.String(), Path: path, Err: err}, allow: int(allow)}
	}
	r.seen++
	if r.Err == nil || r.seen <= r.Skip || r.Times > 0 && r.failed == r.Times {
		return verdict{}
	}
	r.failed++
	return verdict{err: &fs.PathError{Op: op.String(), Path: path, Err: r.Err}, allow: min(r.Short, size), after: r.After}
}

// String names the operation.
func (o Op) String() string {
	names := [...]string{"open", "read", "write", "sync", "truncate", "preallocate", "close", "rename", "remove", "mkdir", "readdir", "stat", "syncdir"}
	for n, name := range names {
		if o == 1<<n {
			return name
		}
	}
	return "operations"
}

// do is an operation without a result.
func (i *Inject) do(op Op, f func() error, paths ...string) error {
	v := i.judge(op, 0, paths...)
	if v.err != nil && !v.after {
		return v.err
	}
	if err := f(); err != nil {
		return err
	}
	return v.err
}

// OpenFile opens a file whose operations obey the rules.
func (i *Inject) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	var f File
	err := i.do(OpOpen, func() (err error) { f, err = i.fs.OpenFile(name, flag, perm); return err }, name)
	if err != nil {
		if f != nil {
			_ = f.Close()
		}
		return nil, err
	}
	return &injectFile{File: f, i: i, name: name}, nil
}

// Remove removes a file or an empty directory.
func (i *Inject) Remove(name string) error {
	return i.do(OpRemove, func() error { return i.fs.Remove(name) }, name)
}

// RemoveAll removes name and all below it.
func (i *Inject) RemoveAll(name string) error {
	return i.do(OpRemove, func() error { return i.fs.RemoveAll(name) }, name)
}

// Rename renames a file.
func (i *Inject) Rename(oldName, newName string) error {
	return i.do(OpRename, func() error { return i.fs.Rename(oldName, newName) }, oldName, newName)
}

// MkdirAll makes a directory and its parents.
func (i *Inject) MkdirAll(name string, perm fs.FileMode) error {
	return i.do(OpMkdir, func() error { return i.fs.MkdirAll(name, perm) }, name)
}

// ReadDir lists a directory.
func (i *Inject) ReadDir(name string) (out []fs.DirEntry, err error) {
	err = i.do(OpReadDir, func() (err error) { out, err = i.fs.ReadDir(name); return err }, name)
	return out, err
}

// Stat describes a file.
func (i *Inject) Stat(name string) (out fs.FileInfo, err error) {
	err = i.do(OpStat, func() (err error) { out, err = i.fs.Stat(name); return err }, name)
	return out, err
}

// SyncDir makes the directory's entries durable.
func (i *Inject) SyncDir(name string) error {
	return i.do(OpSyncDir, func() error { return i.fs.SyncDir(name) }, name)
}

// Lock locks a name.
func (i *Inject) Lock(name string) (c io.Closer, err error) {
	err = i.do(OpOpen, func() (err error) { c, err = i.fs.Lock(name); return err }, name)
	if err != nil && c != nil {
		_ = c.Close()
		c = nil
	}
	return c, err
}

// DiskUsage tells the space of the volume.
func (i *Inject) DiskUsage(name string) (u Usage, err error) {
	err = i.do(OpStat, func() (err error) { u, err = i.fs.DiskUsage(name); return err }, name)
	return u, err
}

// injectFile is an open file of an Inject.
type injectFile struct {
	File
	i    *Inject
	name string
}

func (f *injectFile) ReadAt(b []byte, off int64) (n int, err error) {
	err = f.i.do(OpRead, func() (err error) { n, err = f.File.ReadAt(b, off); return err }, f.name)
	return n, err
}

func (f *injectFile) WriteAt(b []byte, off int64) (int, error) {
	v := f.i.judge(OpWrite, len(b), f.name)
	if v.err == nil || v.after {
		n, err := f.File.WriteAt(b, off)
		if err == nil {
			err = v.err
		}
		return n, err
	}
	if v.allow == 0 {
		return 0, v.err
	}
	n, err := f.File.WriteAt(b[:v.allow], off)
	if err != nil {
		return n, err
	}
	return n, v.err
}

func (f *injectFile) Truncate(size int64) error {
	return f.i.do(OpTruncate, func() error { return f.File.Truncate(size) }, f.name)
}

func (f *injectFile) Preallocate(off, n int64) error {
	return f.i.do(OpPreallocate, func() error { return f.File.Preallocate(off, n) }, f.name)
}

func (f *injectFile) Sync() error {
	return f.i.do(OpSync, f.File.Sync, f.name)
}

func (f *injectFile) Size() (n int64, err error) {
	err = f.i.do(OpStat, func() (err error) { n, err = f.File.Size(); return err }, f.name)
	return n, err
}

// Close always closes: a rule only changes what it says.
func (f *injectFile) Close() error {
	err := f.File.Close()
	if v := f.i.judge(OpClose, 0, f.name); v.err != nil {
		return v.err
	}
	return err
}

// OSFile is the kernel's file beneath.
func (f *injectFile) OSFile() *os.File { return f.File.OSFile() }

var _ FS = (*Inject)(nil)
