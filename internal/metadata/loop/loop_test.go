package loop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"go.uber.org/goleak"

	"github.com/ottla/ottla/internal/clock"
	"github.com/ottla/ottla/internal/metadata"
	"github.com/ottla/ottla/internal/wire"
	"github.com/ottla/ottla/internal/wire/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeLog commits a proposal when the test says so.
type fakeLog struct {
	mu      sync.Mutex
	next    int64
	auto    bool
	fail    error
	pending chan func()
	batches []int
}

func (f *fakeLog) Propose(records []metadata.Versioned, done func(int64, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	commit := func() {
		f.mu.Lock()
		base, err := f.next, f.fail
		f.next += int64(len(records))
		f.batches = append(f.batches, len(records))
		f.mu.Unlock()
		done(base, err)
	}
	if f.auto {
		go commit()
	} else {
		f.pending <- commit
	}
}

// events notes what happens, in order.
type events struct {
	mu  sync.Mutex
	log []string
}

func (e *events) add(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.log = append(e.log, fmt.Sprintf(format, args...))
}

type publisher struct {
	name string
	e    *events
}

func (p publisher) Name() string { return p.name }
func (p publisher) OnMetadata(d *metadata.Delta, img *metadata.Image) {
	p.e.add("%s offset %d topics %d", p.name, img.Offset(), len(d.Topics()))
}

func create(n int) Op {
	return func(img *metadata.Image, _ time.Time) ([]metadata.Versioned, any, error) {
		name := fmt.Sprint("t", n)
		if img.Topic(name) != nil {
			return nil, nil, wire.Errorf(kerr.TopicAlreadyExists, "%s", name)
		}
		return []metadata.Versioned{metadata.Newest(&schema.TopicRecord{Name: name, TopicID: metadata.UUID{1, byte(n)}})}, name, nil
	}
}

func newLoop(t *testing.T, f *fakeLog, e *events) *Loop {
	l := New(Options{Image: metadata.Empty("c"), Proposer: f, Clock: clock.Real{}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Publishers: []metadata.Publisher{publisher{"first", e}, publisher{"second", e}}})
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	return l
}

// Operations that wait for a commit form one batch, see each other's effect, and are answered after the publishers
// were told; nothing is visible before.
func TestBatching(t *testing.T) {
	f, e := &fakeLog{pending: make(chan func(), 1)}, &events{}
	l := newLoop(t, f, e)
	defer l.Close()
	answered := make(chan string, 10)
	submit := func(n int) {
		l.Submit(create(n), func(reply any, err error) {
			if err != nil {
				reply = errors.Unwrap(err)
			}
			e.add("answer %v", reply)
			answered <- fmt.Sprint(reply)
		})
	}
	submit(1)
	commit := <-f.pending
	for _, n := range []int{2, 3, 2} {
		submit(n)
	}
	if l.Image().Topic("t1") != nil {
		t.Fatal("seen before its commit")
	}
	commit()
	<-answered
	(<-f.pending)()
	for range 3 {
		<-answered
	}
	want := []string{"first offset -1 topics 0", "second offset -1 topics 0", "first offset 0 topics 1", "second offset 0 topics 1", "answer t1",
		"first offset 2 topics 2", "second offset 2 topics 2", "answer t2", "answer t3", "answer " + kerr.TopicAlreadyExists.Error()}
	e.mu.Lock()
	defer e.mu.Unlock()
	if fmt.Sprint(e.log) != fmt.Sprint(want) {
		t.Errorf("got  %q\nwant %q", e.log, want)
	}
}

// A proposal that fails answers everybody with the error, changes nothing, and stops the loop from building on it.
func TestFailedProposal(t *testing.T) {
	f, e := &fakeLog{auto: true, fail: wire.Errorf(kerr.KafkaStorageError, "disk")}, &events{}
	l := newLoop(t, f, e)
	for range 2 {
		if _, err := l.Do(context.Background(), create(1)); !errors.Is(err, kerr.KafkaStorageError) {
			t.Fatal(err)
		}
	}
	if l.Image().TopicCount() != 0 {
		t.Fatal("published")
	}
	l.Close()
	if _, err := l.Do(context.Background(), create(1)); !errors.Is(err, kerr.NotController) {
		t.Fatal(err)
	}
}

func TestManySubmitters(t *testing.T) {
	f, e := &fakeLog{auto: true}, &events{}
	l := newLoop(t, f, e)
	var wg sync.WaitGroup
	for n := range 200 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if reply, err := l.Do(context.Background(), create(n)); err != nil || reply != fmt.Sprint("t", n) {
				t.Error(reply, err)
			}
			if l.Image().Topic(fmt.Sprint("t", n)) == nil {
				t.Error("answered before it was published")
			}
		}()
	}
	wg.Wait()
	l.Close()
	if l.Image().TopicCount() != 200 || l.Image().Offset() != 199 {
		t.Fatal(l.Image().TopicCount(), l.Image().Offset())
	}
}
