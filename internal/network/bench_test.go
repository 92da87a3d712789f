package network

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
)

// BenchmarkEcho is the cost of a request of 100 bytes over loopback TCP, both ends in this process.
func BenchmarkEcho(b *testing.B) {
	for _, async := range []bool{false, true} {
		for _, tc := range []struct{ conns, inFlight int }{{1, 1}, {16, 5}, {256, 1}} {
			b.Run(fmt.Sprintf("conns=%d/inflight=%d/async=%v", tc.conns, tc.inFlight, async), func(b *testing.B) {
				benchEcho(b, tc.conns, tc.inFlight, async)
			})
		}
	}
}

func benchEcho(b *testing.B, conns, inFlight int, async bool) {
	body := rawBody(make([]byte, 100))
	answers := make(chan *Request, 4096)
	var commit sync.WaitGroup
	dispatch := func(q *Request) { q.Respond(&body) }
	if async { // as a commit thread answers
		dispatch = func(q *Request) { answers <- q }
		commit.Add(1)
		go func() {
			defer commit.Done()
			for q := range answers {
				q.Respond(&body)
			}
		}()
	}
	r := start(b, true, Options{Dispatch: dispatch})
	req := frame(1, make([]byte, 100))
	var wg sync.WaitGroup
	work := make([]net.Conn, conns)
	for i := range work {
		work[i] = r.dial().Conn
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i, nc := range work {
		wg.Add(1)
		go func() {
			defer wg.Done()
			n := b.N / conns
			if i < b.N%conns {
				n++
			}
			in := make([]byte, 108)
			sent := 0
			for got := 0; got < n; got++ {
				for ; sent < n && sent < got+inFlight; sent++ {
					if _, err := nc.Write(req); err != nil {
						b.Error(err)
						return
					}
				}
				if _, err := io.ReadFull(nc, in); err != nil {
					b.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	b.StopTimer()
	r.stop()
	close(answers)
	commit.Wait()
}

// A request costs two allocations at most in this package, both directions.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's pools forget on purpose")
	}
	body := rawBody(make([]byte, 100))
	parked := make(chan *Request, 1)
	for name, dispatch := range map[string]Dispatch{"answered at once": func(q *Request) { q.Respond(&body) }, "answered later": func(q *Request) { parked <- q }} {
		r := start(t, true, Options{Dispatch: dispatch})
		c := r.dial()
		req, in := frame(1, body), make([]byte, 108)
		n := testing.AllocsPerRun(500, func() {
			if _, err := c.Write(req); err != nil {
				t.Fatal(err)
			}
			if name == "answered later" {
				(<-parked).Respond(&body)
			}
			if _, err := io.ReadFull(c.Conn, in); err != nil {
				t.Fatal(err)
			}
		})
		if n > 2 {
			t.Errorf("%s: %.1f allocations a request", name, n)
		}
		t.Logf("%s: %.1f", name, n)
	}
}
