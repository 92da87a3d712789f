package sharefetch

import (
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/log"
	"github.com/ottla/ottla/internal/record"
	"github.com/ottla/ottla/internal/share"
	"github.com/ottla/ottla/internal/wire"
)

// The headers of a dead letter (KIP-1191). Their values are text.
const (
	headerTopic     = "__dlq.errors.topic"
	headerPartition = "__dlq.errors.partition"
	headerOffset    = "__dlq.errors.offset"
	headerGroup     = "__dlq.errors.group"
	headerCount     = "__dlq.errors.delivery.count"
	headerMessage   = "__dlq.errors.message"
)

// Dead letters are tried again for as long as there is hope, slower each time. The records wait as Archiving meanwhile: a queue
// that stands still is better than a lost letter.
const (
	buryBackoff    = time.Second
	buryBackoffMax = 30 * time.Second
	letterBatch    = 500 << 10 // bytes of a batch of dead letters, where the topic takes as much
	lettersAtOnce  = 256       // offsets read at a time
)

// bury copies records to the group's dead-letter topic, then archives them.
func (m *Manager) bury(p *partition, l share.DeadLetter) {
	m.mu.Lock()
	closed := m.closed
	if !closed {
		m.running.Add(1)
	}
	m.mu.Unlock()
	if closed {
		return // the records are still Archiving when the broker starts again
	}
	go func() {
		defer m.running.Done()
		m.buryAll(p, l)
	}()
}

func (m *Manager) buryAll(p *partition, l share.DeadLetter) {
	backoff := buryBackoff
	for {
		settings := m.o.Settings(p.key.Group)
		err := error(errNoLetters)
		if settings.DeadLetterTopic != "" {
			l, err = m.buryOnce(p, l, settings)
		}
		var protocol *kerr.Error
		switch {
		case err == nil:
			m.metrics.letters.WithLabelValues("written").Add(float64(l.Last - l.First + 1))
			p.buried(l, true)
			return
		case !errors.As(err, &protocol):
			m.metrics.letters.WithLabelValues("dropped").Add(float64(l.Last - l.First + 1))
			m.o.Logger.Error("records cannot go to the dead-letter topic and are archived without",
				"group", p.key.Group, "partition", p.tp.String(), "first", l.First, "last", l.Last, "topic", settings.DeadLetterTopic, "error", err)
			p.buried(l, true)
			return
		}
		m.o.Logger.Warn("a dead letter could not be written; it is tried again", "group", p.key.Group, "partition", p.tp.String(), "first", l.First, "error", err)
		if !m.sleep(backoff) || p.failed() {
			p.buried(l, false)
			return
		}
		backoff = min(2*backoff, buryBackoffMax)
	}
}

var errNoLetters = errors.New("the group has no dead-letter topic any more")

// sleep waits; false where the manager closes.
func (m *Manager) sleep(d time.Duration) bool {
	t := m.o.Clock.NewTimer(min(d, buryBackoffMax))
	defer t.Stop()
	select {
	case <-t.C():
		return true
	case <-m.closing:
		return false
	}
}

// buryOnce writes what it can; what is left comes back, with the reason.
func (m *Manager) buryOnce(p *partition, l share.DeadLetter, s GroupSettings) (share.DeadLetter, error) {
	type ready struct {
		partitions int32
		maxBytes   int
		err        error
	}
	answer := make(chan ready, 1)
	m.o.DeadLetters.Prepare(p.key.Group, s.DeadLetterTopic, func(n int32, maxBytes int, err error) { answer <- ready{n, maxBytes, err} })
	got, err := wait(m, answer)
	if err == nil {
		err = got.err
	}
	if err != nil {
		return l, err
	}
	to := p.tp.Partition % got.partitions
	for l.First <= l.Last {
		batch, next, err := m.letters(p, l, s.CopyRecords, min(letterBatch, got.maxBytes))
		if err != nil {
			return l, err
		}
		if batch != nil {
			done := make(chan error, 1)
			m.o.DeadLetters.Append(s.DeadLetterTopic, to, batch, func(err error) { done <- err })
			appended, err := wait(m, done)
			if err == nil {
				err = appended
			}
			if err != nil {
				return l, err
			}
		}
		written := share.DeadLetter{First: l.First, Last: next - 1}
		l.First = next
		if l.First <= l.Last {
			p.archive(written)
			continue
		}
		l.First = written.First
		return l, nil
	}
	return l, nil
}

// wait waits for an answer, or for the manager's end.
func wait[T any](m *Manager, c <-chan T) (T, error) {
	select {
	case v := <-c:
		return v, nil
	case <-m.closing:
		var zero T
		return zero, errClosing
	}
}

// letters makes a batch of dead letters for the first records of l, and tells where the rest begins. A nil batch: there are none.
func (m *Manager) letters(p *partition, l share.DeadLetter, copies bool, maxBytes int) (batch []byte, next int64, err error) {
	last := min(l.Last, l.First+lettersAtOnce-1)
	now := m.now()
	b := record.NewBuilder(record.BuilderOptions{})
	next = last + 1
	full := false
	err = m.each(p, l.First, last, func(offset int64, r *record.Record) {
		if full {
			return
		}
		headers := headersOf(p, l, offset)
		var key, value []byte
		if copies && r != nil {
			for i := range r.Headers {
				headers = append(headers, record.RecordHeader{Key: r.Headers[i].Key, Value: r.Headers[i].Value})
			}
			key, value = r.Key, r.Value
		}
		size := record.RecordSize(key, value, headers)
		if record.HeaderSize+size > maxBytes { // the copy is too large for the topic: where it came from must do
			headers, key, value = headersOf(p, l, offset), nil, nil
			size = record.RecordSize(nil, nil, headers)
		}
		if b.Count() > 0 && b.Size()+size > maxBytes {
			full, next = true, offset
			return
		}
		b.Append(now, key, value, headers)
	})
	if err != nil || b.Count() == 0 {
		return nil, next, err
	}
	return b.Finish(), next, nil
}

func headersOf(p *partition, l share.DeadLetter, offset int64) []record.RecordHeader {
	h := func(k, v string) record.RecordHeader { return record.RecordHeader{Key: []byte(k), Value: []byte(v)} }
	return []record.RecordHeader{
		h(headerTopic, p.tp.Topic), h(headerPartition, strconv.Itoa(int(p.tp.Partition))), h(headerOffset, strconv.FormatInt(offset, 10)),
		h(headerGroup, p.key.Group), h(headerCount, strconv.Itoa(int(l.Count))), h(headerMessage, l.Cause.String()),
	}
}

// each calls fn with every record of [first, last] in order. Records that retention has taken since come as nil; offsets that never
// held one are left out.
func (m *Manager) each(p *partition, first, last int64, fn func(offset int64, r *record.Record)) error {
	p.mu.Lock()
	l := p.view.Log
	p.mu.Unlock()
	for ; first <= last && first < l.LogStartOffset(); first++ {
		fn(first, nil)
	}
	for first <= last {
		next, err := eachIn(l, first, last, fn)
		if err != nil {
			return err
		}
		if next <= first {
			return nil
		}
		first = next
	}
	return nil
}

// eachIn reads one stretch of the log and gives the offset behind it.
func eachIn(l *log.Log, first, last int64, fn func(offset int64, r *record.Record)) (next int64, err error) {
	s, err := l.Read(first, letterRead, l.HighWatermark(), true)
	if err != nil || s.Len() == 0 {
		s.Release()
		return 0, err
	}
	defer s.Release()
	buf := wire.GetBuffer(s.Len())
	defer buf.Release()
	if _, err := s.ReadAt(buf.Bytes()[:s.Len()], 0); err != nil && err != io.EOF {
		return 0, err
	}
	it := record.NewBatchIter(buf.Bytes()[:s.Len()])
	for next <= last {
		batch, h, ok, err := it.Next()
		if err != nil || !ok {
			return next, err
		}
		next = h.NextOffset()
		if h.IsControl() {
			continue
		}
		if err := record.Records(batch, limits, func(r *record.Record) error {
			if o := h.BaseOffset + int64(r.OffsetDelta); o >= first && o <= last {
				fn(o, r)
			}
			return nil
		}); err != nil {
			return next, err
		}
	}
	return next, nil
}

// letterRead is how much of the log is read at a time for dead letters.
const letterRead = 1 << 20

// archive ends the way of records whose dead letters are written.
func (p *partition) archive(l share.DeadLetter) {
	p.mu.Lock()
	if p.err == nil && p.state != nil {
		p.state.DeadLettered(l.First, l.Last, p.m.now())
	}
	p.unlock(nil)
}

// buried is the end of a dead letter; ok is false where it has to wait for another time.
func (p *partition) buried(l share.DeadLetter, ok bool) {
	p.mu.Lock()
	p.burying--
	p.mu.Unlock()
	if ok {
		p.archive(l)
	}
}

func (p *partition) failed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err != nil
}
