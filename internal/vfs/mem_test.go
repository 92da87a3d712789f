package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// Mem and the machine's file system are driven with the same operations and have to answer alike.
func TestMemLikeOS(t *testing.T) {
	base := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		p := &pair{t: t, mem: NewMem(), root: filepath.Join(base, fmt.Sprint(runs)), open: map[string][2]File{}}
		if rapid.Bool().Draw(t, "volatile") {
			p.mem = NewVolatileMem()
		}
		p.must(os.MkdirAll(p.root, 0o755))
		p.must(p.mem.MkdirAll(p.root, 0o755))
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { p.same() },
			"open": func(t *rapid.T) {
				flag := rapid.SampledFrom([]int{os.O_RDWR, os.O_RDWR | os.O_CREATE, os.O_RDWR | os.O_CREATE | os.O_EXCL, os.O_RDWR | os.O_TRUNC,
					os.O_RDWR | os.O_CREATE | os.O_TRUNC, os.O_RDONLY, os.O_RDONLY | os.O_CREATE, os.O_WRONLY | os.O_CREATE | unix.O_DSYNC}).Draw(t, "flag")
				p.openFile(p.name(t), flag)
			},
			"close": func(t *rapid.T) {
				if f, name, ok := p.file(t); ok {
					p.agree("close", f[0].Close(), f[1].Close())
					delete(p.open, name)
				}
			},
			"write": func(t *rapid.T) {
				f, _, ok := p.file(t)
				if !ok {
					return
				}
				b := bytes.Repeat([]byte{byte(rapid.IntRange(1, 255).Draw(t, "byte"))}, rapid.SampledFrom([]int{0, 1, 100, 511, 513, 4096, 70000}).Draw(t, "n"))
				off := p.offset(t)
				n0, err0 := f[0].WriteAt(b, off)
				n1, err1 := f[1].WriteAt(b, off)
				p.agree("write", err0, err1)
				if n0 != n1 {
					t.Fatalf("wrote %d, not %d", n1, n0)
				}
			},
			"read": func(t *rapid.T) {
				if f, _, ok := p.file(t); ok {
					p.read(f, p.offset(t), rapid.IntRange(0, 200000).Draw(t, "n"))
				}
			},
			"truncate": func(t *rapid.T) {
				if f, _, ok := p.file(t); ok {
					size := p.offset(t)
					p.agree("truncate", f[0].Truncate(size), f[1].Truncate(size))
				}
			},
			"sync": func(t *rapid.T) {
				if f, _, ok := p.file(t); ok {
					p.agree("sync", f[0].Sync(), f[1].Sync())
				}
			},
			"syncDir": func(t *rapid.T) {
				name := filepath.Dir(p.name(t))
				if st, err := os.Stat(name); err == nil && !st.IsDir() {
					return // the machine syncs a file too; nothing depends on that
				}
				p.agree("syncDir", OS{}.SyncDir(name), p.mem.SyncDir(name))
			},
			"mkdir": func(t *rapid.T) {
				name := p.name(t)
				p.agree("mkdir", OS{}.MkdirAll(name, 0o755), p.mem.MkdirAll(name, 0o755))
			},
			"remove": func(t *rapid.T) {
				name := p.name(t)
				p.agree("remove", OS{}.Remove(name), p.mem.Remove(name))
			},
			"removeAll": func(t *rapid.T) {
				name := p.name(t)
				p.agree("removeAll", OS{}.RemoveAll(name), p.mem.RemoveAll(name))
			},
			"rename": func(t *rapid.T) {
				from, to := p.name(t), p.name(t)
				p.agree("rename "+from+" "+to, OS{}.Rename(from, to), p.mem.Rename(from, to))
			},
			"stat": func(t *rapid.T) {
				name := p.name(t)
				i0, err0 := OS{}.Stat(name)
				i1, err1 := p.mem.Stat(name)
				p.agree("stat", err0, err1)
				if err0 == nil && (i0.Name() != i1.Name() || i0.IsDir() != i1.IsDir() || !i0.IsDir() && i0.Size() != i1.Size()) {
					t.Fatalf("stat %s: %s %v %d", name, i1.Name(), i1.IsDir(), i1.Size())
				}
			},
		})
		for _, f := range p.open {
			p.must(errors.Join(f[0].Close(), f[1].Close()))
		}
		p.must(os.RemoveAll(p.root))
		p.must(p.mem.RemoveAll(p.root))
		if used := p.mem.used.Load(); used != 0 {
			t.Fatalf("%d bytes are taken on an empty disk", used)
		}
	})
}

// pair is the two file systems; open files are by a serial name.
type pair struct {
	t    *rapid.T
	mem  *Mem
	root string
	open map[string][2]File
	next int
}

func (p *pair) must(err error) {
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) name(t *rapid.T) string {
	return p.root + "/" + rapid.SampledFrom([]string{"a", "b", "c", "d/a", "d/b", "d", "d/e", "d/e/a", "c/a"}).Draw(t, "name")
}

func (p *pair) offset(t *rapid.T) int64 {
	return int64(rapid.SampledFrom([]int{0, 1, 511, 512, 5000, 65535, 65536, 65537, 131072, 300000}).Draw(t, "off"))
}

func (p *pair) file(t *rapid.T) (f [2]File, name string, ok bool) {
	if len(p.open) == 0 {
		return f, "", false
	}
	var names []string
	for n := range p.open {
		names = append(names, n)
	}
	slices.Sort(names)
	name = rapid.SampledFrom(names).Draw(t, "file")
	return p.open[name], name, true
}

func (p *pair) openFile(name string, flag int) {
	f0, err0 := OS{}.OpenFile(name, flag, 0o644)
	f1, err1 := p.mem.OpenFile(name, flag, 0o644)
	p.agree(fmt.Sprintf("open %s %x", name, flag), err0, err1)
	if err0 == nil {
		if st, err := os.Stat(name); err == nil && st.IsDir() {
			p.must(errors.Join(f0.Close(), f1.Close()))
			return
		}
		p.next++
		p.open[fmt.Sprintf("%06d", p.next)] = [2]File{f0, f1}
	}
}

func (p *pair) read(f [2]File, off int64, n int) {
	b0, b1 := make([]byte, n), bytes.Repeat([]byte{7}, n)
	n0, err0 := f[0].ReadAt(b0, off)
	n1, err1 := f[1].ReadAt(b1, off)
	if n == 0 {
		return // the kernel does not say EOF for nothing
	}
	p.agree("read", err0, err1)
	if n0 != n1 || !bytes.Equal(b0[:n0], b1[:n1]) {
		p.t.Fatalf("read at %d: %d bytes, not %d, or others", off, n1, n0)
	}
}

// agree wants both to have failed, or none, and for the same reason as far as errors.Is can tell.
func (p *pair) agree(what string, err0, err1 error) {
	for _, kind := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrClosed, io.EOF, syscall.EISDIR, syscall.ENOTDIR, syscall.EBADF, syscall.ENOTEMPTY, syscall.EINVAL} {
		if (err0 == nil) != (err1 == nil) || errors.Is(err0, kind) != errors.Is(err1, kind) {
			p.t.Fatalf("%s: the machine says %v, Mem says %v", what, err0, err1)
		}
	}
}

// same compares the trees.
func (p *pair) same() {
	for _, dir := range []string{"", "/d", "/d/e", "/c"} {
		e0, err0 := OS{}.ReadDir(p.root + dir)
		e1, err1 := p.mem.ReadDir(p.root + dir)
		p.agree("readDir "+dir, err0, err1)
		if len(e0) != len(e1) {
			p.t.Fatalf("%s has %v, not %v", dir, e1, e0)
		}
		for i := range e0 {
			if e0[i].Name() != e1[i].Name() || e0[i].IsDir() != e1[i].IsDir() {
				p.t.Fatalf("%s has %v, not %v", dir, e1, e0)
			}
		}
	}
	for _, f := range p.open {
		s0, err0 := f[0].Size()
		s1, err1 := f[1].Size()
		p.agree("size", err0, err1)
		if s0 != s1 {
			p.t.Fatalf("size %d, not %d", s1, s0)
		}
	}
}

func TestMemLock(t *testing.T) {
	for _, f := range []FS{NewMem(), OS{}} {
		dir := t.TempDir()
		check(t, f.MkdirAll(dir, 0o755))
		l, err := f.Lock(dir + "/lock")
		check(t, err)
		if _, err := f.Lock(dir + "/lock"); !errors.Is(err, syscall.EWOULDBLOCK) {
			t.Fatalf("a second lock: %v", err)
		}
		check(t, l.Close())
		l, err = f.Lock(dir + "/lock")
		check(t, err)
		check(t, l.Close())
	}
}

func TestMemFull(t *testing.T) {
	m := NewMem()
	m.SetCapacity(128 << 10)
	f := create(t, m, "f")
	n, err := f.WriteAt(make([]byte, 200<<10), 0)
	if n != 128<<10 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("wrote %d: %v", n, err)
	}
	if size, _ := f.Size(); size != 128<<10 {
		t.Fatalf("the file has %d bytes", size)
	}
	if u, err := m.DiskUsage("/"); err != nil || u.Total != 128<<10 || u.Free != 0 {
		t.Fatalf("%+v %v", u, err)
	}
	if _, err := f.WriteAt([]byte("over"), 0); err != nil {
		t.Fatalf("overwriting needs no room: %v", err)
	}
	check(t, m.Remove("f"))
	g := create(t, m, "g")
	if _, err := g.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("a removed file that is open gives nothing back: %v", err)
	}
	check(t, f.Close())
	if _, err := g.WriteAt(make([]byte, 64<<10), 0); err != nil {
		t.Fatal(err)
	}
}

// Sparse files take memory for what was written only.
func TestMemSparse(t *testing.T) {
	m := NewMem()
	f := create(t, m, "f")
	check(t, f.Truncate(1<<50))
	writeAt(t, f, 1<<45, "here")
	if used := m.used.Load(); used > pageBytes {
		t.Fatalf("%d bytes are taken", used)
	}
	b := make([]byte, 6)
	if _, err := f.ReadAt(b, 1<<45-1); err != nil || string(b) != "\x00here\x00" {
		t.Fatalf("%q %v", b, err)
	}
}

// The race detector is the judge; content is judged where ranges do not overlap.
func TestMemConcurrent(t *testing.T) {
	m := NewMem()
	var wg sync.WaitGroup
	shared := create(t, m, "shared")
	for g := range 8 {
		wg.Go(func() {
			name := fmt.Sprint("own", g)
			f, err := m.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				t.Error(err)
				return
			}
			b := bytes.Repeat([]byte{byte(g + 1)}, 1000)
			got := make([]byte, 1000)
			for i := range 200 {
				off := int64(i*8000 + g*1000)
				_, err0 := shared.WriteAt(b, off)
				_, err1 := shared.ReadAt(got, off)
				_, err2 := f.WriteAt(b, int64(i))
				err := errors.Join(err0, err1, err2, f.Sync(), m.Rename(name, name+"x"), m.SyncDir("/"), m.Rename(name+"x", name))
				if err != nil || !bytes.Equal(b, got) {
					t.Errorf("%v, or not what was written", err)
					return
				}
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	for seed := range int64(20) {
		m.CrashClone(rand.New(rand.NewSource(seed)), CrashOptions{Data: 0.5, Names: 0.5})
	}
	wg.Wait()
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, f FS, name string) File {
	t.Helper()
	file, err := f.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	check(t, err)
	return file
}

func writeAt(t *testing.T, f File, off int64, s string) {
	t.Helper()
	_, err := f.WriteAt([]byte(s), off)
	check(t, err)
}

// content is the whole of a file; ok is false where there is none.
func content(t *testing.T, f FS, name string) (string, bool) {
	t.Helper()
	file, err := f.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false
	}
	check(t, err)
	size, err := file.Size()
	check(t, err)
	b := make([]byte, size)
	if n, err := file.ReadAt(b, 0); n < len(b) {
		t.Fatal(err)
	}
	check(t, file.Close())
	return string(b), true
}
