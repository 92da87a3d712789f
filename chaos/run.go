package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ottla/ottla/chaos/check"
	"github.com/ottla/ottla/chaos/disk"
	"github.com/ottla/ottla/chaos/fault"
	"github.com/ottla/ottla/chaos/history"
	"github.com/ottla/ottla/chaos/load"
	"github.com/ottla/ottla/chaos/meter"
	"github.com/ottla/ottla/chaos/replicas"
	"github.com/ottla/ottla/chaos/stand"
)

// step is what is known of one fault of a run.
type step struct {
	window  meter.Window
	detail  string
	moved   time.Duration // until some node told leaders for all partitions, none of them hit; 0 where nothing had to move
	unmoved bool          // that did not happen while the fault was on
	whole   time.Duration // from the end of the fault until every replica was in sync
	broken  bool          // that took longer than it may
	died    []int32       // nodes that ended by themselves
	err     error
}

type result struct {
	name    string
	opts    options
	skipped []string
	steps   []step
	meter   *meter.Meter
	verdict check.Verdict
	errors  map[string]int
	seconds float64
	dir     string
	notes   []string
}

func (o options) stand(name, dir string) stand.Options {
	props := map[string]string{}
	for _, kv := range strings.Split(o.set, ",") {
		if k, v, ok := strings.Cut(kv, "="); ok {
			props[k] = v
		}
	}
	return stand.Options{Make: name, Nodes: o.nodes, Dir: dir, Disks: o.disks, DiskMB: 1024, Network: o.network, HeapMB: o.heap, Properties: props}
}

// choose gives the faults that can be done, and why the others cannot.
func choose(o options, s stand.Options) (can []fault.Fault, skipped []string, err error) {
	want := fault.All()
	if o.faults != "all" {
		if want, err = fault.Find(strings.Split(o.faults, ",")); err != nil {
			return nil, nil, err
		}
	}
	for _, f := range want {
		if why := f.Missing(s); why != nil {
			skipped = append(skipped, f.Name+": "+why.Error())
			continue
		}
		can = append(can, f)
	}
	if len(can) == 0 {
		return nil, skipped, fmt.Errorf("no fault is left: %s", strings.Join(skipped, "; "))
	}
	return can, skipped, nil
}

// session is one run in progress.
type session struct {
	o   options
	c   *stand.Cluster
	v   *stand.View
	rec *history.Recorder
	r   *result
	rng *rand.Rand
}

func contest(ctx context.Context, name string, o options) (r *result, err error) {
	if o.smoke {
		o.disks = o.disks || disk.Possible() == nil
	}
	dir, err := stand.MakeDir()
	if err != nil {
		return nil, err
	}
	so := o.stand(name, dir)
	faults, skipped, err := choose(o, so)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	for _, s := range skipped {
		fmt.Printf("SKIP %s\n", s)
	}
	fmt.Printf("# %s: %d nodes, seed %d, %d partitions, in %s\n", name, o.nodes, o.seed, o.partitions, dir)
	c, err := stand.New(so)
	defer func() {
		if c != nil {
			err = errors.Join(err, c.Close())
		}
		if !o.keep {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err != nil {
		return nil, err
	}
	unix.Sync()
	up, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	begin := time.Now()
	if err := c.Up(up); err != nil {
		return nil, err
	}
	fmt.Printf("up after %.1f s\n", time.Since(begin).Seconds())
	file, err := os.Create(filepath.Join(dir, "history.jsonl"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	judge := checker()
	r = &result{name: name, opts: o, skipped: skipped, meter: meter.New(load.Input, o.partitions), dir: dir}
	rec := history.NewRecorder(file, judge.Observe, r.meter.Observe)
	s := &session{o: o, c: c, rec: rec, r: r, rng: rand.New(rand.NewPCG(o.seed, 7))}
	if s.v, err = c.NewView(load.Input, load.Output); err != nil {
		return nil, err
	}
	defer s.v.Close()
	if err := s.drive(ctx, faults); err != nil {
		return r, err
	}
	r.verdict = judge.Finish()
	return r, rec.Flush()
}

// drive is the whole of a run: load, faults, quiet, the final read, the replicas' bytes.
func (s *session) drive(ctx context.Context, faults []fault.Fault) error {
	begin := time.Now()
	start, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	said, err := os.Create(filepath.Join(s.r.dir, "clients.log"))
	if err != nil {
		return err
	}
	defer said.Close()
	l, err := load.Start(start, load.Options{Bootstrap: s.c.Bootstrap(), Partitions: s.o.partitions, Every: s.o.every, Transactions: !s.o.noTxn, Group: !s.o.noTxn,
		ReplicationForce: int16(min(3, s.o.nodes)), Seed: s.o.seed, Record: s.rec.Record, Log: said})
	if err != nil {
		return err
	}
	stopped := false
	defer func() {
		if !stopped {
			l.Stop()
		}
	}()
	if _, err := s.v.WaitWhole(ctx, s.o.recover); err != nil {
		return fmt.Errorf("before the first fault: %w", err)
	}
	if err := s.v.WaitVoters(ctx, 40*time.Second); err != nil {
		s.r.notes = append(s.r.notes, err.Error())
	}
	pause(ctx, s.o.steady)
	faulty := time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		if s.o.once && i == len(faults) || !s.o.once && time.Since(faulty).Minutes() >= s.o.minutes {
			break
		}
		f := faults[i%len(faults)]
		if !s.o.once {
			f = faults[s.rng.IntN(len(faults))]
		}
		s.step(ctx, f)
	}
	end := s.rec.Now()
	s.close(end)
	s.r.meter.Finish(end)
	l.StopProducing(100 * time.Second)
	// An interrupted run is judged too.
	final, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.recover)
	defer cancel()
	if err := load.ReadAll(final, s.c.Bootstrap(), s.o.partitions, s.rec.Record); err != nil {
		return err
	}
	l.Stop()
	stopped = true
	s.r.errors = l.Errors()
	s.r.seconds = time.Since(begin).Seconds()
	return s.compare()
}

// close ends the window of the last fault.
func (s *session) close(at time.Duration) {
	if n := len(s.r.steps); n > 0 && s.r.steps[n-1].window.To == 0 {
		s.r.steps[n-1].window.To = at
	}
}

func (s *session) step(ctx context.Context, f fault.Fault) {
	st := step{window: meter.Window{Name: f.Name}}
	leaders, err := s.v.Leaders(ctx, load.Input)
	if err != nil {
		s.r.notes = append(s.r.notes, fmt.Sprintf("before %s: %v", f.Name, err))
	}
	st.window.Leaders = leaders
	st.window.From = s.rec.Now()
	s.close(st.window.From)
	s.rec.Record(history.Event{Kind: history.Fault, Note: f.Name})
	e := &fault.Env{Cluster: s.c, View: s.v, Rng: s.rng, Topic: load.Input, Hold: s.o.hold}
	harm, err := f.Do(ctx, e)
	st.err = err
	if harm != nil {
		st.window.Targets, st.detail = harm.Targets, harm.Detail
		s.hold(ctx, f, harm, &st)
	}
	s.rec.Record(history.Event{Kind: history.Heal, Note: f.Name})
	s.revive(&st)
	if st.whole, err = s.v.WaitWhole(ctx, s.o.recover); err != nil && ctx.Err() == nil {
		st.broken = true
	}
	fmt.Printf("%7.1f s  %s\n", s.rec.Now().Seconds(), st)
	s.r.steps = append(s.r.steps, st)
	// The next fault is to find leaders on all nodes, whoever gave them back by itself.
	s.v.Prefer(ctx, load.Input)
	pause(ctx, s.o.steady)
}

// hold keeps the fault on for its time, watches leadership move, and heals.
func (s *session) hold(ctx context.Context, f fault.Fault, harm *fault.Harm, st *step) {
	if !harm.Short {
		held, cancel := context.WithTimeout(ctx, s.o.hold)
		if len(harm.Down) > 0 && s.o.nodes > 1 {
			var err error
			if st.moved, err = s.v.WaitMoved(held, load.Input, harm.Down); err != nil {
				st.unmoved = true
			}
		}
		<-held.Done()
		cancel()
	}
	for _, n := range s.c.Nodes {
		if !n.Alive() && !strings.HasPrefix(f.Name, "kill") && !strings.HasPrefix(f.Name, "power") && f.Name != "bit-rot-stopped" {
			st.died = append(st.died, n.ID)
		}
	}
	heal, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	st.err = errors.Join(st.err, harm.Heal(heal))
}

// revive starts what is down: nobody else would.
func (s *session) revive(st *step) {
	for _, n := range s.c.Nodes {
		if !n.Alive() {
			st.err = errors.Join(st.err, n.Start())
		}
	}
}

// compare stops all nodes and compares the bytes of the replicas.
func (s *session) compare() error {
	if s.o.nodes == 1 {
		return nil
	}
	done := make(chan error, len(s.c.Nodes))
	for _, n := range s.c.Nodes {
		go func() { done <- n.Stop(60 * time.Second) }()
	}
	for range s.c.Nodes {
		if err := <-done; err != nil {
			s.r.notes = append(s.r.notes, err.Error())
		}
	}
	dirs := make([]string, len(s.c.Nodes))
	for i, n := range s.c.Nodes {
		dirs[i] = n.LogDir()
	}
	for _, topic := range []string{load.Input, load.Output} {
		for p := range s.o.partitions {
			at, note, err := replicas.Compare(dirs, fmt.Sprintf("%s-%d", topic, p))
			if err != nil {
				return err
			}
			s.rec.Record(history.Event{Kind: history.Replicas, Topic: topic, Partition: int32(p), Offset: at, Note: note})
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
