package network

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Requests wait for memory in the order of their arrival; one larger than everything still gets through.
func TestGateOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, false, Options{})
		defer r.stop()
		r.dial()
		synctest.Wait()
		c := r.s.snapshot(nil)[0]
		g := &gate{limit: 100}
		if g.acquire(c, 90, false) != nil || g.acquire(c, 1000, false) != nil {
			t.Fatal("room for both: one may go over the limit")
		}
		var order []int
		var mu sync.Mutex
		for i := range 5 {
			go func() {
				_ = g.acquire(c, 60, false)
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
			}()
			synctest.Wait()
		}
		g.release(90)
		synctest.Wait()
		if len(order) != 0 {
			t.Fatal("let in above the limit")
		}
		g.release(1000)
		synctest.Wait()
		if len(order) != 2 {
			t.Fatalf("%d got in, want 2", len(order))
		}
		// One that holds memory already comes before those that do not.
		go func() {
			_ = g.acquire(c, 10, true)
			mu.Lock()
			order = append(order, 99)
			mu.Unlock()
		}()
		synctest.Wait()
		for range 5 {
			g.release(60)
			synctest.Wait()
		}
		if order[0] > order[1] { // let in together
			order[0], order[1] = order[1], order[0]
		}
		for i, want := range []int{0, 1, 99, 2, 3, 4} {
			if order[i] != want {
				t.Fatalf("order %v", order)
			}
		}
		g.release(10)
		g.complete(c)
		if g.used.Load() != 0 || g.queue.Load() != 0 || g.over != nil {
			t.Fatalf("%d used, %d wait", g.used.Load(), g.queue.Load())
		}
	})
}

// Frames that arrive in steps and together fill the gate must not wait for each other for ever.
func TestGateHoldAndWait(t *testing.T) {
	const limit, frameBytes, conns = 1 << 20, 2 << 20, 20
	r := start(t, false, Options{MemoryBytes: limit})
	var wg sync.WaitGroup
	var peak atomic.Int64
	stop := make(chan struct{})
	watch := make(chan struct{})
	go func() {
		defer close(watch)
		for {
			peak.Store(max(peak.Load(), r.s.gate.used.Load()))
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Microsecond):
			}
		}
	}()
	for k := range conns {
		c := r.dial()
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(uint64(k), 1))
			for i := range 5 {
				body := bytes.Repeat([]byte{byte(k)}, frameBytes-rng.IntN(frameBytes/2))
				go c.send(frame(int32(i), body))
				c.want(int32(i), body)
			}
		}()
	}
	wg.Wait()
	close(stop)
	<-watch
	r.settled()
	// One frame may draw over the limit while the one before it is answered with as many bytes, which are charged before its own are let go.
	if p := peak.Load(); p > limit+3*frameBytes {
		t.Fatalf("%d bytes were charged at once", p)
	}
	if r.s.gate.waits.Load() == 0 {
		t.Fatal("nobody waited: the test shows nothing")
	}
}

// A client that announces a large frame and hangs, or leaves while it waits for memory, holds nothing in the end.
func TestGateGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parked := make(chan *Request, 10)
		r := start(t, false, Options{MemoryBytes: 1000, Dispatch: func(q *Request) { parked <- q }})
		defer r.stop()
		a, b, c := r.dial(), r.dial(), r.dial()
		a.send(frame(1, make([]byte, 2000)))
		synctest.Wait()
		b.send(frame(1, make([]byte, 500)))
		synctest.Wait()
		c.send(frame(1, make([]byte, 500)))
		synctest.Wait()
		if len(parked) != 1 || r.s.gate.queue.Load() != 2 {
			t.Fatalf("%d dispatched, %d wait", len(parked), r.s.gate.queue.Load())
		}
		<-time.After(5 * time.Minute) // waiting for the broker is nobody's fault
		if r.s.gate.queue.Load() != 2 {
			t.Fatal("a connection was closed because the broker was full")
		}
		for conn := range r.s.connsOf(b.LocalAddr().String()) {
			conn.Close(nil)
		}
		synctest.Wait()
		if r.s.gate.queue.Load() != 1 {
			t.Fatal("a closed connection still waits for memory")
		}
		echo(<-parked)
		go a.receive()
		echo(<-parked)
		c.want(1, make([]byte, 500))
		synctest.Wait()
		r.settled()
	})
}

func (s *Server) connsOf(remote string) map[*Conn]struct{} {
	m := map[*Conn]struct{}{}
	for _, c := range s.snapshot(nil) {
		if c.RemoteAddr().String() == remote {
			m[c] = struct{}{}
		}
	}
	return m
}

// What Estimate says is charged until the response is written.
func TestEstimate(t *testing.T) {
	parked := make(chan *Request, 1)
	r := start(t, false, Options{Dispatch: func(q *Request) { parked <- q }, Estimate: func(key, version int16, n int) int64 {
		if key != 3 || version != 1 || n != 114 {
			t.Errorf("estimate of %d, %d, %d", key, version, n)
		}
		return 5000
	}})
	c := r.dial()
	c.send(frame(1, make([]byte, 100)))
	q := <-parked
	if u := r.s.gate.used.Load(); u != 5000 {
		t.Fatalf("%d charged", u)
	}
	echo(q)
	c.want(1, make([]byte, 100))
	r.settled()
}
