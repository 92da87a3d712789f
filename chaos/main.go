// Command chaos runs a cluster of real broker processes, Apache Kafka's or ours, under load and faults, and judges the history of
// everything that clients did and saw.
//
// It knows contestants, faults and reports; it must never know a broker from inside, and gives none an advantage: the same load, the
// same faults in the same order for the same seed.
//
//	go run ./chaos -contestant kafka -faults kill-leader,kill-controller -minutes 3 -seed 1
//	go run ./chaos -contestant ottla -disks -faults power-all            (root)
//	go run ./chaos -list                     the faults
//	go run ./chaos check FILE                judge a history again
//	go run ./chaos clean                     take away what a crashed run has left
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/ottla/ottla/chaos/check"
	"github.com/ottla/ottla/chaos/fault"
	"github.com/ottla/ottla/chaos/history"
	"github.com/ottla/ottla/chaos/load"
	"github.com/ottla/ottla/chaos/stand"
)

type options struct {
	contestants string
	nodes       int
	minutes     float64
	faults      string
	seed        uint64
	steady      time.Duration
	hold        time.Duration
	recover     time.Duration
	partitions  int
	every       time.Duration
	disks       bool
	network     bool
	noTxn       bool
	once        bool
	keep        bool
	heap        int
	set         string
	smoke       bool
}

// smokeFaults are those of the short run.
const smokeFaults = "kill-leader,kill-controller,power-all,kill-all"

func main() {
	os.Exit(run())
}

func run() int {
	var o options
	var list bool
	flag.StringVar(&o.contestants, "contestant", "ottla", "ottla, kafka, or both with a comma: then side by side")
	flag.IntVar(&o.nodes, "nodes", 3, "brokers; all of them take part in the metadata quorum")
	flag.Float64Var(&o.minutes, "minutes", 3, "time under faults")
	flag.StringVar(&o.faults, "faults", "kill-leader,kill-controller,kill-all", "faults to draw from; 'all' is every one that this machine and the flags allow")
	flag.Uint64Var(&o.seed, "seed", 0, "seed of the faults' order and targets; 0 draws one")
	flag.DurationVar(&o.steady, "steady", 8*time.Second, "time without a fault before the first and after each")
	flag.DurationVar(&o.hold, "hold", 12*time.Second, "how long a fault lasts")
	flag.DurationVar(&o.recover, "recover", 90*time.Second, "how long a cluster may take to be whole again")
	flag.IntVar(&o.partitions, "partitions", 12, "partitions of each topic")
	flag.DurationVar(&o.every, "every", 20*time.Millisecond, "a record to each partition every so often")
	flag.BoolVar(&o.disks, "disks", false, "each node on an ext4 of its own (root)")
	flag.BoolVar(&o.network, "network", false, "each node in a network namespace of its own behind the switch (root)")
	flag.BoolVar(&o.noTxn, "no-transactions", false, "without groups and transactions")
	flag.BoolVar(&o.once, "once", false, "each fault once, in the order given, whatever -minutes says")
	flag.BoolVar(&o.keep, "keep", false, "keep the working directory: history and brokers' output")
	flag.IntVar(&o.heap, "heap", 384, "MB of heap of a Kafka node")
	flag.StringVar(&o.set, "set", "", "more broker settings, name=value with commas between")
	flag.BoolVar(&o.smoke, "smoke", false, "less than a minute of "+smokeFaults+"; says what it leaves out")
	flag.BoolVar(&list, "list", false, "print the faults and end")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "chaos [flags] | chaos check FILE | chaos clean\n\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	if list {
		for _, f := range fault.All() {
			needs := ""
			if f.Disks {
				needs += " [-disks]"
			}
			if f.Network {
				needs += " [-network]"
			}
			fmt.Printf("%-20s %s%s\n", f.Name, f.What, needs)
		}
		return 0
	}
	var err error
	switch flag.Arg(0) {
	case "":
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(ctx, stop) // a second signal ends it at once; `chaos clean` takes away what that leaves
		defer stop()
		var valid bool
		if valid, err = compete(ctx, o); err == nil && !valid {
			return 1
		}
	case "check":
		err = recheck(flag.Arg(1))
	case "clean":
		err = stand.Clean(os.Stdout)
	default:
		err = fmt.Errorf("%q: know check and clean", flag.Arg(0))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 2
	}
	return 0
}

func checker() *check.Checker {
	return check.New(check.Options{TransformGroup: load.TransformGroup, Input: load.Input, Output: load.Output})
}

// recheck judges a written history.
func recheck(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	c := checker()
	if err := history.Replay(f, c.Observe); err != nil {
		return err
	}
	fmt.Print(verdictText(c.Finish()))
	return nil
}

// compete runs every contestant and prints the reports, side by side if there are two. It says whether all histories were valid.
func compete(ctx context.Context, o options) (valid bool, err error) {
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano())%1e6 + 1
	}
	if o.smoke {
		o.once, o.faults, o.steady, o.hold, o.recover, o.partitions = true, smokeFaults, 2*time.Second, 3*time.Second, 15*time.Second, 6
	}
	var results []*result
	valid = true
	for _, name := range strings.Split(o.contestants, ",") {
		r, err := contest(ctx, name, o)
		if r != nil {
			fmt.Print(r.report())
			results = append(results, r)
			valid = valid && r.verdict.Valid()
		}
		if err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(results) > 1 {
		fmt.Print(sideBySide(results))
	}
	return valid, nil
}
