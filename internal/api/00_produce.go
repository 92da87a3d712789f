package api

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/config"
	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/network"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/replica"
	"github.com/ottla/ottla/internal/wire"
)

// Produce: v3-13.
//
// Ordered half: validate each partition's batch, append it. Parked half: answer when every partition's high watermark has
// passed what was appended (acks=all), or this broker's disk has it (acks=1), or the timeout has passed.
// acks=0 has no answer; an error closes the connection, which is all the client can notice.
// v7: zstd. v8: record errors and messages. v13: topics by id (KIP-516).

const produceKey = 0

// produceCall is one request under way; pooled, because this is the hot path.
type produceCall struct {
	Call
	req     wire.ProduceRequest
	resp    wire.ProduceResponse
	waiting []appended  // partitions whose commit the answer waits for
	txn     *produceTxn // what is known of the transaction's partitions
}

// appended is a partition that has been appended to: where its answer stands and up to where it must commit.
type appended struct {
	part             *replica.Partition
	upTo             int64
	topic, partition int
}

// ownDiskWait is how long this broker's own disk may take whatever the request's timeout says: Kafka's timeout bounds the wait for
// other replicas, and a client that allows none still wants its record on the leader.
const ownDiskWait = 2 * time.Second

var produceCalls = sync.Pool{New: func() any { return new(produceCall) }}

func produce(s *Server, r *network.Request) error {
	c := produceCalls.Get().(*produceCall)
	c.Call = Call{Server: s, Req: r, Version: r.Header.Version}
	if err := c.req.Decode(c.Version, r.Body); err != nil {
		c.release()
		return err
	}
	if c.req.TransactionalID != nil && c.verify() {
		return nil
	}
	c.proceed()
	return nil
}

// proceed appends, and answers once that is committed.
func (c *produceCall) proceed() {
	failed := c.appendAll()
	if c.txn != nil {
		c.txn.end()
	}
	if c.req.Acks == 0 {
		c.noAnswer(failed)
		return
	}
	if len(c.waiting) == 0 {
		c.answer(nil)
		return
	}
	waiting := c.waiting
	delayed := c.Replicas.DelayProduce(len(waiting), c.answer)
	for i := range waiting {
		if c.req.Acks == 1 {
			waiting[i].part.WaitLocal(waiting[i].upTo, delayed, i)
		} else {
			waiting[i].part.Wait(waiting[i].upTo, delayed, i)
		}
	}
	delayed.Arm(max(time.Duration(c.req.TimeoutMs)*time.Millisecond, ownDiskWait))
}

// appendAll appends every partition and prepares its answer. It returns the first error.
func (c *produceCall) appendAll() (failed error) {
	img, now := c.Image(), c.Clock.Now().UnixMilli()
	c.resp.Topics = c.resp.Topics[:0]
	for i := range c.req.Topics {
		t := &c.req.Topics[i]
		topic := c.topic(img, t)
		var opts record.ValidateOptions
		if topic != nil {
			opts = c.validation(topic, now)
		}
		c.resp.Topics = append(c.resp.Topics, wire.ProduceTopicResponse{Name: t.Name, TopicID: t.TopicID, Partitions: make([]wire.ProducePartitionResponse, len(t.Partitions))})
		for j := range t.Partitions {
			out := &c.resp.Topics[i].Partitions[j]
			*out = wire.ProducePartitionResponse{Index: t.Partitions[j].Index, BaseOffset: -1, LogAppendTimeMs: -1, LogStartOffset: -1}
			if err := c.appendOne(topic, &t.Partitions[j], opts, out, i, j); err != nil {
				out.ErrorCode = wire.CodeOf(err)
				if out.ErrorCode != 0 {
					out.ErrorMessage = wire.MessageOf(err)
				}
				failed = err
			}
		}
	}
	return failed
}

func (c *produceCall) topic(img *metadata.Image, t *wire.ProduceTopic) *metadata.Topic {
	if c.Version >= 13 {
		return img.TopicByID(t.TopicID)
	}
	return img.Topic(t.Name)
}

// validation is what the topic's settings ask of a batch.
func (c *produceCall) validation(topic *metadata.Topic, now int64) record.ValidateOptions {
	v := c.TopicValues(topic.Name)
	o := record.ValidateOptions{
		Origin: record.Client, Now: now, RefuseZstd: c.Version < 7, Where: topic.Name,
		BeforeMaxMs: config.TopicMessageTimestampBeforeMaxMs.Get(v), AfterMaxMs: config.TopicMessageTimestampAfterMaxMs.Get(v),
		MaxMessageBytes: int32(config.TopicMaxMessageBytes.Get(v)),
		Compacted:       compacted(v),
	}
	if config.TopicMessageTimestampType.Get(v) == "LogAppendTime" {
		o.TimestampType = record.LogAppendTime
	}
	o.Target, _ = record.ParseTarget(config.TopicCompressionType.Get(v))
	switch o.Target {
	case record.TargetGzip:
		o.Level = int(config.TopicCompressionGzipLevel.Get(v))
	case record.TargetLZ4:
		o.Level = int(config.TopicCompressionLZ4Level.Get(v))
	case record.TargetZstd:
		o.Level = int(config.TopicCompressionZstdLevel.Get(v))
	}
	o.FullInner = config.TopicRecordValidation.Get(v) == "full"
	return o
}

func compacted(v *config.Values) bool {
	for _, p := range config.TopicCleanupPolicy.Get(v) {
		if p == "compact" {
			return true
		}
	}
	return false
}

func (c *produceCall) appendOne(topic *metadata.Topic, p *wire.ProducePartition, opts record.ValidateOptions, out *wire.ProducePartitionResponse, i, j int) error {
	if c.req.Acks < -1 || c.req.Acks > 1 {
		return kerr.InvalidRequiredAcks
	}
	if topic == nil {
		if c.Version >= 13 {
			return kerr.UnknownTopicID
		}
		return kerr.UnknownTopicOrPartition
	}
	if controller.IsInternal(topic.Name) && (c.req.TransactionalID == nil) {
		return wire.Errorf(kerr.InvalidTopicException, "%s is written by the broker only", topic.Name)
	}
	if h, err := record.ParseHeader(p.Records); err == nil && h.IsTransactional() {
		if c.req.TransactionalID == nil {
			return wire.Errorf(kerr.TransactionalIDAuthorizationFailed, "a transactional batch for %s-%d came in a request without a transactional id", topic.Name, p.Index)
		}
	}
	part, err := c.Replicas.Get(log.TopicPartition{Topic: topic.Name, Partition: p.Index})
	if err != nil {
		return err
	}
	if c.req.Acks == -1 {
		if err := part.EnoughInSync(); err != nil {
			return err
		}
	}
	res, err := record.Validate(p.Records, opts)
	if err != nil {
		if res.KnowsLogStart {
			if l, lerr := part.Log(); lerr == nil {
				out.LogStartOffset = l.LogStartOffset()
			}
		}
		for _, re := range res.RecordErrors {
			out.RecordErrors = append(out.RecordErrors, wire.RecordError{BatchIndex: re.Index, Message: &re.Message})
		}
		return err
	}
	owner := c.Req.Buffer
	if res.Rewritten {
		owner = nil
	}
	o := log.AppendOptions{Origin: log.Client, Now: opts.Now, Owner: owner}
	if c.txn != nil {
		if err := c.txn.allow(part.TopicPartition(), &o); err != nil {
			return err
		}
	}
	info, err := part.Append(res.Batches, o)
	if err != nil {
		out.LogStartOffset = info.LogStartOffset
		return err
	}
	out.BaseOffset, out.LogAppendTimeMs, out.LogStartOffset = info.FirstOffset, info.LogAppendTime, info.LogStartOffset
	c.waiting = append(c.waiting, appended{part: part, upTo: info.LastOffset + 1, topic: i, partition: j})
	return nil
}

// answer runs once everything is committed, or has failed to be.
func (c *produceCall) answer(errs []error) {
	for i, err := range errs {
		if err == nil {
			continue
		}
		out := &c.resp.Topics[c.waiting[i].topic].Partitions[c.waiting[i].partition]
		*out = wire.ProducePartitionResponse{Index: out.Index, ErrorCode: wire.CodeOf(err), ErrorMessage: wire.MessageOf(err), BaseOffset: -1, LogAppendTimeMs: -1, LogStartOffset: -1}
	}
	o := c.Req.Begin()
	o.B = c.resp.Append(o.B, c.Version)
	c.Req.Send(o)
	c.release()
}

func (c *produceCall) noAnswer(failed error) {
	if failed != nil {
		c.Req.CloseConn(fmt.Errorf("a produce with acks=0 failed, and closing the connection is the only way to tell: %w", failed))
	} else {
		c.Req.NoResponse()
	}
	c.release()
}

func (c *produceCall) release() {
	clear(c.waiting)
	c.waiting = c.waiting[:0]
	c.req.Reset()
	c.txn = nil
	c.Call = Call{}
	if cap(c.waiting) <= math.MaxInt16 {
		produceCalls.Put(c)
	}
}
