package vfs

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

func TestInjectNth(t *testing.T) {
	m := NewMem()
	i := NewInject(m, Rule{Ops: OpSync, Path: "bad", Skip: 1, Times: 2, Err: syscall.EIO})
	bad, good := create(t, i, "bad"), create(t, i, "good")
	for n, fails := range []bool{false, true, true, false} {
		if err := bad.Sync(); errors.Is(err, syscall.EIO) != fails {
			t.Fatalf("sync %d: %v", n, err)
		}
		check(t, good.Sync())
	}
	if n := i.Failed(0); n != 2 {
		t.Fatalf("%d failed", n)
	}
	i.SetRules(Rule{Ops: OpAll, Err: syscall.EIO})
	_, errOpen := i.OpenFile("x", os.O_CREATE|os.O_RDWR, 0o600)
	_, errRead := bad.ReadAt(make([]byte, 1), 0)
	_, errStat := i.Stat("bad")
	_, errDir := i.ReadDir("/")
	_, errLock := i.Lock("lock")
	for n, err := range []error{errOpen, errRead, errStat, errDir, errLock, i.Rename("bad", "b"), i.Remove("bad"), i.RemoveAll("bad"), i.MkdirAll("d", 0o755),
		i.SyncDir("/"), bad.Truncate(1), bad.Preallocate(0, 1), bad.Close()} {
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("operation %d: %v", n, err)
		}
	}
	i.SetRules()
	if _, ok := content(t, m, "bad"); !ok {
		t.Fatal("a refused removal removed")
	}
	if _, ok := content(t, m, "x"); ok {
		t.Fatal("a refused open created")
	}
}

func TestInjectWrites(t *testing.T) {
	m := NewMem()
	i := NewInject(m, Rule{Ops: OpWrite, Path: "f", Room: 10, HasRoom: true})
	f := create(t, i, "f")
	writeAt(t, f, 0, "12345678")
	if n, err := f.WriteAt([]byte("9abcd"), 8); n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("wrote %d: %v", n, err)
	}
	if n, err := f.WriteAt([]byte("e"), 10); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("wrote %d: %v", n, err)
	}
	if s, _ := content(t, m, "f"); s != "123456789a" {
		t.Fatalf("%q", s)
	}
	i.SetRules(Rule{Ops: OpWrite, Err: syscall.EIO, Short: 3, Times: 1})
	if n, err := f.WriteAt([]byte("xxxxx"), 0); n != 3 || !errors.Is(err, syscall.EIO) {
		t.Fatalf("wrote %d: %v", n, err)
	}
	if s, _ := content(t, m, "f"); s != "xxx456789a" {
		t.Fatalf("%q", s)
	}
	i.SetRules(Rule{Ops: OpRename, Path: "to", Err: syscall.EIO, After: true})
	if err := i.Rename("f", "to"); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if _, ok := content(t, m, "to"); !ok {
		t.Fatal("the operation was to be done before it failed")
	}
}

func TestInjectHookBlocks(t *testing.T) {
	reached, release := make(chan string), make(chan struct{})
	i := NewInject(NewMem(), Rule{Ops: OpSync, Hook: func(op Op, path string) { reached <- op.String() + " " + path; <-release }})
	f := create(t, i, "f")
	done := make(chan error)
	go func() { done <- f.Sync() }()
	if s := <-reached; s != "sync f" {
		t.Fatal(s)
	}
	writeAt(t, f, 0, "goes on meanwhile")
	select {
	case <-done:
		t.Fatal("sync did not wait")
	default:
	}
	close(release)
	check(t, <-done)
}
