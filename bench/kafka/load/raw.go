package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Produce is a raw produce load: ready-made requests, round robin over the partitions of a topic.
type Produce struct {
	Addr, Topic string
	Partitions  int
	RecordBytes int
	BatchBytes  int
	Codec       string
	Conns       int
	InFlight    int // requests on the way per connection
	Bytes       int64
	Limit       time.Duration
	PerSecond   float64 // requests a second over all connections; 0 is as fast as they are answered
}

// Result of a load.
type Result struct {
	Bytes    int64 // on the wire, requests or record bytes fetched
	Requests int64
	Took     time.Duration
	Latency  Histogram
}

// MBPerSecond in decimal megabytes.
func (r Result) MBPerSecond() float64 { return float64(r.Bytes) / 1e6 / r.Took.Seconds() }

// readFrame reads one response into buf, which grows as needed.
func readFrame(r *bufio.Reader, buf []byte) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return buf, err
	}
	n := int(binary.BigEndian.Uint32(size[:]))
	if n > 1<<30 {
		return buf, fmt.Errorf("response of %d bytes", n)
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	_, err := io.ReadFull(r, buf[:n])
	return buf[:n], err
}

// Run replays until Bytes are acknowledged or Limit is over. Latency is from the moment a request was due.
func (p Produce) Run(ctx context.Context) (Result, error) {
	batch, _, err := Batch(p.RecordBytes, p.BatchBytes, p.Codec, time.Now().UnixMilli())
	if err != nil {
		return Result{}, err
	}
	reqs := make([][]byte, p.Partitions)
	for i := range reqs {
		reqs[i] = produceFrame(p.Topic, int32(i), batch)
	}
	conns, err := dial(p.Addr, p.Conns)
	if err != nil {
		return Result{}, err
	}
	defer closeAll(conns)
	ctx, cancel := context.WithTimeout(ctx, p.Limit)
	defer cancel()
	w := &worker{Produce: p, reqs: reqs, most: max(p.Bytes/int64(len(batch)), 1), start: time.Now()}
	var wg sync.WaitGroup
	hists := make([]Histogram, len(conns))
	errs := make([]error, len(conns))
	for i, c := range conns {
		wg.Go(func() { errs[i] = w.connection(ctx, i, c, &hists[i]) })
	}
	wg.Wait()
	r := Result{Requests: w.acked.Load(), Took: time.Since(w.start)}
	r.Bytes = r.Requests * int64(len(batch))
	for i := range hists {
		r.Latency.Merge(&hists[i])
	}
	return r, errors.Join(errs...)
}

type worker struct {
	Produce
	reqs        [][]byte
	most        int64
	start       time.Time
	sent, acked atomic.Int64
}

// connection writes requests while fewer than InFlight are unanswered and reads the answers beside it.
func (w *worker) connection(ctx context.Context, i int, c net.Conn, h *Histogram) error {
	due := make(chan time.Time, w.InFlight)
	var writeErr error
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(due)
		writeErr = w.write(ctx, i, c, due)
	})
	r := bufio.NewReaderSize(c, 4096)
	var buf []byte
	var readErr error
	for t := range due {
		if readErr != nil {
			continue // drain, so that the writer ends
		}
		if buf, readErr = readFrame(r, buf); readErr == nil {
			if code := produceError(buf, w.Topic); code != 0 {
				readErr = fmt.Errorf("produce: %w", kerr.ErrorForCode(code))
			}
		}
		if readErr != nil {
			c.Close()
			continue
		}
		h.Add(time.Since(t))
		w.acked.Add(1)
	}
	wg.Wait()
	if readErr != nil {
		return readErr
	}
	return writeErr
}

func (w *worker) write(ctx context.Context, i int, c net.Conn, due chan<- time.Time) error {
	var every time.Duration
	next := time.Now()
	if w.PerSecond > 0 {
		every = time.Duration(float64(time.Second) * float64(w.Conns) / w.PerSecond)
		next = w.start.Add(every * time.Duration(i) / time.Duration(w.Conns))
	}
	for k := i; w.sent.Add(1) <= w.most && ctx.Err() == nil; k += w.Conns {
		at := time.Now()
		if every > 0 {
			if d := time.Until(next); d > 0 {
				time.Sleep(d)
			}
			at, next = next, next.Add(every)
		}
		due <- at
		if _, err := c.Write(w.reqs[k%len(w.reqs)]); err != nil {
			return err
		}
	}
	return nil
}

// Fetch is a raw catch-up read of a topic from its start to Bytes or its end.
type Fetch struct {
	Addr, Topic    string
	Partitions     int
	Conns          int
	PartitionBytes int // most bytes asked for in one request
	Bytes          int64
	Limit          time.Duration
}

// Run reads; the partitions are shared out over the connections.
func (f Fetch) Run(ctx context.Context) (Result, error) {
	conns, err := dial(f.Addr, f.Conns)
	if err != nil {
		return Result{}, err
	}
	defer closeAll(conns)
	ctx, cancel := context.WithTimeout(ctx, f.Limit)
	defer cancel()
	start := time.Now()
	var total, requests atomic.Int64
	hists := make([]Histogram, len(conns))
	errs := make([]error, len(conns))
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() {
			r := bufio.NewReaderSize(c, 64<<10)
			var buf []byte
			for p := i; p < f.Partitions && errs[i] == nil; p += len(conns) {
				for off := int64(0); ctx.Err() == nil && total.Load() < f.Bytes; {
					t := time.Now()
					var n int
					var next int64
					if buf, n, next, errs[i] = f.once(c, r, buf, int32(p), off); errs[i] != nil || n == 0 {
						break
					}
					hists[i].Add(time.Since(t))
					total.Add(int64(n))
					requests.Add(1)
					off = next
				}
			}
		})
	}
	wg.Wait()
	res := Result{Bytes: total.Load(), Requests: requests.Load(), Took: time.Since(start)}
	for i := range hists {
		res.Latency.Merge(&hists[i])
	}
	return res, errors.Join(errs...)
}

// once fetches one partition at off and returns the record bytes got and the offset after them.
func (f Fetch) once(c net.Conn, r *bufio.Reader, buf []byte, partition int32, off int64) ([]byte, int, int64, error) {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = 12, 1, 1, 50<<20, -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic = f.Topic
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.CurrentLeaderEpoch, p.PartitionMaxBytes = partition, off, -1, int32(f.PartitionBytes)
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	if _, err := c.Write(frame(req)); err != nil {
		return buf, 0, off, err
	}
	buf, err := readFrame(r, buf)
	if err != nil {
		return buf, 0, off, err
	}
	var resp kmsg.FetchResponse
	resp.Version = 12
	if err := resp.ReadFrom(buf[5:]); err != nil {
		return buf, 0, off, err
	}
	if resp.ErrorCode != 0 || len(resp.Topics) == 0 {
		return buf, 0, off, fmt.Errorf("fetch: %w, %d topics", kerr.ErrorForCode(resp.ErrorCode), len(resp.Topics))
	}
	got := resp.Topics[0].Partitions[0]
	if got.ErrorCode != 0 {
		return buf, 0, off, fmt.Errorf("fetch partition %d at %d: %w", partition, off, kerr.ErrorForCode(got.ErrorCode))
	}
	rb := got.RecordBatches
	n := len(rb)
	for len(rb) > 61 {
		size := int(binary.BigEndian.Uint32(rb[8:])) + 12
		if size > len(rb) {
			break
		}
		off = int64(binary.BigEndian.Uint64(rb)) + int64(binary.BigEndian.Uint32(rb[23:])) + 1
		rb = rb[size:]
	}
	return buf, n, off, nil
}

func dial(addr string, n int) ([]net.Conn, error) {
	var out []net.Conn
	for range n {
		c, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err != nil {
			closeAll(out)
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func closeAll(cs []net.Conn) {
	for _, c := range cs {
		c.Close()
	}
}

// FirstAck produces one small batch to the partition until it is acknowledged, retrying everything, and says when it was.
func FirstAck(ctx context.Context, addr, topic string, partition int32) (time.Time, error) {
	batch, _, err := Batch(100, 200, "none", time.Now().UnixMilli())
	if err != nil {
		return time.Time{}, err
	}
	req := produceFrame(topic, partition, batch)
	var last error
	for ctx.Err() == nil {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			last = err
			time.Sleep(time.Millisecond)
			continue
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		r := bufio.NewReaderSize(c, 512)
		for ctx.Err() == nil {
			if _, last = c.Write(req); last != nil {
				break
			}
			var buf []byte
			if buf, last = readFrame(r, nil); last != nil {
				break
			}
			code := produceError(buf, topic)
			if code == 0 {
				c.Close()
				return time.Now(), nil
			}
			last = kerr.ErrorForCode(code)
			time.Sleep(2 * time.Millisecond)
		}
		c.Close()
	}
	return time.Time{}, fmt.Errorf("no acknowledgement: %w", errors.Join(ctx.Err(), last))
}

// FirstMetadata waits until the broker names itself in a Metadata answer: the moment a client can begin.
func FirstMetadata(ctx context.Context, addr string) (time.Time, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 9
	req.Topics = []kmsg.MetadataRequestTopic{}
	b := frame(req)
	for ctx.Err() == nil {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.SetDeadline(time.Now().Add(10 * time.Second))
			var resp kmsg.MetadataResponse
			resp.Version = 9
			if _, err = c.Write(b); err == nil {
				var buf []byte
				if buf, err = readFrame(bufio.NewReaderSize(c, 512), nil); err == nil {
					err = resp.ReadFrom(buf[5:])
				}
			}
			c.Close()
			if err == nil && len(resp.Brokers) > 0 {
				return time.Now(), nil
			}
		}
		time.Sleep(time.Millisecond)
	}
	return time.Time{}, ctx.Err()
}

// Idle opens n connections, each set up with one request, and holds them until release is called.
func Idle(addr string, n int) (release func(), err error) {
	hello := []byte{0, 0, 0, 14, 0, 18, 0, 0, 0, 0, 0, 1, 0, 4, 'l', 'o', 'a', 'd'}
	var conns []net.Conn
	release = func() { closeAll(conns) }
	for i := range n {
		c, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err != nil {
			release()
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
		conns = append(conns, c)
		if _, err := c.Write(hello); err != nil {
			release()
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
		if _, err := readFrame(bufio.NewReaderSize(c, 512), nil); err != nil {
			release()
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
	}
	return release, nil
}
