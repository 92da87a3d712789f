package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// devNode is one process of a cluster on this machine. Its addresses are kept: the nodes find each other by them after a restart.
type devNode struct {
	Client  string `json:"client"`
	Cluster string `json:"cluster"`
	dir     string
}

// maxDevBrokers bounds a cluster on one machine.
const maxDevBrokers = 15

// devCluster runs several brokers as processes of this machine until ctx ends or one of them does.
func (c *command) devCluster(ctx context.Context, data, host string, port, brokers int, set []string, verbose bool) error {
	if brokers > maxDevBrokers {
		return fmt.Errorf("--brokers %d is more than %d, which is what one machine should have", brokers, maxDevBrokers)
	}
	begun := time.Now()
	nodes, err := devNodes(data, host, port, brokers)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	var up []chan struct{}
	for i, n := range nodes {
		args := []string{"start", "--data", n.dir, "--set", "listeners=PLAINTEXT://" + n.Client + ",CLUSTER://" + n.Cluster}
		if i > 0 {
			args = append(args, "--join", nodes[0].Cluster)
		}
		for _, s := range set {
			args = append(args, "--set", s)
		}
		ready := make(chan struct{})
		running.Go(func() {
			err := c.devProcess(ctx, i+1, args, verbose, ready)
			if ctx.Err() == nil {
				cancel(fmt.Errorf("broker %d of this cluster ended: %w; its data is in %s", i+1, err, n.dir))
			}
		})
		up = append(up, ready)
		// A new node joins when those before it are there, so that their numbers are theirs. An old cluster needs several before any is ready.
		if n.fresh() {
			wait(ctx, ready)
		}
	}
	for _, ready := range up {
		wait(ctx, ready)
	}
	c.devReady(ctx, nodes, data, begun)
	<-ctx.Done()
	running.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// fresh says whether a node has not been part of a cluster yet.
func (n devNode) fresh() bool {
	_, err := os.Stat(filepath.Join(n.dir, "meta.properties"))
	return errors.Is(err, os.ErrNotExist)
}

// devNodes gives each node its folder and addresses: those of the last time, or new ones.
func devNodes(data, host string, port, brokers int) ([]devNode, error) {
	name := filepath.Join(data, "brokers.json")
	var nodes []devNode
	if content, err := os.ReadFile(name); err == nil {
		if err := json.Unmarshal(content, &nodes); err != nil {
			return nil, fmt.Errorf("%s: %w; remove it to give the brokers new addresses", name, err)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if len(nodes) > brokers {
		return nil, fmt.Errorf("%s belongs to a cluster of %d brokers and --brokers is %d; give at least as many, or another folder with --data", data, len(nodes), brokers)
	}
	if len(nodes) == 0 {
		if _, err := os.Stat(filepath.Join(data, "meta.properties")); err == nil {
			return nil, fmt.Errorf("%s holds the data of a single broker; give another folder with --data", data)
		}
	}
	for i := len(nodes); i < brokers; i++ {
		var n devNode
		for k, addr := range []*string{&n.Client, &n.Cluster} {
			p := 0
			if port > 0 {
				p = port + 2*i + k
			}
			free, err := freeAddress(host, p)
			if err != nil {
				return nil, err
			}
			*addr = free
		}
		nodes = append(nodes, n)
	}
	for i := range nodes {
		nodes[i].dir = filepath.Join(data, "broker-"+strconv.Itoa(i+1))
	}
	content, err := json.MarshalIndent(nodes, "", "  ")
	if err == nil {
		err = os.MkdirAll(data, 0o755)
	}
	if err == nil {
		err = os.WriteFile(name, append(content, '\n'), 0o644)
	}
	return nodes, err
}

// freeAddress gives an address that nobody listens on: the port, or with 0 any.
func freeAddress(host string, port int) (string, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return "", fmt.Errorf("port %d cannot be used (%w); stop who has it, or choose others with --port; 0 picks free ones", port, err)
	}
	return l.Addr().String(), l.Close()
}

// devProcess runs one broker; ready is closed when it says that it is.
func (c *command) devProcess(ctx context.Context, number int, args []string, verbose bool, ready chan<- struct{}) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	cmd.SysProcAttr = childAttributes()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var last tail
	cmd.Stderr = &last
	if verbose {
		cmd.Stderr = &prefixed{w: c.env.Stderr, prefix: "broker " + strconv.Itoa(number) + ": "}
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "Ottla is ready") && ready != nil {
			close(ready)
			ready = nil
		}
	}
	if err := cmd.Wait(); err != nil && last.String() != "" {
		return fmt.Errorf("%w: %s", err, last.String())
	} else if err != nil {
		return err
	}
	return errors.New("it stopped")
}

func wait(ctx context.Context, ready <-chan struct{}) {
	select {
	case <-ready:
	case <-ctx.Done():
	}
}

// devReady says what there is.
func (c *command) devReady(ctx context.Context, nodes []devNode, data string, begun time.Time) {
	if ctx.Err() != nil {
		return
	}
	out := c.env.Stdout
	fmt.Fprintf(out, "Ottla is ready: %d brokers (in %d ms)\n", len(nodes), time.Since(begun).Milliseconds())
	for i, n := range nodes {
		fmt.Fprintf(out, "  broker %d at %s\n", i+1, n.Client)
	}
	fmt.Fprintf(out, "data in %s\n\n  %s cluster info -b %s\n  %s topic create flights --partitions 6 --replication %d -b %s\n\nCtrl-C stops them.\n",
		data, c.env.Program, nodes[0].Client, c.env.Program, min(3, len(nodes)), nodes[0].Client)
}

// tail keeps the last line that was written.
type tail struct {
	mu   sync.Mutex
	line []byte
}

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if lines := strings.Split(strings.TrimSpace(string(b)), "\n"); lines[len(lines)-1] != "" {
		t.line = []byte(lines[len(lines)-1])
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.line)
}

// prefixed says of each line whose it is.
type prefixed struct {
	w      io.Writer
	prefix string
}

// Write implements io.Writer.
func (p *prefixed) Write(b []byte) (int, error) {
	for _, l := range strings.Split(strings.TrimRight(string(b), "\n"), "\n") {
		if _, err := fmt.Fprintln(p.w, p.prefix+l); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}
