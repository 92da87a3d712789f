package cable

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A closed port of a namespace refuses a connection at once, through the switch; a cut lets the attempt run into its timeout.
func TestPacketsPassAreCutAndTakeLonger(t *testing.T) {
	if err := Possible(); err != nil {
		t.Skip(err)
	}
	s, err := New(2)
	if err != nil {
		t.Skipf("no namespaces here: %v", err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat("/run/netns/" + s.Namespace(1)); err == nil {
			t.Error("the namespace is still there")
		}
	}()
	dial := func(port int) (time.Duration, error) {
		begin := time.Now()
		c, err := net.DialTimeout("tcp", net.JoinHostPort(s.Host(port), "9"), 700*time.Millisecond)
		if err == nil {
			c.Close()
			t.Fatal("somebody listens on port 9")
		}
		return time.Since(begin), err
	}
	if _, err := dial(1); !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatalf("node 1 is not reached: %v", err)
	}
	for name, cut := range map[string]func(){
		"both ways":    func() { s.Both(0, 1, Rule{Cut: true}) },
		"towards it":   func() { s.Set(0, 1, Rule{Cut: true}) },
		"from it":      func() { s.Set(1, 0, Rule{Cut: true}) },
		"all are lost": func() { s.Both(0, 1, Rule{Loss: 1}) },
	} {
		cut()
		if _, err := dial(1); err == nil || !err.(net.Error).Timeout() {
			t.Fatalf("%s: cut off, it said %v", name, err)
		}
		if _, err := dial(2); !errors.Is(err, unix.ECONNREFUSED) {
			t.Fatalf("%s: the other node is not reached: %v", name, err)
		}
		s.Heal()
	}
	s.Both(0, 1, Rule{Delay: 100 * time.Millisecond})
	if d, err := dial(1); !errors.Is(err, unix.ECONNREFUSED) || d < 200*time.Millisecond {
		t.Fatalf("a delay of 100 ms each way took %v, %v", d, err)
	}
	if s.Dropped.Load() == 0 || s.Passed.Load() == 0 {
		t.Fatal("nothing was counted")
	}
}
