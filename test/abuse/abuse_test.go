package abuse

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A browser, a TLS client and noise get an answer that they understand or are hung up on; the log says which and what to do.
func TestForeignProtocols(t *testing.T) {
	b, logText := start(t, nil)
	say := func(first string) string {
		c := dial(t, b)
		if _, err := c.Write([]byte(first)); err != nil {
			t.Fatal(err)
		}
		return ended(t, c, 10*time.Second)
	}
	if got := say("GET / HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 400") || !strings.Contains(got, "Kafka") {
		t.Errorf("HTTP is answered with %q", got)
	}
	if got := say("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"); got != "\x15\x03\x01\x00\x02\x02\x28" {
		t.Errorf("TLS is answered with %q", got)
	}
	for _, size := range []uint32{0, 0xffffffff, 0x80000000, 0x7fffffff, 100<<20 + 1} {
		if got := say(string(binary.BigEndian.AppendUint32(nil, size)) + "more"); got != "" {
			t.Errorf("a frame of size %#x is answered with %q", size, got)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		noise := make([]byte, 4+rng.IntN(200))
		for i := range noise {
			noise[i] = byte(rng.Uint32())
		}
		if rng.IntN(2) == 0 {
			binary.BigEndian.PutUint32(noise, uint32(len(noise)-4))
		}
		c := dial(t, b)
		_, _ = c.Write(noise)
		_ = c.(*net.TCPConn).CloseWrite()
		ended(t, c, 10*time.Second)
		c.Close()
	}
	serves(t, b)
	memory(t, b, 100<<20)
	for _, want := range []string{"HTTP request on the Kafka listener", "TLS handshake on the plaintext listener", "socket.request.max.bytes", "does not speak the Kafka protocol"} {
		says(t, logText, want)
	}
	text := logText()
	if n := strings.Count(text, "\n"); n > 120 {
		t.Errorf("500 noisy clients made %d lines of log:\n%s", n, last(text, 3000))
	}
}

// Every API in every version, cut short at every place and with every length turned absurd: each request is answered or its
// connection closed, and nothing but that happens.
func TestMutilatedRequests(t *testing.T) {
	b, logText := start(t, nil)
	serves(t, b)
	rng := rand.New(rand.NewPCG(3, 4))
	sent := 0
	for _, api := range versions(t, b) {
		for v := api.MinVersion; v <= api.MaxVersion; v++ {
			req := kmsg.RequestForKey(api.ApiKey)
			if req == nil || v > req.MaxVersion() {
				continue
			}
			fill(reflect.ValueOf(req).Elem(), 2)
			req.SetVersion(v)
			whole := request(req)[4:]
			head := len(whole) - len(req.AppendTo(nil))
			for _, m := range mutilations(rng, whole, head) {
				c := dial(t, b)
				if _, err := c.Write(framed(m)); err != nil {
					t.Fatalf("API %d version %d: %v", api.ApiKey, v, err)
				}
				_ = c.(*net.TCPConn).CloseWrite()
				ended(t, c, 10*time.Second)
				c.Close()
				sent++
			}
		}
	}
	t.Logf("%d requests", sent)
	serves(t, b)
	memory(t, b, 250<<20)
	if n := strings.Count(logText(), "\n"); n > 1000 {
		t.Errorf("%d requests made %d lines of log", sent, n)
	}
}

// mutilations are broken forms of a request whose body begins at head.
func mutilations(rng *rand.Rand, whole []byte, head int) [][]byte {
	var out [][]byte
	for range 6 {
		out = append(out, whole[:rng.IntN(len(whole))])
	}
	out = append(out, whole[:head], append(bytes.Clone(whole), "and more"...), whole)
	put := func(at int, with ...byte) {
		m := bytes.Clone(whole)
		copy(m[at:], with)
		out = append(out, m)
	}
	for range 12 {
		at := head + rng.IntN(max(1, len(whole)-head))
		put(at, 0xff)
		put(at, 0xff, 0xff, 0xff, 0xff)
		put(at, 0x7f, 0xff, 0xff, 0xff)
		put(at, 0x80, 0x80, 0x80, 0x80, 0x07)
		put(at, 0x00)
		put(at, 0x00, 0x00, 0x00, 0x00)
	}
	return out
}

// Announcing a large frame buys no memory, however many do it; senders that never finish are shown out.
func TestAnnouncedAndUnfinishedFrames(t *testing.T) {
	b, logText := start(t, map[string]string{"ottla.request.read.timeout.ms": "2000"})
	var slow, half []net.Conn
	for range 300 {
		c := dial(t, b)
		_, _ = c.Write([]byte{0x06, 0, 0, 0, 0, 3}) // 96 MiB
		slow = append(slow, c)
		h := dial(t, b)
		_, _ = h.Write([]byte{0, 0})
		half = append(half, h)
	}
	serves(t, b)
	memory(t, b, 200<<20)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // one byte a second is not alive enough
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				for _, c := range slow[:50] {
					_, _ = c.Write([]byte{0})
				}
			}
		}
	})
	for _, c := range append(slow, half...) {
		ended(t, c, 30*time.Second)
	}
	close(done)
	wg.Wait()
	if text := logText(); !strings.Contains(text, "has not arrived whole") || strings.Count(text, "\n") > 100 {
		t.Errorf("log:\n%s", last(text, 3000))
	}
	serves(t, b)
}

// Thousands of connections that say nothing cost little and hinder nobody.
func TestSilentConnections(t *testing.T) {
	b, _ := start(t, nil)
	for range 3000 {
		dial(t, b)
	}
	serves(t, b)
	memory(t, b, 100<<20)
}
