// Package abuse is a crowd of clients that mean harm, or are merely broken, against a real broker process: foreign protocols,
// absurd sizes, requests that stop in the middle or lie about their lengths, senders of one byte a second, readers that never read.
// The broker must go on serving its other clients, keep its memory bounded, and say in few and clear lines what happened. It
// knows the Kafka protocol and how to start a process; it must never know the broker from inside.
package abuse

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottla/ottla/test/peer"
)

// start runs a broker process that ends with the test; logText is all it has said.
func start(t *testing.T, properties map[string]string) (b *peer.Broker, logText func() string) {
	t.Helper()
	dir := t.TempDir()
	bin, err := peer.BuildOttla(dir)
	if err == nil {
		b, err = peer.StartOttla(t.Context(), bin, peer.Options{Dir: filepath.Join(dir, "broker"), Properties: properties})
	}
	if errors.Is(err, peer.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	logText = func() string {
		text, err := os.ReadFile(filepath.Join(b.Dir, "broker.log"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	t.Cleanup(func() {
		if !b.Alive() {
			t.Errorf("the broker has died:\n%s", b.Output())
			return
		}
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
		if text := logText(); strings.Contains(text, "panic") || strings.Contains(text, "BUG") || strings.Contains(text, "DATA RACE") {
			t.Errorf("the broker's log tells of a bug:\n%s", last(text, 6000))
		}
	})
	return b, logText
}

func last(s string, n int) string { return s[max(0, len(s)-n):] }

// serves fails the test unless an honest client can write and read a record within a few seconds.
func serves(t *testing.T, b *peer.Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics("honest"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "honest", Value: []byte("still there?")}).FirstErr(); err != nil {
		t.Fatalf("an honest producer is not served: %v\n%s", err, last(b.Output(), 3000))
	}
	if f := cl.PollFetches(ctx); f.NumRecords() == 0 || f.Err() != nil {
		t.Fatalf("an honest consumer is not served: %v\n%s", f.Err(), last(b.Output(), 3000))
	}
}

// memory fails the test if the process has ever been larger than limit.
func memory(t *testing.T, b *peer.Broker, limit int64) {
	t.Helper()
	u, err := b.Usage()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MiB now, %d MiB at most", u.RSSBytes>>20, u.PeakBytes>>20)
	if u.PeakBytes > limit {
		t.Errorf("the broker took %d MiB; %d is the limit", u.PeakBytes>>20, limit>>20)
	}
}

func dial(t testing.TB, b *peer.Broker) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", b.Addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

// ended waits until the broker closes the connection and gives what it sent before.
func ended(t *testing.T, c net.Conn, within time.Duration) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection is still open after %v", within)
	}
	return string(b)
}

func framed(payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), payload...)
}

var format = kmsg.NewRequestFormatter(kmsg.FormatterClientID("abuse"))

// request is the frame of a request.
func request(r kmsg.Request) []byte { return format.AppendRequest(nil, r, 1) }

// versions asks the broker which APIs it has.
func versions(t *testing.T, b *peer.Broker) []kmsg.ApiVersionsResponseApiKey {
	t.Helper()
	c := dial(t, b)
	if _, err := c.Write(request(kmsg.NewPtrApiVersionsRequest())); err != nil {
		t.Fatal(err)
	}
	body := answer(t, c)
	resp := kmsg.NewPtrApiVersionsResponse()
	if err := resp.ReadFrom(body[4:]); err != nil {
		t.Fatal(err)
	}
	return resp.ApiKeys
}

// answer reads one response frame.
func answer(t *testing.T, r io.Reader) []byte {
	t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(r, body); err != nil {
		t.Fatal(err)
	}
	return body
}

// fill puts n elements in every list of a request and something in every other field, so that all of its shape is on the wire.
func fill(v reflect.Value, n int) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		if d := v.Addr().MethodByName("Default"); d.IsValid() {
			d.Call(nil)
		}
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if f := v.Field(i); f.CanSet() && name != "Version" && name != "UnknownTags" {
				fill(f, n)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte("some bytes"))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(v.Index(i), n)
		}
	case reflect.String:
		if v.Len() == 0 {
			v.SetString("honest")
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if v.IsZero() {
			v.SetInt(1)
		}
	}
}

// says waits for a word in the broker's log.
func says(t *testing.T, logText func() string, want string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-tick.C {
		if strings.Contains(logText(), want) {
			return
		}
	}
	t.Errorf("the log does not say %q:\n%s", want, last(logText(), 3000))
}
