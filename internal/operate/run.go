package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/balance"
)

// Plan is a plan in a file: what is to be done, what was there before, and how far it is.
type Plan struct {
	What      string    `json:"what"`
	ClusterID string    `json:"cluster_id"`
	Made      time.Time `json:"made"`
	Paused    bool      `json:"paused,omitempty"`
	Moves     []Step    `json:"moves"`
}

// Step is one move and its state.
type Step struct {
	balance.Move
	State string `json:"state,omitempty"` // "", started, done
}

// States of a step.
const (
	Started = "started"
	Done    = "done"
)

// NewPlan makes a plan of moves.
func NewPlan(what string, v *View, moves []balance.Move) *Plan {
	p := &Plan{What: what, ClusterID: v.ClusterID, Made: time.Now().UTC()}
	for _, m := range moves {
		p.Moves = append(p.Moves, Step{Move: m})
	}
	return p
}

// Left counts the steps that are not done.
func (p *Plan) Left() (n int) {
	for _, s := range p.Moves {
		if s.State != Done {
			n++
		}
	}
	return n
}

// Save writes a plan to its file, whole or not at all.
func (p *Plan) Save(path string) error {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Load reads a plan's file.
func Load(path string) (*Plan, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no plan in %s; --plan names another file", path)
	}
	if err != nil {
		return nil, err
	}
	p := &Plan{}
	if err := json.Unmarshal(b, p); err != nil {
		return nil, fmt.Errorf("%s is no plan: %w", path, err)
	}
	return p, nil
}

// Progress is told how far a run is.
type Progress interface {
	Start(what, unit string, total int64)
	Add(n int64)
	Done()
}

// Options of a run.
type Options struct {
	File     string
	AtOnce   int           // moves under way at most
	Throttle int64         // bytes a second that copying may take on each broker; 0 has no bound
	Poll     time.Duration // how often to look; 500 ms by default
	Progress Progress
}

// ErrPaused ends a run whose plan was paused.
var ErrPaused = errors.New("paused; `ottla balance run` goes on, `ottla balance undo` takes it back")

// Run carries a plan out and returns when all of it is done. The file says how far it is, so that another run goes on; a pause is
// written there, too. What is under way when a run ends early goes on in the cluster.
func Run(ctx context.Context, adm *kadm.Client, p *Plan, o Options) (err error) {
	o.AtOnce = max(o.AtOnce, 1)
	if o.Poll <= 0 {
		o.Poll = 500 * time.Millisecond
	}
	if err := p.sameCluster(ctx, adm); err != nil {
		return err
	}
	if err := p.Save(o.File); err != nil {
		return err
	}
	if o.Throttle > 0 {
		undo, err := throttle(ctx, adm, p, o.Throttle)
		if err != nil {
			return err
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			err = errors.Join(err, undo(ctx))
		}()
	}
	o.Progress.Start("moving", "moves", int64(len(p.Moves)))
	defer o.Progress.Done()
	o.Progress.Add(int64(len(p.Moves) - p.Left()))
	for {
		if err := p.checkpoint(o.File); err != nil {
			return err
		}
		done, running, err := p.look(ctx, adm)
		if err != nil {
			return err
		}
		o.Progress.Add(int64(done))
		if p.Left() == 0 {
			return p.Save(o.File)
		}
		if err := p.checkpoint(o.File); err != nil {
			return err
		}
		if err := p.start(ctx, adm, o.AtOnce-running); err != nil {
			return errors.Join(err, p.Save(o.File))
		}
		t := time.NewTimer(o.Poll)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// checkpoint writes down how far the plan is. Where somebody has paused it in the file, it stays paused and the run ends.
func (p *Plan) checkpoint(file string) error {
	if on, err := Load(file); err == nil && on.Paused {
		p.Paused = true
		return errors.Join(ErrPaused, p.Save(file))
	}
	return p.Save(file)
}

func (p *Plan) sameCluster(ctx context.Context, adm *kadm.Client) error {
	meta, err := adm.BrokerMetadata(ctx)
	if err == nil && meta.Cluster != p.ClusterID {
		err = fmt.Errorf("the plan is for cluster %s, and this is cluster %s", p.ClusterID, meta.Cluster)
	}
	return err
}

func (p *Plan) topics() kadm.TopicsSet {
	s := kadm.TopicsSet{}
	for _, m := range p.Moves {
		s.Add(m.Topic, m.Partition)
	}
	return s
}

// look notes which of the started moves are done, and counts those under way.
func (p *Plan) look(ctx context.Context, adm *kadm.Client) (done, running int, err error) {
	under, err := adm.ListPartitionReassignments(ctx, p.topics())
	if err != nil {
		return 0, 0, err
	}
	now, err := adm.ListTopicsWithInternal(ctx, p.topics().Topics()...)
	if err != nil {
		return 0, 0, err
	}
	for i := range p.Moves {
		m := &p.Moves[i]
		if m.State != Started {
			continue
		}
		x, there := now[m.Topic].Partitions[m.Partition]
		_, moving := under[m.Topic][m.Partition]
		switch {
		case moving:
			running++
		case !there:
			m.State = Done // the topic was deleted meanwhile
			done++
		case slices.Equal(x.Replicas, m.To):
			m.State = Done
			done++
			if len(m.To) > 0 && x.Leader != m.To[0] {
				s := kadm.TopicsSet{}
				s.Add(m.Topic, m.Partition)
				_, _ = adm.ElectLeaders(ctx, kadm.ElectPreferredReplica, s) // the cluster does it later by itself, too
			}
		default:
			m.State = "" // somebody cancelled it: it is started again
		}
	}
	return done, running, nil
}

// start begins the next moves where nothing is broken.
func (p *Plan) start(ctx context.Context, adm *kadm.Client, n int) error {
	if n <= 0 {
		return nil
	}
	v, err := Look(ctx, adm)
	if err != nil {
		return err
	}
	if v.Gate() != nil {
		return nil // later
	}
	req := kadm.AlterPartitionAssignmentsReq{}
	var begun []*Step
	for i := range p.Moves {
		if m := &p.Moves[i]; m.State == "" && len(begun) < n {
			req.Assign(m.Topic, m.Partition, m.To)
			begun = append(begun, m)
		}
	}
	if len(begun) == 0 {
		return nil
	}
	got, err := adm.AlterPartitionAssignments(ctx, req)
	if err != nil {
		return err
	}
	for _, m := range begun {
		r := got[m.Topic][m.Partition]
		switch {
		case r.Err == nil:
			m.State = Started
		case errors.Is(r.Err, kerr.UnknownTopicOrPartition):
			m.State = Done // deleted meanwhile
		default:
			return fmt.Errorf("topic %s partition %d to brokers %v: %w (%s)", m.Topic, m.Partition, m.To, r.Err, r.ErrMessage)
		}
	}
	return nil
}

// Undo cancels what of a plan is under way, and gives the plan that takes back what is done.
func Undo(ctx context.Context, adm *kadm.Client, p *Plan) (*Plan, error) {
	if err := p.sameCluster(ctx, adm); err != nil {
		return nil, err
	}
	under, err := adm.ListPartitionReassignments(ctx, p.topics())
	if err != nil {
		return nil, err
	}
	req := kadm.AlterPartitionAssignmentsReq{}
	back := &Plan{What: "undo: " + p.What, ClusterID: p.ClusterID, Made: time.Now().UTC()}
	for _, m := range slices.Backward(p.Moves) {
		_, moving := under[m.Topic][m.Partition]
		switch {
		case moving:
			req.CancelAssign(m.Topic, m.Partition)
		case m.State == "":
			continue
		}
		b := m.Move
		b.From, b.To = m.To, m.From
		back.Moves = append(back.Moves, Step{Move: b})
	}
	if len(req) > 0 {
		got, err := adm.AlterPartitionAssignments(ctx, req)
		if err != nil {
			return nil, err
		}
		for _, r := range got.Sorted() {
			if r.Err != nil && !errors.Is(r.Err, kerr.NoReassignmentInProgress) {
				return nil, fmt.Errorf("cancelling the move of topic %s partition %d: %w", r.Topic, r.Partition, r.Err)
			}
		}
	}
	return back, nil
}

// throttle bounds what copying takes, for the plan's topics, and gives what takes the bound away.
func throttle(ctx context.Context, adm *kadm.Client, p *Plan, rate int64) (func(context.Context) error, error) {
	brokers, topics := map[int32]bool{}, p.topics().Topics()
	for _, m := range p.Moves {
		for _, id := range append(slices.Clone(m.From), m.To...) {
			brokers[id] = true
		}
	}
	var ids []int32
	for id := range brokers {
		ids = append(ids, id)
	}
	text, all := strconv.FormatInt(rate, 10), "*"
	set := func(ctx context.Context, op kadm.IncrementalOp) error {
		b, err := adm.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: op, Name: "leader.replication.throttled.rate", Value: &text}, {Op: op, Name: "follower.replication.throttled.rate", Value: &text}}, ids...)
		if err != nil {
			return err
		}
		t, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: op, Name: "leader.replication.throttled.replicas", Value: &all}, {Op: op, Name: "follower.replication.throttled.replicas", Value: &all}}, topics...)
		for _, r := range append(b, t...) {
			if r.Err != nil && op == kadm.SetConfig {
				err = errors.Join(err, fmt.Errorf("throttling %s: %w", r.Name, r.Err))
			}
		}
		return err
	}
	if err := set(ctx, kadm.SetConfig); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return set(ctx, kadm.DeleteConfig) }, nil
}
