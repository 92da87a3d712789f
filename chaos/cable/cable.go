// Package cable is the network of a chaos run: a network namespace for every node and a switch in user space between them and the
// clients, which forwards, loses and delays packets as it is told, for each direction of each pair. It knows IP headers and TUN
// devices (it needs root); it must never know what the packets carry.
package cable

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Prefix is in the name of every namespace and device that a switch makes.
const Prefix = "ottla-chaos-"

// devicePrefix is the same for devices, whose names have 15 characters at most.
const devicePrefix = "ochaos"

const mtu = 32000

// Rule is what happens to packets of one direction.
type Rule struct {
	Cut    bool    // nothing passes
	Loss   float64 // share of packets lost
	Delay  time.Duration
	Jitter time.Duration // added, at random; packets may overtake each other
}

// Switch connects port 0, the clients in the machine's own namespace, with ports 1..n, the nodes.
type Switch struct {
	subnet int
	pid    int
	ports  []*os.File
	rules  [][]atomic.Pointer[Rule]
	wg     sync.WaitGroup
	spaces []string

	Passed, Dropped atomic.Int64
}

// Possible says why a switch cannot be made here, nil if it can.
func Possible() error {
	if os.Getuid() != 0 {
		return errors.New("network namespaces need root")
	}
	for _, tool := range []string{"ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("network namespaces need %s", tool)
		}
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return errors.New("the switch needs /dev/net/tun")
	}
	return nil
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// New makes the namespaces and starts forwarding.
func New(nodes int) (*Switch, error) {
	if err := Possible(); err != nil {
		return nil, err
	}
	s := &Switch{pid: os.Getpid(), subnet: os.Getpid() % 250, rules: make([][]atomic.Pointer[Rule], nodes+1)}
	for i := range s.rules {
		s.rules[i] = make([]atomic.Pointer[Rule], nodes+1)
	}
	s.Heal()
	for port := 0; port <= nodes; port++ {
		if err := s.plug(port); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	for port := range s.ports {
		s.wg.Go(func() { s.forward(port) })
	}
	return s, nil
}

// Namespace of a node's port.
func (s *Switch) Namespace(port int) string { return fmt.Sprintf("%s%d-%d", Prefix, s.pid, port) }

// Host is a port's address.
func (s *Switch) Host(port int) string {
	if port == 0 {
		port = 254
	}
	return fmt.Sprintf("10.213.%d.%d", s.subnet, port)
}

func (s *Switch) plug(port int) error {
	device := "tun0"
	in := []string{"-n", s.Namespace(port)}
	if port == 0 {
		device, in = fmt.Sprintf("%s%d", devicePrefix, s.subnet), nil
	} else {
		if err := ip("netns", "add", s.Namespace(port)); err != nil {
			return err
		}
		s.spaces = append(s.spaces, s.Namespace(port))
	}
	f, err := openTUN(device, port, s.Namespace(port))
	if err != nil {
		return err
	}
	s.ports = append(s.ports, f)
	for _, args := range [][]string{
		{"addr", "add", s.Host(port) + "/24", "dev", device},
		{"link", "set", device, "mtu", fmt.Sprint(mtu)},
		{"link", "set", device, "up"},
		{"link", "set", "lo", "up"},
	} {
		if port == 0 && args[2] == "lo" {
			continue
		}
		if err := ip(append(append([]string{}, in...), args...)...); err != nil {
			return err
		}
	}
	return nil
}

// openTUN makes the device in the namespace of a node, or in ours for port 0. It does so on a thread that ends with it, because the
// thread has changed its namespace.
func openTUN(device string, port int, space string) (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	ch := make(chan result)
	go func() {
		if port != 0 {
			runtime.LockOSThread() // and never unlocked
			ns, err := unix.Open(filepath.Join("/run/netns", space), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err == nil {
				err = unix.Setns(ns, unix.CLONE_NEWNET)
				unix.Close(ns)
			}
			if err != nil {
				ch <- result{nil, fmt.Errorf("enter %s: %w", space, err)}
				return
			}
		}
		f, err := tun(device)
		ch <- result{f, err}
	}()
	r := <-ch
	return r.f, r.err
}

func tun(device string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	req, err := unix.NewIfreq(device)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make %s: %w", device, err)
	}
	return os.NewFile(uintptr(fd), device), nil
}

// Set gives the direction from -> to a rule.
func (s *Switch) Set(from, to int, r Rule) { s.rules[from][to].Store(&r) }

// Both gives both directions a rule.
func (s *Switch) Both(a, b int, r Rule) {
	s.Set(a, b, r)
	s.Set(b, a, r)
}

// Heal lets everything pass.
func (s *Switch) Heal() {
	for i := range s.rules {
		for j := range s.rules[i] {
			s.rules[i][j].Store(&Rule{})
		}
	}
}

func (s *Switch) forward(from int) {
	buf := make([]byte, mtu+64)
	for {
		n, err := s.ports[from].Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil || n < 20 || buf[0]>>4 != 4 {
			if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINVAL) {
				return
			}
			continue
		}
		to := int(buf[19])
		if to == 254 {
			to = 0
		}
		if to >= len(s.ports) || to == from {
			continue
		}
		r := s.rules[from][to].Load()
		if r.Cut || r.Loss > 0 && rand.Float64() < r.Loss {
			s.Dropped.Add(1)
			continue
		}
		s.Passed.Add(1)
		if r.Delay+r.Jitter == 0 {
			_, _ = s.ports[to].Write(buf[:n])
			continue
		}
		wait := r.Delay
		if r.Jitter > 0 {
			wait += rand.N(r.Jitter)
		}
		packet := append([]byte(nil), buf[:n]...)
		time.AfterFunc(wait, func() { _, _ = s.ports[to].Write(packet) })
	}
}

// Close takes devices and namespaces away; no process may be in them any more.
func (s *Switch) Close() error {
	var errs []error
	for _, f := range s.ports {
		errs = append(errs, f.Close())
	}
	s.wg.Wait()
	for _, space := range s.spaces {
		errs = append(errs, ip("netns", "del", space))
	}
	return errors.Join(errs...)
}
