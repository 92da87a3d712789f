// Command kafka compares Ottla with Apache Kafka on this machine: the same loads against both brokers, rounds
// interleaved in shuffled order, and prints a Markdown table of medians and ratios.
//
// It knows the loads, the contestants and how to weigh a process. It must never know a broker from inside, and it gives
// none an advantage: both are real processes on the same disk, reached by the same client over loopback.
//
//	go run ./bench/kafka -rounds 5                 everything
//	go run ./bench/kafka -rows 'produce-16k|e2e'   rows whose name matches
//	go run ./bench/kafka -a kafka -b kafka         the method against itself: every ratio should be near 1
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"time"

	"github.com/ottla/ottla/test/peer"
)

type options struct {
	a, b    string
	rows    string
	rounds  int
	scale   float64
	seed    uint64
	dir     string
	warm    int64
	list    bool
	verbose bool
}

func main() {
	var o options
	flag.StringVar(&o.a, "a", "ottla", "first contestant: ottla, ottla-pagecache, kafka or kafka-fsync")
	flag.StringVar(&o.b, "b", "kafka", "second contestant; rows named -fsync take kafka-fsync instead of kafka")
	flag.StringVar(&o.rows, "rows", ".", "run rows whose name matches this expression")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of every row")
	flag.Float64Var(&o.scale, "scale", 1, "shrink or grow the bytes, seconds and partitions of every row")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "seed of the order")
	flag.StringVar(&o.dir, "dir", "", "directory for the brokers' data (default: a temporary one)")
	flag.Int64Var(&o.warm, "warm", 3e9, "bytes to produce to every broker before measuring (a JVM needs them)")
	flag.BoolVar(&o.list, "list", false, "print the rows and end")
	flag.BoolVar(&o.verbose, "v", false, "print every measurement as it is taken")
	flag.Parse()
	if o.list {
		for _, r := range rows() {
			fmt.Printf("%-24s %s\n", r.name, r.what)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := compare(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func compare(ctx context.Context, o options) error {
	want, err := regexp.Compile(o.rows)
	if err != nil {
		return err
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "ottla-bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(o.dir)
	}
	ring := &arena{dir: o.dir, scale: o.scale, brokers: map[string]*peer.Broker{}, warm: o.warm}
	defer ring.close()
	rng := rand.New(rand.NewPCG(o.seed, 0))
	var chosen []row
	for _, r := range rows() {
		if want.MatchString(r.name) {
			chosen = append(chosen, r)
		}
	}
	t := newTable(o.a, o.b)
	fmt.Printf("# %s against %s: %d rows, %d rounds, seed %d, scale %g\n", o.a, o.b, len(chosen), o.rounds, o.seed, o.scale)
	for round := range o.rounds {
		for _, i := range rng.Perm(len(chosen)) {
			r := chosen[i]
			if r.rounds > 0 && round >= r.rounds {
				continue
			}
			sides := []string{o.a, o.b}
			if rng.IntN(2) == 1 {
				sides[0], sides[1] = sides[1], sides[0]
			}
			swapped := sides[0] != o.a
			for n, side := range sides {
				name := side
				if strings.HasSuffix(r.name, "-fsync") && name == "kafka" {
					name = "kafka-fsync"
				}
				m, err := ring.measure(ctx, r, name)
				if ctx.Err() != nil {
					fmt.Print(t.markdown(chosen))
					return ctx.Err()
				}
				first := (n == 0) != swapped
				if err != nil {
					t.fail(r.name, first, err)
					fmt.Fprintf(os.Stderr, "round %d %s %s: %v\n", round+1, r.name, name, err)
					continue
				}
				t.add(r.name, first, m)
				if o.verbose {
					fmt.Printf("round %d %-24s %-12s %v\n", round+1, r.name, name, m)
				}
			}
		}
	}
	fmt.Print(t.markdown(chosen))
	return nil
}
