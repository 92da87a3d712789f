package sharefetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/share"
	"github.com/ottla/ottla/internal/timewheel"
	"github.com/ottla/ottla/internal/vfs"
)

var (
	topic   = [16]byte{7}
	letters = [16]byte{8}
)

// rig is a manager over real logs in memory.
type rig struct {
	t         testing.TB
	m         *Manager
	logs      *log.Manager
	persister *share.Memory
	wheel     *timewheel.Wheel

	mu       sync.Mutex
	settings GroupSettings
	hw       map[log.TopicPartition]*listener
	prepare  error
	prepared chan struct{}
}

// listener makes what is durable committed, as the replica does.
type listener struct {
	r  *rig
	tp log.TopicPartition
}

func (l *listener) OnDurable(x *log.Log, end log.OffsetMeta) {
	x.SetHighWatermark(end)
	l.r.manager().Committed(l.tp)
}
func (*listener) OnLogStart(*log.Log, int64) {}
func (*listener) OnOffline(*log.Log, error)  {}

func (r *rig) Resolve(id [16]byte, partition int32) (log.TopicPartition, error) {
	switch {
	case id == topic && partition < 4:
		return log.TopicPartition{Topic: "t", Partition: partition}, nil
	case id == letters && partition < 4:
		return log.TopicPartition{Topic: "dlq.t", Partition: partition}, nil
	case id == topic:
		return log.TopicPartition{}, kerr.UnknownTopicOrPartition
	}
	return log.TopicPartition{}, kerr.UnknownTopicID
}

func (r *rig) Open(tp log.TopicPartition, id [16]byte) (View, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l, err := r.logs.Open(tp, id, log.Config{SegmentBytes: 1 << 20, MaxMessageBytes: 1 << 20, RetentionMs: -1, RetentionBytes: -1}, "")
	if err != nil {
		return View{}, err
	}
	if r.hw[tp] == nil {
		r.hw[tp] = &listener{r, tp}
		l.SetListener(r.hw[tp])
		l.SetHighWatermark(l.DurableEnd())
	}
	return View{TP: tp, Log: l}, nil
}

func (r *rig) Prepare(_, _ string, done func(int32, int, error)) {
	r.mu.Lock()
	err := r.prepare
	r.mu.Unlock()
	select {
	case r.prepared <- struct{}{}:
	default:
	}
	done(2, 1<<20, err)
}

func (r *rig) Append(name string, partition int32, batch []byte, done func(error)) {
	v, err := r.Open(log.TopicPartition{Topic: name, Partition: partition}, letters)
	if err == nil {
		_, err = v.Log.Append(batch, log.AppendOptions{Origin: log.Coordinator, Now: time.Now().UnixMilli()})
	}
	done(err)
}

func defaults() GroupSettings {
	return GroupSettings{Settings: share.Settings{MaxLocks: 2000, DeliveryLimit: 5, LockMs: 30000, Renew: true}, Reset: Reset{Earliest: true}}
}

func newRig(t testing.TB, s GroupSettings) *rig {
	t.Helper()
	r := &rig{t: t, persister: &share.Memory{}, settings: s, hw: map[log.TopicPartition]*listener{}, prepared: make(chan struct{}, 1)}
	var err error
	r.logs, err = log.NewManager(log.ManagerOptions{FS: vfs.NewMem(), Clock: clock.Real{}, Logger: slog.New(slog.DiscardHandler), Dirs: []string{"/d"}, JournalFileBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.logs.Start(); err != nil {
		t.Fatal(err)
	}
	r.wheel = timewheel.New(clock.Real{}, time.Millisecond)
	r.wheel.Start()
	r.start()
	t.Cleanup(func() {
		r.m.Close()
		r.wheel.Close()
		if err := r.logs.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// start makes a manager; the one before is gone as if the broker had been started again.
func (r *rig) start() {
	m := New(Options{Source: r, Persister: r.persister, DeadLetters: r, Wheel: r.wheel, Clock: clock.Real{}, Logger: slog.New(slog.DiscardHandler),
		Registerer: prometheus.NewRegistry(), MaxSessions: 50, Settings: func(string) GroupSettings {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.settings
		}})
	r.mu.Lock()
	r.m, r.hw = m, map[log.TopicPartition]*listener{}
	r.mu.Unlock()
}

// produce appends values to a partition, so many in a batch.
func (r *rig) produce(partition int32, each int, values ...string) {
	r.t.Helper()
	v, err := r.Open(log.TopicPartition{Topic: "t", Partition: partition}, topic)
	if err != nil {
		r.t.Fatal(err)
	}
	for len(values) > 0 {
		n := min(each, len(values))
		b := record.NewBuilder(record.BuilderOptions{})
		for _, s := range values[:n] {
			b.Append(1000, []byte(s[:1]), []byte(s), nil)
		}
		values = values[n:]
		if _, err := v.Log.Append(b.Finish(), log.AppendOptions{Origin: log.Coordinator, Now: 1000}); err != nil {
			r.t.Fatal(err)
		}
	}
	r.until(func() bool { return v.Log.HighWatermark().Offset == v.Log.LogEnd().Offset })
}

func (r *rig) manager() *Manager {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.m
}

func (r *rig) until(ok func() bool) {
	r.t.Helper()
	tick, end := time.NewTicker(time.Millisecond), time.After(10*time.Second)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			r.t.Fatal("it did not come to pass")
		}
	}
}

// member is a client with a session.
type member struct {
	r      *rig
	name   string
	epoch  int32
	conn   context.Context
	hangup context.CancelFunc
	lockMs int64
}

func (r *rig) member(name string) *member {
	m := &member{r: r, name: name}
	m.conn, m.hangup = context.WithCancel(context.Background())
	return m
}

func (m *member) send(r *Request) ([]Result, error) {
	m.r.t.Helper()
	r.Group, r.Member, r.Conn = "g", m.name, m.conn
	if r.Epoch == 0 {
		r.Epoch = m.epoch
	}
	type answer struct {
		lock int64
		res  []Result
		err  error
	}
	c := make(chan answer, 1)
	m.r.m.Do(r, func(lock int64, res []Result, err error) { c <- answer{lock, res, err} })
	select {
	case a := <-c:
		if a.err == nil {
			m.epoch++
		}
		m.lockMs = a.lock
		return a.res, a.err
	case <-time.After(20 * time.Second):
		m.r.t.Fatal("no answer")
		return nil, nil
	}
}

// got is a record that was leased.
type got struct {
	partition int32
	offset    int64
	count     int16
	value     string
}

func (m *member) fetch(max int, wait time.Duration, partitions ...int32) []got {
	m.r.t.Helper()
	q := &Request{MaxRecords: max, MaxBytes: 1 << 20, MaxWait: wait, BatchSize: max}
	for _, p := range partitions {
		q.Partitions = append(q.Partitions, Named{ID: PartitionID{topic, p}})
	}
	res, err := m.send(q)
	if err != nil {
		m.r.t.Fatalf("%s: %v", m.name, err)
	}
	return m.read(res)
}

// read takes the records out of an answer, those that were leased only.
func (m *member) read(res []Result) (out []got) {
	m.r.t.Helper()
	for _, x := range res {
		if x.Err != nil {
			m.r.t.Fatalf("%s, partition %d: %v", m.name, x.ID.Partition, x.Err)
		}
		values := map[int64]string{}
		if x.Slice.Len() > 0 {
			b := make([]byte, x.Slice.Len())
			if _, err := x.Slice.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
				m.r.t.Fatal(err)
			}
			x.Slice.Release()
			for it := record.NewBatchIter(b); ; {
				batch, h, ok, err := it.Next()
				if err != nil || !ok {
					break
				}
				_ = record.Records(batch, record.Limits{}, func(r *record.Record) error {
					values[h.BaseOffset+int64(r.OffsetDelta)] = string(r.Value)
					return nil
				})
			}
		}
		for _, l := range x.Leases {
			for o := l.First; o <= l.Last; o++ {
				v, ok := values[o]
				if !ok {
					m.r.t.Fatalf("offset %d was leased and is not among the records", o)
				}
				out = append(out, got{x.ID.Partition, o, l.Count, v})
			}
		}
	}
	return out
}

func (m *member) ack(typ share.AckType, gs ...got) error {
	m.r.t.Helper()
	q := &Request{AcknowledgeOnly: true}
	for _, g := range gs {
		n := len(q.Partitions)
		if n == 0 || q.Partitions[n-1].ID.Partition != g.partition {
			q.Partitions = append(q.Partitions, Named{ID: PartitionID{topic, g.partition}})
			n++
		}
		q.Partitions[n-1].Acks = append(q.Partitions[n-1].Acks, share.Ack{First: g.offset, Last: g.offset, Types: []share.AckType{typ}})
	}
	res, err := m.send(q)
	if err != nil {
		return err
	}
	for _, x := range res {
		if x.AckErr != nil {
			return x.AckErr
		}
	}
	return nil
}

func (m *member) close() error {
	_, err := m.send(&Request{Epoch: EpochFinal})
	return err
}

func numbered(from, to int) (out []string) {
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("%c%04d", 'a'+i%5, i))
	}
	return out
}
