package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Usage is what a process has used up to now.
type Usage struct {
	When       time.Time
	CPUSeconds float64 // user and system time of all threads
	RSSBytes   int64
	PeakBytes  int64 // highest RSS so far
	Threads    int
}

// ReadUsage reads the usage of a live process from /proc.
func ReadUsage(pid int) (Usage, error) {
	u := Usage{When: time.Now()}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return u, err
	}
	// The command name may hold spaces: fields are counted after its closing bracket. utime and stime are fields 14 and 15.
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(f) < 20 {
		return u, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f))
	}
	ut, _ := strconv.ParseInt(f[11], 10, 64)
	st, _ := strconv.ParseInt(f[12], 10, 64)
	u.CPUSeconds = float64(ut+st) / 100 // USER_HZ is 100 on every Linux that Go runs on
	u.Threads, _ = strconv.Atoi(f[17])
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return u, err
	}
	for _, line := range strings.Split(string(status), "\n") {
		name, rest, _ := strings.Cut(line, ":")
		kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			u.RSSBytes = kb << 10
		case "VmHWM":
			u.PeakBytes = kb << 10
		}
	}
	return u, nil
}

// process is one running child whose output is kept.
type process struct {
	cmd  *exec.Cmd
	log  *tail
	done chan struct{}
	err  error // valid after done
}

// startProcess starts a child that dies with us, with output kept in memory and, if logPath is given, in a file too.
func startProcess(name string, args, env []string, dir, logPath string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), log: &tail{}, done: make(chan struct{})}
	p.cmd.Dir = dir
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "OTTLA_") { // to a broker these are settings; to the tests they are switches
			p.cmd.Env = append(p.cmd.Env, e)
		}
	}
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if logPath != "" {
		f, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return nil, err
		}
		p.log.file = f
	}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		if p.log.file != nil {
			p.log.file.Close()
		}
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop asks the child to end and waits; a child that does not end in time is killed and reported.
func (p *process) stop(patience time.Duration) error {
	select {
	case <-p.done:
		return fmt.Errorf("had ended by itself: %v\n%s", p.err, p.log)
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
		p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("did not stop within %v\n%s", patience, p.log)
	}
}

// kill ends the child as a crash would.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// tail keeps the last 64 KiB that were written.
type tail struct {
	mu   sync.Mutex
	buf  []byte
	file *os.File
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file != nil {
		if _, err := t.file.Write(p); err != nil {
			return 0, err
		}
	}
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - 64<<10; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

// FreePort returns a TCP port of 127.0.0.1 that was free a moment ago.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// apiVersionsV0 is the smallest request every Kafka listener answers.
var apiVersionsV0 = []byte{0, 0, 0, 14, 0, 18, 0, 0, 0, 0, 0, 1, 0, 4, 'p', 'e', 'e', 'r'}

// Answers says whether the broker at addr answers one request now.
func Answers(addr string, within time.Duration) bool {
	c, err := net.DialTimeout("tcp", addr, within)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(within))
	if _, err := c.Write(apiVersionsV0); err != nil {
		return false
	}
	var b [4]byte
	_, err = c.Read(b[:])
	return err == nil
}

// waitReady waits until ready says yes, and fails early if the process ends.
func waitReady(ctx context.Context, p *process, ready func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-p.done:
			return fmt.Errorf("ended while starting: %v\n%s", p.err, p.log)
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w\n%s", ctx.Err(), p.log)
		case <-tick.C:
		}
	}
	return nil
}

// lookPath is exec.LookPath whose failure is ErrMissing.
func lookPath(name string) (string, error) {
	p, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: %s is not installed", ErrMissing, name)
	}
	return p, nil
}

// Command runs a program of the toolchain to its end; its failure is ErrMissing with what it printed.
func Command(dir string, env []string, name string, args ...string) error {
	path, err := lookPath(name)
	if err != nil {
		return err
	}
	c := exec.Command(path, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	if err != nil {
		if len(out) > 4096 {
			out = out[len(out)-4096:]
		}
		return errors.Join(ErrMissing, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out))
	}
	return nil
}
