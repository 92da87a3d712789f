package interop

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var updateFacts = flag.Bool("update-share-facts", false, "write testdata/share_facts anew; to be run against Kafka")

// shareFacts sends share requests as they are on the wire and writes down what comes back.
type shareFacts struct {
	t     *testing.T
	cl    *kgo.Client
	adm   *kadm.Client
	lines []string
}

// asked is one share request.
type asked struct {
	group, member string
	epoch         int32
	topic         [16]byte
	max, batch    int32
	strict        bool
	renew         bool
	nothing       bool // asks for no records and no time
	closing       bool
	acks          string // as "0-3:1 4-4:2", first-last:type
}

func (p *shareFacts) say(format string, args ...any) {
	p.lines = append(p.lines, fmt.Sprintf(format, args...))
}

// group makes a topic, batches of so many records in it, and a share group with a member.
func (p *shareFacts) group(name string, configs map[string]string, batches ...int) asked {
	p.t.Helper()
	ctx := patience(p.t, 30*time.Second)
	if _, err := p.adm.CreateTopic(ctx, 1, 1, nil, name); err != nil {
		p.t.Fatal(err)
	}
	for _, n := range batches {
		records := make([]*kgo.Record, n)
		for i := range records {
			records[i] = &kgo.Record{Topic: name, Value: []byte(fmt.Sprint(i))}
		}
		if err := p.cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
			p.t.Fatal(err)
		}
	}
	all := map[string]string{"share.auto.offset.reset": "earliest", "share.record.lock.duration.ms": "30000"}
	for k, v := range configs {
		all[k] = v
	}
	configureGroup(p.t, p.cl, name, all)
	topics, err := p.adm.ListTopics(ctx, name)
	if err != nil {
		p.t.Fatal(err)
	}
	q := asked{group: name, member: shareMember1, topic: topics[name].ID, max: 100, batch: 100}
	epoch := int32(0)
	eventually(p.t, 30*time.Second, func() error {
		hb := kmsg.NewPtrShareGroupHeartbeatRequest()
		hb.GroupID, hb.MemberID, hb.MemberEpoch = name, q.member, epoch
		if epoch == 0 {
			hb.SubscribedTopicNames = []string{name}
		}
		r, err := hb.RequestWith(ctx, p.cl)
		if err != nil {
			return err
		}
		epoch = r.MemberEpoch
		if r.ErrorCode != 0 || r.Assignment == nil || len(r.Assignment.TopicPartitions) == 0 {
			return errors.New("nothing is assigned")
		}
		return nil
	})
	return q
}

const (
	shareMember1 = "AAAAAAAAAAAAAAAAAAAAAA"
	shareMember2 = "BAAAAAAAAAAAAAAAAAAAAA"
)

func ackRanges(s string, add func(first, last int64, typ int8)) {
	for _, f := range strings.Fields(s) {
		var first, last int64
		var typ int8
		if _, err := fmt.Sscanf(f, "%d-%d:%d", &first, &last, &typ); err != nil {
			panic(err)
		}
		add(first, last, typ)
	}
}

// first opens a session, again and again until the group's state is there.
func (p *shareFacts) first(label string, q asked) {
	p.t.Helper()
	n := len(p.lines)
	eventually(p.t, 30*time.Second, func() error {
		p.lines = p.lines[:n]
		if p.fetch(label, q); !strings.Contains(p.lines[n], "/") {
			return errors.New("no records yet")
		}
		return nil
	})
}

func (p *shareFacts) fetch(label string, q asked) {
	p.t.Helper()
	r := kmsg.NewPtrShareFetchRequest()
	r.GroupID, r.MemberID, r.ShareSessionEpoch, r.IsRenewAck = &q.group, &q.member, q.epoch, q.renew
	if !q.nothing {
		r.MaxWaitMillis, r.MinBytes, r.MaxBytes, r.MaxRecords, r.BatchSize = 400, 1, 1<<20, q.max, q.batch
	} else {
		r.MaxBytes = 0
	}
	if q.strict {
		r.ShareAcquireMode = 1
	}
	if !q.closing {
		t := kmsg.NewShareFetchRequestTopic()
		t.TopicID = q.topic
		x := kmsg.NewShareFetchRequestTopicPartition()
		ackRanges(q.acks, func(first, last int64, typ int8) {
			b := kmsg.NewShareFetchRequestTopicPartitionAcknowledgementBatch()
			b.FirstOffset, b.LastOffset, b.AcknowledgeTypes = first, last, []int8{typ}
			x.AcknowledgementBatches = append(x.AcknowledgementBatches, b)
		})
		t.Partitions = append(t.Partitions, x)
		r.Topics = append(r.Topics, t)
	}
	resp, err := p.cl.Broker(1).Request(patience(p.t, 20*time.Second), r)
	if err != nil {
		p.t.Fatalf("%s: %v", label, err)
	}
	f := resp.(*kmsg.ShareFetchResponse)
	line := fmt.Sprintf("%s: code=%d lock=%d", label, f.ErrorCode, f.AcquisitionLockTimeoutMillis)
	for _, t := range f.Topics {
		for _, x := range t.Partitions {
			line += fmt.Sprintf(" [code=%d ack=%d bytes=%d", x.ErrorCode, x.AcknowledgeErrorCode, len(x.Records))
			for _, a := range x.AcquiredRecords {
				line += fmt.Sprintf(" %d-%d/%d", a.FirstOffset, a.LastOffset, a.DeliveryCount)
			}
			line += "]"
		}
	}
	p.say("%s", line)
}

func (p *shareFacts) ack(label string, q asked) {
	p.t.Helper()
	r := kmsg.NewPtrShareAcknowledgeRequest()
	r.GroupID, r.MemberID, r.ShareSessionEpoch, r.IsRenewAck = &q.group, &q.member, q.epoch, q.renew
	t := kmsg.NewShareAcknowledgeRequestTopic()
	t.TopicID = q.topic
	x := kmsg.NewShareAcknowledgeRequestTopicPartition()
	ackRanges(q.acks, func(first, last int64, typ int8) {
		b := kmsg.NewShareAcknowledgeRequestTopicPartitionAcknowledgementBatch()
		b.FirstOffset, b.LastOffset, b.AcknowledgeTypes = first, last, []int8{typ}
		x.AcknowledgementBatches = append(x.AcknowledgementBatches, b)
	})
	t.Partitions = append(t.Partitions, x)
	r.Topics = append(r.Topics, t)
	resp, err := p.cl.Broker(1).Request(patience(p.t, 20*time.Second), r)
	if err != nil {
		p.t.Fatalf("%s: %v", label, err)
	}
	f := resp.(*kmsg.ShareAcknowledgeResponse)
	line := fmt.Sprintf("%s: code=%d", label, f.ErrorCode)
	for _, t := range f.Topics {
		for _, x := range t.Partitions {
			line += fmt.Sprintf(" [code=%d]", x.ErrorCode)
		}
	}
	p.say("%s", line)
}

// The facts of testdata/share_facts were recorded from Kafka 4.4. A line of Ottla's own follows where it differs, begins with
// "ottla " and stands there for a reason given above it.
func TestShareFetchFacts(t *testing.T) {
	b := shareBroker(t)
	cl := shareClient(t, b, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	needShareGroups(t, cl)
	p := &shareFacts{t: t, cl: cl, adm: kadm.NewClient(cl)}
	p.leases(p.group("leases", nil, 10, 10, 10))
	p.others()
	const page = "testdata/share_facts"
	have := strings.Join(p.lines, "\n") + "\n"
	if *updateFacts {
		if err := os.WriteFile(page, []byte(have), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		own, isOwn := strings.CutPrefix(line, "ottla ")
		switch {
		case strings.HasPrefix(line, "#") || isOwn && target() != "ottla":
		case isOwn:
			want[len(want)-1] = own
		default:
			want = append(want, line)
		}
	}
	for i, line := range p.lines {
		if i >= len(want) || want[i] != line {
			t.Errorf("got  %s\nwant %s", line, append(want, make([]string, len(p.lines))...)[i])
		}
	}
}

// leases goes through one group's requests, good and bad, on three batches of ten records.
func (p *shareFacts) leases(q asked) {
	at := func(epoch int32, f func(*asked)) asked {
		x := q
		if x.epoch = epoch; f != nil {
			f(&x)
		}
		return x
	}
	acks := func(s string) func(*asked) { return func(x *asked) { x.acks = s } }
	renewal := func(x *asked) { x.acks, x.renew = "4-5:4", true }
	strange := func(x *asked) { x.topic = [16]byte{9} }
	p.first("whole batch", at(0, func(x *asked) { x.max = 4 }))
	p.fetch("strict", at(1, func(x *asked) { x.max, x.strict = 4, true }))
	p.fetch("strict, the next", at(2, func(x *asked) { x.max, x.strict = 4, true }))
	p.fetch("the rest of a cut batch", at(3, func(x *asked) { x.max = 1 }))
	p.ack("release in two batches", at(4, acks("0-3:2 12-15:2")))
	p.fetch("redelivered up to the end of the run", at(5, func(x *asked) { x.max = 3 }))
	p.fetch("redelivered and new", at(6, nil))
	p.ack("renew", at(7, renewal))
	p.fetch("renew and ask for records", at(8, renewal))
	p.fetch("renew", at(8, func(x *asked) { renewal(x); x.nothing = true }))
	p.fetch("open the session again", at(0, nil))
	p.ack("accept what the session before had", at(1, acks("6-7:1")))
	p.ack("ranges out of order", at(2, acks("9-9:1 8-8:1")))
	p.ack("beyond the end", at(3, acks("29-31:1")))
	p.ack("far beyond the end", at(4, acks("40-41:1")))
	p.ack("a gap where there is a record", at(5, acks("8-8:0")))
	p.ack("unknown topic", at(6, func(x *asked) { strange(x); x.acks = "8-8:1" }))
	p.fetch("unknown topic", at(7, strange))
	p.fetch("unknown topic with an acknowledgement", at(8, func(x *asked) { strange(x); x.acks = "1-1:1" }))
	p.fetch("it stays in the session", at(9, func(x *asked) { x.max = 0 }))
	p.fetch("close", at(-1, func(x *asked) { x.closing = true }))
	p.fetch("what the closed session had", at(0, func(x *asked) { x.member = shareMember2 }))
	p.fetch("acknowledge with the first request", at(0, acks("10-11:1")))
	p.fetch("no member", at(0, func(x *asked) { x.member = "" }))
	p.fetch("close without a session", at(-1, func(x *asked) { x.member, x.closing = "CAAAAAAAAAAAAAAAAAAAAA", true }))
}

// others looks at ranges, records that fail often, the bound of records in flight and deleted records.
func (p *shareFacts) others() {
	q := p.group("ranges1", nil, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
	q.batch = 3
	p.first("ranges of 3 over batches of 1", q)
	q = p.group("ranges5", nil, 5, 5, 5, 5)
	q.batch = 7
	p.first("ranges of 7 over batches of 5", q)

	q = p.group("suspects", nil, 16, 8)
	for i := range 4 {
		p.first(fmt.Sprintf("given back %d times", i), q)
		end := q
		end.epoch, end.closing = -1, true
		p.fetch("close", end)
	}

	locks := map[string]string{"share.partition.max.record.locks": "100"}
	q = p.group("locks", locks, 60, 60, 60)
	q.max = 1000
	p.first("100 in flight, whole batches", q)
	q.epoch = 1
	p.fetch("more", q)
	q = p.group("strictlocks", locks, 60, 60, 60)
	q.max, q.strict = 1000, true
	p.first("100 in flight, strict", q)
	q.epoch++
	p.fetch("more, strict", q)
	q.epoch, q.acks = q.epoch+1, "10-50:1"
	p.ack("the middle", q)
	q.epoch, q.acks = q.epoch+1, ""
	p.fetch("after the middle", q)
	q.epoch, q.acks = q.epoch+1, "0-9:1"
	p.ack("the beginning", q)
	q.epoch, q.acks = q.epoch+1, ""
	p.fetch("after the beginning", q)

	q = p.group("deleted", nil, 5, 5)
	p.first("ten records", q)
	upTo := kadm.Offsets{}
	upTo.AddOffset("deleted", 0, 3, -1)
	if _, err := p.adm.DeleteRecords(context.Background(), upTo); err != nil {
		p.t.Fatal(err)
	}
	for i, s := range []string{"0-1:1", "2-4:1"} {
		q.epoch, q.acks = int32(1+i), s
		p.ack("accept deleted records "+s, q)
	}
	q.epoch, q.acks = 3, ""
	p.fetch("what is left", q)
}
