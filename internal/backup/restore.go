package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire/private"
)

// RestoreOptions say what to bring back, and where to.
type RestoreOptions struct {
	Client   *kgo.Client
	Dial     Dial
	Store    Store
	Manifest *Manifest
	Progress Progress
	Parallel int
	// At cuts every partition behind the last batch that is not newer; zero takes all.
	At time.Time
	// Topics to bring back; empty is everything, coordinators' state and the cluster's own records included.
	Topics []string
	// As is the new name of a topic, or a pattern with * for the old one; "" keeps the names.
	As     string
	DryRun bool
}

// Restored says what a restore did, or would do.
type Restored struct {
	Backup     string          `json:"backup"`
	At         time.Time       `json:"at,omitzero"`
	Topics     []RestoredTopic `json:"topics"`
	Bytes      int64           `json:"bytes"`
	Aborted    int             `json:"aborted_transactions"`
	Committed  int             `json:"committed_transactions"`
	Offsets    int             `json:"offsets_moved_back"`
	ClusterToo bool            `json:"cluster_records"`
	DryRun     bool            `json:"dry_run,omitempty"`
	Warnings   []string        `json:"warnings,omitempty"`
}

// RestoredTopic is one topic of it.
type RestoredTopic struct {
	Name       string `json:"name"`
	From       string `json:"from,omitempty"` // its name in the backup, where that is another
	Partitions int    `json:"partitions"`
	Records    int64  `json:"offsets"` // offsets between log start and end
	Dropped    int64  `json:"offsets_dropped,omitempty"`
}

// target is one partition on its way back.
type target struct {
	t     *Topic
	p     *Partition
	name  string // of the topic that is written
	begin int64
	cut   int64 // batches from here on are left out
}

type key struct {
	topic     string
	partition int32
}

type restoration struct {
	o       RestoreOptions
	c       *cluster
	id      string
	full    bool
	names   map[string]string
	targets []*target
	txns    *txnState
	out     *Restored

	mu   sync.Mutex
	ends map[key]int64 // by the topic's name in the backup: where the restored partition ends
}

// Restore brings a backup back. It writes to topics that it has made itself only; run again after it was stopped, it goes on.
func Restore(ctx context.Context, o RestoreOptions) (*Restored, error) {
	o.Parallel = cmp.Or(o.Parallel, lanes)
	if o.Progress == nil {
		o.Progress = quiet{}
	}
	r := &restoration{o: o, full: len(o.Topics) == 0 && o.As == "", names: map[string]string{}, ends: map[key]int64{}}
	r.out = &Restored{Backup: o.Manifest.ID, At: o.At, DryRun: o.DryRun, ClusterToo: r.full && o.Manifest.Cluster != nil}
	if err := r.plan(ctx); err != nil {
		return nil, err
	}
	if o.DryRun {
		return r.out, nil
	}
	r.c = newCluster(o.Client, o.Dial)
	defer r.c.close()
	if _, err := r.c.refresh(ctx); err != nil {
		return nil, err
	}
	if err := r.metadata(ctx, private.RestoreTopics, func(*target) bool { return true }); err != nil {
		return nil, err
	}
	if r.out.ClusterToo {
		if err := r.clusterRecords(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.data(ctx); err != nil {
		return nil, fmt.Errorf("%w\nThe topics stay closed. The same command again goes on from here; deleting the topics gives it up", err)
	}
	// The coordinators' state opens last: when it is loaded, what it speaks of is there.
	for _, state := range []bool{false, true} {
		if err := r.metadata(ctx, private.RestoreFinish, func(t *target) bool { return internal(t.name) == state }); err != nil {
			return nil, err
		}
	}
	return r.out, nil
}

// plan chooses the topics, their names and where each partition is cut.
func (r *restoration) plan(ctx context.Context) error {
	o := &r.o
	h := fnv.New64a()
	fmt.Fprint(h, o.Manifest.ID, o.At.UnixMilli(), o.As)
	var picked []*Topic
	for _, t := range o.Manifest.Topics {
		if r.full || !t.Internal && (len(o.Topics) == 0 || slices.Contains(o.Topics, t.Name)) {
			picked = append(picked, t)
			fmt.Fprint(h, t.Name, "/")
		}
	}
	r.id = fmt.Sprintf("%s-%016x", o.Manifest.ID, h.Sum64())
	for _, name := range o.Topics {
		switch t := o.Manifest.Topic(name); {
		case t == nil:
			return fmt.Errorf("the backup %s has no topic %s; it has %s", o.Manifest.ID, name, topicList(o.Manifest))
		case t.Internal:
			return fmt.Errorf("%s is the brokers' own; it comes back with a restore of everything only", name)
		}
	}
	if o.As != "" && len(picked) > 1 && !strings.Contains(o.As, "*") {
		return fmt.Errorf("--as %s names one topic and there are %d to restore; put a * where the old name should stand, as in --as '*-restored'", o.As, len(picked))
	}
	for _, t := range picked {
		name := t.Name
		if o.As != "" {
			name = strings.ReplaceAll(o.As, "*", t.Name)
		}
		r.names[t.Name] = name
		rt := RestoredTopic{Name: name, Partitions: len(t.Partitions)}
		if name != t.Name {
			rt.From = t.Name
		}
		for _, p := range t.Partitions {
			cut, err := r.cut(ctx, p)
			if err != nil {
				return fmt.Errorf("%s-%d: %w", t.Name, p.Number, err)
			}
			g := &target{t: t, p: p, name: name, begin: p.base(), cut: cut}
			if cut <= p.LogStart { // nothing of it is left
				g.begin, g.cut = p.LogStart, p.LogStart
			}
			rt.Records += max(0, min(g.cut, p.End)-p.LogStart)
			rt.Dropped += p.End - max(p.LogStart, min(g.cut, p.End))
			for i := range p.Chunks {
				if p.Chunks[i].First < g.cut {
					r.out.Bytes += p.Chunks[i].Bytes
				}
			}
			r.targets = append(r.targets, g)
		}
		r.out.Topics = append(r.out.Topics, rt)
	}
	return nil
}

func topicList(m *Manifest) string {
	var names []string
	for _, t := range m.Topics {
		if !t.Internal {
			names = append(names, t.Name)
		}
	}
	if len(names) > 20 {
		names = append(names[:20], "…")
	}
	return strings.Join(names, ", ")
}

// cut is one past the last batch that is not newer than the time asked for.
func (r *restoration) cut(ctx context.Context, p *Partition) (int64, error) {
	if r.o.At.IsZero() {
		return math.MaxInt64, nil
	}
	at := r.o.At.UnixMilli()
	for i := len(p.Chunks) - 1; i >= 0; i-- {
		c := &p.Chunks[i]
		switch {
		case c.Latest <= at:
			return c.Next, nil
		case c.Earliest > at:
			continue
		}
		b, err := getObject(ctx, r.o.Store, c)
		if err != nil {
			return 0, err
		}
		cut := c.First
		for it := record.NewBatchIter(b); ; {
			_, h, ok, err := it.Next()
			if err != nil {
				return 0, err
			}
			if !ok {
				return cut, nil
			}
			if h.MaxTimestamp <= at {
				cut = h.NextOffset()
			}
		}
	}
	return p.base(), nil
}

// metadata does one of the steps for the topics that pick names, a bounded number of partitions at once.
func (r *restoration) metadata(ctx context.Context, step int8, pick func(*target) bool) error {
	const partitionsMax = 2000
	req := &private.RestoreMetadataRequest{Step: step, Restore: r.id}
	n := 0
	send := func() error {
		if len(req.Topics) == 0 {
			return nil
		}
		defer func() { req.Topics, n = nil, 0 }()
		return r.step(ctx, req)
	}
	for i := 0; i < len(r.targets); {
		g := r.targets[i]
		i += len(g.t.Partitions)
		if !pick(g) {
			continue
		}
		t := private.RestoreTopic{Name: g.name, Replicas: g.t.Replicas}
		if r.o.As == "" {
			t.ID = g.t.ID
		}
		for _, p := range g.t.Partitions {
			t.LeaderEpochs = append(t.LeaderEpochs, p.LeaderEpoch)
		}
		for _, name := range slices.Sorted(maps.Keys(g.t.Configs)) {
			t.Configs = append(t.Configs, private.RestoreConfig{Name: name, Value: g.t.Configs[name]})
		}
		if n += len(t.LeaderEpochs); n > partitionsMax {
			if err := send(); err != nil {
				return err
			}
			n = len(t.LeaderEpochs)
		}
		req.Topics = append(req.Topics, t)
	}
	return send()
}

// step sends a request to the controller's broker.
func (r *restoration) step(ctx context.Context, req *private.RestoreMetadataRequest) error {
	return r.insist(ctx, func() error {
		resp := &private.RestoreMetadataResponse{}
		if err := r.c.tool(ctx, -1, 0, req, resp); err != nil {
			if errors.Is(err, errNoTools) {
				err = fmt.Errorf("%w; a backup can be restored to Ottla only", err)
			}
			return err
		}
		return answered(resp.ErrorCode, resp.Message)
	})
}

func answered(code int16, msg string) error {
	if code == 0 {
		return nil
	}
	return fmt.Errorf("%w (%s)", refusal(msg), kerr.TypedErrorForCode(code).Message)
}

// refusal is what a broker said in its own words.
type refusal string

func (r refusal) Error() string { return string(r) }

// insist tries again what may succeed later: connections break and leaders move.
func (r *restoration) insist(ctx context.Context, f func() error) error {
	var err error
	for try := range fetchTries {
		if try > 0 {
			if pauseErr := pause(ctx, time.Duration(try)*50*time.Millisecond); pauseErr != nil {
				return errors.Join(pauseErr, err)
			}
			if _, refreshErr := r.c.refresh(ctx); refreshErr != nil {
				return errors.Join(refreshErr, err)
			}
		}
		var no refusal
		if err = f(); err == nil || ctx.Err() != nil || errors.As(err, &no) {
			return err
		}
	}
	return err
}

func (r *restoration) clusterRecords(ctx context.Context) error {
	b, err := getObject(ctx, r.o.Store, r.o.Manifest.Cluster)
	if err != nil {
		return err
	}
	frames, err := readFrames(b)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(frames, 1000) {
		if err := r.step(ctx, &private.RestoreMetadataRequest{Step: private.RestoreCluster, Restore: r.id, Records: part}); err != nil {
			return fmt.Errorf("the cluster's records: %w", err)
		}
	}
	return nil
}

// data writes the partitions: data first, then the coordinators' state, which is set right by what is there.
func (r *restoration) data(ctx context.Context) error {
	if err := r.readTxns(ctx); err != nil {
		return fmt.Errorf("the state of transactions: %w", err)
	}
	r.o.Progress.Start("restoring", "bytes", r.out.Bytes)
	defer r.o.Progress.Done()
	for _, stage := range []func(string) bool{
		func(n string) bool { return n != offsetsTopic && n != txnTopic },
		func(n string) bool { return n == offsetsTopic || n == txnTopic },
	} {
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(r.o.Parallel)
		for _, t := range r.targets {
			if !stage(t.t.Name) {
				continue
			}
			g.Go(func() error {
				if err := r.partition(gctx, t); err != nil {
					return fmt.Errorf("%s-%d: %w", t.name, t.p.Number, err)
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}
