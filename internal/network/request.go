package network

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/ottla/ottla/internal/wire"
)

// Dispatch handles a request. It is called in the order of the connection, on the goroutine that reads it, and must not
// wait: what has to wait keeps r and answers later. Each request is to be answered exactly once, by one of Respond, Send,
// NoResponse and CloseConn, also where its connection has been closed meanwhile.
type Dispatch func(r *Request)

// Estimate says how much memory handling a request will take in all, in bytes, the frame included. It is charged to the gate
// until the response has been written. A value below frameBytes counts as frameBytes.
type Estimate func(key, version int16, frameBytes int) int64

// Body is what a response is made of; kmsg's responses are.
type Body interface{ AppendTo(dst []byte) []byte }

// Request is one request of a connection.
type Request struct {
	Conn   *Conn
	Header wire.RequestHeader
	// Body follows the header. It belongs to Buffer: after the answer it may be read no more, unless Buffer was retained.
	Body     []byte
	Buffer   *wire.Buffer
	Received time.Time // when the frame was complete

	next        *Request // in the connection's list
	out         *Out     // the answer; nil where there is none to write
	closing     error    // close the connection when this request's turn comes
	answered    bool     // guarded by Conn.mu
	bytes       int64    // size of the frame
	frame       int64    // bytes charged to the gate until the answer
	extra       int64    // bytes charged to the gate until the answer is written
	answerBytes int64    // of the encoded response
	forced      int64    // of those, what is charged to the gate beyond extra until the answer is written
}

// Respond answers with a response of the request's version.
func (r *Request) Respond(body Body) {
	o := r.Begin()
	if r.encode(o, body) {
		r.Send(o)
	}
}

// encode turns a panic of the encoder into the end of the connection: the answer may be given by a goroutine that serves all.
func (r *Request) encode(o *Out, body Body) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			o.discard()
			r.finish(nil, &panicError{value: p, stack: debug.Stack()})
		}
	}()
	o.B = body.AppendTo(o.B)
	return true
}

// Begin starts a response: o.B holds the size prefix and the response header, the body is to be appended to it. Each Begin is
// followed by one Send or Discard.
func (r *Request) Begin() *Out {
	o := r.Conn.srv.getOut()
	o.B = wire.BeginFrame(o.B[:0], r.Header.Key, r.Header.Version, r.Header.CorrelationID)
	return o
}

// Send answers with o, which is no longer the caller's.
func (r *Request) Send(o *Out) {
	var extra int64
	for _, g := range o.regions {
		extra += int64(g.region.Len())
	}
	if size := int64(len(o.B)-wire.FrameSizeBytes) + extra; size > maxFrame {
		o.discard()
		r.finish(nil, fmt.Errorf("the response of %d bytes is larger than a frame can be; this is a fault of the broker", size))
		return
	}
	wire.EndFrame(o.B, 0, extra)
	o.size = int64(len(o.B)) + extra
	r.answerBytes = int64(len(o.B))
	r.finish(o, nil)
}

// maxFrame is the largest size that a frame's prefix can say.
const maxFrame = 1<<31 - 1

// NoResponse ends a request that has no response (Produce with acks=0).
func (r *Request) NoResponse() { r.finish(nil, nil) }

// CloseConn ends the request by closing the connection once the requests before it have been answered. err says why; it
// stands in the log.
func (r *Request) CloseConn(err error) {
	if err == nil {
		err = errors.New("closed by its request's handler")
	}
	r.finish(nil, err)
}

// finish records the answer and sees to its writing.
func (r *Request) finish(o *Out, closing error) {
	c := r.Conn
	c.mu.Lock()
	if r.answered {
		c.mu.Unlock()
		if o != nil {
			o.discard()
		}
		c.close(reasonBug, fmt.Errorf("BUG: request with API key %d, version %d was answered twice", r.Header.Key, r.Header.Version))
		return
	}
	r.answered, r.out, r.closing = true, o, closing
	// A response can be far larger than its request: from here on it is what the connection and the memory gate are charged.
	over := max(0, r.answerBytes-r.extra)
	r.forced = over
	r.bytes += over
	c.inFlightBytes += over
	buffer, frame := r.Buffer, r.frame
	r.frame = 0
	c.noMore = c.noMore || closing != nil
	closed := c.closed
	write := c.claimWriter()
	if write {
		c.srv.wg.Add(1) // under the lock: the connection's reader, which the server waits for, cannot have ended before
	}
	c.mu.Unlock()

	buffer.Release()
	c.srv.gate.force(over)
	c.srv.gate.release(frame)
	if closed {
		r.drop()
		return
	}
	if write {
		go c.drainInBackground()
	}
}

// abandon ends a request whose handler has panicked, if it was not answered. Its buffer is left to the garbage collector:
// nobody knows who still reads it.
func (r *Request) abandon() {
	c := r.Conn
	c.mu.Lock()
	answered := r.answered
	r.answered = true
	c.mu.Unlock()
	if !answered {
		c.srv.gate.release(r.frame)
		r.drop()
	}
}

// drop gives up what an answer holds that will not be written. REQUIRES: answered, and no longer in the list.
func (r *Request) drop() {
	if r.out != nil {
		r.out.discard()
		r.out = nil
	}
	r.Conn.srv.gate.release(r.extra)
	r.Conn.srv.gate.unforce(r.forced)
	r.extra, r.forced = 0, 0
	r.Conn.srv.m.inFlight.Add(-1)
}

// Region is a stretch of bytes that a response carries without encoding it, mostly of a log segment.
type Region interface {
	Len() int
	// Range gives the file that holds the bytes and where they lie, for sendfile; a nil file where there is none.
	Range() (f *os.File, off int64, n int64)
	// ReadAt reads from the region's own start, as io.ReaderAt does.
	ReadAt(p []byte, off int64) (int, error)
	// Release is called once, when the bytes have been written or will not be.
	Release()
}

// Out is a response being made: bytes, with regions in between.
type Out struct {
	B       []byte
	srv     *Server
	regions []placed
	size    int64
}

type placed struct {
	at     int // the region follows B[:at]
	region Region
}

// Add puts a region behind what B holds.
func (o *Out) Add(g Region) { o.Insert(len(o.B), g) }

// Insert puts a region between B[:at] and B[at:]. Positions never descend from one call to the next. g is Out's from here.
func (o *Out) Insert(at int, g Region) { o.regions = append(o.regions, placed{at: at, region: g}) }

// Discard gives up a response that is not to be sent; its request is still to be answered.
func (o *Out) Discard() { o.discard() }

func (o *Out) discard() {
	for i := range o.regions {
		o.regions[i].region.Release()
		o.regions[i] = placed{}
	}
	o.regions, o.size = o.regions[:0], 0
	o.srv.putOut(o)
}

// outBytesMax is the largest response buffer that is kept for reuse.
const outBytesMax = 1 << 20

func (s *Server) getOut() *Out { return s.outs.Get().(*Out) }

func (s *Server) putOut(o *Out) {
	if cap(o.B) > outBytesMax {
		return
	}
	s.outs.Put(o)
}
