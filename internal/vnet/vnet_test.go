package vnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var realTime = Time{Now: time.Now, AfterFunc: func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }}

func dialed(t *testing.T) (client, server net.Conn, done func()) {
	n := New(realTime)
	l, err := n.Listen("broker:9092")
	if err != nil {
		t.Fatal(err)
	}
	client, err = n.Dial(context.Background(), "tcp", "broker:9092")
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return client, server, func() { client.Close(); server.Close(); l.Close() }
}

func TestAddresses(t *testing.T) {
	client, server, done := dialed(t)
	defer done()
	if server.LocalAddr().String() != "broker:9092" || client.RemoteAddr().String() != "broker:9092" || client.LocalAddr().String() != server.RemoteAddr().String() {
		t.Fatalf("%v-%v, %v-%v", client.LocalAddr(), client.RemoteAddr(), server.LocalAddr(), server.RemoteAddr())
	}
	n := New(realTime)
	l, err := n.Listen("h:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Listen(l.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("second listener: %v", err)
	}
	if _, err := n.Dial(context.Background(), "tcp", "h:1"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("nobody listens: %v", err)
	}
	l.Close()
	if _, err := n.Dial(context.Background(), "tcp", l.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("closed listener: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("accept: %v", err)
	}
}

// Bytes arrive whole and in order, whatever the sizes of the writes and reads.
func TestStream(t *testing.T) {
	client, server, done := dialed(t)
	defer done()
	rng := rand.New(rand.NewPCG(1, 1))
	data := make([]byte, 3<<20)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		rng := rand.New(rand.NewPCG(2, 2))
		for rest := data; len(rest) > 0; {
			k := min(len(rest), 1+rng.IntN(100_000))
			if n, err := client.Write(rest[:k]); err != nil || n != k {
				t.Errorf("write: %d, %v", n, err)
				return
			}
			rest = rest[k:]
		}
		client.Close()
	}()
	var got []byte
	for {
		buf := make([]byte, 1+rng.IntN(50_000))
		n, err := server.Read(buf)
		got = append(got, buf[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if !bytes.Equal(got, data) {
		t.Fatalf("%d bytes of %d arrived, or in another order", len(got), len(data))
	}
	if _, err := server.Write([]byte{1}); !errors.Is(err, syscall.EPIPE) {
		t.Fatalf("write to a closed peer: %v", err)
	}
	if _, err := client.Write([]byte{1}); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("write after own close: %v", err)
	}
	if _, err := client.Read([]byte{1}); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("read after own close: %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server, done := dialed(t)
		defer done()
		began := time.Now()
		server.SetReadDeadline(began.Add(time.Minute))
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Minute {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
		var ne net.Error
		if _, err := server.Read(make([]byte, 1)); !errors.As(err, &ne) || !ne.Timeout() {
			t.Fatalf("still passed: %v", err)
		}
		server.SetReadDeadline(time.Time{})
		client.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err := client.Write(make([]byte, 2*bufferBytes)); n != bufferBytes || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a reader that does not read: %d, %v", n, err)
		}
		if n, err := io.ReadFull(server, make([]byte, bufferBytes)); n != bufferBytes || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		client.SetDeadline(time.Now().Add(-1))
		if _, err := client.Read(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	})
}

// A reader that waits in a bubble must not hold virtual time.
func TestVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server, done := dialed(t)
		defer done()
		go func() {
			<-time.After(time.Hour)
			client.Write([]byte("x"))
		}()
		began := time.Now()
		if _, err := server.Read(make([]byte, 1)); err != nil || time.Since(began) != time.Hour {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
	})
}

func TestCloseWakesReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server, done := dialed(t)
		defer done()
		errs := make(chan error, 1)
		go func() { _, err := server.Read(make([]byte, 1)); errs <- err }()
		synctest.Wait()
		server.Close()
		if err := <-errs; !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		if _, err := client.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal(err)
		}
	})
}
