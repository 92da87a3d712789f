package backup

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/ottla/ottla/internal/wire/private"
	"github.com/ottla/ottla/internal/wire/schema"
)

// Progress is told how far a long work is. Add and Done may be called from any goroutine.
type Progress interface {
	Start(what, unit string, total int64)
	Add(n int64)
	Done()
}

// Options of a backup.
type Options struct {
	Client   *kgo.Client
	Dial     Dial // TCP by default
	Store    Store
	Progress Progress // nobody is told by default
	Parallel int      // partitions read at once; 4 by default
	Now      func() time.Time
}

// Names of the topics that hold the coordinators' state.
const (
	offsetsTopic = "__consumer_offsets"
	txnTopic     = "__transaction_state"
	shareTopic   = "__share_group_state"
)

func internal(name string) bool {
	return name == offsetsTopic || name == txnTopic || name == shareTopic
}

type quiet struct{}

func (quiet) Start(string, string, int64) {}
func (quiet) Add(int64)                   {}
func (quiet) Done()                       {}

// creation is one backup being made.
type creation struct {
	o       Options
	c       *cluster
	m       *Manifest
	bases   []*Manifest // whose chunks are used again: the newest finished backup and the unfinished one after it
	resumed *Manifest   // the unfinished backup that this one goes on with
	warn    map[string]bool

	mu    sync.Mutex
	saved time.Time
}

// Create makes a backup of all topics. It reads what the store has not got yet, from the partitions' leaders, up to where
// each partition was committed when its turn came: first the data, then the coordinators' state, so that no offset and no end of a
// transaction is saved without what it speaks of.
func Create(ctx context.Context, o Options) (*Manifest, error) {
	o.Parallel = cmp.Or(o.Parallel, 4)
	if o.Progress == nil {
		o.Progress = quiet{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	b := &creation{o: o, c: newCluster(o.Client, o.Dial), warn: map[string]bool{}}
	defer b.c.close()
	now := o.Now().UTC()
	b.m = &Manifest{Format: Format, ID: now.Format(idForm), Started: now}
	if _, err := b.c.refresh(ctx); err != nil {
		return nil, err
	}
	b.m.ClusterID = b.c.clusterID
	if err := b.chooseBase(ctx); err != nil {
		return nil, err
	}
	if err := b.metadata(ctx); err != nil {
		return nil, fmt.Errorf("the cluster's metadata: %w", err)
	}
	for _, stage := range []func(string) bool{
		func(n string) bool { return !internal(n) },
		func(n string) bool { return n == offsetsTopic || n == shareTopic },
		func(n string) bool { return n == txnTopic },
	} {
		if err := b.stage(ctx, stage); err != nil {
			// What was read stays, and the next backup goes on from there.
			saveCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			return nil, errors.Join(err, putManifest(saveCtx, o.Store, b.m))
		}
	}
	for w := range b.warn {
		b.m.Warnings = append(b.m.Warnings, w)
	}
	slices.Sort(b.m.Warnings)
	b.m.Finished = o.Now().UTC()
	if err := putManifest(ctx, o.Store, b.m); err != nil {
		return nil, err
	}
	for _, old := range []*Manifest{b.resumed, b.m} {
		if old != nil {
			_ = o.Store.Remove(ctx, manifestDir+old.ID+partialEnd) // it is superfluous now and does no harm
		}
	}
	return b.m, nil
}

// chooseBase finds the backup whose chunks need not be read again.
func (b *creation) chooseBase(ctx context.Context) error {
	all, err := Manifests(ctx, b.o.Store)
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.ClusterID != b.m.ClusterID {
			return fmt.Errorf("%s holds backups of cluster %s, and this is cluster %s; each cluster has a place of its own", b.o.Store, m.ClusterID, b.m.ClusterID)
		}
		if m.ID == b.m.ID {
			return fmt.Errorf("another backup to %s began in the same millisecond", b.o.Store)
		}
		if b.resumed = m; m.Complete() {
			b.m.Parent, b.bases, b.resumed = m.ID, nil, nil
		}
		b.bases = append(b.bases, m)
	}
	return nil
}

// metadata takes down the topics and what belongs to none.
func (b *creation) metadata(ctx context.Context) error {
	resp := &private.ExportMetadataResponse{}
	err := b.c.tool(ctx, -1, 0, &private.ExportMetadataRequest{}, resp)
	if errors.Is(err, errNoTools) {
		b.warn["the brokers are not Ottla's: SCRAM credentials, ACLs, quotas and the cluster's settings are not part of this backup"] = true
		return b.kafkaMetadata(ctx)
	}
	if err == nil && resp.ErrorCode != 0 {
		err = fmt.Errorf("%w: %s", kerr.ErrorForCode(resp.ErrorCode), resp.Message)
	}
	if err != nil {
		return err
	}
	byID := map[schema.UUID]*Topic{}
	byName := map[string]*Topic{}
	var cluster []byte
	for _, frame := range resp.Records {
		m, _, err := schema.ReadMetadataRecord(frame)
		if err != nil {
			return err
		}
		switch r := m.(type) {
		case *schema.TopicRecord:
			t := &Topic{Name: r.Name, ID: r.TopicID, IDText: idText(r.TopicID), Internal: internal(r.Name), Configs: map[string]string{}}
			byID[r.TopicID], byName[r.Name] = t, t
			b.m.Topics = append(b.m.Topics, t)
		case *schema.PartitionRecord:
			t := byID[r.TopicID]
			t.Replicas = max(t.Replicas, int16(len(r.Replicas)))
			t.Partitions = append(t.Partitions, &Partition{Number: r.PartitionID, LeaderEpoch: r.LeaderEpoch})
		case *schema.ConfigRecord:
			if t := byName[r.ResourceName]; r.ResourceType == 2 && t != nil && r.Value != nil {
				t.Configs[r.Name] = *r.Value
			} else if r.ResourceType != 2 && (r.ResourceType != 4 || r.ResourceName == "") {
				cluster = appendFrame(cluster, frame)
			}
		case *schema.AccessControlEntryRecord, *schema.UserScramCredentialRecord, *schema.ClientQuotaRecord, *schema.FeatureLevelRecord, *schema.ProducerIdsRecord:
			cluster = appendFrame(cluster, frame)
		}
	}
	for _, t := range b.m.Topics {
		slices.SortFunc(t.Partitions, func(x, y *Partition) int { return int(x.Number - y.Number) })
		if t.Configs["ottla.restoring"] != "" {
			return fmt.Errorf("topic %s is being restored; make a backup once that is finished", t.Name)
		}
	}
	sortTopics(b.m.Topics)
	hash, _, err := putObject(ctx, b.o.Store, cluster)
	b.m.Cluster = &Chunk{Hash: hash, Bytes: int64(len(cluster))}
	return err
}

func appendFrame(dst, frame []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(frame))), frame...)
}

func readFrames(b []byte) (frames [][]byte, err error) {
	for len(b) > 0 {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return nil, errors.New("the object of the cluster's records is damaged")
		}
		frames = append(frames, b[w:w+int(n)])
		b = b[w+int(n):]
	}
	return frames, nil
}

// kafkaMetadata is what Kafka's own protocol tells of the topics.
func (b *creation) kafkaMetadata(ctx context.Context) error {
	adm := kadm.NewClient(b.o.Client)
	topics, err := adm.ListTopicsWithInternal(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, t := range topics.Sorted() {
		if t.Err != nil {
			return fmt.Errorf("topic %s: %w", t.Topic, t.Err)
		}
		names = append(names, t.Topic)
		nt := &Topic{Name: t.Topic, ID: t.ID, IDText: idText(t.ID), Internal: internal(t.Topic), Configs: map[string]string{}, Replicas: int16(t.Partitions.NumReplicas())}
		for _, p := range t.Partitions.Sorted() {
			nt.Partitions = append(nt.Partitions, &Partition{Number: p.Partition, LeaderEpoch: p.LeaderEpoch})
		}
		b.m.Topics = append(b.m.Topics, nt)
	}
	sortTopics(b.m.Topics)
	if len(names) == 0 {
		return nil
	}
	configs, err := adm.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return err
	}
	for _, c := range configs {
		for _, e := range c.Configs {
			if t := b.m.Topic(c.Name); t != nil && e.Source == 1 && e.Value != nil { // set on the topic itself
				t.Configs[e.Key] = *e.Value
			}
		}
	}
	return nil
}

// stage saves the topics that pick names: it takes down where each partition ends and reads up to there.
func (b *creation) stage(ctx context.Context, pick func(string) bool) error {
	var names []string
	for _, t := range b.m.Topics {
		if pick(t.Name) {
			names = append(names, t.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	adm := kadm.NewClient(b.o.Client)
	starts, err := adm.ListStartOffsets(ctx, names...)
	if err != nil {
		return err
	}
	ends, err := adm.ListEndOffsets(ctx, names...)
	if err != nil {
		return err
	}
	var work []*reading
	var total int64
	for _, t := range b.m.Topics {
		if !pick(t.Name) {
			continue
		}
		kept := t.Partitions[:0]
		for _, p := range t.Partitions {
			start, ok1 := starts.Lookup(t.Name, p.Number)
			end, ok2 := ends.Lookup(t.Name, p.Number)
			if err := cmp.Or(start.Err, end.Err); err != nil || !ok1 || !ok2 {
				if errors.Is(err, kerr.UnknownTopicOrPartition) {
					continue // deleted meanwhile
				}
				return fmt.Errorf("%s-%d: its offsets are not known: %w", t.Name, p.Number, cmp.Or(err, errors.New("no broker told them")))
			}
			p.LogStart, p.End = start.Offset, max(start.Offset, end.Offset)
			p.LeaderEpoch = max(p.LeaderEpoch, end.LeaderEpoch)
			r := &reading{b: b, t: t, p: p}
			r.reuse()
			total += max(0, p.End-r.next())
			work = append(work, r)
			kept = append(kept, p)
		}
		t.Partitions = kept
	}
	b.m.Topics = slices.DeleteFunc(b.m.Topics, func(t *Topic) bool { return pick(t.Name) && len(t.Partitions) == 0 })
	what := "data"
	if pick(offsetsTopic) || pick(txnTopic) {
		what = "state"
	}
	b.o.Progress.Start("saving "+what, "records", total)
	defer b.o.Progress.Done()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(b.o.Parallel)
	for _, r := range work {
		g.Go(func() error { return r.run(gctx) })
	}
	return g.Wait()
}

// save writes down how far the backup is, now and then.
func (b *creation) save(ctx context.Context, change func()) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	if b.o.Now().Sub(b.saved) < saveInterval {
		return nil
	}
	b.saved = b.o.Now()
	return putManifest(ctx, b.o.Store, b.m)
}

// compactedFor says how long a compacted topic keeps a tombstone, 0 where it is not compacted.
func (t *Topic) compactedFor() time.Duration {
	if !strings.Contains(t.Configs["cleanup.policy"], "compact") && !t.Internal {
		return 0
	}
	ms, err := strconv.ParseInt(t.Configs["delete.retention.ms"], 10, 64)
	if err != nil {
		ms = 24 * 3600 * 1000
	}
	return time.Duration(min(ms, 1<<40))*time.Millisecond + 1
}
