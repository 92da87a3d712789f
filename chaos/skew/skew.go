// Package skew changes the clock of one running process: it rewrites the process's copy of the kernel's vDSO, through which both the
// JVM and Go read the time. It knows machine code of amd64 and ELF; it must never know what the process does.
package skew

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Set moves the wall clock of a process by d, its monotonic clock not at all. undo gives it the right time again.
func Set(pid int, d time.Duration) (undo func() error, err error) {
	if runtime.GOARCH != "amd64" {
		return nil, errors.New("clocks are changed on amd64 only")
	}
	if pid == 0 {
		return nil, errors.New("the process does not run")
	}
	start, size, err := vdso(pid)
	if err != nil {
		return nil, err
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	image := make([]byte, size)
	if _, err := mem.ReadAt(image, int64(start)); err != nil {
		mem.Close()
		return nil, fmt.Errorf("read the vDSO of %d: %w", pid, err)
	}
	codes := map[string][]byte{"__vdso_clock_gettime": clockGettime(int64(d / time.Second)), "__vdso_gettimeofday": gettimeofday(int64(d / time.Second)), "__vdso_time": timeCode(int64(d / time.Second))}
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		mem.Close()
		return nil, err
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		mem.Close()
		return nil, err
	}
	write := func(code func(name string, at, n uint64) []byte) error {
		// Nobody runs in it while it is written.
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return err
		}
		defer syscall.Kill(pid, syscall.SIGCONT)
		var errs []error
		for _, s := range symbols {
			if c, ok := codes[s.Name]; ok && s.Value+uint64(len(c)) <= size {
				_, err := mem.WriteAt(code(s.Name, s.Value, uint64(len(c))), int64(start+s.Value))
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
	if err := write(func(name string, _, _ uint64) []byte { return codes[name] }); err != nil {
		mem.Close()
		return nil, fmt.Errorf("write the vDSO of %d: %w", pid, err)
	}
	return func() error {
		defer mem.Close()
		err := write(func(_ string, at, n uint64) []byte { return image[at : at+n] })
		if errors.Is(err, syscall.ESRCH) {
			return nil // it has ended meanwhile, and its copy with it
		}
		return err
	}, nil
}

// vdso finds where the vDSO lies in a process.
func vdso(pid int) (start, size uint64, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			var end uint64
			if _, err := fmt.Sscanf(line, "%x-%x", &start, &end); err != nil {
				return 0, 0, err
			}
			return start, end - start, nil
		}
	}
	return 0, 0, fmt.Errorf("process %d has no vDSO", pid)
}

func imm(code []byte, v int64) []byte { return binary.LittleEndian.AppendUint64(code, uint64(v)) }

// clockGettime asks the kernel and adds seconds to the real-time clocks (ids 0 and 5).
func clockGettime(seconds int64) []byte {
	code := []byte{
		0xb8, 228, 0, 0, 0, // mov eax, SYS_clock_gettime
		0x0f, 0x05, // syscall
		0x85, 0xc0, // test eax, eax
		0x75, 0x17, // jne ret
		0x85, 0xff, // test edi, edi
		0x74, 0x05, // je add
		0x83, 0xff, 0x05, // cmp edi, 5
		0x75, 0x0e, // jne ret
		0x90, // add: nop
	}
	code = append(code, 0x48, 0xb9) // mov rcx, imm64
	code = imm(code, seconds)
	return append(code, 0x48, 0x01, 0x0e, 0xc3) // add [rsi], rcx; ret
}

func gettimeofday(seconds int64) []byte {
	code := []byte{
		0xb8, 96, 0, 0, 0, // mov eax, SYS_gettimeofday
		0x0f, 0x05, // syscall
		0x48, 0x85, 0xff, // test rdi, rdi
		0x74, 0x0d, // je ret
		0x48, 0xb9, // mov rcx, imm64
	}
	code = imm(code, seconds)
	return append(code, 0x48, 0x01, 0x0f, 0xc3) // add [rdi], rcx; ret
}

func timeCode(seconds int64) []byte {
	code := []byte{
		0x57,       // push rdi
		0x31, 0xff, // xor edi, edi
		0xb8, 201, 0, 0, 0, // mov eax, SYS_time
		0x0f, 0x05, // syscall
		0x5f,       // pop rdi
		0x48, 0xb9, // mov rcx, imm64
	}
	code = imm(code, seconds)
	return append(code,
		0x48, 0x01, 0xc8, // add rax, rcx
		0x48, 0x85, 0xff, // test rdi, rdi
		0x74, 0x03, // je ret
		0x48, 0x89, 0x07, // mov [rdi], rax
		0xc3) // ret
}
