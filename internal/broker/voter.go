package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/metadata/loop"
	"github.com/ottla/ottla/internal/metadata/observer"
	"github.com/ottla/ottla/internal/metadata/quorum"
	"github.com/ottla/ottla/internal/metadata/store"
	"github.com/ottla/ottla/internal/peer"
	"github.com/ottla/ottla/internal/wire/private"
	"github.com/ottla/ottla/internal/wire/schema"
)

// votes says whether a node keeps the metadata log as a member of a quorum: it has done so before, or it is the first of a cluster that
// others can join because there is a listener of its own for that. A broker without one is its own controller, with nothing in between.
func votes(o Options, dir string, follows bool) bool {
	if quorum.Exists(o.FS, path.Join(dir, store.LogDir)) {
		return true
	}
	return !follows && clusterListener(o) != o.Listeners[0].Name
}

// firstOfCluster refuses to begin a quorum of one with metadata in which there are other brokers: they have a quorum, and two would change the
// same metadata in different ways.
func firstOfCluster(img *metadata.Image, node int32, dir string) error {
	for _, b := range img.Brokers() {
		if b.ID != node {
			return fmt.Errorf("%s is of a cluster with other brokers (%d), and this node's state of its quorum is missing; empty this node's directories and start it with --join and the address of another broker", dir, b.ID)
		}
	}
	return nil
}

// voter is this node's part in the metadata quorum.
type voter struct {
	c     *cluster
	store *store.Store
	loop  *loop.Loop
	self  quorum.Member
	o     Options

	mu      sync.Mutex
	host    *quorum.Host
	senders map[peer.Target]*sender
	// The observer of a node that the quorum has not taken yet, or that was away for longer than the quorum's log reaches back.
	observing       context.CancelFunc
	observed        chan struct{} // closed when it has stopped
	makeObserver    func() *observer.Observer
	closed          bool
	guest           bool // the quorum is not of this kind of nodes
	applying        sync.Mutex
	complained      time.Time           // of a full disk
	stable          map[int32]time.Time // since when brokers have been up without a break, as the active controller sees it
	lastVoterChange time.Time
}

// sender sends messages to one member on one lane, in order, as many at a time as wait.
type sender struct {
	mu      sync.Mutex
	queue   []*pb.Message
	running bool
}

// maxUnsent bounds the messages that wait for one member; the library sends again what is lost.
const maxUnsent = 4096

// begin opens this node's part in the quorum.
func (v *voter) begin() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.host != nil || v.closed {
		return nil
	}
	if err := v.store.Sync(); err != nil {
		return err
	}
	host, err := quorum.NewHost(quorum.HostOptions{
		NodeOptions: quorum.NodeOptions{
			Self: v.self, FS: v.o.FS, Dir: path.Join(v.metadataDir(), store.LogDir), Logger: v.o.Logger,
			Send: v.send, Apply: v.apply, CatchUp: v.catchUp, Sync: v.store.Sync, Retry: v.retry, Lead: v.leadBatch, Active: v.active, Passive: v.loop.SetPassive,
		},
		Clock: v.o.Clock, Encode: v.store.Encode,
	})
	if err != nil {
		return err
	}
	v.host = host
	v.c.host.Store(host)
	return nil
}

func (v *voter) metadataDir() string { return metadataDir(v.o) }

func metadataDir(o Options) string {
	if dir := config.MetadataLogDir.Get(o.Values); dir != "" {
		return dir
	}
	return o.LogDirs[0]
}

// apply takes what the quorum committed. What was fetched already, or taken before a restart, is passed over: both ways bring the same log.
func (v *voter) apply(b quorum.Batch) error {
	records, err := observer.Decode(b.Bytes, b.Header)
	if err != nil {
		return err
	}
	return v.take(b.Bytes, loop.Commit{Base: b.Header.BaseOffset, Count: b.Header.NextOffset() - b.Header.BaseOffset, Epoch: b.Header.PartitionLeaderEpoch, Leader: b.Leader, Records: records})
}

// take appends a committed batch to the log and publishes it. A full disk holds this node up until there is space; others go on without it.
func (v *voter) take(batch []byte, c loop.Commit) error {
	v.applying.Lock()
	defer v.applying.Unlock()
	for c.Base >= v.store.Committed() {
		if err := v.store.Append(batch, c.Leader); err == nil {
			break
		} else if !v.retry(err) {
			return err
		}
	}
	return v.loop.Apply(c)
}

// fullPause is between two attempts to write to a full disk.
const fullPause = 200 * time.Millisecond

// retry waits a moment where a write failed because the disk is full; others go on without this node until there is space.
func (v *voter) retry(err error) bool {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return false
	}
	now := v.o.Clock.Now()
	v.mu.Lock()
	closed, say := v.closed, now.Sub(v.complained) > 10*time.Second
	if say {
		v.complained = now
	}
	v.mu.Unlock()
	if closed {
		return false
	}
	if say {
		v.o.Logger.Error("the disk of the metadata log is full; this node waits for space", "err", err)
	}
	t := v.o.Clock.NewTimer(fullPause)
	select {
	case <-t.C():
		return true
	case <-v.c.ctx.Done():
		t.Stop()
		return false
	}
}

// fetched is the log as an observer brings it.
type fetched struct{ v *voter }

// Apply implements observer.Log.
func (f fetched) Apply(c observer.Commit) error {
	return f.v.take(c.Batch, loop.Commit{Base: c.Base, Count: c.Count, Epoch: c.Epoch, Leader: c.Leader, Records: c.Records})
}

// Install implements observer.Log.
func (f fetched) Install(img *metadata.Image) error {
	f.v.applying.Lock()
	defer f.v.applying.Unlock()
	if img.Offset() < f.v.store.Committed() {
		return nil
	}
	if err := f.v.store.Install(img); err != nil {
		return err
	}
	f.v.loop.Install(img)
	return nil
}

// leaderless is how long a member may be without a leader before it fetches the log as everybody can: the quorum may have gone on without it.
const leaderless = 2 * time.Second

// watch fetches the log while the quorum does not bring it, and only then.
func (v *voter) watch(ctx context.Context) {
	since := v.o.Clock.Now()
	for {
		t := v.o.Clock.NewTimer(100 * time.Millisecond)
		select {
		case <-t.C():
		case <-ctx.Done():
			t.Stop()
			return
		}
		host := v.c.host.Load()
		if host == nil {
			continue
		}
		switch now := v.o.Clock.Now(); {
		case host.Status().Leader >= 0 && v.member(host):
			since = now
			v.stopObserving()
		case now.Sub(since) > leaderless:
			v.observe()
		}
	}
}

func (v *voter) member(host *quorum.Host) bool {
	s := host.Status()
	return slices.Contains(s.Voters, v.self) || slices.Contains(s.Learners, v.self)
}

func (v *voter) stopObserving() {
	v.mu.Lock()
	stop, stopped := v.observing, v.observed
	v.observing, v.observed = nil, nil
	v.mu.Unlock()
	if stop != nil {
		stop()
		<-stopped
		v.c.observer.Store(nil)
	}
}

func (v *voter) isClosed() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.closed
}

func (v *voter) leadBatch(voters []quorum.Member) ([]byte, error) {
	var out []schema.VotersRecordVoter
	for _, m := range voters {
		r := schema.VotersRecordVoter{VoterID: m.Node, VoterDirectoryID: m.Dir}
		r.KRaftVersionFeature.MaxSupportedVersion = 1
		if host, port, err := net.SplitHostPort(v.c.address(m.Node)); err == nil {
			n, _ := strconv.Atoi(port)
			r.Endpoints = append(r.Endpoints, schema.VotersRecordEndpoint{Name: v.c.listener, Host: host, Port: uint16(n)})
		}
		out = append(out, r)
	}
	return v.store.LeadBatch(out)
}

// active makes this node the active controller. It runs on the quorum's goroutine, so that nothing is committed in between.
func (v *voter) active(epoch int32) {
	v.loop.SetActive()
	v.o.Logger.Info("this node is the active controller", "node", v.self.Node, "epoch", epoch)
	v.loop.Submit(func(img *metadata.Image, now time.Time) ([]metadata.Versioned, any, error) {
		v.c.brain.ctl.Activated(img, v.c.brain.env(now))
		if img.Feature(metadata.MetadataVersion) == 0 {
			return controller.Bootstrap(), nil, nil
		}
		return nil, nil, nil
	}, func(_ any, err error) {
		if err != nil {
			v.o.Logger.Warn("the first records of the cluster were not written", "err", err)
		}
	})
	v.c.fenceRemembered()
}

// send hands a message to the sender of its lane; it does not block.
func (v *voter) send(to quorum.Member, m *pb.Message) {
	t := peer.Target{Node: to.Node, Lane: "quorum"}
	if quorum.Urgent(m) {
		t.Lane = "quorum-urgent"
	}
	v.mu.Lock()
	s := v.senders[t]
	if s == nil {
		s = &sender{}
		v.senders[t] = s
	}
	v.mu.Unlock()
	s.mu.Lock()
	if len(s.queue) < maxUnsent {
		s.queue = append(s.queue, m)
	}
	start := !s.running
	s.running = true
	s.mu.Unlock()
	if start && !v.c.background(func(ctx context.Context) { v.drain(ctx, t, s) }) {
		s.mu.Lock()
		s.running = false
		s.mu.Unlock()
	}
}

// sendTimeout bounds one exchange between members; what it loses is sent again by the library.
const sendTimeout = time.Second

// maxFrameBytes is about the size of a frame; larger ones carry one message.
const maxFrameBytes = 1 << 20

func (v *voter) drain(ctx context.Context, t peer.Target, s *sender) {
	for {
		s.mu.Lock()
		batch := s.queue
		s.queue = nil
		if len(batch) == 0 || ctx.Err() != nil {
			s.running = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		for len(batch) > 0 {
			var frame []byte
			for len(batch) > 0 && len(frame) < maxFrameBytes {
				var err error
				if frame, err = quorum.AppendMessage(frame, v.self, batch[0]); err != nil {
					v.o.Logger.Error("a message of the quorum cannot be written", "err", err)
				}
				batch = batch[1:]
			}
			one, cancel := context.WithTimeout(ctx, sendTimeout)
			_, err := v.c.peers.Request(one, t, &private.Request{API: private.Raft, Payload: frame})
			cancel()
			if err != nil {
				break // the rest is older than what comes next
			}
		}
	}
}

// Deliver takes messages of another member. The first that comes to a node outside the quorum makes it a part of it.
func (v *voter) Deliver(frame []byte) error {
	if v.guest {
		return errors.New("this node is a guest in a cluster of other controllers")
	}
	if err := v.begin(); err != nil {
		return err
	}
	if host := v.c.host.Load(); host != nil {
		return host.Deliver(frame)
	}
	return nil
}

// observe follows the log by fetching it, for as long as the quorum does not bring it.
func (v *voter) observe() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.observing != nil || v.closed {
		return
	}
	o := v.makeObserver()
	ctx, cancel := context.WithCancel(v.c.ctx)
	done := make(chan struct{})
	started := v.c.background(func(context.Context) {
		defer close(done)
		if err := o.Run(ctx); err != nil {
			v.o.Logger.Error("the metadata log cannot be followed any more; this node must be started again", "error", err)
		}
	})
	if !started {
		cancel()
		return
	}
	v.observing, v.observed = cancel, done
	v.c.observer.Store(o)
}

// catchUp brings the log to an offset by fetching.
func (v *voter) catchUp(offset int64) error {
	if v.store.Committed() < offset {
		v.observe()
	}
	for v.store.Committed() < offset {
		t := v.o.Clock.NewTimer(2 * time.Millisecond)
		select {
		case <-t.C():
		case <-v.c.ctx.Done():
			t.Stop()
			return v.c.ctx.Err()
		}
		if v.isClosed() {
			return errors.New("this node is stopping")
		}
	}
	return nil
}

func (v *voter) close() error {
	v.mu.Lock()
	v.closed = true
	host := v.host
	v.mu.Unlock()
	if host == nil {
		return nil
	}
	return host.Close()
}

// transfer hands the lead over before a planned stop.
func (v *voter) transfer(ctx context.Context) {
	host := v.c.host.Load()
	if host == nil || !host.Status().Active || host.Status().Alone {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	host.Transfer()
	for host.Status().Active {
		t := v.o.Clock.NewTimer(5 * time.Millisecond)
		select {
		case <-t.C():
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// How long a broker must have been up before it gets a vote, and the pause between two changes of the voters.
const (
	voterStability = 2 * time.Second
	voterPause     = 500 * time.Millisecond
)

// chooseVoters lets more nodes vote as the cluster grows; it runs while this node is the active controller.
func (v *voter) chooseVoters(img *metadata.Image) {
	host := v.c.host.Load()
	if host == nil {
		return
	}
	s, now := host.Status(), v.o.Clock.Now()
	if !s.Active || now.Sub(v.lastVoterChange) < voterPause {
		return
	}
	v.lastVoterChange = now
	var up []quorum.Member
	for _, b := range img.Brokers() {
		if b.Fenced || b.InControlledShutdown || len(b.LogDirs) == 0 || len(b.Cordoned) == len(b.LogDirs) {
			delete(v.stable, b.ID)
			continue
		}
		if _, ok := v.stable[b.ID]; !ok {
			v.stable[b.ID] = now
		}
		if now.Sub(v.stable[b.ID]) >= voterStability {
			up = append(up, quorum.Member{Node: b.ID, Dir: b.LogDirs[0]})
		}
	}
	known := func(node int32) bool { return img.Broker(node) != nil }
	drained := func(node int32) bool {
		b := img.Broker(node)
		return b != nil && len(b.LogDirs) > 0 && len(b.Cordoned) == len(b.LogDirs)
	}
	add, promote, remove := quorum.Choose(s.Voters, s.Learners, up, known, drained)
	switch {
	case len(remove) > 0 && len(promote) == 0:
		host.Change(nil, nil, remove)
	case len(add) > 0:
		v.o.Logger.Info("nodes are taken into the metadata quorum", "nodes", add)
		host.Change(add, nil, nil)
	case len(promote) > 0:
		host.Promote(promote, remove)
	}
}
