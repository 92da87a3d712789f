package network

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// testRegion is a stretch of a file or of what read gives.
type testRegion struct {
	f        *os.File
	off, n   int64
	read     func(p []byte, off int64) (int, error)
	released atomic.Int32
	all      *atomic.Int32
}

func (g *testRegion) Len() int                        { return int(g.n) }
func (g *testRegion) Range() (*os.File, int64, int64) { return g.f, g.off, g.n }
func (g *testRegion) ReadAt(p []byte, off int64) (int, error) {
	if g.read != nil {
		return g.read(p, off)
	}
	return io.NewSectionReader(g.f, g.off, g.n).ReadAt(p, off)
}

func (g *testRegion) Release() {
	if g.released.Add(1) != 1 {
		panic("released twice")
	}
	if g.all != nil {
		g.all.Add(-1)
	}
}

// Many connections are sent overlapping stretches of one file at once: each gets its own bytes, in place.
func TestRegions(t *testing.T) {
	data := make([]byte, 4<<20)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	name := filepath.Join(t.TempDir(), "segment")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	both(t, func(t *testing.T, tcp bool) {
		var live atomic.Int32
		plan := func(seed int32) (stretches [][2]int) {
			rng := rand.New(rand.NewPCG(uint64(seed), 9))
			for range rng.IntN(8) {
				off := rng.IntN(len(data))
				n := rng.IntN(1000)
				if rng.IntN(2) == 0 {
					n = rng.IntN(2 << 20)
				}
				stretches = append(stretches, [2]int{off, min(n, len(data)-off)})
			}
			return stretches
		}
		r := start(t, tcp, Options{Dispatch: func(q *Request) {
			o := q.Begin()
			for i, s := range plan(q.Header.CorrelationID) {
				o.B = fmt.Appendf(o.B, "part %d:", i)
				live.Add(1)
				o.Add(&testRegion{f: f, off: int64(s[0]), n: int64(s[1]), all: &live})
			}
			o.B = append(o.B, "end"...)
			q.Send(o)
		}})
		var wg sync.WaitGroup
		for k := range 4 {
			c := r.dial()
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i := range 20 {
					corr := int32(k*1000 + i)
					go c.send(frame(corr, nil))
					got, body, err := c.receive()
					var want []byte
					for j, s := range plan(corr) {
						want = fmt.Appendf(want, "part %d:", j)
						want = append(want, data[s[0]:s[0]+s[1]]...)
					}
					want = append(want, "end"...)
					if err != nil || got != corr || !bytes.Equal(body, want) {
						t.Errorf("response %d: %d bytes, %v; want %d bytes", got, len(body), err, len(want))
						return
					}
				}
			}()
		}
		wg.Wait()
		r.settled()
		eventually(t, "all regions released", func() bool { return live.Load() == 0 })
		if sent := r.s.m.sendfileBytes.Load(); tcp && canSendfile != (sent > 0) {
			t.Fatalf("%d bytes by sendfile", sent)
		}
	})
}

// A region that cannot be read after its size was sent leaves no way but to close.
func TestBrokenRegions(t *testing.T) {
	name := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(name, make([]byte, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	both(t, func(t *testing.T, tcp bool) {
		for want, g := range map[string]*testRegion{
			"EOF":      {f: f, off: 50_000, n: 100_000},
			"bad disk": {n: 10_000, read: func([]byte, int64) (int, error) { return 0, errors.New("bad disk") }},
		} {
			r := start(t, tcp, Options{Dispatch: func(q *Request) {
				o := q.Begin()
				o.Add(g)
				q.Send(o)
			}})
			c := r.dial()
			c.send(frame(1, nil))
			if _, _, err := c.receive(); err == nil {
				t.Fatal("a response without its bytes")
			}
			eventually(t, want, func() bool { return strings.Contains(r.log.String(), want) })
			eventually(t, "released", func() bool { return g.released.Load() == 1 })
			r.settled()
		}
	})
}
