package vfs

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring hands writes and syncs that reach the disk to the kernel's asynchronous I/O (io_submit(2)) and parks the goroutine until they are
// done. A system call that blocks for the time of a disk write costs more than itself in Go: its processor is taken away and given back,
// and the runtime's monitor, which does that, then polls every few dozen microseconds instead of sleeping. With a disk write always
// under way that took a tenth of a busy broker's time.
//
// There is no goroutine of the ring: of those that wait, one waits for the kernel and wakes the others.
type ring struct {
	ctx uintptr
	efd *os.File // an eventfd, readable when something is done

	mu      sync.Mutex
	ops     map[uint64]*ringOp
	next    uint64
	empty   sync.Cond // no ops are left
	reaping bool
	closed  bool
}

type ringOp struct {
	done   bool
	result int64
	keep   []byte        // what the kernel reads meanwhile
	wake   chan struct{} // it is done, or its goroutine is the next to wait for the kernel
}

const (
	ringDepth = 128

	iocbPwrite = 1
	iocbFdsync = 3
	resfdFlag  = 1
)

// iocb is the kernel's struct iocb.
type iocb struct {
	data   uint64
	_      uint64 // key, rw_flags
	opcode uint16
	_      int16 // priority
	fd     uint32
	buf    uint64
	nbytes uint64
	offset int64
	_      uint64
	flags  uint32
	resfd  uint32
}

// ioEvent is the kernel's struct io_event.
type ioEvent struct {
	data   uint64
	_      uint64 // the iocb's address
	result int64
	_      int64
}

// newRing makes a ring; an error where the kernel offers none.
func newRing() (*ring, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	r := &ring{efd: os.NewFile(uintptr(fd), "disk completions"), ops: map[uint64]*ringOp{}}
	r.empty.L = &r.mu
	if _, _, e := unix.Syscall(unix.SYS_IO_SETUP, ringDepth, uintptr(unsafe.Pointer(&r.ctx)), 0); e != 0 {
		return nil, errors.Join(fmt.Errorf("io_setup: %w", e), r.efd.Close())
	}
	return r, nil
}

// close takes no more operations, waits for those that are under way and ends the ring.
func (r *ring) close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	for len(r.ops) > 0 {
		r.empty.Wait()
	}
	r.mu.Unlock()
	_, _, e := unix.Syscall(unix.SYS_IO_DESTROY, r.ctx, 0, 0)
	err := r.efd.Close()
	if e != 0 {
		err = errors.Join(err, fmt.Errorf("io_destroy: %w", e))
	}
	return err
}

// errNoRing says that the operation was not begun and must be done in the plain way.
var errNoRing = errors.New("the kernel took no asynchronous operation")

// fdatasync makes a file's bytes durable.
func (r *ring) fdatasync(f *os.File) error {
	_, err := r.do(f, iocb{opcode: iocbFdsync}, nil)
	return err
}

// writeAt writes b; the file must have been opened with O_DIRECT, else io_submit itself blocks.
func (r *ring) writeAt(f *os.File, b []byte, off int64) (int, error) {
	return r.do(f, iocb{opcode: iocbPwrite, buf: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))), nbytes: uint64(len(b)), offset: off}, b)
}

func (r *ring) do(f *os.File, cb iocb, keep []byte) (int, error) {
	op := &ringOp{keep: keep, wake: make(chan struct{}, 1)}
	r.mu.Lock()
	if r.closed || len(r.ops) >= ringDepth {
		r.mu.Unlock()
		return 0, errNoRing
	}
	r.next++
	id := r.next
	r.ops[id] = op
	r.mu.Unlock()
	cb.data, cb.flags = id, resfdFlag
	if err := r.submit(f, &cb); err != nil {
		r.mu.Lock()
		r.remove(id)
		r.mu.Unlock()
		return 0, err
	}
	r.await(op)
	runtime.KeepAlive(f)
	if op.result < 0 {
		return 0, syscall.Errno(-op.result)
	}
	return int(op.result), nil
}

// remove is REQUIRES: mu.
func (r *ring) remove(id uint64) {
	if delete(r.ops, id); len(r.ops) == 0 {
		r.empty.Broadcast()
	}
}

func (r *ring) submit(f *os.File, cb *iocb) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	erc, err := r.efd.SyscallConn()
	if err != nil {
		return err
	}
	var e syscall.Errno
	if err := erc.Control(func(efd uintptr) { cb.resfd = uint32(efd) }); err != nil {
		return err
	}
	err = rc.Control(func(fd uintptr) {
		cb.fd = uint32(fd)
		list := [1]*iocb{cb}
		_, _, e = unix.Syscall(unix.SYS_IO_SUBMIT, r.ctx, 1, uintptr(unsafe.Pointer(&list)))
	})
	switch {
	case err != nil:
		return os.ErrClosed // the only reason
	case e == unix.EAGAIN || e == unix.EINVAL || e == unix.ENOSYS:
		return errNoRing
	case e != 0:
		return e
	}
	return nil
}

// await parks the goroutine until op is done.
func (r *ring) await(op *ringOp) {
	r.mu.Lock()
	for !op.done {
		if r.reaping {
			r.mu.Unlock()
			<-op.wake
			r.mu.Lock()
			continue
		}
		r.reaping = true
		r.mu.Unlock()
		r.reap()
		r.mu.Lock()
		r.reaping = false
	}
	if !r.reaping {
		for _, other := range r.ops { // somebody must wait for the kernel
			other.signal()
			break
		}
	}
	r.mu.Unlock()
}

func (o *ringOp) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// reap waits until something is done and tells whoever waits for it.
func (r *ring) reap() {
	var count [8]byte
	if _, err := r.efd.Read(count[:]); err != nil {
		runtime.Gosched() // nothing that is known to happen; the kernel is asked all the same
	}
	var events [16]ioEvent
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_IO_GETEVENTS, r.ctx, 0, uintptr(len(events)), uintptr(unsafe.Pointer(&events)), uintptr(unsafe.Pointer(&unix.Timespec{})), 0)
		if e != 0 {
			return // EINTR: the eventfd is looked at again
		}
		r.mu.Lock()
		for _, ev := range events[:n] {
			if op := r.ops[ev.data]; op != nil {
				r.remove(ev.data)
				op.result, op.done, op.keep = ev.result, true, nil
				op.signal()
			}
		}
		r.mu.Unlock()
		if int(n) < len(events) {
			return
		}
	}
}
