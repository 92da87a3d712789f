// Package stand sets a cluster up for a chaos run: real broker processes of either make, each with its own address, its own disk
// and, if asked for, its own network namespace. It knows how to start, stop, kill and pause them; it must never know a workload, a
// fault's schedule or a broker from inside.
package stand

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/chaos/cable"
	"github.com/ottla/ottla/chaos/disk"
	"github.com/ottla/ottla/test/peer"
)

// Prefix is in the name of everything that outlives the process if it crashes: directories, namespaces, devices.
const Prefix = "ottla-chaos-"

// Options of a stand.
type Options struct {
	Make       string // "kafka" or "ottla"
	Nodes      int
	Dir        string // working directory, created by MakeDir
	Disks      bool   // every node's data on an ext4 of its own on a loop device (root)
	DiskMB     int
	Network    bool // every node in a network namespace of its own behind the user-space switch (root)
	HeapMB     int
	Properties map[string]string
}

// MakeDir makes the working directory and writes down whose it is, for Clean.
func MakeDir() (string, error) {
	dir, err := os.MkdirTemp("", Prefix)
	if err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "owner"), []byte(strconv.Itoa(os.Getpid())), 0o644)
}

// Node is one broker process.
type Node struct {
	ID   int32
	Host string
	Addr string // of the listener for clients
	Dir  string // configuration, output and, below data, the data
	Disk *disk.Disk

	space  string // network namespace; "" is the machine's
	argv   []string
	mu     sync.Mutex
	cmd    *exec.Cmd
	done   chan struct{}
	paused bool
}

// Cluster is all the nodes of a run.
type Cluster struct {
	Make   string
	Nodes  []*Node
	Switch *cable.Switch // nil without Network
	opts   Options
}

// ports of a node's listeners.
type ports struct{ client, second int }

// New lays a cluster out without starting it.
func New(o Options) (*Cluster, error) {
	c := &Cluster{Make: o.Make, opts: o}
	if o.Network {
		s, err := cable.New(o.Nodes)
		if err != nil {
			return nil, err
		}
		c.Switch = s
	}
	each := make([]ports, o.Nodes)
	for i := range o.Nodes {
		n := &Node{ID: int32(i + 1), Host: "127.0.0.1", Dir: filepath.Join(o.Dir, fmt.Sprintf("%s%d", o.Make, i+1))}
		c.Nodes = append(c.Nodes, n)
		if err := c.place(n, &each[i]); err != nil {
			return c, errors.Join(err, c.Close())
		}
		n.Addr = n.Host + ":" + strconv.Itoa(each[i].client)
	}
	var err error
	switch o.Make {
	case "kafka":
		err = c.layKafka(each)
	case "ottla":
		err = c.layOttla(each)
	default:
		err = fmt.Errorf("contestant %q: know kafka and ottla", o.Make)
	}
	if err != nil {
		return c, errors.Join(err, c.Close())
	}
	return c, nil
}

// place gives a node its directory, disk, namespace and ports.
func (c *Cluster) place(n *Node, p *ports) (err error) {
	if err := os.MkdirAll(n.DataDir(), 0o755); err != nil {
		return err
	}
	if c.opts.Disks {
		if n.Disk, err = disk.New(filepath.Join(n.Dir, "disk.img"), n.DataDir(), c.opts.DiskMB); err != nil {
			return err
		}
	}
	if c.Switch != nil {
		n.Host, n.space = c.Switch.Host(int(n.ID)), c.Switch.Namespace(int(n.ID))
		*p = ports{9092, 9093}
		return nil
	}
	if p.client, err = peer.FreePort(); err != nil {
		return err
	}
	p.second, err = peer.FreePort()
	return err
}

// DataDir is where the node's disk is mounted, or its data directly.
func (n *Node) DataDir() string { return filepath.Join(n.Dir, "data") }

// LogDir is the directory of the partitions' directories: an ext4 brings a lost+found, which is no partition.
func (n *Node) LogDir() string { return filepath.Join(n.DataDir(), "log") }

// Bootstrap is the addresses of all nodes.
func (c *Cluster) Bootstrap() []string {
	out := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		out[i] = n.Addr
	}
	return out
}

// Node returns the node of an id, nil if there is none.
func (c *Cluster) Node(id int32) *Node {
	if id < 1 || int(id) > len(c.Nodes) {
		return nil
	}
	return c.Nodes[id-1]
}

// Start launches the process without waiting for it to serve.
func (n *Node) Start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd != nil {
		select {
		case <-n.done:
		default:
			return nil
		}
	}
	argv := n.argv
	if n.space != "" {
		argv = append([]string{"nsenter", "--net=/run/netns/" + n.space}, argv...)
	}
	out, err := os.OpenFile(filepath.Join(n.Dir, "broker.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = n.Dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		out.Close()
		return err
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		out.Close()
		close(done)
	}()
	n.cmd, n.done, n.paused = cmd, done, false
	return nil
}

// Alive says whether the process runs, or is paused.
func (n *Node) Alive() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.done:
		return false
	default:
		return true
	}
}

// Pid of the process, 0 if there is none.
func (n *Node) Pid() int {
	if !n.Alive() {
		return 0
	}
	return n.cmd.Process.Pid
}

// Kill ends the process by SIGKILL and waits until it is gone.
func (n *Node) Kill() {
	if n.Alive() {
		_ = n.cmd.Process.Kill()
		<-n.done
	}
}

// KillNow sends SIGKILL without waiting: a power cut does not take turns.
func (n *Node) KillNow() {
	if n.Alive() {
		_ = n.cmd.Process.Kill()
	}
}

// Stop ends the process as an operator would.
func (n *Node) Stop(patience time.Duration) error {
	if !n.Alive() {
		return nil
	}
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-n.done:
		return nil
	case <-time.After(patience):
		n.Kill()
		return fmt.Errorf("node %d did not stop within %v", n.ID, patience)
	}
}

// Pause stops the process from running, Resume lets it go on.
func (n *Node) Pause() error { return n.signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (n *Node) Resume() error { return n.signal(syscall.SIGCONT) }

func (n *Node) signal(s syscall.Signal) error {
	if !n.Alive() {
		return fmt.Errorf("node %d does not run", n.ID)
	}
	return n.cmd.Process.Signal(s)
}

// Output is the last n bytes that the process has printed.
func (n *Node) Output(last int) string {
	b, err := os.ReadFile(filepath.Join(n.Dir, "broker.log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-last):])
}

// Answers says whether the node serves and sees itself as part of the cluster.
func (n *Node) Answers(ctx context.Context) bool {
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.Addr), kgo.DialTimeout(time.Second), kgo.RequestTimeoutOverhead(time.Second))
	if err != nil {
		return false
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	resp, err := cl.SeedBrokers()[0].Request(ctx, kmsg.NewPtrMetadataRequest())
	if err != nil {
		return false
	}
	for _, b := range resp.(*kmsg.MetadataResponse).Brokers {
		if b.NodeID == n.ID {
			return true
		}
	}
	return false
}

// Ready waits until every node answers.
func (c *Cluster) Ready(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for _, n := range c.Nodes {
		for !n.Answers(ctx) {
			if !n.Alive() {
				return fmt.Errorf("node %d has ended while starting:\n%s", n.ID, n.Output(4000))
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("node %d does not answer: %w\n%s", n.ID, ctx.Err(), n.Output(4000))
			case <-tick.C:
			}
		}
	}
	return nil
}

// Close ends and removes everything, whatever state a fault has left it in.
func (c *Cluster) Close() error {
	var errs []error
	for _, n := range c.Nodes {
		if n.Disk != nil {
			n.Disk.Thaw()
		}
		n.Kill()
		if n.Disk != nil {
			errs = append(errs, n.Disk.Close())
		}
	}
	if c.Switch != nil {
		errs = append(errs, c.Switch.Close())
	}
	return errors.Join(errs...)
}
