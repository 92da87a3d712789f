package peer

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/ottla/ottla/internal/clock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func dialTo(addr string) func(context.Context, Target) (net.Conn, error) {
	return func(ctx context.Context, _ Target) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
}

func TestRequestsShareAConnection(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	var dials sync.Map
	n := 0
	c := New(Options{ClientID: "node-1", Clock: clock.Real{}, Dial: func(ctx context.Context, tg Target) (net.Conn, error) {
		n++
		dials.Store(n, tg)
		return dialTo(cluster.ListenAddrs()[0])(ctx, tg)
	}})
	defer c.Close()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			resp, err := c.Request(context.Background(), Node(1), kmsg.NewPtrMetadataRequest())
			if err != nil {
				t.Error(err)
				return
			}
			if topics := resp.(*kmsg.MetadataResponse).Topics; len(topics) != 1 || *topics[0].Topic != "t" {
				t.Errorf("%+v", topics)
			}
		})
	}
	wg.Wait()
	if n != 1 {
		t.Errorf("%d connections", n)
	}
	if _, err := c.Request(context.Background(), Target{Node: 1, Lane: "slow"}, kmsg.NewPtrMetadataRequest()); err != nil || n != 2 {
		t.Error(n, err)
	}
	if _, err := c.Request(context.Background(), Node(1), kmsg.NewPtrEnvelopeRequest()); !errors.Is(err, kerr.UnsupportedVersion) {
		t.Error(err)
	}
}

// A node that closes its connection and listens no more is told of; what waited fails at once; after it came back it is asked again.
func TestGone(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	accepted := make(chan net.Conn)
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			panic(err)
		}
		accepted <- nc
	}()
	gone := make(chan int32, 1)
	c := New(Options{Clock: clock.Real{}, Dial: dialTo(addr), Gone: func(n int32) { gone <- n }})
	defer c.Close()
	failed := make(chan error)
	go func() {
		_, err := c.Request(context.Background(), Node(7), kmsg.NewPtrMetadataRequest())
		failed <- err
	}()
	nc := <-accepted
	if _, err := io.ReadFull(nc, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	ln.Close()
	nc.Close()
	if err := <-failed; err == nil {
		t.Error("an answer from nobody")
	}
	select {
	case n := <-gone:
		if n != 7 {
			t.Error(n)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody noticed")
	}
}

func TestHostileAnswers(t *testing.T) {
	for name, bytes := range map[string]string{"huge": "\x7f\xff\xff\xff....", "negative": "\xff\xff\xff\xff....", "nobody asked": "\x00\x00\x00\x04\x00\x00\x00\x63", "cut": "\x00\x00\x00\x10\x00\x00\x00\x00ab"} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			go func() {
				_, _ = theirs.Read(make([]byte, 1024))
				_, _ = theirs.Write([]byte(bytes))
				_ = theirs.Close()
			}()
			c := New(Options{Clock: clock.Real{}, Dial: func(context.Context, Target) (net.Conn, error) { return ours, nil }})
			defer c.Close()
			if _, err := c.Request(context.Background(), Node(1), kmsg.NewPtrMetadataRequest()); err == nil {
				t.Error("taken")
			}
		})
	}
}

func FuzzSkipTags(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{1, 5, 2, 'a', 'b', 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		if rest, err := skipTags(b); err == nil && len(rest) > len(b) {
			t.Error("longer than before")
		}
	})
}
