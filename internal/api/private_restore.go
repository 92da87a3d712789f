package api

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/internal/controller"
	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/network"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/replica"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/private"
	"github.com/ottla/ottla/internal/wire/schema"
)

// The three messages of backup and restore: export the metadata, bring it back, append batches as they were.

// tool makes a row's handler for a message of Ottla's own tools.
func tool[Q any, P interface {
	*Q
	kmsg.Request
}](h func(c *Call, q P)) func(s *Server, r *network.Request) error {
	return func(s *Server, r *network.Request) error {
		q := P(new(Q))
		if err := q.ReadFrom(r.Body); err != nil {
			return fmt.Errorf("%w: key %d, %d bytes", err, r.Header.Key, len(r.Body))
		}
		h(&Call{Server: s, Req: r, Version: r.Header.Version}, q)
		return nil
	}
}

func exportMetadata(c *Call, _ *private.ExportMetadataRequest) {
	img := c.Image()
	resp := &private.ExportMetadataResponse{ClusterID: img.ClusterID(), Offset: img.Offset()}
	for r := range img.Records {
		frame, err := schema.AppendMetadataRecord(nil, r.Message, r.Version)
		if err != nil {
			c.Reply(&private.ExportMetadataResponse{ErrorCode: kerr.UnknownServerError.Code, Message: err.Error()})
			return
		}
		resp.Records = append(resp.Records, frame)
	}
	c.Reply(resp)
}

func restoreMetadata(c *Call, q *private.RestoreMetadataRequest) {
	for i := range q.Records { // the request's buffer is gone when the controller runs
		q.Records[i] = append([]byte(nil), q.Records[i]...)
	}
	propose(c, "restore", func(ctl *controller.Controller, img *metadata.Image, env controller.Env) (controller.Records, *private.RestoreMetadataResponse) {
		records, err := ctl.Restore(img, q, env)
		if err != nil {
			return nil, restoreFailed(err)
		}
		return records, &private.RestoreMetadataResponse{}
	}, restoreFailed)
}

func restoreFailed(err error) *private.RestoreMetadataResponse {
	return &private.RestoreMetadataResponse{ErrorCode: wire.CodeOf(err), Message: errorText(err)}
}

func errorText(err error) string {
	if msg := wire.MessageOf(err); msg != nil {
		return *msg
	}
	return err.Error()
}

func appendRestored(c *Call, q *private.AppendRestoredRequest) {
	fail := func(err error) {
		c.Reply(&private.AppendRestoredResponse{ErrorCode: wire.CodeOf(err), Message: errorText(err), LogStart: -1, LogEnd: -1})
	}
	part, err := c.Replicas.Get(log.TopicPartition{Topic: q.Topic, Partition: q.Partition})
	if err != nil {
		fail(err)
		return
	}
	l, err := part.Log()
	if err == nil {
		err = c.writeRestored(part, l, q)
	}
	if err != nil {
		fail(err)
		return
	}
	w := &restoredWait{c: c, part: part, start: q.Start}
	if end := l.LogEnd().Offset; l.HighWatermark().Offset < end {
		part.Wait(end, w, 0)
		return
	}
	w.Committed(0, nil) // also where the log has just been made to begin at another offset, which nobody announces
}

// writeRestored appends what of the request is not in the log yet.
func (c *Call) writeRestored(part *replica.Partition, l *log.Log, q *private.AppendRestoredRequest) error {
	if end := l.LogEnd().Offset; q.Begin >= 0 && end != q.Begin && end == l.LogStartOffset() {
		if err := part.BeginAt(q.Begin); err != nil {
			return err
		}
	}
	batches, end := q.Batches, l.LogEnd().Offset
	it := record.NewBatchIter(q.Batches)
	for {
		batch, h, ok, err := it.Next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if !record.CheckCRC(batch) {
			return wire.Errorf(kerr.CorruptMessage, "the batch at offset %d does not match its checksum", h.BaseOffset)
		}
		if h.BaseOffset < end {
			batches = q.Batches[it.Pos():]
		}
	}
	if it.Pos() != len(q.Batches) {
		return wire.Errorf(kerr.InvalidRequest, "%d bytes are no whole batches", len(q.Batches))
	}
	if len(batches) == 0 {
		return nil
	}
	return part.AppendRestored(batches, log.AppendOptions{Now: c.Clock.Now().UnixMilli()})
}

// restoredWait answers once what was appended is committed.
type restoredWait struct {
	c     *Call
	part  *replica.Partition
	start int64
}

// Committed implements replica.Waiter.
func (w *restoredWait) Committed(_ int, err error) {
	l, logErr := w.part.Log()
	if err == nil {
		err = logErr
	}
	if err == nil && w.start > l.LogStartOffset() {
		_, err = l.DeleteRecords(w.start)
	}
	if err != nil {
		w.c.Reply(&private.AppendRestoredResponse{ErrorCode: wire.CodeOf(err), Message: errorText(err), LogStart: -1, LogEnd: -1})
		return
	}
	w.c.Reply(&private.AppendRestoredResponse{LogStart: l.LogStartOffset(), LogEnd: l.LogEnd().Offset})
}
