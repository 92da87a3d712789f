package network

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func both(t *testing.T, f func(t *testing.T, tcp bool)) {
	t.Run("memory", func(t *testing.T) { f(t, false) })
	t.Run("tcp", func(t *testing.T) { f(t, true) })
}

func TestEcho(t *testing.T) {
	both(t, func(t *testing.T, tcp bool) {
		r := start(t, tcp, Options{})
		c := r.dial()
		for i, n := range []int{0, 1, 100, windowBytes - 20, windowBytes, 70_000, 300_000, 3 << 20, 200_000, 17} {
			body := bytes.Repeat([]byte{byte(i + 1)}, n)
			go c.send(frame(int32(i), body))
			c.want(int32(i), body)
		}
		r.settled()
	})
}

func TestHeader(t *testing.T) {
	got := make(chan Request, 1)
	r := start(t, false, Options{Dispatch: func(r *Request) {
		got <- *r
		r.Conn.SetClientSoftware("x", "1")
		r.Conn.SetPrincipal("me")
		r.NoResponse()
	}})
	c := r.dial()
	c.send(frameOf(3, 9, 77, []byte{0 /* no tags */, 42}))
	q := <-got
	if q.Header.Key != 3 || q.Header.Version != 9 || q.Header.CorrelationID != 77 || *q.Header.ClientID != "test" || len(q.Body) != 1 {
		t.Fatalf("%+v", q.Header)
	}
	cn := q.Conn
	if cn.ListenerName() != "PLAINTEXT" || cn.Protocol() != Plaintext || cn.LocalAddr().String() != "127.0.0.1:9092" || cn.RemoteAddr().String() != c.LocalAddr().String() || cn.ID() == 0 {
		t.Fatalf("%v %v %v", cn.ListenerName(), cn.LocalAddr(), cn.RemoteAddr())
	}
	eventually(t, "the handler's notes", func() bool { n, v := cn.ClientSoftware(); return n == "x" && v == "1" && cn.Principal() == "me" })
	c.Close()
	<-cn.Context().Done()
}

// The recorded facts of Apache Kafka: these bytes end the connection without an answer.
func TestGoldenFrames(t *testing.T) {
	known := func(r *Request) {
		h := r.Header
		switch {
		case h.Key == 3 && h.Version <= 13, h.Key == 18, h.Key == 16 && h.Version <= 5:
			var n int32
			for _, b := range r.Body[:min(4, len(r.Body))] {
				n = n<<8 | int32(b)
			}
			if h.Key == 3 && int(n) > len(r.Body) {
				r.CloseConn(errors.New("malformed body"))
				return
			}
			echo(r)
		default:
			r.CloseConn(fmt.Errorf("API key %d, version %d is not supported", h.Key, h.Version))
		}
	}
	r := start(t, false, Options{Dispatch: known})
	for name, raw := range map[string]string{
		"negative_size":             "ffffffff",
		"zero_size":                 "00000000",
		"oversize":                  "06400001",
		"negative_api_key":          "0000000bffff000000000005000178",
		"unknown_api_key":           "0000000b270f000000000005000178",
		"removed_api_4":             "0000000b0004000000000005000178",
		"controller_only_api":       "0000000d00340000000000050001780000",
		"envelope_on_broker":        "0000000f003a00000000000500017800000000",
		"metadata_version_too_high": "0000000f000300630000000500017800000000",
		"fetch_v3_removed":          "0000000f000100030000000500017800000000",
		"produce_v2_removed":        "00000015000000020000000500017800010000000000000000",
		"truncated_header":          "00000003000300",
		"array_length_bogus":        "0000000f00030001000000050001787fffffff",
	} {
		b, err := hex.DecodeString(raw)
		if err != nil {
			t.Fatal(err)
		}
		before := r.log.String()
		c := r.dial()
		c.send(b)
		c.wantClosed()
		eventually(t, name+" is in the log, or the log is full", func() bool {
			return len(r.log.String()) > len(before) || r.s.log.full(reasonRequest) || r.s.log.full(reasonMalformed)
		})
	}
	// A frame of the largest size whose body does not come keeps the connection open, and costs next to nothing.
	c := r.dial()
	c.send([]byte{0x06, 0x40, 0, 0})
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	var ne net.Error
	if _, err := c.Read(make([]byte, 1)); !errors.As(err, &ne) || !ne.Timeout() {
		t.Fatalf("at_limit_incomplete: %v", err)
	}
	if used := r.s.gate.used.Load(); used > stepBytes {
		t.Fatalf("an announced frame was charged %d bytes", used)
	}
	// Three requests without waiting, answered in order.
	c = r.dial()
	c.send(append(append(frame(0, nil), frameOf(18, 0, 1, nil)...), frameOf(16, 3, 2, []byte{0})...))
	for i := range int32(3) {
		if corr, _, err := c.receive(); corr != i || err != nil {
			t.Fatalf("pipelining_order: %d, %v", corr, err)
		}
	}
}

func TestForeignProtocols(t *testing.T) {
	both(t, func(t *testing.T, tcp bool) {
		r := start(t, tcp, Options{})
		for _, method := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST /topics HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"} {
			c := r.dial()
			c.send([]byte(method))
			b, err := io.ReadAll(c)
			if err != nil || !bytes.HasPrefix(b, []byte("HTTP/1.1 400 ")) || !bytes.Contains(b, []byte("Kafka port")) {
				t.Fatalf("%q, %v", b, err)
			}
			c.Close()
		}
		c := r.dial()
		c.send([]byte{0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00})
		if b, err := io.ReadAll(c); err != nil || len(b) != 7 || b[0] != 0x15 {
			t.Fatalf("%x, %v", b, err)
		}
		c.Close()
		eventually(t, "log lines", func() bool {
			l := r.log.String()
			return strings.Contains(l, "HTTP request on the Kafka listener PLAINTEXT") && strings.Contains(l, "security.protocol to PLAINTEXT") && strings.Contains(l, c.LocalAddr().String())
		})
	})
}

// Responses leave in the order of the requests, in whatever order and on whatever goroutine they are answered.
func TestPipeliningOrder(t *testing.T) {
	both(t, func(t *testing.T, tcp bool) {
		var mu sync.Mutex
		var parked []*Request
		rng := rand.New(rand.NewPCG(1, 2))
		var wg sync.WaitGroup
		answer := func(n int) {
			for ; n > 0 && len(parked) > 0; n-- {
				i := rng.IntN(len(parked))
				q := parked[i]
				parked = append(parked[:i], parked[i+1:]...)
				wg.Add(1)
				go func() { defer wg.Done(); echo(q) }()
			}
		}
		r := start(t, tcp, Options{MaxInFlight: 50, Dispatch: func(q *Request) {
			mu.Lock()
			defer mu.Unlock()
			switch rng.IntN(4) {
			case 0:
				echo(q)
			case 1:
				q.NoResponse()
			default:
				parked = append(parked, q)
			}
			if len(parked) >= 40 || rng.IntN(3) == 0 {
				answer(1 + rng.IntN(40))
			}
		}})
		c := r.dial()
		const n = 3000
		go func() {
			for i := range n {
				if _, err := c.Write(frame(int32(i), bytes.Repeat([]byte{byte(i)}, i%200))); err != nil {
					return
				}
			}
			for r.s.m.inFlight.Load() > 0 || r.s.m.requests.Load() < n {
				mu.Lock()
				answer(10)
				mu.Unlock()
				<-time.After(time.Millisecond)
			}
			_ = c.Conn.(interface{ CloseWrite() error }).CloseWrite()
		}()
		last, got := int32(-1), 0
		for {
			corr, body, err := c.receive()
			if err != nil {
				break
			}
			if corr <= last || len(body) != int(corr)%200 {
				t.Fatalf("response %d after %d", corr, last)
			}
			last = corr
			got++
		}
		if got < n/2 {
			t.Fatalf("%d responses", got)
		}
		wg.Wait()
		r.settled()
	})
}

// A connection with too many requests in flight is read no further.
func TestInFlightBound(t *testing.T) {
	var parked []*Request
	var mu sync.Mutex
	r := start(t, false, Options{MaxInFlight: 5, Dispatch: func(q *Request) { mu.Lock(); parked = append(parked, q); mu.Unlock() }})
	c := r.dial()
	for i := range 20 {
		c.send(frame(int32(i), nil))
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(parked) }
	eventually(t, "five dispatched", func() bool { return count() == 5 })
	for i := range 20 {
		eventually(t, "the next is dispatched", func() bool { return count() > i })
		if n := count(); n > i+5 {
			t.Fatalf("%d dispatched with %d answered", n, i)
		}
		mu.Lock()
		q := parked[i]
		mu.Unlock()
		echo(q)
		c.want(int32(i), nil)
	}
	r.settled()
}

func TestSlowClients(t *testing.T) {
	whole := frame(1, make([]byte, 1000))
	big := frame(1, make([]byte, 3<<20))
	for name, tc := range map[string]struct {
		sent []byte
		want string
	}{
		"two bytes of a size": {whole[:2], "slow_sender"},
		"half a frame":        {whole[:500], "slow_sender"},
		"half a large frame":  {big[:1<<20], "slow_sender"},
		"a huge frame's size": {[]byte{0x06, 0x40, 0, 0, 1}, "slow_sender"},
		"nothing":             {nil, "idle"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, false, Options{})
				defer r.stop()
				c := r.dial()
				began := time.Now()
				c.send(tc.sent)
				c.wantClosed()
				synctest.Wait()
				if took := time.Since(began); took < 30*time.Second || tc.want != "idle" && took > 3*time.Minute || took > 11*time.Minute {
					t.Fatalf("closed after %v", took)
				}
				if !strings.Contains(r.log.String(), "reason="+tc.want) {
					t.Fatal(r.log.String())
				}
				r.settled()
			})
		})
	}
}

// A sender that drips bytes for ever is closed although it always makes progress.
func TestSlowLoris(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, false, Options{})
		defer r.stop()
		c := r.dial()
		whole := frame(1, make([]byte, 100_000))
		began := time.Now()
		for i := range whole {
			if _, err := c.Write(whole[i : i+1]); err != nil {
				break
			}
			<-time.After(time.Second)
		}
		if took := time.Since(began); took > 2*time.Minute {
			t.Fatalf("closed after %v", took)
		}
		r.settled()
	})
}

func TestIdleButParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var parked *Request
		r := start(t, false, Options{Dispatch: func(q *Request) { parked = q }})
		defer r.stop()
		c := r.dial()
		c.send(frame(1, nil))
		<-time.After(time.Hour)
		echo(parked)
		c.want(1, nil)
		began := time.Now()
		c.wantClosed()
		if took := time.Since(began); took < 10*time.Minute || took > 11*time.Minute {
			t.Fatalf("idle for %v", took)
		}
	})
}

// A client that does not read its responses is closed; one that reads slowly is not.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, false, Options{Dispatch: func(q *Request) { q.Respond(rawBody(make([]byte, 5<<20))) }})
		defer r.stop()
		slow := r.dial()
		slow.send(frame(1, nil))
		var got int
		for buf := make([]byte, 50_000); got < 5<<20; {
			<-time.After(time.Second)
			n, err := slow.Read(buf)
			if err != nil {
				t.Fatalf("after %d bytes: %v", got, err)
			}
			got += n
		}
		stuck := r.dial()
		stuck.send(frame(1, nil))
		<-time.After(2 * time.Minute)
		synctest.Wait()
		if !strings.Contains(r.log.String(), "reason=slow_reader") {
			t.Fatal(r.log.String())
		}
		r.settled()
	})
}

// A client that goes away cancels the context of its waiting requests; late answers go nowhere and leak nothing.
func TestClientLeaves(t *testing.T) {
	both(t, func(t *testing.T, tcp bool) {
		got := make(chan *Request, 3)
		r := start(t, tcp, Options{Dispatch: func(q *Request) { got <- q }})
		c := r.dial()
		for i := range 3 {
			c.send(frame(int32(i), nil))
		}
		a, b, d := <-got, <-got, <-got
		echo(b) // answered, but not its turn
		c.send(frame(3, make([]byte, 100))[:50])
		c.Close()
		<-a.Conn.Context().Done()
		echo(a)
		d.NoResponse()
		r.settled()
	})
}

func TestCloseConnInOrder(t *testing.T) {
	var first *Request
	r := start(t, false, Options{Dispatch: func(q *Request) {
		switch q.Header.CorrelationID {
		case 0:
			first = q
		case 1:
			q.CloseConn(errors.New("because"))
			echo(first)
		default:
			t.Error("read on after the connection was to be closed")
			echo(q)
		}
	}})
	c := r.dial()
	c.send(append(append(frame(0, []byte("x")), frame(1, nil)...), frame(2, nil)...))
	c.want(0, []byte("x"))
	c.wantClosed()
	eventually(t, "log", func() bool { return strings.Contains(r.log.String(), "why=because") })
	r.settled()
}

type badBody struct{}

func (badBody) AppendTo([]byte) []byte { panic("cannot encode") }

// One request's panic ends its connection, with the stack in the log, and no other.
func TestPanics(t *testing.T) {
	r := start(t, false, Options{Dispatch: func(q *Request) {
		switch q.Header.CorrelationID {
		case 66:
			panic("in the handler")
		case 67:
			go q.Respond(badBody{})
		case 68:
			o := q.Begin()
			o.Add(&testRegion{n: 1000, read: func([]byte, int64) (int, error) { panic("in a region") }})
			q.Send(o)
		case 69:
			echo(q)
			echo(q)
		default:
			echo(q)
		}
	}})
	other := r.dial()
	for corr, want := range map[int32]string{66: "in the handler", 67: "cannot encode", 68: "in a region", 69: "answered twice"} {
		c := r.dial()
		c.send(append(frame(corr, nil), frame(1, nil)...))
		if b, _ := io.ReadAll(c); len(b) > 0 && corr != 69 {
			t.Fatalf("%q", b)
		}
		eventually(t, want, func() bool { return strings.Contains(r.log.String(), want) })
		other.send(frame(1, nil))
		other.want(1, nil)
	}
	if !strings.Contains(r.log.String(), "conn_test.go") {
		t.Fatal("no stack in the log")
	}
	r.settled()
}

func TestMute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, false, Options{Dispatch: func(q *Request) { q.Conn.Mute(time.Minute); echo(q) }})
		defer r.stop()
		c := r.dial()
		began := time.Now()
		c.send(frame(0, nil))
		c.want(0, nil)
		if time.Since(began) != 0 {
			t.Fatal("the response to a muted client must not wait")
		}
		c.send(frame(1, nil))
		c.want(1, nil)
		if d := time.Since(began); d < time.Minute || d > 61*time.Second {
			t.Fatalf("muted for %v", d)
		}
	})
}

func TestGracefulClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var parked *Request
		r := start(t, false, Options{Dispatch: func(q *Request) { parked = q }})
		c, idle := r.dial(), r.dial()
		c.send(frame(1, []byte("x")))
		synctest.Wait()
		closed := make(chan error)
		go func() { closed <- r.s.Close(context.Background()) }()
		synctest.Wait()
		idle.wantClosed()
		select {
		case <-closed:
			t.Fatal("closed with a request in flight")
		default:
		}
		echo(parked)
		c.want(1, []byte("x"))
		c.wantClosed()
		if err := <-closed; err != nil {
			t.Fatal(err)
		}
		if err := r.s.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestForcedClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var parked *Request
		r := start(t, false, Options{Dispatch: func(q *Request) { parked = q }})
		c := r.dial()
		c.send(frame(1, nil))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		began := time.Now()
		if err := r.s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 5*time.Second {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
		c.wantClosed()
		echo(parked)
		r.settled()
	})
}

// A real client over the in-process network.
func TestFranzGo(t *testing.T) {
	r := start(t, false, Options{Dispatch: func(q *Request) {
		if q.Header.Key != 18 {
			q.CloseConn(errors.New("only ApiVersions is here"))
			return
		}
		resp := kmsg.NewPtrApiVersionsResponse()
		resp.SetVersion(q.Header.Version)
		resp.ApiKeys = []kmsg.ApiVersionsResponseApiKey{{ApiKey: 18, MaxVersion: 4}}
		q.Respond(resp)
	}})
	cl, err := kgo.NewClient(kgo.SeedBrokers("127.0.0.1:9092"), kgo.Dialer(r.net.Dial))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(context.Background(), cl)
	if err != nil || len(resp.ApiKeys) != 1 {
		t.Fatalf("%+v, %v", resp, err)
	}
}

func TestMetrics(t *testing.T) {
	r := start(t, false, Options{})
	c := r.dial()
	c.send(frame(1, []byte("abc")))
	c.want(1, []byte("abc"))
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			got[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{"ottla_network_requests_total": 1, "ottla_network_request_bytes_total": 21, "ottla_network_response_bytes_total": 11,
		"ottla_network_connections": 1, "ottla_network_connections_accepted_total": 1, "ottla_network_connections_closed_total": 0} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}
