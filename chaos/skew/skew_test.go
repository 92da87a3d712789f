package skew

import (
	"bufio"
	"io"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// clockOf is a process that tells its wall clock, in seconds, for each line it is sent.
func clockOf(t *testing.T) (pid int, ask func() int64) {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	cmd := exec.Command(bash, "-c", `while read -r _; do printf '%(%s)T\n' -1; done`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	lines := bufio.NewReader(out)
	return cmd.Process.Pid, func() int64 {
		t.Helper()
		if _, err := io.WriteString(in, "\n"); err != nil {
			t.Fatal(err)
		}
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the process has died of it: %v", err)
		}
		n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
}

func TestAClockIsMovedAndPutRight(t *testing.T) {
	if runtime.GOARCH != "amd64" || runtime.GOOS != "linux" {
		t.Skip("clocks are changed on linux/amd64 only")
	}
	pid, ask := clockOf(t)
	near := func(want time.Time) {
		t.Helper()
		if d := ask() - want.Unix(); d < -5 || d > 5 {
			t.Fatalf("its clock is %d s from what it should be", d)
		}
	}
	near(time.Now())
	for _, d := range []time.Duration{24 * time.Hour, -time.Hour} {
		undo, err := Set(pid, d)
		if err != nil {
			t.Skipf("this machine does not let us: %v", err)
		}
		near(time.Now().Add(d))
		if err := undo(); err != nil {
			t.Fatal(err)
		}
		near(time.Now())
	}
}
