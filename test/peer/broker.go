package peer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// Broker is one broker process, of either make. It keeps its address and its data over Restart.
type Broker struct {
	Name string // "kafka" or "ottla"
	Addr string // host:port of its plaintext listener
	// Control is the host:port at which its cluster's controller listens; "" for Ottla.
	Control string
	Dir     string // holds its data, configuration and log output

	proc   *process
	launch func() (*process, error)
	ready  func(addr string) bool
}

// Options of a broker to start. Properties are Kafka's names; both makes read them.
type Options struct {
	Dir        string            // working directory, created; must outlive the broker
	Properties map[string]string // beside the listener, the log directory and single-node defaults
	HeapMB     int               // Kafka only; 0 is Kafka's own default of 1024
	Dev        bool              // Ottla only: `ottla dev` instead of `ottla start -c`; Properties are not used then
}

// singleNode are the settings without which a lone broker cannot serve groups or transactions.
func singleNode() map[string]string {
	return map[string]string{
		"num.partitions":                                   "1",
		"offsets.topic.replication.factor":                 "1",
		"offsets.topic.num.partitions":                     "4",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"transaction.state.log.num.partitions":             "4",
		"share.coordinator.state.topic.replication.factor": "1",
		"share.coordinator.state.topic.min.isr":            "1",
		"share.coordinator.state.topic.num.partitions":     "4",
		"group.initial.rebalance.delay.ms":                 "0",
	}
}

func writeProperties(path string, layers ...map[string]string) error {
	all := map[string]string{}
	for _, l := range layers {
		for k, v := range l {
			all[k] = v
		}
	}
	keys := make([]string, 0, len(all))
	for k := range all {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "%s=%s\n", k, all[k])
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

// start runs the prepared launch and waits until the broker answers.
func (b *Broker) start(ctx context.Context) error {
	p, err := b.launch()
	if err != nil {
		return err
	}
	if err := waitReady(ctx, p, func() bool { return b.ready(b.Addr) }); err != nil {
		p.kill()
		return fmt.Errorf("%s at %s: %w", b.Name, b.Addr, err)
	}
	b.proc = p
	return nil
}

// Launch starts a stopped or killed broker again on its address and data without waiting for it: benchmarks time what follows.
func (b *Broker) Launch() error {
	p, err := b.launch()
	if err != nil {
		return err
	}
	b.proc = p
	return nil
}

// Restart starts a stopped or killed broker again on its address and data.
func (b *Broker) Restart(ctx context.Context) error { return b.start(ctx) }

// Stop ends the broker cleanly.
func (b *Broker) Stop() error {
	if err := b.proc.stop(60 * time.Second); err != nil {
		return fmt.Errorf("stop %s: %w", b.Name, err)
	}
	return nil
}

// Kill ends the broker by SIGKILL and returns when it is gone.
func (b *Broker) Kill() { b.proc.kill() }

// Alive says whether the process still runs.
func (b *Broker) Alive() bool {
	if b.proc == nil {
		return false
	}
	select {
	case <-b.proc.done:
		return false
	default:
		return true
	}
}

// Pid of the running process.
func (b *Broker) Pid() int { return b.proc.pid() }

// Usage of the running process.
func (b *Broker) Usage() (Usage, error) { return ReadUsage(b.Pid()) }

// Output is the end of what the process printed.
func (b *Broker) Output() string { return b.proc.log.String() }

// DataDir is where the partitions' directories are.
func (b *Broker) DataDir() string { return filepath.Join(b.Dir, "data") }
