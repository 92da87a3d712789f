package observer

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/wire/schema"
)

// quorum is a KRaft quorum as its observers see it: nodes of which one leads, a log whose end may be taken back above the high
// watermark, and a snapshot.
type quorum struct {
	mu      sync.Mutex
	changed chan struct{} // closed at every change
	batches []batch
	hw      int64
	start   int64
	snap    []byte // of start
	snapEnd epochEnd
	leader  int32
	epoch   int32
	nodes   map[int32]string
	down    map[string]bool
	whole   *metadata.Image // all that is committed
	asked   int
}

type batch struct {
	base, next int64
	epoch      int32
	bytes      []byte
	records    []metadata.Versioned
}

type epochEnd struct {
	end   int64
	epoch int32
}

func newQuorum() *quorum {
	return &quorum{leader: 1, epoch: 1, nodes: map[int32]string{1: "one:1", 2: "two:2", 3: "three:3"}, down: map[string]bool{}, changed: make(chan struct{}), whole: metadata.Empty("c")}
}

func (q *quorum) change() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *quorum) end() int64 {
	if len(q.batches) == 0 {
		return q.start
	}
	return q.batches[len(q.batches)-1].next
}

// append adds a batch of topics, or of a change of leadership.
func (q *quorum) append(names ...string) {
	b := batch{base: q.end(), epoch: q.epoch}
	build := record.NewBuilder(record.BuilderOptions{BaseOffset: b.base, LeaderEpoch: q.epoch, Control: len(names) == 0})
	if len(names) == 0 {
		value, _ := (&schema.LeaderChangeMessage{LeaderID: q.leader}).AppendTo(nil, 0)
		build.AppendControl(1, record.ControlLeaderChange, value)
	}
	for i, n := range names {
		v := metadata.Newest(&schema.TopicRecord{Name: n, TopicID: metadata.UUID{1, byte(b.base >> 8), byte(b.base), byte(i), byte(q.epoch)}})
		value, _ := schema.AppendMetadataRecord(nil, v.Message, v.Version)
		build.Append(1, nil, value, nil)
		b.records = append(b.records, v)
	}
	b.next = b.base + int64(build.Count())
	b.bytes = build.Finish()
	q.batches = append(q.batches, b)
	q.change()
}

// commit moves the high watermark over n batches.
func (q *quorum) commit(n int) {
	for _, b := range q.batches {
		if b.next > q.hw && n > 0 {
			d := metadata.NewDelta(q.whole)
			for i, r := range b.records {
				if err := d.Replay(b.base+int64(i), b.epoch, r.Message); err != nil {
					panic(err)
				}
			}
			d.SetPosition(b.next-1, b.epoch)
			q.whole = d.Image()
			q.hw = b.next
			n--
		}
	}
	q.change()
}

// elect makes another node the leader, which lost the last batches above the high watermark.
func (q *quorum) elect(node int32, lost int) {
	for ; lost > 0 && q.end() > q.hw; lost-- {
		q.batches = q.batches[:len(q.batches)-1]
	}
	q.leader = node
	q.epoch++
	q.append()
}

// cut makes a snapshot of what is committed and forgets the log before it.
func (q *quorum) cut() {
	w := record.NewBuilder(record.BuilderOptions{Control: true})
	head, _ := (&schema.SnapshotHeaderRecord{}).AppendTo(nil, 0)
	w.AppendControl(1, record.ControlSnapshotHeader, head)
	q.snap = w.Finish()
	q.whole.Records(func(v metadata.Versioned) bool {
		b := record.NewBuilder(record.BuilderOptions{})
		value, _ := schema.AppendMetadataRecord(nil, v.Message, v.Version)
		b.Append(1, nil, value, nil)
		q.snap = append(q.snap, b.Finish()...)
		return true
	})
	w = record.NewBuilder(record.BuilderOptions{Control: true})
	foot, _ := (&schema.SnapshotFooterRecord{}).AppendTo(nil, 0)
	w.AppendControl(1, record.ControlSnapshotFooter, foot)
	q.snap = append(q.snap, w.Finish()...)
	q.snapEnd = epochEnd{q.hw, q.whole.Epoch()}
	for len(q.batches) > 0 && q.batches[0].next <= q.hw {
		q.batches = q.batches[1:]
	}
	q.start = q.hw
	q.change()
}

// ask is Options.Ask.
func (q *quorum) ask(ctx context.Context, to Node, req kmsg.Request) (kmsg.Response, error) {
	for {
		q.mu.Lock()
		q.asked++
		resp, wait, err := q.answer(to, req)
		changed := q.changed
		q.mu.Unlock()
		if !wait || err != nil {
			return resp, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (q *quorum) answer(to Node, req kmsg.Request) (resp kmsg.Response, wait bool, err error) {
	var id int32
	for n, addr := range q.nodes {
		if addr == to.Addr {
			id = n
		}
	}
	if id == 0 || q.down[to.Addr] {
		return nil, false, errors.New("connection refused")
	}
	if f, ok := req.(*kmsg.FetchSnapshotRequest); ok {
		return q.chunk(id, f), false, nil
	}
	f := req.(*kmsg.FetchRequest)
	p := f.Topics[0].Partitions[0]
	out := kmsg.NewFetchResponseTopicPartition()
	out.CurrentLeader.LeaderID, out.CurrentLeader.LeaderEpoch = q.leader, q.epoch
	out.ErrorCode = q.check(id, p.CurrentLeaderEpoch)
	if out.ErrorCode == 0 {
		wait = q.read(&p, &out)
	}
	r := kmsg.NewPtrFetchResponse()
	r.Topics = []kmsg.FetchResponseTopic{{TopicID: topicID, Partitions: []kmsg.FetchResponseTopicPartition{out}}}
	var host string
	var port int32
	if q.leader > 0 {
		_, err := fmt.Sscanf(q.nodes[q.leader], "%5s", &host)
		if err != nil {
			panic(err)
		}
		host, port = q.host(q.leader), q.leader
		r.Brokers = []kmsg.FetchResponseBroker{{NodeID: q.leader, Host: host, Port: port}}
	}
	return r, wait, nil
}

func (q *quorum) host(id int32) string { return []string{"", "one", "two", "three"}[id] }

func (q *quorum) check(id, epoch int32) int16 {
	switch {
	case epoch < q.epoch:
		return kerr.FencedLeaderEpoch.Code
	case epoch > q.epoch:
		return kerr.UnknownLeaderEpoch.Code
	case id != q.leader:
		return kerr.NotLeaderForPartition.Code
	}
	return 0
}

// read answers a fetch as KRaft does, whole batches, the uncommitted ones too.
func (q *quorum) read(p *kmsg.FetchRequestTopicPartition, out *kmsg.FetchResponseTopicPartition) (wait bool) {
	out.HighWatermark, out.LogStartOffset = q.hw, q.start
	last, end := int32(0), int64(0) // the leader's largest epoch up to the follower's, and its end
	if q.start > 0 {
		last, end = q.snapEnd.epoch, q.start
	}
	for _, b := range q.batches {
		if b.epoch <= p.LastFetchedEpoch {
			last, end = b.epoch, b.next
		}
	}
	switch {
	case q.start > 0 && (p.FetchOffset < q.start || p.FetchOffset == q.start && p.LastFetchedEpoch != q.snapEnd.epoch || p.LastFetchedEpoch < q.snapEnd.epoch):
		out.SnapshotID.EndOffset, out.SnapshotID.Epoch = q.snapEnd.end, q.snapEnd.epoch
		return false
	case p.FetchOffset > 0 && (last != p.LastFetchedEpoch || p.FetchOffset > end):
		out.DivergingEpoch.Epoch, out.DivergingEpoch.EndOffset = last, end
		return false
	}
	for _, b := range q.batches {
		if b.base >= p.FetchOffset && len(out.RecordBatches) < 300 {
			out.RecordBatches = append(out.RecordBatches, b.bytes...)
		}
	}
	return len(out.RecordBatches) == 0 && p.HighWatermark >= q.hw
}

func (q *quorum) chunk(id int32, f *kmsg.FetchSnapshotRequest) *kmsg.FetchSnapshotResponse {
	p := f.Topics[0].Partitions[0]
	out := kmsg.NewFetchSnapshotResponseTopicPartition()
	out.CurrentLeader.LeaderID, out.CurrentLeader.LeaderEpoch = q.leader, q.epoch
	out.SnapshotID.EndOffset, out.SnapshotID.Epoch, out.Position = p.SnapshotID.EndOffset, p.SnapshotID.Epoch, p.Position
	if out.ErrorCode = q.check(id, p.CurrentLeaderEpoch); out.ErrorCode == 0 {
		if p.SnapshotID.EndOffset != q.snapEnd.end || p.SnapshotID.Epoch != q.snapEnd.epoch {
			out.ErrorCode = kerr.SnapshotNotFound.Code
		} else {
			out.Size = int64(len(q.snap))
			out.Bytes = q.snap[p.Position:min(p.Position+150, out.Size)]
		}
	}
	r := kmsg.NewPtrFetchSnapshotResponse()
	r.Topics = []kmsg.FetchSnapshotResponseTopic{{Topic: topicName, Partitions: []kmsg.FetchSnapshotResponseTopicPartition{out}}}
	if q.leader > 0 {
		r.NodeEndpoints = []kmsg.FetchSnapshotResponseNodeEndpoint{{NodeID: q.leader, Host: q.host(q.leader), Port: uint16(q.leader)}}
	}
	return r
}

// follower is a Log that keeps an image, and checks that it is handed what is committed and nothing else.
type follower struct {
	mu      sync.Mutex
	img     *metadata.Image
	changed chan struct{}
	applied int
	snaps   int
}

func newFollower() *follower {
	return &follower{img: metadata.Empty("c"), changed: make(chan struct{}, 1)}
}

func (f *follower) told() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *follower) Apply(c Commit) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.Base != f.img.Offset()+1 {
		return fmt.Errorf("batch of offset %d after offset %d", c.Base, f.img.Offset())
	}
	d := metadata.NewDelta(f.img)
	for i, r := range c.Records {
		if err := d.Replay(c.Base+int64(i), c.Epoch, r.Message); err != nil {
			return err
		}
	}
	h, err := record.ParseHeader(c.Batch)
	if err != nil {
		return err
	}
	d.SetPosition(h.LastOffset(), c.Epoch)
	f.img = d.Image()
	f.applied++
	f.told()
	return nil
}

func (f *follower) Install(img *metadata.Image) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if img.Offset() <= f.img.Offset() {
		return fmt.Errorf("snapshot of offset %d after offset %d", img.Offset(), f.img.Offset())
	}
	f.img = img
	f.snaps++
	f.told()
	return nil
}

func (f *follower) image() *metadata.Image {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.img
}

func names(img *metadata.Image) string {
	var out string
	for _, t := range img.SortedTopics() {
		out += fmt.Sprintf("%s=%x ", t.Name, t.ID[:5])
	}
	return fmt.Sprintf("%s@%d/%d", out, img.Offset(), img.Epoch())
}
